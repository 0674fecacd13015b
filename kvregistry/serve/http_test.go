package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

func newRegistry(t testing.TB, s *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	opts = append([]kvregistry.Option{kvregistry.Logger(slog.New(slog.DiscardHandler))}, opts...)
	r, err := kvregistry.New(t.Context(), s.Connect(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// serving runs HTTP until stop is called. The error of HTTP comes from done.
func serving(t testing.TB, reg *kvregistry.Registry, h http.Handler, s kvregistry.Service,
	opts ...Option) (stop context.CancelFunc, done chan error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	done = make(chan error, 1)
	// Ends with stop.
	go func() {
		done <- HTTP(ctx, reg, &http.Server{Addr: "127.0.0.1:0", Handler: h}, s, opts...)
	}()
	return stop, done
}

// registered waits until a registry shows the service's instance with a status.
func registered(t testing.TB, r *kvregistry.Registry, name string,
	status kvregistry.Status) (one kvregistry.Service) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() (err error) {
		one, err = r.GetService(name, kvregistry.WithStatus(status))
		return err
	})
	return one
}

// A stop goes in order. The service drains while new requests are served, and their answers close
// the connection. It is shut down when the settle time is over. It is unregistered when the last
// request was answered, and no request is cut off. Seen to fail with a shutdown before the settle
// time, and with a service that is unregistered before it is shut down.
func TestStopIsInOrder(t *testing.T) {
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	inside, let := make(chan bool, 1), make(chan bool)
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		inside <- true
		<-let
		_, _ = fmt.Fprint(w, "done")
	})
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	// In which a request is sent.
	stop, done := serving(t, owner, mux, kvregistry.Service{Name: "web"}, Settle(3*time.Second))
	one := registered(t, observer, "web", kvregistry.Passing)

	slow := make(chan error, 1)
	go func() {
		resp, err := http.Get(one.URL + "/slow")
		if err == nil {
			var body []byte
			if body, err = io.ReadAll(resp.Body); err == nil && string(body) != "done" {
				err = fmt.Errorf("body %q", body)
			}
		}
		slow <- err
	}()
	<-inside
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	get := func() (closes bool, err error) {
		resp, err := client.Get(one.URL)
		if err != nil {
			return false, err
		}
		_ = resp.Body.Close()
		return resp.Close, nil
	}
	if closes, err := get(); closes || err != nil {
		t.Fatalf("before the stop: the connection closes %v, %v", closes, err)
	}
	stop()
	registered(t, observer, "web", kvregistry.Draining)
	if closes, err := get(); !closes || err != nil {
		t.Errorf("while it drains: the connection closes %v, %v", closes, err)
	}
	if _, err := observer.GetService("web"); !errors.Is(err, kvregistry.ErrNotFound) {
		t.Errorf("a look-up while it drains: %v", err)
	}
	natstest.Eventually(t, natstest.Soon, func() error { // during the settle time
		if _, err := get(); err == nil {
			return errors.New("it still answers")
		}
		return nil
	})
	registered(t, observer, "web", kvregistry.Draining) // a request is under way
	select {
	case err := <-done:
		t.Fatalf("HTTP returned with a request under way: %v", err)
	default:
	}
	close(let)
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if snap, err := observer.Snapshot("web"); err != nil || snap.Len() > 0 {
			return fmt.Errorf("still there: %v", err)
		}
		return nil
	})
}

