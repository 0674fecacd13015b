package check

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// endless answers with a body that has no end.
func endless(w http.ResponseWriter, r *http.Request, status int, read *atomic.Int64) {
	w.WriteHeader(status)
	for r.Context().Err() == nil {
		n, err := w.Write([]byte(strings.Repeat("x", 32<<10)))
		if err != nil {
			return
		}
		read.Add(int64(n))
	}
}

// The status decides: a redirect is a failure, and of an endless body no more is read than a socket
// holds. The error has neither the URL, with its password, nor more than the start of the body.
// Seen to fail with redirects that are followed, with a body that is read to its end, and with the
// client's error as it is.
func TestHTTP(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	mux := http.NewServeMux()
	for path, status := range map[string]int{"/ok": 200, "/none": 204, "/moved": 301,
		"/busy": 503, "/missing": 404} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/ok")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, "no database", strings.Repeat("x", 1000))
		})
	}
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		endless(w, r, 200, &sent)
	})
	mux.HandleFunc("/endless500", func(w http.ResponseWriter, r *http.Request) {
		endless(w, r, 500, &sent)
	})
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	with := strings.Replace(srv.URL, "//", "//me:SECRET@", 1)
	for path, want := range map[string]string{
		"/ok": "", "/none": "", "/moved": "status 301", "/busy": "no database",
		"/missing": "status 404", "/endless": "", "/endless500": "status 500", "/hangs": "deadline",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
		if path == "/hangs" {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		c := HTTP(with + path)
		if c.err != nil {
			t.Fatal(c.err)
		}
		err := c.f(ctx)
		cancel()
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", path, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "me:") || len(err.Error()) > 300):
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if n := sent.Load(); n > 64<<20 {
		t.Errorf("%d bytes of endless bodies were taken", n)
	}
	srv.Close()
	if err := HTTP(with + "/ok").f(t.Context()); err == nil || strings.Contains(err.Error(),
		"SECRET") || strings.Contains(err.Error(), "me:") {
		t.Errorf("a server that is down: %v", err)
	}
}

// A TCP check passes while a server listens. Seen to fail with the error of the dial ignored.
func TestTCP(t *testing.T) {
	t.Parallel()
	address := fmt.Sprint("127.0.0.1:", natstest.FreePort(t))
	c := TCP(address)
	if err := c.f(t.Context()); err == nil {
		t.Error("nobody listens, and it passes")
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := c.f(t.Context()); err != nil {
		t.Error(err)
	}
}
