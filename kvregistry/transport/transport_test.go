package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/transport"
)

// never is for tests that count: no instance is set aside.
var never = transport.Choose(kvregistry.Outcome{Failures: -1})

// inOrder takes the first instance by id, so that a test knows which one a request meets first, and
// sets none aside.
var inOrder = transport.Choose(kvregistry.Outcome{Failures: -1},
	kvregistry.Picker{Prepare: func([]*kvregistry.Candidate) func(kvregistry.Request) int {
		return func(kvregistry.Request) int { return 0 }
	}})

func newRegistry(t testing.TB) *kvregistry.Registry {
	t.Helper()
	reg, err := kvregistry.New(t.Context(), natstest.Start(t).Connect(),
		kvregistry.Timeout(time.Minute), kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

// register registers instances of web, with ids from 0.
func register(t testing.TB, reg *kvregistry.Registry, list ...kvregistry.Service) {
	t.Helper()
	for i, s := range list {
		s.Name, s.ID = "web", fmt.Sprint(i)
		if _, err := reg.Register(s); err != nil {
			t.Fatal(err)
		}
	}
}

func newTransport(t testing.TB, reg *kvregistry.Registry,
	opts ...transport.Option) *transport.Transport {
	t.Helper()
	tr, err := transport.New(reg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// serve runs an instance until the test ends, and returns its URL.
func serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// nobody returns a URL at which nothing listens.
func nobody(t testing.TB) string { return fmt.Sprintf("http://127.0.0.1:%d", natstest.FreePort(t)) }

// hangUp reads a request and closes the connection instead of an answer.
func hangUp(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	panic(http.ErrAbortHandler)
}

// echo answers with the request's body.
func echo(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }

// stream is a body that can be read once, and knows whether it was closed.
type stream struct {
	io.Reader
	closed atomic.Int32
}

func newStream(text string) *stream { return &stream{Reader: strings.NewReader(text)} }

func (s *stream) Close() error { s.closed.Add(1); return nil }

// text reads a response to its end, and returns its body.
func text(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	all, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return string(all), errors.Join(err, errors.New(resp.Status))
	}
	return string(all), err
}

// health returns what the look-up behind http://web knows.
func health(tr *transport.Transport) (inFlight int64, failures int) {
	for _, one := range tr.Health()["http://web"].Instances {
		inFlight += one.InFlight
		failures += one.Failures
	}
	return inFlight, failures
}

// TestWhatAnInstanceSees holds the path, the host and the user of a request that an instance gets,
// and that the caller's request stays as it was. Seen to fail with the service's name left as the
// Host.
func TestWhatAnInstanceSees(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		_, _ = fmt.Fprint(w, r.Method, " ", r.Host, " ", r.RequestURI, " ", user, ":", password)
	})
	host := strings.TrimPrefix(url, "http://")
	register(t, reg, kvregistry.Service{URL: "http://ann:secret@" + host + "/test?k=v"})
	tr := newTransport(t, reg)

	for _, tc := range []struct {
		host, user string // of the request, if they are set
		want       string
	}{
		{"", "", "PUT " + host + " /test/a%2Fb?k=v&q=1 ann:secret"},
		{"public.example", "", "PUT public.example /test/a%2Fb?k=v&q=1 ann:secret"},
		{"", "bob", "PUT " + host + " /test/a%2Fb?k=v&q=1 bob:own"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
			"http://web/a%2Fb?q=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tc.host != "" {
			req.Host = tc.host
		}
		if tc.user != "" {
			req.SetBasicAuth(tc.user, "own")
		}
		before := fmt.Sprint(req.URL, req.Host, req.Header)
		resp, err := tr.RoundTrip(req)
		if err == nil && resp.Request != req {
			t.Error("the response is of another request than the caller's")
		}
		if got, err := text(resp, err); got != tc.want || err != nil {
			t.Errorf("the instance saw %q, %v; want %q", got, err, tc.want)
		}
		if after := fmt.Sprint(req.URL, req.Host, req.Header); after != before {
			t.Errorf("the caller's request was %s, and is %s", before, after)
		}
	}
}

// TestRedirectAsksTheServiceAgain holds that a client that follows a redirect of an instance with a
// base path, as net/http makes it, reaches the service again. Seen to fail without relocate.
func TestRedirectAsksTheServiceAgain(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/dir/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "it is "+r.URL.Path)
	})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/test/dir" { // the mux does not know of the stripped prefix
			http.Redirect(w, r, "http://"+r.Host+"/test/dir/", http.StatusMovedPermanently)
			return
		}
		http.StripPrefix("/test", mux).ServeHTTP(w, r)
	})
	register(t, reg, kvregistry.Service{URL: url + "/test"}, kvregistry.Service{URL: url + "/test"})
	client := &http.Client{Transport: newTransport(t, reg)}
	resp, err := client.Get("http://web/dir")
	if got, err := text(resp, err); got != "it is /dir/" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if at := resp.Request.URL.String(); at != "http://web/dir/" {
		t.Errorf("the response says that it is of %s", at)
	}
}

