package metrics_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
	"github.com/kvregistry/go/kvregistry/metrics"
	"github.com/kvregistry/go/kvregistry/metrics/internal/figures"
)

// A tenant with more services than have series has no more series than these, and none of its
// instances is missing from the sum. Seen to fail without the bound.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	list := make([]kvregistry.Service, figures.MostServices+20)
	for i := range list {
		list[i] = kvregistry.Service{Name: fmt.Sprintf("s%05d", i), ID: "a"}
	}
	register(t, env.Registry, list...)
	natstest.Eventually(t, natstest.Soon, func() error {
		all, err := env.Catalog()
		if err == nil && all.Len() < len(list) {
			err = fmt.Errorf("only %d services are seen", all.Len())
		}
		return err
	})
	c := metrics.New(env.Registry, metrics.WithInstances())
	eventually(t, c, map[string]float64{
		"kvregistry_services": float64(len(list)),
		`kvregistry_instances{service="s00000",status="passing"}`: 1,
		`kvregistry_instances{service="s00999",status="passing"}`: 1,
		`kvregistry_instances{service="s01000",status="passing"}`: absent,
		`kvregistry_instances{service="",status="passing"}`:       20,
	})
	series, sum := 0, 0.0
	for name, value := range gather(t, c) {
		if strings.HasPrefix(name, "kvregistry_instances{") {
			series++
			sum += value
		}
	}
	if want := 4 * (figures.MostServices + 1); series != want || sum != float64(len(list)) {
		t.Errorf("%d series count %g instances, want %d series and %d instances", series, sum, want,
			len(list))
	}
}

// Names that would steer a terminal, or break a line or a quote, come through a scrape as they are.
// Seen to fail with a handler that cuts the names at a quote.
func TestScrapeOfHostileNames(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	names := []string{"a\"} 1\nkvregistry_up 0", "\\n\\", "\x1b[31m", "\u202eevil", "<script>",
		"{}"}
	list := make([]kvregistry.Service, len(names))
	for i, name := range names {
		list[i] = kvregistry.Service{Name: name, ID: name}
	}
	register(t, env.Registry, list...)
	c := metrics.New(env.Registry, metrics.WithInstances())
	eventually(t, c, map[string]float64{"kvregistry_services": float64(len(names))})

	srv := httptest.NewServer(metrics.Handler(env.Registry, metrics.WithInstances()))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range families["kvregistry_instances"].GetMetric() {
		found[m.GetLabel()[0].GetValue()] = true
	}
	for _, name := range names {
		if !found[name] {
			t.Errorf("no series of %q", name)
		}
	}
	up := families["kvregistry_up"].GetMetric()
	if len(up) != 1 || up[0].GetGauge().GetValue() != 1 || len(found) != len(names) {
		t.Errorf("kvregistry_up is %v, and the services are %v", up, found)
	}
	if families["go_goroutines"] == nil || families["process_start_time_seconds"] == nil {
		t.Error("the runtime's and the process's metrics are missing")
	}
}
