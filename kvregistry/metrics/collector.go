package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/metrics/internal/figures"
)

// Option adds metrics that are off by default.
type Option = figures.Option

// WithInstances adds the metrics of the whole tenant: how many services there are, how many
// instances of each by status, and how many leases. It makes the registry observe
// [kvregistry.Everything], so use it in one process of a tenant, or in two, and not in each. It
// waits for nothing: the metrics come with the first snapshot.
//
// The first 1,000 services by name have series of their own. The instances of the others are
// counted with an empty service.
func WithInstances() Option { return figures.WithInstances() }

// WithLookup adds a series for each instance of a prepared look-up, which says whether the instance
// is set aside because calls of it failed. The service is the name that the look-up was made with.
// All look-ups together have 1,000 series at most.
func WithLookup(service string, l *kvregistry.Lookup) Option {
	return figures.WithLookup(service, l)
}

type collector struct {
	source  *figures.Source
	figures []figures.Figure
	descs   []*prometheus.Desc // of the figures
}

// New returns a collector of a registry's metrics. It works also once the registry is closed. A
// program with several registries tells their metrics apart with a label of each:
//
//	labels := prometheus.Labels{"tenant": "acme"}
//	acme := prometheus.WrapRegistererWith(labels, prometheus.DefaultRegisterer)
//	acme.MustRegister(metrics.New(reg))
func New(reg *kvregistry.Registry, opts ...Option) prometheus.Collector {
	c := &collector{source: figures.New(reg, opts...), figures: figures.All()}
	for i := range c.figures {
		f := &c.figures[i]
		c.descs = append(c.descs, prometheus.NewDesc(f.Prometheus(), f.Help, f.Labels, nil))
	}
	return c
}

func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		descs <- d
	}
}

func (c *collector) Collect(metrics chan<- prometheus.Metric) {
	state := c.source.Read()
	for i := range c.figures {
		f, kind := &c.figures[i], prometheus.GaugeValue
		if f.Total {
			kind = prometheus.CounterValue
		}
		f.Read(state, func(value float64, labels ...string) {
			metrics <- prometheus.MustNewConstMetric(c.descs[i], kind, value, labels...)
		})
	}
}
