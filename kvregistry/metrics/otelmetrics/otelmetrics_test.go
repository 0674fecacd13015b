package otelmetrics_test

import (
	"context"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
	"github.com/kvregistry/go/kvregistry/metrics"
	"github.com/kvregistry/go/kvregistry/metrics/otelmetrics"
)

// series returns what a gatherer has, as kind name{label="value"} value. Of times, which grow from
// one look to the next, it leaves out the value. OpenTelemetry's own labels and metrics are not of
// the registry.
func series(t *testing.T, from prometheus.Gatherer) []string {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]bool{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "kvregistry_") {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				if !strings.HasPrefix(l.GetName(), "otel_scope_") {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
			}
			text := fmt.Sprint(f.GetType(), " ", f.GetName(), labels, " ", f.GetHelp())
			if !strings.HasSuffix(f.GetName(), "_seconds") {
				text += fmt.Sprint(" ", m.GetGauge().GetValue()+m.GetCounter().GetValue())
			}
			list[text] = true
		}
	}
	return slices.Sorted(maps.Keys(list))
}

// OpenTelemetry's exporter for Prometheus shows the same series, with the same names, kinds, texts
// and values, as package metrics. Seen to fail with a counter that is a gauge, a unit that is
// missing, and two labels that are exchanged.
func TestTwins(t *testing.T) {
	env := kvregistrytest.New(t)
	for _, id := range []string{"a", "b"} {
		if _, err := env.Register(kvregistry.Service{Name: "web", ID: id,
			Address: "127.0.0.1:80"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := env.Exclusive(t.Context(), "leader"); err != nil { // it ends with the registry
		t.Fatal(err)
	}
	lookup, err := env.Lookup("web")
	if err != nil {
		t.Fatal(err)
	}

	plain := prometheus.NewPedanticRegistry()
	plain.MustRegister(metrics.New(env.Registry, metrics.WithInstances(),
		metrics.WithLookup("web", lookup)))
	otel := prometheus.NewPedanticRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(otel))
	if err != nil {
		t.Fatal(err)
	}
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	registered, err := otelmetrics.Register(provider.Meter("test"), env.Registry,
		otelmetrics.WithInstances(), otelmetrics.WithLookup("web", lookup))
	if err != nil {
		t.Fatal(err)
	}

	natstest.Eventually(t, natstest.Soon, func() error {
		if diff := cmp.Diff(series(t, plain), series(t, otel)); diff != "" {
			return fmt.Errorf("package metrics and OpenTelemetry differ:\n%s", diff)
		}
		if list := fmt.Sprint(series(t, otel)); !strings.Contains(list, `"leader"`) ||
			!strings.Contains(list, `"passing"`) || !strings.Contains(list, `id="b"`) {
			return fmt.Errorf("series are missing: %s", list)
		}
		return nil
	})
	if err := registered.Unregister(); err != nil {
		t.Fatal(err)
	}
	if left := series(t, otel); len(left) > 0 {
		t.Errorf("after Unregister there are still %s", left)
	}
}

func ExampleRegister() {
	url, stop := natstest.Run()
	defer stop()
	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()

	ctx := context.Background()
	reg, err := kvregistry.New(ctx, nc)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	reader := metric.NewManualReader() // a program has a reader that exports
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	if _, err := otelmetrics.Register(provider.Meter("kvregistry"), reg); err != nil {
		log.Fatal(err)
	}

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &collected); err != nil {
		log.Fatal(err)
	}
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if gauge, ok := m.Data.(metricdata.Gauge[float64]); ok && m.Name == "kvregistry.up" {
			fmt.Println(m.Name, gauge.DataPoints[0].Value)
		}
	}
	// Output: kvregistry.up 1
}
