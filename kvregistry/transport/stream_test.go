package transport_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/transport"
)

// proxied runs a server that passes every request on to web.
func proxied(t *testing.T, tr *transport.Transport) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "web"})
		},
		Transport: tr,
	})
	t.Cleanup(srv.Close)
	return srv
}

// TestStreaming holds that both directions flow while the call is under way, with HTTP/1 and
// HTTP/2: the server answers each line when it comes. Seen to fail with a follow that reads the
// body first.
func TestStreaming(t *testing.T) {
	t.Parallel()
	lines := func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.Header().Set("Trailer", "Lines")
		w.WriteHeader(http.StatusOK)
		_ = rc.Flush()
		in, n := bufio.NewScanner(r.Body), 0
		for in.Scan() {
			n++
			_, _ = fmt.Fprintln(w, strings.ToUpper(in.Text()))
			_ = rc.Flush()
		}
		w.Header().Set("Lines", fmt.Sprint(n, " ", r.Trailer.Get("Said")))
	}
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			reg := newRegistry(t)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(lines))
			srv.EnableHTTP2 = proto == "HTTP/2.0"
			srv.StartTLS()
			t.Cleanup(srv.Close)
			register(t, reg, kvregistry.Service{URL: nobody(t)}, kvregistry.Service{URL: srv.URL})
			// The dead instance is met first.
			tr := newTransport(t, reg, inOrder, transport.Base(srv.Client().Transport))

			for range 2 {
				in, out := io.Pipe()
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://web/",
					in)
				req.Trailer = http.Header{"Said": nil}
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				answers := bufio.NewReader(resp.Body)
				for i := range 3 {
					if _, err := fmt.Fprintln(out, "line", i); err != nil {
						t.Fatal(err)
					}
					if got, err := answers.ReadString('\n'); got != fmt.Sprintln("LINE", i) ||
						err != nil {
						t.Fatalf("%q, %v", got, err)
					}
				}
				if n, _ := health(tr); n != 1 {
					t.Errorf("%d calls under way, want 1", n)
				}
				req.Trailer.Set("Said", "and goodbye")
				_ = out.Close()
				if rest, err := io.ReadAll(answers); len(rest) > 0 || err != nil {
					t.Errorf("%q, %v", rest, err)
				}
				if n, _ := health(tr); n != 0 {
					t.Errorf("%d calls under way after the end, want 0", n)
				}
				if got := resp.Trailer.Get("Lines"); got != "3 and goodbye" || resp.Proto != proto {
					t.Errorf("%s with the trailer %q", resp.Proto, got)
				}
				_ = resp.Body.Close()
			}
		})
	}
}

// TestByAProxy holds that a reverse proxy's client sees what was flushed before the end, and that
// its upload, which can be read once, goes to another instance if the first does not listen. Seen
// to fail with a follow that reads the body first, and with a stream that its first Close closes.
func TestByAProxy(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	release := make(chan struct{})
	register(t, reg, kvregistry.Service{URL: nobody(t)},
		kvregistry.Service{URL: serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				all, _ := io.ReadAll(r.Body) // first: HTTP/1 goes one way at a time
				_, _ = w.Write(all)
				return
			}
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})})
	proxy := proxied(t, newTransport(t, reg, inOrder))

	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, proxy.URL, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	begin := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, begin); err != nil || string(begin) != "begin" {
		t.Errorf("before the end: %q, %v", begin, err)
	}
	close(release)
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}

	upload := strings.Repeat("a megabyte, piece by piece. ", 1<<15)
	if got, err := text(http.Post(proxy.URL, "", strings.NewReader(upload))); got != upload ||
		err != nil {
		t.Errorf("%d of %d bytes, %v", len(got), len(upload), err)
	}
}

// TestUpgrade holds that a connection that was switched to another protocol goes both ways, closes
// one way at a time, and is under way until it is closed, also through a reverse proxy. Seen to
// fail without duplex, and without its CloseWrite.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{URL: serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: "+
			"Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				// It goes out after the other side has closed its direction.
				_, _ = io.WriteString(rw, "end\n")
				_ = rw.Flush()
				return
			}
			_, _ = io.WriteString(rw, line)
			_ = rw.Flush()
		}
	})})
	tr := newTransport(t, reg)
	proxy := proxied(t, tr)
	for name, at := range map[string]struct {
		rt  http.RoundTripper
		url string
	}{"direct": {tr, "http://web/"}, "by a proxy": {http.DefaultTransport, proxy.URL}} {
		t.Run(name, func(t *testing.T) {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, at.url, nil)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "lines")
			resp, err := at.rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			conn, ok := resp.Body.(io.ReadWriteCloser)
			if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s with a body of %T", resp.Status, resp.Body)
			}
			in := bufio.NewReader(conn)
			for range 3 {
				if _, err := io.WriteString(conn, "hello\n"); err != nil {
					t.Fatal(err)
				}
				if got, err := in.ReadString('\n'); got != "hello\n" || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if n, _ := health(tr); n != 1 {
				t.Errorf("%d calls under way, want 1", n)
			}
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
			if got, err := io.ReadAll(in); string(got) != "end\n" || err != nil {
				t.Errorf("after CloseWrite: %q, %v", got, err)
			}
			_ = conn.Close()
			natstest.Eventually(t, natstest.Soon, func() error { // the proxy's goroutines end later
				if n, _ := health(tr); n != 0 {
					return fmt.Errorf("%d calls under way after Close", n)
				}
				return nil
			})
		})
	}
}

