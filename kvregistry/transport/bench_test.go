package transport_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/transport"
)

// BenchmarkRoundTrip compares a request to a service with a request of net/http's own Transport to
// the same server, on a kept connection. It also compares both without a server, which measures
// this package alone.
func BenchmarkRoundTrip(b *testing.B) {
	reg := newRegistry(b)
	url := serve(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})
	register(b, reg, kvregistry.Service{URL: url + "/test"}, kvregistry.Service{URL: url + "/test"},
		kvregistry.Service{URL: url + "/test"})
	plain := http.DefaultTransport.(*http.Transport).Clone()
	defer plain.CloseIdleConnections()
	answer := roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{},
			Body: io.NopCloser(http.NoBody), Request: req}, nil
	})
	for _, way := range []struct {
		name, url string
		rt        http.RoundTripper
	}{
		{"plain", url + "/test/path", plain},
		{"transport", "http://web/path", newTransport(b, reg)},
		{"no server/plain", url + "/test/path", answer},
		{"no server/transport", "http://web/path", newTransport(b, reg, transport.Base(answer))},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, way.url, nil)
				if err != nil {
					b.Fatal(err)
				}
				resp, err := way.rt.RoundTrip(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}
