package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kvregistry/go/kvregistry"
)

// atOnce is how many scrapes are answered at the same time. More are told to come back.
const atOnce = 8

// Handler returns a handler that answers a scrape of Prometheus with the metrics of a registry, of
// the Go runtime and of the process. For a program that exports other metrics too, use [New].
func Handler(reg *kvregistry.Registry, opts ...Option) http.Handler {
	all := prometheus.NewRegistry()
	all.MustRegister(New(reg, opts...), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(all, promhttp.HandlerOpts{MaxRequestsInFlight: atOnce})
}