// TestContinue holds that a body that waits for 100 Continue is sent if the server asks for it, is
// not sent otherwise, and is closed in both cases. Seen to fail without the header.
func TestContinue(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{URL: serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		body, _ := io.ReadAll(r.Body) // this makes the server send 100 first
		_, _ = fmt.Fprintf(w, "%s %s", r.Header.Get("Expect"), body)
	})})
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.ExpectContinueTimeout = time.Minute // so that nothing is sent unasked
	tr := newTransport(t, reg, transport.Base(base))
	for path, want := range map[string]string{"/yes": "100-continue body", "/no": ""} {
		body := newStream("body")
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://web"+path, body)
		req.Header.Set("Expect", "100-continue")
		got, err := text(tr.RoundTrip(req))
		if got != want || (err != nil) != (path == "/no") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		left, _ := io.ReadAll(body)
		if sent := len(left) == 0; sent != (path == "/yes") {
			t.Errorf("%s: the body was sent: %v", path, sent)
		}
		natstest.Eventually(t, natstest.Soon, func() error { // net/http may close it later
			if n := body.closed.Load(); n != 1 {
				return fmt.Errorf("%s: the body was closed %d times", path, n)
			}
			return nil
		})
	}
}

// TestServerName holds for which name a certificate has to be valid. That of httptest is valid for
// example.com and 127.0.0.1. CloseIdleConnections closes the connections of each service's base.
// Seen to fail without the name in the base, and with a CloseIdleConnections that leaves out the
// services' bases.
func TestServerName(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		_, _ = fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of refused handshakes
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	base := srv.Client().Transport.(*http.Transport).Clone()
	base.TLSClientConfig.ServerName = "" // httptest sets it
	before := connections()
	named := func(name string) transport.Option {
		return transport.ServerName(func(service string) string {
			if service != "web" {
				t.Errorf("asked for the name of %q", service)
			}
			return name
		})
	}
	for _, tc := range []struct {
		one  kvregistry.Service
		opts []transport.Option
		url  string
		ok   bool
		want string // the name that TLS sends to the server
	}{
		{kvregistry.Service{URL: "https://127.0.0.1:" + port}, nil, "https://web/", true, ""},
		{kvregistry.Service{URL: "https://127.0.0.1:" + port}, nil, "http://web/", true, ""},
		{kvregistry.Service{Address: "127.0.0.1:" + port}, nil, "https://web/", true, ""},
		{kvregistry.Service{URL: "https://localhost:" + port}, nil, "https://web/", false, ""},
		{kvregistry.Service{URL: "https://localhost:" + port},
			[]transport.Option{named("example.com")}, "https://web/", true, "example.com"},
		{kvregistry.Service{Address: "127.0.0.1:" + port}, []transport.Option{named("example.com")},
			"https://web/", true, "example.com"},
		{kvregistry.Service{URL: "https://127.0.0.1:" + port},
			[]transport.Option{named("other.example")}, "https://web/", false, ""},
		{kvregistry.Service{URL: "https://127.0.0.1:" + port}, []transport.Option{named("")},
			"https://web/", true, ""},
	} {
		reg := newRegistry(t)
		register(t, reg, tc.one)
		tr := newTransport(t, reg, append(tc.opts, transport.Base(base))...)
		got, err := text((&http.Client{Transport: tr}).Get(tc.url))
		var wrong *tls.CertificateVerificationError
		if tc.ok != (err == nil) || tc.ok && got != "HTTP/2.0 "+tc.want || !tc.ok &&
			!errors.As(err, &wrong) {
			t.Errorf("%s of URL %q, Address %q: %q, %v; want %v, %q", tc.url, tc.one.URL,
				tc.one.Address, got, err, tc.ok, tc.want)
		}
		tr.CloseIdleConnections()
		noMoreThan(t, before)
	}
}

