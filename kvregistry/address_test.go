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
	"github.com/kvregistry/go/kvregistry/internal/endpoint"
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

// FromListener registers the address at which others reach a listener. Seen to fail with the
// listener's own address: Register refused it.
func TestFromListenerIsReached(t *testing.T) {
	if ip, err := OutboundIP(); err != nil {
		t.Skipf("a host without an address of its own: %v, %v", ip, err)
	}
	reg := newRegistry(t, natstest.Start(t))
	for i, l := range []net.Listener{
		listen(t, "tcp", ":0"), listen(t, "tcp4", "0.0.0.0:0"), listen(t, "tcp", "127.0.0.1:0"),
		listen(t, "unix", filepath.Join(t.TempDir(), "s")),
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

// FromListener makes a socket's path absolute, and takes an address without an IP for all of the
// host's. If no address is known, Register refuses the service. Seen to fail with the path as it
// was given to Listen, and with "invalid AddrPort" without an IP.
func TestFromListenerWithout(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := filepath.Abs("s")
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, "unix", "s")
	if diff := cmp.Diff(Service{Name: "web", Network: "unix", Address: here},
		FromListener(l, "web")); diff != "" {
		t.Error(diff)
	}
	if ip, err := OutboundIP(); err == nil {
		want := Service{Name: "web", Network: "tcp", Address: netip.AddrPortFrom(ip, 80).String()}
		if diff := cmp.Diff(want, FromListener(strange{at: &net.TCPAddr{Port: 80}},
			"web")); diff != "" {
			t.Error(diff)
		}
	}
	reg := newRegistry(t, natstest.Start(t))
	for name, s := range map[string]Service{
		"nil": FromListener(nil, "web"), "no address": FromListener(strange{}, "web"),
		"nowhere": {Name: "web", Network: "tcp",
			Address: endpoint.Reachable(netip.AddrPortFrom(netip.Addr{}, 80),
				func() (netip.Addr, error) { return netip.Addr{}, ErrNoAddress }).String()},
		"everywhere": {Name: "web", Network: "tcp",
			Address: endpoint.Reachable(netip.MustParseAddrPort("0.0.0.0:80"),
				func() (netip.Addr, error) { return netip.Addr{}, ErrNoAddress }).String()},
	} {
		if _, err := reg.Register(s); !errors.Is(err, ErrInvalidService) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
