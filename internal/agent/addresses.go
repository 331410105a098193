package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Which addresses inputs are fetched from, in Config.InputURLs. Anything else is a list of address ranges with commas, in
// which public may stand too.
const (
	URLsNone   = "none"
	URLsPublic = "public"
	URLsAny    = "any"
)

// reachable says which addresses an input may be fetched from. Tenants choose the URLs, and the agent can reach what they
// cannot: ComfyUI itself, a private network, a cloud's metadata service with its secrets.
type reachable struct {
	any, public bool
	ranges      []netip.Prefix
}

func parseReachable(text string) (reachable, error) {
	switch text {
	case URLsNone:
		return reachable{}, nil
	case URLsAny:
		return reachable{any: true}, nil
	}
	var r reachable
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == URLsPublic {
			r.public = true
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if addr, bad := netip.ParseAddr(part); bad == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return r, fmt.Errorf("input URLs %q: %q is no range of addresses; use none, public, any, or ranges like 10.0.0.0/8 with commas", text, part)
		}
		r.ranges = append(r.ranges, prefix.Masked())
	}
	return r, nil
}

// allows reports whether an address, as it is dialled, is allowed.
func (r *reachable) allows(addr netip.Addr) bool {
	if r.any {
		return true
	}
	addr = meant(addr)
	return slices.ContainsFunc(r.ranges, func(p netip.Prefix) bool { return p.Contains(addr) }) || r.public && public(addr)
}

var (
	sixToFour = netip.MustParsePrefix("2002::/16")
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
)

// meant is the IPv4 address that an IPv6 address stands for, where it stands for one.
func meant(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	b := addr.As16()
	switch {
	case !addr.Is6():
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return addr
}

// special are ranges of special purpose among the public addresses (IANA's registries), and the address of Azure's
// metadata service.
var special = func() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"240.0.0.0/4", "168.63.129.16/32", "2001::/23", "2001:db8::/32", "3fff::/20",
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}()

var globalUnicast = netip.MustParsePrefix("2000::/3")

func public(addr netip.Addr) bool {
	switch {
	case !addr.IsGlobalUnicast() || addr.IsPrivate(): // loopback, link-local, multicast, broadcast
		return false
	case addr.Is6() && !globalUnicast.Contains(addr):
		return false
	}
	return !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(addr) })
}

var errUnreachable = errors.New("inputs may not be fetched from this address")

// control refuses a connection by the address that is dialled, so that a name cannot change its address after a check.
func (r *reachable) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !r.allows(to.Addr()) {
		return fmt.Errorf("%s: %w (--input-urls)", address, errUnreachable)
	}
	return nil
}

// resolves refuses a name if one of its addresses is not allowed: the proxy looks it up again and may use any.
func (r *reachable) resolves(ctx context.Context, host string) error {
	if r.any {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("look up %s for the proxy: %w", host, err)
	}
	for _, addr := range addrs {
		if !r.allows(addr) {
			return fmt.Errorf("%s is %s: %w (--input-urls)", host, addr.Unmap(), errUnreachable)
		}
	}
	return nil
}

// fetching fetches inputs from allowed addresses only, each redirect included: directly, or through the proxy that the
// environment names, whose own address is not checked.
type fetching struct {
	reachable
	proxy           func(*http.Request) (*url.URL, error)
	direct, proxied *http.Transport
}

// newFetcher makes the client that fetches inputs by URL. It has no overall timeout, since the context of a fetch
// has one, and keeps no connection.
func newFetcher(r reachable, proxy func(*http.Request) (*url.URL, error)) *http.Client {
	f := &fetching{reachable: r, proxy: proxy}
	dialer := net.Dialer{Timeout: 30 * time.Second, Control: f.control}
	f.direct = &http.Transport{
		DialContext: dialer.DialContext, ResponseHeaderTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second, DisableKeepAlives: true,
	}
	f.proxied = f.direct.Clone()
	f.proxied.DialContext, f.proxied.Proxy = nil, proxy
	return &http.Client{Transport: f}
}

// RoundTrip is one request, or one redirect.
func (f *fetching) RoundTrip(request *http.Request) (*http.Response, error) {
	proxy, err := f.proxy(request)
	if err != nil {
		return nil, fmt.Errorf("read the proxy's address: %w", err)
	}
	if proxy == nil {
		return f.direct.RoundTrip(request)
	}
	if err := f.resolves(request.Context(), request.URL.Hostname()); err != nil {
		return nil, err
	}
	return f.proxied.RoundTrip(request)
}
