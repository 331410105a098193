package outside

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// Policies of one word. Any other is a list of address ranges with commas, in which PublicAddresses may be too.
const (
	NoAddress       = "none"
	PublicAddresses = "public"
	AnyAddress      = "any"
)

// Addresses are those that may be dialled. The zero value allows none.
type Addresses struct {
	any, public bool
	ranges      []netip.Prefix
}

// ParseAddresses reads a policy, such as "none" or "public,10.0.0.0/8".
func ParseAddresses(text string) (Addresses, error) {
	switch text {
	case NoAddress:
		return Addresses{}, nil
	case AnyAddress:
		return Addresses{any: true}, nil
	}
	var a Addresses
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == PublicAddresses {
			a.public = true
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if addr, bad := netip.ParseAddr(part); bad == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return a, fmt.Errorf("%q is no range of addresses; use none, public, any, or ranges like 10.0.0.0/8 with commas", part)
		}
		a.ranges = append(a.ranges, prefix.Masked())
	}
	return a, nil
}

// All reports whether every address is allowed.
func (a *Addresses) All() bool { return a.any }

// Named reports whether an address is allowed by a range, and not only because it is public.
func (a *Addresses) Named(addr netip.Addr) bool {
	addr = meant(addr)
	return a.any || slices.ContainsFunc(a.ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Allow reports whether an address, as it is dialled, is allowed.
func (a *Addresses) Allow(addr netip.Addr) bool {
	return a.Named(addr) || a.public && public(meant(addr))
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

// ErrNotAllowed: the address may not be dialled.
var ErrNotAllowed = errors.New("connections to this address are not allowed")

// Control refuses a connection by the address that is dialled; it is for net.Dialer.
func (a *Addresses) Control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !a.Allow(to.Addr()) {
		return fmt.Errorf("%s: %w", address, ErrNotAllowed)
	}
	return nil
}