// counted is like serve, and counts the connections.
func counted(t *testing.T, made *atomic.Int32, h http.HandlerFunc) string {
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// TestConnectionsAreKept holds that requests one after the other share a connection per instance,
// also those whose answers were given up for another's, and that no connection is left when all is
// closed. Seen to fail with a discard that does not read.
func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	var made atomic.Int32
	start := func(h http.HandlerFunc) string { return counted(t, &made, h) }
	register(t, reg, kvregistry.Service{URL: start(echo)}, kvregistry.Service{URL: start(echo)},
		kvregistry.Service{URL: start(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "not now", http.StatusServiceUnavailable)
		})})
	tr := newTransport(t, reg, never, transport.RetryStatus(), transport.Budget(1, 1))
	before := connections()
	client := &http.Client{Transport: tr}
	for range 100 {
		if got, err := text(client.Post("http://web/", "",
			strings.NewReader("body"))); got != "body" && err.Error() != "503 Service Unavailable" {
			t.Fatal(got, err)
		}
		if _, err := text(client.Get("http://web/")); err != nil {
			t.Fatal(err)
		}
	}
	// On a busy machine net/http does not wait long enough to keep each.
	if n := made.Load(); n < 3 || n > 10 {
		t.Errorf("%d connections were made to 3 instances", n)
	}
	tr.CloseIdleConnections()
	noMoreThan(t, before)
}

// TestManyInstancesKeepTheirConnections holds that instances that are called in turn keep a
// connection each, however many they are. Seen to fail with net/http's bound of 100 for all: each
// request then made one.
func TestManyInstancesKeepTheirConnections(t *testing.T) {
	t.Parallel()
	const many, rounds = 120, 5
	reg := newRegistry(t)
	var made atomic.Int32
	var list []kvregistry.Service
	for range many {
		list = append(list, kvregistry.Service{URL: counted(t, &made, echo)})
	}
	register(t, reg, list...)
	client := &http.Client{Transport: newTransport(t, reg)}
	for range rounds * many {
		if _, err := text(client.Get("http://web/")); err != nil {
			t.Fatal(err)
		}
	}
	// With a bound on all together nearly each request would make one. On a busy machine net/http
	// does not wait long enough to keep each.
	if n := made.Load(); n > many*rounds/2 {
		t.Errorf("%d connections were made for %d requests to %d instances", n, rounds*many, many)
	}
}

// noMoreThan waits until the connections that were made since are gone.
func noMoreThan(t *testing.T, before int) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		if n := connections(); n > before {
			return fmt.Errorf("%d goroutines of connections are left", n-before)
		}
		return nil
	})
}

// connections returns how many goroutines net/http's clients have.
func connections() int {
	stacks := make([]byte, 1<<20)
	all := string(stacks[:runtime.Stack(stacks, true)])
	return strings.Count(all, "created by net/http.(*Transport)") + strings.Count(all,
		"created by net/http.(*http2Transport)")
}

// TestInstanceGoesMidway holds that a caller sees that an answer is not whole, that the picker is
// told, and that other answers go on. Seen to fail with a Read that tells nil.
func TestInstanceGoesMidway(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	half := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half of ")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	going := httptest.NewServer(http.HandlerFunc(half))
	defer going.Close()
	if _, err := reg.Register(kvregistry.Service{ID: "9", Name: "web",
		URL: going.URL}); err != nil {
		t.Fatal(err)
	}
	tr := newTransport(t, reg, inOrder)
	client := &http.Client{Transport: tr}
	resp, err := client.Get("http://web/")
	if err != nil {
		t.Fatal(err)
	}
	begin := make([]byte, 8)
	if _, err := io.ReadFull(resp.Body, begin); err != nil || string(begin) != "half of " {
		t.Fatalf("%q, %v", begin, err)
	}

	// Others come, and one of them is dead. A call under way goes on until it is cut off.
	register(t, reg, kvregistry.Service{URL: nobody(t)}, kvregistry.Service{URL: serve(t, echo)})
	natstest.Eventually(t, natstest.Soon, func() error {
		list, err := reg.GetServices(t.Context(), "web")
		if len(list) != 3 {
			return fmt.Errorf("%v, %v", list, err)
		}
		return nil
	})
	if got, err := text(client.Post("http://web/", "", strings.NewReader("body"))); got != "body" ||
		err != nil {
		t.Errorf("of another instance: %q, %v", got, err)
	}
	_, failures := health(tr)
	going.CloseClientConnections()
	if rest, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v; want io.ErrUnexpectedEOF", rest, err)
	}
	_ = resp.Body.Close()
	if n, after := health(tr); n != 0 || after != failures+1 {
		t.Errorf("%d under way, %d failures after %d; want 0, one more", n, after, failures)
	}
}