// TestInstancesTakeTurns holds that every instance is called, and that the look-up knows of a call
// until its body is over. Seen to fail with a follow that tells the outcome at once.
func TestInstancesTakeTurns(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	var list []kvregistry.Service
	for i := range 3 {
		list = append(list, kvregistry.Service{URL: serve(t,
			func(w http.ResponseWriter, r *http.Request) {
				_, _ = fmt.Fprint(w, i)
			})})
	}
	register(t, reg, list...)
	tr := newTransport(t, reg)
	client := &http.Client{Transport: tr}
	calls := map[string]int{}
	for range 30 {
		got, err := text(client.Get("http://web/"))
		if err != nil {
			t.Fatal(err)
		}
		calls[got]++
	}
	if len(calls) != 3 || calls["0"] != 10 || calls["1"] != 10 {
		t.Errorf("instances were called %v times", calls)
	}

	resp, err := client.Get("http://web/")
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := health(tr); n != 1 {
		t.Errorf("%d calls are under way while a body is open", n)
	}
	_ = resp.Body.Close()
	_ = resp.Body.Close()
	if n, _ := health(tr); n != 0 {
		t.Errorf("%d calls are under way when all are closed", n)
	}
}

// TestHowItIsRefused holds that a refused request's error says why, and that the request's body is
// closed all the same. Seen to fail without end.
func TestHowItIsRefused(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{URL: "http://ann:secret@127.0.0.1:1/"})
	tr := newTransport(t, reg, transport.Host("missing", "Not there"))
	for _, tc := range []struct {
		url  string
		is   error
		says string
	}{
		{"http://nope/", kvregistry.ErrNotFound, `"nope"`},
		{"http://missing/", kvregistry.ErrNotFound, `"Not there"`},
		{"https://web/", kvregistry.ErrNotFound, "with a URL of https"},
		{"http://web:80/", nil, `host "web:80" has a port`},
		{"ftp://web/", nil, `scheme "ftp"; use http://`},
		{"http:///path", nil, "names no service"},
		{"http:opaque", nil, "names no service"},
		{"http://*/", kvregistry.ErrInvalidService, "stands for every service"},
	} {
		body := newStream("body")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, tc.url, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) ||
			!strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want %v, %s", tc.url, err, tc.is, tc.says)
		}
		if body.closed.Load() != 1 {
			t.Errorf("%s: the body was closed %d times", tc.url, body.closed.Load())
		}
	}
	_, err := text((&http.Client{Transport: tr}).Get("http://web/"))
	var failed *transport.Error
	if !errors.As(err, &failed) || failed.Service != "web" || failed.Instance != "0" ||
		failed.Attempts != 1 || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v, %+v", err, failed)
	}
}

