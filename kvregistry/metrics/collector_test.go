package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
	"github.com/kvregistry/go/kvregistry/metrics"
	"github.com/kvregistry/go/kvregistry/metrics/internal/figures"
)

// collect returns the values of a collector by series, as name{label="value"}. Its error says that
// they do not fit together: a series is there twice, a label is not UTF-8, or not as described.
func collect(c prometheus.Collector) (map[string]float64, error) {
	all := prometheus.NewPedanticRegistry()
	if err := all.Register(c); err != nil {
		return nil, err
	}
	families, err := all.Gather()
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := f.GetName()
			if labels != nil {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values, err
}

func gather(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	values, err := collect(c)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// eventually waits until the values of some series are as they should be. A series that should not
// be there has the value absent.
func eventually(t *testing.T, c prometheus.Collector, want map[string]float64) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		values, got := gather(t, c), map[string]float64{}
		for name := range want {
			got[name] = absent
			if value, ok := values[name]; ok {
				got[name] = value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

const absent = -1

func register(t *testing.T, reg *kvregistry.Registry, services ...kvregistry.Service) {
	t.Helper()
	for i := range services {
		services[i].Address = "127.0.0.1:80"
	}
	if _, err := reg.RegisterAll(t.Context(), services...); err != nil {
		t.Fatal(err)
	}
}

// The metrics of a registry that does everything say so, none is missing, and a linter finds no
// fault. Seen to fail with leases that are counted twice, and with names of counters that do
// not end in _total.
func TestMetrics(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	register(t, env.Registry, kvregistry.Service{Name: "web", ID: "a"},
		kvregistry.Service{Name: "web", ID: "b"},
		kvregistry.Service{Name: "web", ID: "drained", Status: kvregistry.Draining})
	register(t, env.Open(kvregistry.WithoutReaping()), kvregistry.Service{Name: "db", ID: "c"})
	if _, err := env.Exclusive(t.Context(), "leader"); err != nil { // it ends with the registry
		t.Fatal(err)
	}
	lookup, err := env.Lookup("web", kvregistry.Outcome{Failures: 1, Aside: time.Hour, Share: 1})
	if err != nil {
		t.Fatal(err)
	}
	failing, done, err := lookup.Pick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done(errors.New("the call failed"))

	c := metrics.New(env.Registry, metrics.WithInstances(), metrics.WithLookup("web", lookup))
	eventually(t, c, map[string]float64{
		"kvregistry_up": 1, "kvregistry_ok": 1, "kvregistry_ready": 1, "kvregistry_refused": 0,
		"kvregistry_view_current": 1, "kvregistry_view_names": 2,
		"kvregistry_view_unread_names": 0, "kvregistry_view_stale_names": 0,
		"kvregistry_view_full": 0, `kvregistry_view_resyncs_total{cause="silent"}`: 0,
		"kvregistry_events_merged_total": 0, "kvregistry_records_skipped_total": 0,
		"kvregistry_lease_held": 1, "kvregistry_lease_losses_total": 0,
		"kvregistry_lease_heartbeats_failed_total": 0,
		"kvregistry_registrations":                 3, "kvregistry_registrations_unwritten": 0,
		"kvregistry_registrations_fenced_total": 0, `kvregistry_hold_held{name="leader"}`: 1,
		"kvregistry_reaper_slot_held": 1, "kvregistry_reaper_pending_leases": 0,
		"kvregistry_reaper_unreaped_leases": 0, "kvregistry_reaped_total": 0,
		"kvregistry_services": 2, "kvregistry_leases": 2,
		`kvregistry_instances{service="web",status="passing"}`:                             2,
		`kvregistry_instances{service="web",status="draining"}`:                            1,
		`kvregistry_instances{service="web",status="critical"}`:                            0,
		`kvregistry_instances{service="db",status="passing"}`:                              1,
		`kvregistry_instances{service="db",status="warning"}`:                              0,
		fmt.Sprintf("kvregistry_lookup_instance_aside{id=%q,service=\"web\"}", failing.ID): 1,
		`kvregistry_lookup_instance_aside{id="drained",service="web"}`:                     absent,
	})
	values := gather(t, c)
	var names, want []string
	for name := range values {
		name, _, _ = strings.Cut(name, "{")
		names = append(names, name)
	}
	for _, f := range figures.All() {
		want = append(want, f.Prometheus())
	}
	slices.Sort(names)
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Compact(names)); diff != "" {
		t.Errorf("metrics are missing:\n%s", diff)
	}
	now := float64(time.Now().Unix())
	for name, most := range map[string]float64{"kvregistry_view_age_seconds": 60,
		"kvregistry_lease_round_trip_seconds": 60, "kvregistry_view_memory_bytes": 1e5,
		"kvregistry_lease_last_renewal_timestamp_seconds": now + 60} {
		if v := values[name]; v <= 0 || v > most {
			t.Errorf("%s is %g, want up to %g", name, v, most)
		}
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Errorf("the linter says %v, %v", problems, err)
	}
}

// A process that observes and registers nothing has no metrics of the tenant, of a lease or of an
// age, which a rule would take for a fault. Seen to fail with a lease that counts as not held.
func TestMetricsOfAnIdleProcess(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.WithoutReaping())
	eventually(t, metrics.New(env.Registry), map[string]float64{
		"kvregistry_up": 1, "kvregistry_ok": 1, "kvregistry_view_current": 1,
		"kvregistry_registrations": 0, "kvregistry_reaper_slot_held": 0,
		"kvregistry_lease_held": absent, "kvregistry_lease_last_renewal_timestamp_seconds": absent,
		"kvregistry_lease_round_trip_seconds": absent, "kvregistry_services": absent,
		"kvregistry_leases": absent,
	})
	if err := env.Close(); err != nil {
		t.Fatal(err)
	}
	closed := metrics.New(env.Registry, metrics.WithInstances()) // it has no tenant to observe
	eventually(t, closed, map[string]float64{"kvregistry_up": 1, "kvregistry_services": absent})
}

// A collection waits for nothing while NATS is away, even if nothing was read yet. It says that
// NATS is away, and what was read stays. Seen to fail with a catalog that is waited for.
func TestMetricsWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	register(t, env.Registry, kvregistry.Service{Name: "web", ID: "a"})
	seen := metrics.New(env.Registry, metrics.WithInstances())
	eventually(t, seen, map[string]float64{"kvregistry_services": 1})
	late := env.Open(kvregistry.Timeout(time.Hour)) // a look-up would wait this long

	env.StopServer()
	unread := metrics.New(late, metrics.WithInstances())
	done := make(chan error, 2)
	for _, c := range []prometheus.Collector{seen, unread} {
		go func() { // the test waits for it, or fails
			_, err := collect(c)
			done <- err
		}()
	}
	for range 2 {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(natstest.Soon):
			t.Fatal("a collection waits for NATS")
		}
	}
	eventually(t, seen, map[string]float64{
		"kvregistry_up": 0, "kvregistry_ok": 0, "kvregistry_ready": 1, "kvregistry_lease_held": 1,
		"kvregistry_services": 1, `kvregistry_instances{service="web",status="passing"}`: 1})
	eventually(t, unread, map[string]float64{"kvregistry_up": 0, "kvregistry_services": absent,
		"kvregistry_view_age_seconds": absent})
	env.StartServer()
	eventually(t, seen, map[string]float64{"kvregistry_up": 1, "kvregistry_view_current": 1})
}

