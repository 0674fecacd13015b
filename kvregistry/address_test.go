package kvregistry

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvregistry/go/internal/natstest"
)

func listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("no listener on %s %s here: %v", network, address, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// Where others reach a listener, whatever it listens on. Seen to fail with an IPv6 address given for a listener of IPv4 alone, and with the outbound address put in place of
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
		if got := reachable(netip.MustParseAddrPort(tc.at), tc.outbound).String(); got != tc.want {
			t.Errorf("%s gave %s, want %s", tc.at, got, tc.want)
		}
	}
}

// Without a default route it is one of the host's own addresses. Seen to fail with the first of them, whatever it is, and with IPv6 before IPv4.
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

// What is registered from a listener is where it is reached: who looks it up connects. Seen to fail with the listener's own address: Register
// refused it.
func TestFromListenerIsReached(t *testing.T) {
	if ip, err := OutboundIP(); err != nil {
		t.Skipf("a host without an address of its own: %v, %v", ip, err)
	}
	reg := newRegistry(t, natstest.Start(t))
	for i, l := range []net.Listener{
		listen(t, "tcp", ":0"), listen(t, "tcp4", "0.0.0.0:0"), listen(t, "tcp", "127.0.0.1:0"), listen(t, "unix", filepath.Join(t.TempDir(), "s")),
	} {
		go func() { // ends with the listener
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				_, _ = fmt.Fprint(c, i)
				_ = c.Close()
			}
		}()
		name := fmt.Sprint("web", i)
		if _, err := reg.Register(FromListener(l, name)); err != nil {
			t.Fatalf("%s: %v", l.Addr(), err)
		}
		one, err := reg.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial(one.Network, one.Address)
		if err != nil {
			t.Fatal(err)
		}
		if said, err := io.ReadAll(c); err != nil || string(said) != fmt.Sprint(i) {
			t.Errorf("%s %s said %q, %v", one.Network, one.Address, said, err)
		}
		_ = c.Close()
	}
}

// strange is a listener with any address.
type strange struct {
	net.Listener
	at net.Addr
}

func (s strange) Addr() net.Addr { return s.at }

// A socket's path is one from everywhere, and an address without an IP is all of the host's. Where there is no address to be known, Register refuses what comes of it. Seen to fail with the path as it was
// given to Listen, and with "invalid AddrPort" where there is no IP.
func TestFromListenerWithout(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := filepath.Abs("s")
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, "unix", "s")
	if diff := cmp.Diff(Service{Name: "web", Network: "unix", Address: here}, FromListener(l, "web")); diff != "" {
		t.Error(diff)
	}
	if ip, err := OutboundIP(); err == nil {
		want := Service{Name: "web", Network: "tcp", Address: netip.AddrPortFrom(ip, 80).String()}
		if diff := cmp.Diff(want, FromListener(strange{at: &net.TCPAddr{Port: 80}}, "web")); diff != "" {
			t.Error(diff)
		}
	}
	reg := newRegistry(t, natstest.Start(t))
	for name, s := range map[string]Service{
		"nil": FromListener(nil, "web"), "no address": FromListener(strange{}, "web"),
		"nowhere":    {Name: "web", Network: "tcp", Address: reachable(netip.AddrPortFrom(netip.Addr{}, 80), func() (netip.Addr, error) { return netip.Addr{}, ErrNoAddress }).String()},
		"everywhere": {Name: "web", Network: "tcp", Address: reachable(netip.MustParseAddrPort("0.0.0.0:80"), func() (netip.Addr, error) { return netip.Addr{}, ErrNoAddress }).String()},
	} {
		if _, err := reg.Register(s); !errors.Is(err, ErrInvalidService) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A free port can be listened on, is in its range, and there is none where all are taken. Seen to fail with a range whose last port is left out.
func TestFreePort(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	listen(t, "tcp", fmt.Sprint(":", port))
	if got, err := FreePortIn(port, port); !errors.Is(err, ErrNoAddress) {
		t.Errorf("port %d, which is taken, gave %d, %v", port, got, err)
	}
	last := natstest.FreePort(t)
	taken, err := net.Listen("tcp", fmt.Sprint(":", last-1))
	if err == nil { // else somebody else has it, which is as good
		defer func() { _ = taken.Close() }()
	}
	for range 3 {
		if got, err := FreePortIn(last-1, last); err != nil || got != last {
			t.Errorf("of %d, which is taken, and the next: %d, %v", last-1, got, err)
		}
	}
	for _, bad := range [][2]int{{0, 10}, {10, 9}, {1, 65536}, {-1, 5}} {
		if _, err := FreePortIn(bad[0], bad[1]); !errors.Is(err, ErrInvalidOption) {
			t.Errorf("%v gave %v", bad, err)
		}
	}
}
