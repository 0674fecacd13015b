// Package otelmetrics gives OpenTelemetry what a registry knows of itself. It is a module of its
// own, so that only users of OpenTelemetry build it.
//
// The figures are those of package metrics: docs/monitoring lists them. An instrument's name has
// dots, as kvregistry.view.age, and its unit beside it. OpenTelemetry's exporter for Prometheus
// makes the same names of them that package metrics has, so the rules and the dashboard of
// docs/monitoring fit both.
//
// A collection reads this process's memory: it asks no server and waits for nothing.
package otelmetrics

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/metrics/internal/figures"
)

// Option adds figures that are off by default.
type Option = figures.Option

// WithInstances adds the figures of the whole tenant: how many services there are, how many
// instances of each by status, and how many leases. It makes the registry observe
// [kvregistry.Everything], so use it in one process of a tenant, or in two, and not in each. The
// first 1,000 services by name have values of their own. The instances of the others are counted
// with an empty service.
func WithInstances() Option { return figures.WithInstances() }

// WithLookup adds a value for each instance of a prepared look-up, which says whether the instance
// is set aside because calls of it failed. The service is the name that the look-up was made with.
// All look-ups together have 1,000 values at most.
func WithLookup(service string, l *kvregistry.Lookup) Option {
	return figures.WithLookup(service, l)
}

// Register makes an observable instrument of the meter for each figure of a registry, and a
// callback that reads them. The callback works also once the registry is closed; Unregister of what
// is returned ends it. Several registries of a program need meters that differ, for example by an
// attribute of their scope.
func Register(meter metric.Meter, reg *kvregistry.Registry,
	opts ...Option) (metric.Registration, error) {
	all := figures.All()
	instruments := make([]metric.Float64Observable, len(all))
	observed := make([]metric.Observable, len(all))
	for i := range all {
		instrument, err := newInstrument(meter, &all[i])
		if err != nil {
			return nil, fmt.Errorf("otelmetrics: instrument %s: %w", all[i].Name, err)
		}
		instruments[i], observed[i] = instrument, instrument
	}
	source := figures.New(reg, opts...)
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		state := source.Read()
		for i := range all {
			f := &all[i]
			f.Read(state, func(value float64, labels ...string) {
				attributes := make([]attribute.KeyValue, len(labels))
				for n, label := range labels {
					attributes[n] = attribute.String(f.Labels[n], label)
				}
				o.ObserveFloat64(instruments[i], value, metric.WithAttributes(attributes...))
			})
		}
		return nil
	}, observed...)
}

func newInstrument(meter metric.Meter, f *figures.Figure) (metric.Float64Observable, error) {
	if f.Total {
		return meter.Float64ObservableCounter(f.Name, metric.WithDescription(f.Help),
			metric.WithUnit(f.Unit))
	}
	return meter.Float64ObservableGauge(f.Name, metric.WithDescription(f.Help),
		metric.WithUnit(f.Unit))
}
