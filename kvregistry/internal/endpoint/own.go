package endpoint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kvregistry/go/tenant"
)

// ErrNoAddress says that this host has no such address, or no such port, to give.
var ErrNoAddress = errors.New("no address to be had")

// OfListener returns where others reach a listener; "" and "" if that can't be known.
func OfListener(l net.Listener) (network, address string) {
	switch at := l.Addr().(type) {
	case *net.TCPAddr:
		return "tcp", Reachable(at.AddrPort(), OutboundIP).String()
	case *net.UnixAddr:
		return at.Net, absolute(at.Name)
	case nil:
		return "", ""
	default:
		return at.Network(), at.String()
	}
}

// Reachable returns where others reach what listens at an address: there, or at the outbound
// address if it listens at all of the host's. The address stays as it is if there is no outbound
// one, or the listener does not listen at it.
func Reachable(at netip.AddrPort, outbound func() (netip.Addr, error)) netip.AddrPort {
	ip := at.Addr().Unmap()
	if !ip.IsValid() { // it has none, which is all of them
		ip = netip.IPv6Unspecified()
	}
	if ip.IsUnspecified() {
		if out, err := outbound(); err == nil && (out.Is4() || ip.Is6()) {
			ip = out
		}
	}
	return netip.AddrPortFrom(ip, at.Port())
}

// absolute is a socket's path from anywhere on this host. A name that begins with '@' is no path.
func absolute(path string) string {
	if path == "" || strings.HasPrefix(path, "@") {
		return path
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// far are addresses that are nobody's (RFC 5737 and RFC 3849), and so lie behind the default route.
var far = [...]string{"192.0.2.1:9", "[2001:db8::1]:9"}

// OutboundIP returns the address that this host's packets to other networks come from, IPv4 if
// there is one. The error wraps [ErrNoAddress].
func OutboundIP() (netip.Addr, error) {
	for _, to := range far {
		c, err := net.Dial("udp", to)
		if err != nil {
			continue
		}
		at, _ := netip.ParseAddrPort(c.LocalAddr().String())
		_ = c.Close()
		if at.Addr().IsGlobalUnicast() {
			return at.Addr().Unmap(), nil
		}
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("kvregistry: %w: %w", ErrNoAddress, err)
	}
	found := outside(list)
	if !found.IsValid() {
		return found, fmt.Errorf("kvregistry: %w: this host has none that others can reach; give "+
			"the service its Address by hand", ErrNoAddress)
	}
	return found, nil
}

// outside is the first of a host's addresses that is not for itself or its link only, IPv4 before
// IPv6; the zero Addr if there is none.
func outside(list []net.Addr) (found netip.Addr) {
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if ip := p.Addr().Unmap(); err == nil && ip.IsGlobalUnicast() &&
			(!found.IsValid() || found.Is6() && ip.Is4()) {
			found = ip
		}
	}
	return found
}

// FreePort returns a TCP port that nobody listens on at any of this host's addresses. The error
// wraps [ErrNoAddress].
func FreePort() (int, error) {
	port, err := tryPort(0)
	if err != nil {
		return 0, fmt.Errorf("kvregistry: %w: no free port: %w", ErrNoAddress, err)
	}
	return port, nil
}

// FreePortIn is [FreePort] from first to last, both included: a random one of those that are free.
// The error wraps [tenant.ErrInvalidConfig] if that is no range of ports, and [ErrNoAddress] if
// none is free.
func FreePortIn(first, last int) (int, error) {
	if first < 1 || last > 65535 || first > last {
		return 0, fmt.Errorf("kvregistry: %w: ports %d to %d; use a range within 1 to 65535",
			tenant.ErrInvalidConfig, first, last)
	}
	var failure error
	n := last - first + 1
	for i, begin := 0, rand.N(n); i < n; i++ {
		port, err := tryPort(first + (begin+i)%n)
		if err == nil {
			return port, nil
		}
		failure = err
	}
	return 0, fmt.Errorf("kvregistry: %w: none of the ports %d to %d is free: %w", ErrNoAddress,
		first, last, failure)
}

// tryPort listens on a port for a moment; 0 stands for any.
func tryPort(port int) (int, error) {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
