package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/transport"
)

// listen runs an instance that sends its name to each connection, and then echoes, until the test
// ends.
func listen(t *testing.T, network, address, name string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection, which the tests close
				defer func() { _ = c.Close() }()
				_, _ = io.WriteString(c, name)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// dialled returns the name of the instance that answers, and closes the connection.
func dialled(tr *transport.Transport, network, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), natstest.Soon)
	defer cancel()
	c, err := tr.DialContext(ctx, network, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	name := make([]byte, 1)
	_, err = io.ReadFull(c, name)
	return string(name), err
}

// TestDial holds which instances a connection goes to, and that a dead one is skipped. Seen to fail
// without another, and with the port left in the name.
func TestDial(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg,
		kvregistry.Service{Address: listen(t, "tcp", "127.0.0.1:0", "a")},
		kvregistry.Service{Address: fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))},
		kvregistry.Service{Address: listen(t, "tcp4", "127.0.0.1:0", "b"), Network: "tcp4"},
		kvregistry.Service{Address: listen(t, "unix", filepath.Join(t.TempDir(), "s"), "c"),
			Network: "unix"},
		kvregistry.Service{URL: "http://127.0.0.1:1"},
	)
	tr := newTransport(t, reg, never, transport.Budget(1, 1), transport.Host("db:5432", "web",
		kvregistry.Where(func(s kvregistry.Service) bool {
			return s.ID == "2"
		})))
	for _, tc := range []struct{ network, addr, want string }{
		{"", "web", "abc"},
		{"tcp", "web", "ab"},
		{"tcp", "web:80", "ab"},
		{"tcp4", "web", "ab"},
		{"unix", "web", "c"},
		{"tcp", "db:5432", "b"},
	} {
		got := map[string]bool{}
		for range 12 {
			name, err := dialled(tr, tc.network, tc.addr)
			if err != nil {
				t.Errorf("%s %s: %v", tc.network, tc.addr, err)
			}
			got[name] = true
		}
		for _, name := range strings.Split("abc", "") {
			if got[name] != strings.Contains(tc.want, name) {
				t.Errorf("%s %s: %v, want all of %s", tc.network, tc.addr, got, tc.want)
			}
		}
	}
	for _, tc := range []struct {
		network, addr, says string
		is                  error
	}{
		{"udp", "web", `an Address on network "udp"`, kvregistry.ErrNotFound},
		{"tcp", "nope:80", `"nope"`, kvregistry.ErrNotFound},
		{"tcp", "", "name", kvregistry.ErrInvalidService},
	} {
		if _, err := dialled(tr, tc.network, tc.addr); !errors.Is(err, tc.is) ||
			!strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s %q: %v; want %v, %s", tc.network, tc.addr, err, tc.is, tc.says)
		}
	}
}

// TestDialOfAnEndpoint holds that an instance is called at the endpoint that the option names. Seen
// to fail if the address is dialled.
func TestDialOfAnEndpoint(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg,
		kvregistry.Service{Address: listen(t, "tcp", "127.0.0.1:0", "a")},
		kvregistry.Service{Address: listen(t, "tcp", "127.0.0.1:0", "b"),
			Endpoints: map[string]string{"admin": listen(t, "tcp", "127.0.0.1:0", "c")}})
	tr := newTransport(t, reg, never, transport.Endpoint("admin"))
	for range 4 {
		if name, err := dialled(tr, "tcp", "web"); name != "c" || err != nil {
			t.Errorf("%q, %v, want c", name, err)
		}
	}
	if _, err := dialled(tr, "unix", "web"); !errors.Is(err, kvregistry.ErrNotFound) {
		t.Error(err)
	}
	if _, err := transport.New(reg, transport.Endpoint("")); !errors.Is(err,
		kvregistry.ErrInvalidOption) {
		t.Error(err)
	}
}

// TestDialledConnection holds that a connection is under way until it is closed, once, and has the
// methods of its kind. Seen to fail with a plain net.Conn, and without tell.
func TestDialledConnection(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{Address: listen(t, "tcp", "127.0.0.1:0", "a")})
	tr := newTransport(t, reg)
	c, err := tr.DialContext(t.Context(), "tcp", "web")
	if err != nil {
		t.Fatal(err)
	}
	underWay := func() int64 { return tr.Health()["web tcp"].Instances[0].InFlight }
	if n := underWay(); n != 1 {
		t.Errorf("%d under way, want 1", n)
	}
	if _, ok := c.(syscall.Conn); !ok {
		t.Errorf("a %T has no SyscallConn", c)
	}
	if _, err := io.WriteString(c, "bcd"); err != nil {
		t.Fatal(err)
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(c); string(got) != "abcd" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if n := underWay(); n != 0 {
		t.Errorf("%d under way after Close, want 0", n)
	}
}

// TestDialLeavesTimeForOthers holds that an instance that does not answer takes its part of the
// caller's time and no more, and that a caller that gives up is not kept. Seen to fail without the
// part.
func TestDialLeavesTimeForOthers(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{Address: "silent:1"},
		kvregistry.Service{Address: listen(t, "tcp", "127.0.0.1:0", "a")})
	silent := make(chan struct{}, 10)
	tr := newTransport(t, reg, inOrder, transport.DialWith(func(ctx context.Context, network,
		address string) (net.Conn, error) {
		if address == "silent:1" {
			silent <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second) // each attempt has a part of it
	defer cancel()
	c, err := tr.DialContext(ctx, "", "web")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	<-silent

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	go func() { <-silent; cancel() }() // ends with the dial
	_, err = tr.DialContext(ctx, "", "web")
	var failed *transport.Error
	if !errors.Is(err, context.Canceled) || !errors.As(err, &failed) || failed.Attempts != 1 {
		t.Errorf("%v, %+v", err, failed)
	}
	failures := 0
	for _, one := range tr.Health()["web"].Instances {
		failures += one.Failures
	}
	if failures != 1 {
		t.Errorf("%d failures, want the 1 of the instance", failures)
	}
}

// TestDialByTLS holds that a dialer of tls can be used, and that its connection is available. Seen
// to fail without DialWith, and without NetConn.
func TestDialByTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(echo))
	t.Cleanup(srv.Close)
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{Address: srv.Listener.Addr().String()})
	dialer := &tls.Dialer{Config: srv.Client().Transport.(*http.Transport).TLSClientConfig}
	c, err := newTransport(t, reg, transport.DialWith(dialer.DialContext)).DialContext(t.Context(),
		"tcp", "web")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if within, ok := c.(interface{ NetConn() net.Conn }); !ok {
		t.Errorf("a %T has no NetConn", c)
	} else if _, ok := within.NetConn().(*tls.Conn); !ok {
		t.Errorf("within it is a %T", within.NetConn())
	}
}

// TestDialForHTTP holds that DialContext can be net/http's own, which adds a port. Seen to fail
// with the port left in the name.
func TestDialForHTTP(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{Address: strings.TrimPrefix(serve(t, echo), "http://")})
	tr := newTransport(t, reg)
	base := &http.Transport{DialContext: tr.DialContext}
	defer base.CloseIdleConnections()
	if got, err := text((&http.Client{Transport: base}).Post("http://web/", "",
		strings.NewReader("body"))); got != "body" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
