package page

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// Every answer has the headers that keep foreign pages out, and the page is made of embedded files
// alone. Seen to fail without the headers.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := serveEnv(t, kvregistrytest.New(t), Config{})
	files, err := embedded.ReadDir("assets")
	must(t, err)
	paths := []string{"/", "/api/health", "/api/changes", "/nothing"}
	for _, file := range files {
		paths = append(paths, "/"+file.Name())
	}
	for _, path := range paths {
		answer, body := get(t, s.URL+path)
		for name, value := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"X-Frame-Options": "DENY", "Cache-Control": "no-store",
		} {
			if answer.Header.Get(name) != value {
				t.Errorf("%s: %s is %q", path, name, answer.Header.Get(name))
			}
		}
		policy := answer.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'self'", "frame-ancestors 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy is %q", path, policy)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
		if strings.HasSuffix(path, ".js") && !strings.HasPrefix(answer.Header.Get("Content-Type"),
			"text/javascript") {
			t.Errorf("%s is %s", path, answer.Header.Get("Content-Type"))
		}
		body = strings.ReplaceAll(body, "http://www.w3.org/2000/svg", "")
		if strings.Contains(body, "innerHTML") || strings.Contains(body, "//cdn") ||
			strings.Contains(body, `src="http`) || strings.Contains(body, `href="http`) {
			t.Errorf("%s parses HTML, or names another host", path)
		}
	}
}

// A request for another host is refused: a foreign page's name may resolve to this address. Seen to
// fail without the check.
func TestHosts(t *testing.T) {
	t.Parallel()
	h := Handler(kvregistrytest.New(t).Registry, Config{Hosts: []string{"Dash.example"}})
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8550": 200, "127.0.0.1:8550": 200, "[::1]:8550": 200,
		"192.0.2.7": 200, "dash.example": 200, "DASH.EXAMPLE.:443": 200,
		"evil.example": 421, "evil.example:8550": 421, "localhost.evil.example": 421, "": 421,
		"127.0.0.1.evil.example": 421, "dash.example.evil": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/health", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}

// Writes need the page's origin and its token, and a page that only reads has none. Seen to fail
// without the check of the origin, and without that of the token.
func TestWrites(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	var done []string
	do := func(what string, err error) func(context.Context, string, string) error {
		return func(_ context.Context, service, id string) error {
			done = append(done, what+" "+service+"/"+id)
			return err
		}
	}
	h := Handler(env.Registry, Config{Drain: do("drain", nil),
		Deregister: do("deregister", errors.New("its owner lives"))})
	reads := Handler(env.Registry, Config{})
	token := tokenOf(t, h)
	const body = `{"service":"web","id":"1"}`
	for _, c := range []struct {
		name, method, path, origin, token, body string
		h                                       http.Handler
		want                                    int
	}{
		{"right", "POST", "drain", "http://localhost", token, body, h, 200},
		{"refused by its owner", "POST", "deregister", "http://localhost", token, body, h, 409},
		{"no origin", "POST", "drain", "", token, body, h, 403},
		{"foreign origin", "POST", "drain", "http://evil.example", token, body, h, 403},
		{"other port", "POST", "drain", "http://localhost:1", token, body, h, 403},
		{"null origin", "POST", "drain", "null", token, body, h, 403},
		{"no token", "POST", "drain", "http://localhost", "", body, h, 403},
		{"other token", "POST", "drain", "http://localhost", tokenOf(t, reads), body, h, 403},
		{"read", "GET", "drain", "http://localhost", token, body, h, 405},
		{"no id", "POST", "drain", "http://localhost", token, `{"service":"web"}`, h, 400},
		{"long", "POST", "drain", "http://localhost", token, `{"service":"web","id":"` +
			strings.Repeat("x", longestWrite) + `"}`, h, 400},
		{"reads only", "POST", "drain", "http://localhost", tokenOf(t, reads), body, reads, 403},
	} {
		r := httptest.NewRequest(c.method, "/api/"+c.path, strings.NewReader(c.body))
		r.Host = "localhost"
		r.Header.Set("Origin", c.origin)
		r.Header.Set(tokenHeader, c.token)
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
	}
	if got := strings.Join(done, ", "); got != "drain web/1, deregister web/1" {
		t.Errorf("done: %s", got)
	}
}

// hasty are connections on which two minutes to write are 120 ms.
type hasty struct{ net.Listener }

func (h hasty) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	return hastyConn{c}, err
}

type hastyConn struct{ net.Conn }

func (c hastyConn) SetWriteDeadline(at time.Time) error {
	if !at.IsZero() {
		at = time.Now().Add(time.Until(at) / 1000)
	}
	return c.Conn.SetWriteDeadline(at)
}

// A client that asks and never reads is dropped, and holds no answer without end. Seen to fail with
// a server without WriteTimeout.
func TestClientThatNeverReads(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	dropped := make(chan error, 1)
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		part := make([]byte, 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(part); err != nil {
				dropped <- err
				return
			}
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, hasty{l}, endless) }() // ends with ctx
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	must(t, err)
	select {
	case err := <-dropped:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the answer ended with %v", err)
		}
	case <-time.After(natstest.Soon):
		t.Error("the client holds its answer")
	}
	stop()
	must(t, <-ended)
}

// The page watches everything from its start, and not only while a loop does. Seen to fail without
// the call of Observe.
func TestObserves(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	for range 10 { // of which a loop may be in time for some
		reg := env.Open(kvregistry.WithoutReaping())
		Handler(reg, Config{})
		if names := reg.ObservedServices(); !slices.Contains(names, kvregistry.Everything) {
			t.Errorf("it observes %q", names)
		}
	}
}

// tokenOf reads the token of a page.
func tokenOf(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	defer s.CloseClientConnections()
	var hello hello
	must(t, json.Unmarshal(listen(t, s.URL).until("hello"), &hello))
	return hello.Token
}