// With TLS a client that keeps an HTTP/2 connection is told to leave it while the server drains,
// and no request fails. Seen to fail with answers that do not close their connection, and with a
// server that serves without TLS.
func TestTLS(t *testing.T) {
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	like := httptest.NewTLSServer(nil) // for its certificate, and a client that trusts it
	defer like.Close()
	client := like.Client()
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	defer client.CloseIdleConnections()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	const settle = 5 * time.Second
	srv := &http.Server{Addr: "127.0.0.1:0",
		Handler:   http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		TLSConfig: &tls.Config{Certificates: like.TLS.Certificates}}
	// Ends with stop.
	go func() { done <- HTTP(ctx, owner, srv, kvregistry.Service{Name: "web"}, Settle(settle)) }()
	one := registered(t, owner, "web", kvregistry.Passing)
	kept := func() (reused bool) {
		trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
			reused = c.Reused
		}}
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace),
			http.MethodGet, one.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Errorf("the protocol is %s", resp.Proto)
		}
		return reused
	}
	if kept() || !kept() {
		t.Fatal("the client does not keep its connection")
	}
	stop()
	registered(t, owner, "web", kvregistry.Draining)
	_ = kept()
	natstest.Eventually(t, settle*3/4, func() error { // later the shutdown ends each connection
		if kept() {
			return errors.New("the client still has its connection")
		}
		return nil
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// SIGTERM stops the server, as the end of ctx does. Seen to fail without the signals: the test
// binary was ended.
func TestSIGTERMStops(t *testing.T) {
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	_, done := serving(t, owner, http.NotFoundHandler(), kvregistry.Service{Name: "web"}, Settle(0))
	registered(t, owner, "web", kvregistry.Passing)
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if list := owner.RegisteredServices(); len(list) > 0 {
		t.Errorf("still registered: %v", list)
	}
}

// serveWithoutEnd is the process that TestSecondSignalEndsTheProcess starts.
func serveWithoutEnd(t *testing.T, url string) {
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := kvregistry.New(t.Context(), nc)
	if err != nil {
		t.Fatal(err)
	}
	err = HTTP(t.Context(), reg, &http.Server{Addr: "127.0.0.1:0"}, kvregistry.Service{Name: "web"},
		Settle(time.Hour), Grace(2*time.Hour))
	t.Fatalf("it stopped: %v", err)
}

// A second SIGTERM during the stop ends the process at once. Seen to fail with signals that are
// caught until HTTP returns, and, one time of three, with signals that are released at the same
// time as the stop and not before it.
func TestSecondSignalEndsTheProcess(t *testing.T) {
	const variable = "KVREGISTRY_SERVE_TEST"
	if url := os.Getenv(variable); url != "" {
		serveWithoutEnd(t, url)
	}
	s := natstest.Start(t)
	observer := newRegistry(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 2*natstest.Soon)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSecondSignalEndsTheProcess$")
	child.Env = append(os.Environ(), variable+"="+s.URL())
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }() // ends with the process, which ends with ctx
	for _, status := range []kvregistry.Status{kvregistry.Passing, kvregistry.Draining} {
		registered(t, observer, "web", status)
		if err := child.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		if child.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(natstest.Soon):
		t.Error("it has not ended")
	}
	cancel()
}

// A stop during the registration drains the server, as any other stop, because callers may have
// seen it. Seen to fail with a registration that the stop cancels.
func TestStopWhileItIsRegistered(t *testing.T) {
	s := natstest.Start(t)
	observer := newRegistry(t, s)
	if err := observer.Observe("web"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		owner := newRegistry(t, s)
		id := fmt.Sprint(i)
		s := kvregistry.Service{Name: "web", ID: id}
		stop, done := serving(t, owner, http.NotFoundHandler(), s, Settle(10*time.Millisecond))
		natstest.Eventually(t, natstest.Soon, func() error {
			if len(owner.RegisteredServices()) == 0 { // it is declared before it is acknowledged
				return errors.New("it is not declared")
			}
			return nil
		})
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// A server whose registration was taken back ends the request under way before it stops, as any
// other. Seen to fail with a Drain that ends if nothing is registered.
func TestStopOfWhatIsNotRegistered(t *testing.T) {
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	inside, let := make(chan bool, 1), make(chan bool)
	stop, done := serving(t, owner, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		inside <- true
		<-let
	}), kvregistry.Service{Name: "web"}, Settle(0))
	one := registered(t, owner, "web", kvregistry.Passing)
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Get(one.URL)
		if err == nil {
			_ = resp.Body.Close()
		}
		answered <- err
	}()
	<-inside
	if err := owner.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	stop()
	natstest.Eventually(t, natstest.Soon, func() error { // it is being shut down
		c, err := net.Dial("tcp", one.Address)
		if err == nil {
			_ = c.Close()
			return errors.New("it still listens")
		}
		return nil
	})
	close(let)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A server whose instance a newer one took over also serves for the settle time, because a caller
// that looked it up a moment before still calls it. The function of Until is waited for too. Seen
// to fail with a server that is shut down at once.
func TestStopOfWhatWasTakenOver(t *testing.T) {
	s := natstest.Start(t)
	owner, newer := newRegistry(t, s), newRegistry(t, s)
	var called atomic.Bool
	stop, done := serving(t, owner, http.NotFoundHandler(), kvregistry.Service{Name: "web",
		ID: "a"}, Settle(3*time.Second),
		Until(func(context.Context) error { called.Store(true); return nil }))
	one := registered(t, owner, "web", kvregistry.Passing)
	if _, err := newer.Register(kvregistry.Service{Name: "web", ID: "a",
		Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if list := owner.RegisteredServices(); len(list) > 0 {
			return errors.New("it is not fenced yet")
		}
		return nil
	})
	stop()
	for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
		resp, err := http.Get(one.URL)
		if err != nil {
			t.Fatalf("%s after the stop: %v", time.Since(began), err)
		}
		_ = resp.Body.Close()
		time.Sleep(10 * time.Millisecond) // the load itself
	}
	if err := <-done; err != nil || !called.Load() {
		t.Errorf("%v, Until called %v", err, called.Load())
	}
	if list, err := newer.GetServices(t.Context(), "web"); err != nil || len(list) != 1 {
		t.Errorf("the newer one: %v, %v", list, err)
	}
}