// A crash and a name that is held elsewhere are seen. Seen to fail with each name as held.
func TestMetricsOfACrash(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.TTL(2*time.Second))
	other := env.Open(kvregistry.WithoutReaping(), kvregistry.TTL(2*time.Second))
	register(t, other, kvregistry.Service{Name: "web", ID: "a"})
	if _, err := other.Exclusive(t.Context(), "leader"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan error, 1)
	go func() { // ends with ctx
		_, err := env.Exclusive(ctx, "leader")
		waits <- err
	}()
	c := metrics.New(env.Registry, metrics.WithInstances())
	passing := `kvregistry_instances{service="web",status="passing"}`
	eventually(t, c, map[string]float64{`kvregistry_hold_held{name="leader"}`: 0, passing: 1,
		"kvregistry_reaper_slot_held": 1})
	cancel()
	<-waits
	if err := other.Leave(t.Context()); err != nil { // as if it had crashed
		t.Fatal(err)
	}
	eventually(t, c, map[string]float64{"kvregistry_reaped_total": 1, passing: absent,
		"kvregistry_services": 0, `kvregistry_hold_held{name="leader"}`: absent})
}

// Collections run beside each other and beside changes. It is for the race detector.
func TestMetricsAtOnce(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	c := metrics.New(env.Registry, metrics.WithInstances())
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() { // the test waits for it
			for n := range 20 {
				_, err := collect(c)
				if err == nil {
					_, err = env.Register(kvregistry.Service{Name: "web",
						ID: fmt.Sprint(i, "-", n), Address: "127.0.0.1:80"})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	eventually(t, c, map[string]float64{"kvregistry_registrations": 80,
		`kvregistry_instances{service="web",status="passing"}`: 80})
}
