package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// Reachable gives the address at which others reach a listener on any address. Seen to fail with an
// IPv6 address given for a listener of IPv4 alone, and with the outbound address put in place of
// any address.
func TestReachable(t *testing.T) {
	v4 := func() (netip.Addr, error) { return netip.MustParseAddr("10.1.2.3"), nil }
	v6 := func() (netip.Addr, error) { return netip.MustParseAddr("2001:db8::5"), nil }
	none := func() (netip.Addr, error) { return netip.Addr{}, ErrNoAddress }
	for _, tc := range []struct {
		at       string
		outbound func() (netip.Addr, error)
		want     string
	}{
		{"0.0.0.0:80", v4, "10.1.2.3:80"},
		{"[::]:80", v4, "10.1.2.3:80"},
		{"[::]:80", v6, "[2001:db8::5]:80"},
		{"0.0.0.0:80", v6, "0.0.0.0:80"},
		{"0.0.0.0:80", none, "0.0.0.0:80"},
		{"[::]:80", none, "[::]:80"},
		{"127.0.0.1:80", v4, "127.0.0.1:80"},
		{"[::1]:80", v6, "[::1]:80"},
		{"192.168.1.1:80", v4, "192.168.1.1:80"},
		{"[::ffff:192.168.1.1]:80", v4, "192.168.1.1:80"},
	} {
		if got := Reachable(netip.MustParseAddrPort(tc.at), tc.outbound).String(); got != tc.want {
			t.Errorf("%s gave %s, want %s", tc.at, got, tc.want)
		}
	}
}

// Without a default route the address is one of the host's own. Seen to fail with the first of
// them, of any kind, and with IPv6 before IPv4.
func TestOutside(t *testing.T) {
	for _, tc := range []struct {
		have []string
		want string
	}{
		{[]string{"127.0.0.1/8", "::1/128"}, "invalid IP"},
		{[]string{"127.0.0.1/8", "169.254.3.4/16", "fe80::1/64"}, "invalid IP"},
		{[]string{"127.0.0.1/8", "10.1.2.3/24", "10.9.9.9/24"}, "10.1.2.3"},
		{[]string{"::1/128", "fe80::1/64", "fd00::5/64", "172.17.0.2/16"}, "172.17.0.2"},
		{[]string{"::1/128", "fd00::5/64"}, "fd00::5"},
	} {
		var list []net.Addr
		for _, text := range tc.have {
			ip, network, err := net.ParseCIDR(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, &net.IPNet{IP: ip, Mask: network.Mask})
		}
		if got := outside(list).String(); got != tc.want {
			t.Errorf("%v gave %s, want %s", tc.have, got, tc.want)
		}
	}
}

// FreePort returns a port that can be listened on, and FreePortIn one of a range, or an error if
// all are taken. Seen to fail with a range whose last port is left out.
func TestFreePort(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprint(":", port))
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = l.Close() }()
	if got, err := FreePortIn(port, port); !errors.Is(err, ErrNoAddress) {
		t.Errorf("port %d, which is taken, gave %d, %v", port, got, err)
	}
	last := natstest.FreePort(t)
	taken, err := net.Listen("tcp", fmt.Sprint(":", last-1))
	if err == nil { // if it fails, another process has the port, which is as good
		defer func() { _ = taken.Close() }()
	}
	for range 3 {
		if got, err := FreePortIn(last-1, last); err != nil || got != last {
			t.Errorf("of %d, which is taken, and the next: %d, %v", last-1, got, err)
		}
	}
	for _, bad := range [][2]int{{0, 10}, {10, 9}, {1, 65536}, {-1, 5}} {
		if _, err := FreePortIn(bad[0], bad[1]); !errors.Is(err, tenant.ErrInvalidConfig) {
			t.Errorf("%v gave %v", bad, err)
		}
	}
}