// A request that does not end delays the stop for the grace time and no longer, and the service is
// unregistered. Seen to fail without the server's Close.
func TestGraceIsBounded(t *testing.T) {
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	inside := make(chan bool, 1)
	stop, done := serving(t, owner, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inside <- true
		<-r.Context().Done() // until its connection is cut
	}), kvregistry.Service{Name: "web"}, Settle(0), Grace(200*time.Millisecond))
	one := registered(t, observer, "web", kvregistry.Passing)
	cut := make(chan error, 1)
	go func() {
		resp, err := http.Get(one.URL)
		if err == nil {
			_ = resp.Body.Close()
		}
		cut <- err
	}()
	<-inside
	stop()
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopped with %v", err)
	}
	if err := <-cut; err == nil {
		t.Error("the request was not cut off")
	}
	if list := owner.RegisteredServices(); len(list) > 0 {
		t.Errorf("still registered: %v", list)
	}
}

// The registration says where the service is served: at the host's own address if it listens at all
// addresses, with https if it serves TLS, and at the caller's address or URL if there is one. Seen
// to fail with the listener's address.
func TestLocated(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	at := l.Addr().String()
	for _, tc := range []struct {
		s            kvregistry.Service
		secure       bool
		address, url string
	}{
		{kvregistry.Service{Name: "web"}, false, at, "http://" + at},
		{kvregistry.Service{Name: "web"}, true, at, "https://" + at},
		{kvregistry.Service{Name: "web", URL: "http://proxy/web"}, false, "", "http://proxy/web"},
		{kvregistry.Service{Name: "web", Address: "proxy:80"}, false, "proxy:80", ""},
	} {
		if got := located(tc.s, l, tc.secure); got.Address != tc.address || got.URL != tc.url {
			t.Errorf("%+v by TLS %v: %+v", tc.s, tc.secure, got)
		}
	}
	if ip, err := kvregistry.OutboundIP(); err == nil {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		if got := located(kvregistry.Service{}, l, false); !strings.HasPrefix(got.URL, "http://") ||
			!strings.Contains(got.URL, ip.String()) {
			t.Errorf("%s gave %s", l.Addr(), got.URL)
		}
	}
}

// Without an Addr a server listens where net/http has it listen. Seen to fail with :http with TLS.
func TestAddress(t *testing.T) {
	secure := &tls.Config{}
	for want, srv := range map[string]*http.Server{":http": {}, ":https": {TLSConfig: secure},
		":1": {Addr: ":1"}, ":2": {Addr: ":2", TLSConfig: secure}} {
		if got := address(srv); got != want {
			t.Errorf("%+v: %s, want %s", srv, got, want)
		}
	}
}