// TestNamesThatAreNoHosts holds the two ways to a service of any name. Seen to fail with Host that
// keeps the host for the name.
func TestNamesThatAreNoHosts(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "billing")
	})
	if _, err := reg.Register(kvregistry.Service{Name: "Billing / EU", URL: url}); err != nil {
		t.Fatal(err)
	}
	tr := newTransport(t, reg,
		transport.Host("billing:80", "Billing / EU", kvregistry.WithStatus(kvregistry.Passing)),
		transport.Host("none", "Billing / EU", kvregistry.InZone("x")))
	client := &http.Client{Transport: tr}
	if got, err := text(client.Get("http://billing:80/")); got != "billing" || err != nil {
		t.Errorf("by a host that stands for it: %q, %v", got, err)
	}
	if _, err := text(client.Get("http://none/")); !errors.Is(err, kvregistry.ErrNotFound) {
		t.Errorf("by a host with a filter that nothing passes: %v", err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", nil)
	req.URL.Host, req.Host = "Billing / EU", ""
	if got, err := text(client.Do(req)); got != "billing" || err != nil {
		t.Errorf("by the URL's Host: %q, %v", got, err)
	}
}

// TestOptions holds that an invalid option is refused with its value, and that no watch is started
// for that. Seen to fail without the look at DialTLSContext, and without the one at Host's parts.
func TestOptions(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	other := struct{ http.RoundTripper }{http.DefaultTransport}
	own := &http.Transport{DialTLSContext: new(net.Dialer).DialContext}
	for says, opts := range map[string][]transport.Option{
		"the option is nil":      {nil},
		"Attempts(0)":            {transport.Attempts(0)},
		"Budget(-1, 0)":          {transport.Budget(-1, 0)},
		"Base is nil":            {transport.Base(nil)},
		"DialWith is nil":        {transport.DialWith(nil)},
		"ServerName is nil":      {transport.ServerName(nil)},
		"Key is nil":             {transport.Key(nil)},
		"OnAttempt is nil":       {transport.OnAttempt(nil)},
		"RetryStatus(200)":       {transport.RetryStatus(503, 200)},
		`Host("", "web")`:        {transport.Host("", "web")},
		`stands for "a" already`: {transport.Host("h", "a"), transport.Host("h", "b")},
		"ServerName together": {transport.Base(other),
			transport.ServerName(func(string) string { return "" })},
		"makes its TLS connections itself": {transport.Base(own),
			transport.ServerName(func(string) string { return "" })},
		"two pickers":   {transport.Choose(kvregistry.Picker{}, kvregistry.Picker{})},
		"part 1 is nil": {transport.Host("h", "a", nil)},
	} {
		if _, err := transport.New(reg, opts...); !errors.Is(err, kvregistry.ErrInvalidOption) ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	newTransport(t, reg, inOrder, transport.Host("h", "a", kvregistry.InZone("x")))
	if names := reg.Health().Observed; len(names) > 0 {
		t.Errorf("New observes %q", names)
	}
	if _, err := transport.New(nil); !errors.Is(err, kvregistry.ErrInvalidOption) {
		t.Errorf("without a registry: %v", err)
	}
}

// TestKeyOfARequest holds that pickers that go by a key get the request's. Seen to fail without it.
func TestKeyOfARequest(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{URL: serve(t, echo)})
	keys := make(chan string, 1)
	type choose = func(kvregistry.Request) int
	picker := kvregistry.Picker{Prepare: func([]*kvregistry.Candidate) choose {
		return func(req kvregistry.Request) int { keys <- req.Key; return 0 }
	}}
	tr := newTransport(t, reg, transport.Choose(picker),
		transport.Key(func(r *http.Request) string {
			return r.Header.Get("User")
		}))
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://web/", nil)
	req.Header.Set("User", "ann")
	if _, err := text(tr.RoundTrip(req)); err != nil {
		t.Fatal(err)
	}
	if key := <-keys; key != "ann" {
		t.Errorf("the picker got the key %q", key)
	}
}

// TestInstancesComeAndGo holds that no request of an idempotent method fails while instances are
// added, stop gracefully and die, with many callers at once. Seen to fail with one attempt.
func TestInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	stable := serve(t, echo)
	register(t, reg, kvregistry.Service{URL: stable})
	tr := newTransport(t, reg, transport.RetryStatus(), transport.Budget(1, 100))
	client := &http.Client{Transport: tr}

	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	var calls, failed atomic.Int64
	for i := range 8 {
		callers.Go(func() { // until the changes are over
			for n := 0; ctx.Err() == nil; n++ {
				want := fmt.Sprint(i, " ", n)
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://web/",
					strings.NewReader(want))
				if got, err := text(client.Do(req)); got != want || err != nil {
					t.Errorf("call %q: %q, %v", want, got, err)
					failed.Add(1)
				}
				calls.Add(1)
			}
		})
	}
	for n := range 10 {
		srv := httptest.NewServer(http.HandlerFunc(echo))
		unregister, err := reg.Register(kvregistry.Service{ID: "1", Name: "web", URL: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		before := calls.Load()
		natstest.Eventually(t, natstest.Soon, func() error {
			if calls.Load() < before+20 && failed.Load() == 0 {
				return errors.New("no calls are made")
			}
			return nil
		})
		if n%2 == 0 { // it dies: it stays registered for a while, and its open requests are cut off
			srv.CloseClientConnections()
			_ = srv.Listener.Close()
			before = calls.Load()
			natstest.Eventually(t, natstest.Soon, func() error {
				if calls.Load() < before+20 && failed.Load() == 0 {
					return errors.New("no calls are made")
				}
				return nil
			})
		}
		if err := unregister(); err != nil {
			t.Fatal(err)
		}
		srv.Close()
	}
	cancel()
	callers.Wait()
	if n, _ := health(tr); n != 0 {
		t.Errorf("%d calls are still under way", n)
	}
}

// TestImports holds that the package imports only what its comment says. Seen to fail with nats.go.
func TestImports(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if ours := strings.TrimPrefix(path, "github.com/kvregistry/go/"); strings.Contains(ours,
			".") || path != ours && ours != "kvregistry" && ours != "kvregistry/internal/fault" {
			t.Errorf("it imports %s", path)
		}
	}
}

var _ net.Error = netError{}

type netError struct{}

func (netError) Error() string   { return "timed out" }
func (netError) Timeout() bool   { return true }
func (netError) Temporary() bool { return false }

// TestErrorKeepsTheTimeout holds that url.Error, which http.Client returns, knows of a time-out.
// Seen to fail without Error.Timeout.
func TestErrorKeepsTheTimeout(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	register(t, reg, kvregistry.Service{URL: nobody(t)})
	tr := newTransport(t, reg,
		transport.Base(roundTripper(func(*http.Request) (*http.Response, error) {
			return nil, netError{}
		})))
	_, err := text((&http.Client{Transport: tr}).Get("http://web/"))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v is no time-out", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
