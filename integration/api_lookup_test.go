package integration

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A registry's next look-up shows what it registered, changed or unregistered itself.
func TestOwnWritesAreSeen(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s, patient())
	sees(t, r, natstest.Soon, "web")
	for i := range 200 {
		un := register(t, r, web("a"))
		if _, err := r.GetService("web"); err != nil {
			t.Fatalf("round %d, after Register: %v", i, err)
		}
		if err := r.Update(kvregistry.Service{Name: "web", Address: fmt.Sprint("h:1",
			i)}); err != nil {
			t.Fatal(err)
		}
		if err := wantAddress(r, fmt.Sprint("h:1", i)); err != nil {
			t.Fatalf("round %d, after Update: %v", i, err)
		}
		if err := un(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
			t.Fatalf("round %d, after unregister: %v", i, err)
		}
	}
}

// A process's first look-up of a service that it registered itself shows the instances of other
// processes too.
func TestFirstLookupOfAnOwnService(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := open(t, s), open(t, s)
	register(t, a, web("a"))
	register(t, b, web("b"))
	for _, r := range []*kvregistry.Registry{a, b} {
		if got := ids(t, r, "web"); !cmp.Equal(got, []string{"a", "b"}) {
			t.Errorf("first look-up gave %v", got)
		}
	}
}

// Filters narrow a look-up, and several filters all have to match.
func TestFilters(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	for _, one := range []kvregistry.Service{
		{ID: "a", Version: "1", Zone: "z1", Host: "h1", Tags: []string{"x", "y"},
			Metadata: map[string]string{"k": "1"}},
		{ID: "b", Version: "2", Zone: "z1", Host: "h2", Tags: []string{"x"},
			Metadata: map[string]string{"k": "2"}},
		{ID: "c", Version: "2", Zone: "z2", Tags: []string{"y"}, Status: kvregistry.Warning},
		{ID: "d", Version: "2", Zone: "z2", Status: kvregistry.Critical},
	} {
		one.Name, one.Address = "web", "h:1"
		register(t, r, one)
	}
	for _, c := range []struct {
		name    string
		filters []kvregistry.Filter
		want    string
	}{
		{"none: the passing ones", nil, "ab"},
		{"status", []kvregistry.Filter{kvregistry.WithStatus(kvregistry.Warning,
			kvregistry.Critical)}, "cd"},
		{"version", []kvregistry.Filter{kvregistry.WithVersion("2")}, "b"},
		{"version and status", []kvregistry.Filter{kvregistry.WithVersion("2"),
			kvregistry.WithStatus(kvregistry.Critical)}, "d"},
		{"tag", []kvregistry.Filter{kvregistry.WithTag("x")}, "ab"},
		{"tags", []kvregistry.Filter{kvregistry.WithTag("x", "y")}, "a"},
		{"metadata", []kvregistry.Filter{kvregistry.WithMetadata("k", "2")}, "b"},
		{"zone", []kvregistry.Filter{kvregistry.InZone("z1")}, "ab"},
		{"host", []kvregistry.Filter{kvregistry.OnHost("h2")}, "b"},
		{"own host", []kvregistry.Filter{kvregistry.OnOwnHost(),
			kvregistry.WithStatus(kvregistry.Warning, kvregistry.Critical)}, "cd"},
		{"any function", []kvregistry.Filter{kvregistry.Where(
			func(s kvregistry.Service) bool { return s.ID > "a" })}, "b"},
		{"nothing", []kvregistry.Filter{kvregistry.InZone("z3")}, ""},
	} {
		list, err := r.GetServices(t.Context(), "web", c.filters...)
		got := ""
		for _, one := range list {
			got += one.ID
		}
		if got != c.want || (err != nil) != (c.want == "") || err != nil &&
			!isErr(err, kvregistry.ErrNotFound) {
			t.Errorf("%s: GetServices gave %q, %v, want %q", c.name, got, err, c.want)
		}
		seen := map[string]bool{}
		for range 50 * len(c.want) { // chosen at random
			one, err := r.GetService("web", c.filters...)
			if err != nil || !strings.Contains(c.want, one.ID) {
				t.Errorf("%s: GetService gave %q, %v", c.name, one.ID, err)
			}
			seen[one.ID] = true
		}
		if len(seen) != len(c.want) {
			t.Errorf("%s: GetService gave only %v", c.name, seen)
		}
	}
}

// GetService spreads calls evenly, even if many goroutines call it at once. Seen to fail with a
// turn that is not atomic.
func TestGetServiceSpreadsEvenly(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	const instances, callers, calls = 7, 64, 7000
	for i := range instances {
		register(t, r, web(fmt.Sprint(i)))
	}
	sees(t, r, natstest.Soon, "web", "0", "1", "2", "3", "4", "5", "6")
	var mu sync.Mutex
	counts := map[string]int{}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			mine := map[string]int{}
			for range calls {
				one, err := r.GetService("web")
				if err != nil {
					t.Error(err)
					return
				}
				mine[one.ID]++
			}
			mu.Lock()
			defer mu.Unlock()
			for id, n := range mine {
				counts[id] += n
			}
		})
	}
	wg.Wait()
	for id, n := range counts {
		if math.Abs(float64(n-callers*calls/instances)) > 1 {
			t.Errorf("instance %s got %d of %d calls", id, n, callers*calls)
		}
	}
}

// Observe("*") observes every service, and ServiceNames returns those that have an instance.
func TestObserveEverything(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s), open(t, s)
	register(t, owner, web("a"))
	if err := observer.ObserveContext(t.Context(), kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	un := register(t, owner, kvregistry.Service{ID: "1", Name: "late", Address: "h:1"})
	sees(t, observer, natstest.Soon, "late", "1")
	for _, r := range []*kvregistry.Registry{owner, observer} {
		if names, err := r.ServiceNames(); err != nil || !cmp.Equal(names,
			[]string{"late", "web"}) {
			t.Errorf("ServiceNames gave %v, %v", names, err)
		}
	}
	if got := observer.ObservedServices(); !cmp.Equal(got, []string{"*"}) {
		t.Errorf("the observed services are %v", got)
	}
	if err := un(); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "late")
	if names, err := observer.ServiceNames(); err != nil || !cmp.Equal(names, []string{"web"}) {
		t.Errorf("ServiceNames gave %v, %v", names, err)
	}
	register(t, owner, kvregistry.Service{ID: "2", Name: "late", Address: "h:1"})
	sees(t, observer, natstest.Soon, "late", "2")
}