// A service that cannot be registered, or a server that cannot serve, is an error, and leaves
// neither a server, nor a listener, nor a registration. Seen to fail with a server that is not
// closed, and with a listener that is left open when a server cannot start.
func TestWhatCanNotServe(t *testing.T) {
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := HTTP(t.Context(), owner, &http.Server{}, kvregistry.Service{Name: "web", Weight: -1},
		Listener(l)); !errors.Is(err, kvregistry.ErrInvalidService) {
		t.Errorf("a bad service: %v", err)
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Addr: l.Addr().String()}
	if err := HTTP(t.Context(), owner, srv, kvregistry.Service{Name: "web"}); !errors.Is(err,
		syscall.EADDRINUSE) {
		t.Errorf("a taken address: %v", err)
	}
	done := make(chan error, 1)
	go func() {
		done <- HTTP(t.Context(), owner, &http.Server{}, kvregistry.Service{Name: "web"},
			Listener(l))
	}()
	registered(t, owner, "web", kvregistry.Passing)
	_ = l.Close() // as anything else may close it
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a listener that was closed: %v", err)
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	weak := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return nil, nil
	}, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}}
	if err := HTTP(t.Context(), owner, &http.Server{TLSConfig: weak},
		kvregistry.Service{Name: "web"}, Listener(l)); err == nil {
		t.Error("a server that HTTP/2 refuses began")
	}
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("a server that could not begin still listens")
	}
	if list := owner.RegisteredServices(); len(list) > 0 {
		t.Errorf("still registered: %v", list)
	}
	for name, err := range map[string]error{
		"grace": HTTP(t.Context(), owner, srv, kvregistry.Service{Name: "web"}, Grace(0)),
		"no time": HTTP(t.Context(), owner, srv, kvregistry.Service{Name: "web"},
			Grace(kvregistry.DefaultSettle)),
		"no key": HTTP(t.Context(), owner, &http.Server{TLSConfig: &tls.Config{}},
			kvregistry.Service{Name: "web"}),
		"settle": HTTP(t.Context(), owner, srv, kvregistry.Service{Name: "web"}, Settle(-1)),
		"until":  HTTP(t.Context(), owner, srv, kvregistry.Service{Name: "web"}, Until(nil)),
		"listener": HTTP(t.Context(), owner, srv, kvregistry.Service{Name: "web"},
			Listener(nil)),
		"nil option":  HTTP(t.Context(), owner, srv, kvregistry.Service{Name: "web"}, nil),
		"no registry": HTTP(t.Context(), nil, srv, kvregistry.Service{Name: "web"}),
		"no server":   HTTP(t.Context(), owner, nil, kvregistry.Service{Name: "web"}),
	} {
		if !errors.Is(err, kvregistry.ErrInvalidOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// While NATS is away the server serves, and stops within its grace. When NATS is back, a
// registration or its removal is written. Seen to fail with a registration that is waited for
// before the server serves.
func TestServesWithoutNATS(t *testing.T) {
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	if err := observer.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	s.Down()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop, done := serving(t, owner, http.NotFoundHandler(), kvregistry.Service{Name: "web"},
		Listener(l), Settle(0), Grace(100*time.Millisecond))
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	s.Up()
	registered(t, observer, "web", kvregistry.Passing)
	s.Down()
	stop()
	if err := <-done; !errors.Is(err, kvregistry.ErrPending) {
		t.Errorf("stopped without NATS: %v", err)
	}
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if snap, err := observer.Snapshot("web"); err != nil || snap.Len() > 0 {
			return fmt.Errorf("still there: %v", err)
		}
		return nil
	})
}

// A connection that is upgraded while the server drains is left to its users. Seen to fail with
// each answer told to close its connection.
func TestUpgradeWhileItDrains(t *testing.T) {
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	stop, done := serving(t, owner, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		line, _ := rw.ReadString('\n')
		_, _ = fmt.Fprint(c, line)
	}), kvregistry.Service{Name: "web"}, Settle(3*time.Second)) // in which it is upgraded
	one := registered(t, owner, "web", kvregistry.Passing)
	stop()
	registered(t, owner, "web", kvregistry.Draining)
	c, err := net.Dial("tcp", one.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "+
		"echo\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Close {
		t.Errorf("%s, closes %v: %v", resp.Status, resp.Close, resp.Header)
	}
	_, _ = fmt.Fprintln(c, "hello")
	if line, err := r.ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
