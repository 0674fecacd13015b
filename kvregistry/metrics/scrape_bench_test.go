package metrics_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
	"github.com/kvregistry/go/kvregistry/metrics"
)

// BenchmarkScrape answers a scrape of a tenant of 100 services with 100 instances each.
func BenchmarkScrape(b *testing.B) {
	quiet := kvregistry.Logger(slog.New(slog.DiscardHandler))
	env := kvregistrytest.New(b, quiet)
	var list []kvregistry.Service
	for i := range 10_000 {
		list = append(list, kvregistry.Service{Name: fmt.Sprint("s", i%100), ID: fmt.Sprint(i),
			Address: "127.0.0.1:80"})
	}
	if _, err := env.Open(quiet).RegisterAll(b.Context(), list...); err != nil {
		b.Fatal(err)
	}
	for all, err := range env.Catalogs(b.Context()) {
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for s := range all.All() {
			n += s.Len()
		}
		if n == len(list) {
			break
		}
	}
	h := metrics.Handler(env.Registry, metrics.WithInstances())
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
}
