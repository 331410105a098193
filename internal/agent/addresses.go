package agent

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/comfyherd/comfyherd/internal/outside"
)

// Values of Config.InputURLs, which says from which addresses inputs are fetched. Any other value is a list of address ranges with
// commas, in which public may be too.
const (
	URLsNone   = outside.NoAddress
	URLsPublic = outside.PublicAddresses
	URLsAny    = outside.AnyAddress
)

// reachable says which addresses an input may be fetched from: tenants choose the URLs.
type reachable struct{ outside.Addresses }

func parseReachable(text string) (reachable, error) {
	addresses, err := outside.ParseAddresses(text)
	if err != nil {
		return reachable{}, fmt.Errorf("input URLs %q: %w", text, err)
	}
	return reachable{addresses}, nil
}

// control refuses a connection by the address that is dialled.
func (r *reachable) control(network, address string, c syscall.RawConn) error {
	if err := r.Control(network, address, c); err != nil {
		return fmt.Errorf("%w (--input-urls)", err)
	}
	return nil
}

// resolves refuses a name if one of its addresses is not allowed: the proxy looks it up again and may use any.
func (r *reachable) resolves(ctx context.Context, host string) error {
	if r.All() {
		return nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return fmt.Errorf("look up %s for the proxy: %w", host, err)
	}
	for _, addr := range addrs {
		if !r.Allow(addr) {
			return fmt.Errorf("%s is %s: %w (--input-urls)", host, addr.Unmap(), outside.ErrNotAllowed)
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
