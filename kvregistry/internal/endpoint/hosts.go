package endpoint

import (
	"net"
	"net/netip"
	"strings"
)

// Everywhere reports whether a host stands for all addresses that a server listens at, so that
// callers can't reach it. The host may come in brackets. Linux takes 0 for 0.0.0.0.
func Everywhere(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "" || host == "0" || err == nil && ip.Unmap().IsUnspecified()
}

// ListensEverywhere reports whether an address is one to listen at, and not one to call.
func ListensEverywhere(network, address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && !strings.HasPrefix(network, "unix") && Everywhere(host)
}
