package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// shownState is what a reader saw last of a service or of a catalog.
type shownState struct {
	revision uint64
	content  string
}

// grew says what is wrong with a revision: content that differs has a revision that is greater, and
// a revision never falls.
func (s *shownState) grew(revision uint64, content string) error {
	was := *s
	*s = shownState{revision, content}
	if revision < was.revision || content != was.content && revision == was.revision {
		return fmt.Errorf("revision %d %s, after %d %s", revision, content, was.revision,
			was.content)
	}
	return nil
}

// contentOf is what a snapshot says of its instances.
func contentOf(s *Snapshot) string {
	text := ""
	for one := range s.All() {
		text += fmt.Sprintf("%s@%d ", one.ID, one.Revision)
	}
	return text
}

// Snapshots and catalogs that differ in content differ in revision, which grows: in random
// histories with instances that vanish without a trace, buckets that start over, and instances that
// had no room and come later with their old revision. Seen to fail if a snapshot has the greatest
// revision of its changes, if a catalog has that of its snapshots, and if a service that comes back
// begins with its own revision.
func TestRevisionsGrow(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		c := newCache(slog.New(slog.DiscardHandler), bounds{instances: 5, services: 5})
		c.view = watcher.New(nil,
			watcher.Config{Apply: func([]watcher.Change, *watcher.Snapshot) {}})
		c.observe(Everything)
		c.synced[Everything] = struct{}{}
		c.apply(nil, &watcher.Snapshot{})
		services, all := map[string]*shownState{}, &shownState{}
		rev := uint64(0)
		for step := range 200 {
			name, id := fmt.Sprintf("s%d", rnd.IntN(3)), fmt.Sprint(rnd.IntN(4))
			s := &sighting{name: name, id: id}
			s.Key, s.Op = "svc."+name+"."+id, tenant.Put
			s.rec.Instance = Service{Name: name, ID: id, Status: Passing}
			var snapshot *watcher.Snapshot
			switch rnd.IntN(6) {
			case 0:
				s.Op = tenant.Delete
			case 1: // without a trace: nothing is written
				s.Op, snapshot = tenant.Purge, &watcher.Snapshot{UpTo: rev}
			case 2: // there was no room for it when it was written
				s.Revision = rev/2 + 1
			case 3:
				if rnd.IntN(10) == 0 {
					rev, snapshot = 0, &watcher.Snapshot{Reset: true}
				}
			case 4:
				other := fmt.Sprintf("s%d", rnd.IntN(3))
				if c.track(other); rnd.IntN(20) == 0 {
					c.observe(other)
				}
			}
			if s.Revision == 0 && !s.traceless() {
				rev++
				s.Revision = rev
			}
			s.rec.Instance.Revision = s.Revision
			c.apply([]*sighting{s}, snapshot)
			if doubt, doubted := c.suspect[s.Key]; doubted { // its owner makes no amends
				gone := *s
				gone.Revision = snapshot.UpTo
				c.drop(&gone, doubt)
			}
			for i := range 3 {
				name := fmt.Sprintf("s%d", i)
				if services[name] == nil {
					services[name] = &shownState{}
				}
				snap := c.known(name)
				if err := services[name].grew(snap.Revision(), contentOf(snap)); err != nil {
					t.Fatalf("seed %d, step %d: service %s: %v", seed, step, name, err)
				}
				of := "of the catalog: " + name
				if services[of] == nil {
					services[of] = &shownState{}
				}
				snap = c.catalog.Load().Snapshot(name)
				if err := services[of].grew(snap.Revision(), contentOf(snap)); err != nil {
					t.Fatalf("seed %d, step %d: service %s: %v", seed, step, of, err)
				}
			}
			catalog, text := c.catalog.Load(), ""
			for snap := range catalog.All() {
				text += snap.Name() + ": " + contentOf(snap)
				if snap != c.find(snap.Name()).snap.Load() {
					t.Fatalf("seed %d, step %d: the catalog has an old snapshot", seed, step)
				}
			}
			if err := all.grew(catalog.Revision(), text); err != nil {
				t.Fatalf("seed %d, step %d: the catalog: %v", seed, step, err)
			}
		}
	}
}

// An instance whose key vanishes without a trace goes at a greater revision, and its event says
// which.
func TestRevisionOfWhatLeftNoTrace(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s, WithoutReaping()), newRegistry(t, s, WithoutReaping())
	mustRegister(t, owner, Service{Name: "web", ID: "a", Address: "a:1"})
	lone := newRegistry(t, s, WithoutReaping())
	mustRegister(t, lone, Service{Name: "web", ID: "b", Address: "b:1"})
	events := map[string]Event{}
	for snap, err := range reg.Snapshots(t.Context(), "web") {
		if err != nil {
			t.Fatal(err)
		}
		if snap.Len() == 2 {
			break
		}
	}
	before, err := reg.Snapshot("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := lone.Leave(t.Context()); err != nil { // it writes nothing again
		t.Fatal(err)
	}
	nc := s.Connect()
	stream := natstest.Stream(t, nc, "KV_registry_default")
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	begun := false
	for e, err := range reg.Events(ctx, "web") {
		if err != nil {
			t.Fatal(err)
		}
		events[e.Service.ID] = e
		if len(events) == 2 && !begun {
			begun = true
			if err := stream.Purge(ctx,
				jetstream.WithPurgeSubject("$KV.registry_default.svc.web.b")); err != nil {
				t.Fatal(err)
			}
			reg.view.ReadAgain()
		}
		if e.gone() {
			break
		}
	}
	gone, after := events["b"], reg.cache.known("web")
	if gone.Kind != Expired || gone.Revision <= gone.Service.Revision || gone.Before == nil {
		t.Errorf("%+v", gone)
	}
	if after.Revision() <= before.Revision() || after.Len() != 1 {
		t.Errorf("%d instances at revision %d, before at %d", after.Len(), after.Revision(),
			before.Revision())
	}
}

// A catalog has every service with an instance, stays as it is, and is followed by the next one. A
// name that nobody registered is in none.
func TestCatalog(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s), newRegistry(t, s)
	mustRegister(t, owner, Service{Name: "web", ID: "a", Address: "a:1"},
		Service{Name: "api", ID: "b", Address: "b:1", Status: Critical})
	first, err := reg.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"api", "web"}, first.Names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if snap := first.Snapshot("api"); snap.Len() != 1 || first.Len() != 2 || first.Stale() ||
		first.Revision() < snap.Revision() || first.Age() > natstest.Soon {
		t.Errorf("%+v, %+v", first, snap)
	}
	if snap := first.Snapshot("none"); snap.Len() != 0 || snap.Revision() != first.Revision() {
		t.Errorf("%+v", snap)
	}
	var seen []string
	for catalog, err := range reg.Catalogs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, fmt.Sprint(catalog.Names()))
		if len(seen) == 1 {
			mustRegister(t, owner, Service{Name: "db", ID: "c", Address: "c:1"})
		} else if !slices.Contains(catalog.Names(), "api") {
			break
		} else if err := owner.Unregister("api"); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(seen); got != "[[api web] [api db web] [db web]]" {
		t.Error(got)
	}
	if first.Len() != 2 || first.Snapshot("db").Len() != 0 {
		t.Error("a later change is in an earlier catalog")
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Catalog(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	for _, err := range reg.Catalogs(t.Context()) {
		if !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

// An empty tenant has a catalog.
func TestCatalogOfNothing(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t, natstest.Start(t))
	for catalog, err := range reg.Catalogs(t.Context()) {
		if err != nil || catalog.Len() != 0 {
			t.Errorf("%v, %v", catalog, err)
		}
		break
	}
}

// While everything is observed, names that somebody asks for are not kept. The test is not
// parallel, because it measures the whole heap. Seen to fail if a look-up or a loop observes its
// name.
func TestNamesThatAreAskedForAreNotKept(t *testing.T) {
	reg := newRegistry(t, natstest.Start(t))
	if err := reg.Observe(Everything); err != nil { // it need not be read yet
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	ask := func(name string, ctx context.Context) {
		if _, err := reg.Snapshot(name); err != nil {
			t.Fatal(err)
		}
		if _, err := reg.GetService(name); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for snap, err := range reg.Snapshots(ctx, name) {
			if err != nil || snap.Len() != 0 {
				t.Fatal(snap, err)
			}
			break
		}
		if _, err := reg.WaitFor(over, name, 1); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for _, err := range reg.Events(over, name) {
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	}
	cancel()
	ask("first", t.Context())
	before := heap()
	names := 5_000
	if natstest.IsLong() {
		names = 100_000
	}
	for i := range names {
		ask(fmt.Sprintf("unknown-%d", i), t.Context())
	}
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("the process grew by %d kB", grown>>10)
	}
	reg.stateMu.Lock()
	needs := len(reg.needs)
	reg.stateMu.Unlock()
	if n := len(*reg.cache.services.Load()); n != 0 || needs != 1 ||
		len(reg.ObservedServices()) != 1 || len(reg.cache.readers) != 0 {
		t.Errorf("%d services and %d needs are kept, %d names are observed", n, needs,
			len(reg.ObservedServices()))
	}
}

// A loop over the snapshots of a service that is not there yet gets it when it comes, and when it
// goes: the cache keeps neither.
func TestSnapshotsOfAServiceThatComesAndGoes(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s), newRegistry(t, s)
	if err := reg.Observe(Everything); err != nil {
		t.Fatal(err)
	}
	var seen []int
	last := uint64(0)
	for snap, err := range reg.Snapshots(t.Context(), "web") {
		if err != nil {
			t.Fatal(err)
		}
		if snap.Revision() < last {
			t.Errorf("revision %d after %d", snap.Revision(), last)
		}
		last = snap.Revision()
		seen = append(seen, snap.Len())
		switch {
		case len(seen) == 1:
			mustRegister(t, owner, Service{Name: "web", ID: "a", Address: "a:1"})
		case snap.Len() == 1:
			if err := owner.Unregister("web"); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) == 3 {
			break
		}
	}
	if got := fmt.Sprint(seen); got != "[0 1 0]" {
		t.Error(got)
	}
}

// A run that starts while NATS is away answers for everything from the file of a run that observed
// everything, and says so. Seen to fail without the file's word that it has everything.
func TestSnapshotFileOfEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "snapshots.json")
	s := natstest.Start(t)
	mustRegister(t, newRegistry(t, s), Service{Name: "web", ID: "a", Address: "a:1"},
		Service{Name: "api", ID: "b", Address: "b:1"})
	reg := newRegistry(t, s, SnapshotFile(path))
	if catalog, err := reg.Catalog(); err != nil || catalog.Len() != 2 {
		t.Fatal(catalog, err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the run that is away keeps the file
		off := away(t, SnapshotFile(path))
		if err := off.Observe(Everything); err != nil {
			t.Fatal(err)
		}
		catalog, err := off.Catalog()
		if err != nil {
			t.Fatal(err)
		}
		names, err := off.ServiceNames()
		if got := fmt.Sprint(catalog.Names(), names); got != "[api web] [api web]" || err != nil {
			t.Error(got, err)
		}
		snap := catalog.Snapshot("web")
		if !catalog.Stale() || !snap.Stale() || snap.Len() != 1 || catalog.Age() <= 0 ||
			catalog.Revision() == 0 {
			t.Errorf("%+v, %+v", catalog, snap)
		}
		if one, err := off.GetService("web"); err != nil || one.ID != "a" {
			t.Error(one, err)
		}
		if _, err := off.GetService("none"); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if h := off.Health(); !h.Ready() || fmt.Sprint(h.Observed, h.Stale) != "[*] [*]" {
			t.Errorf("%+v", h)
		}
		if err := off.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// the file of a run that observes one service does not have everything
	some := filepath.Join(t.TempDir(), "snapshots.json")
	observed(t, natstest.Start(t), some)
	off := away(t, SnapshotFile(some))
	if _, err := off.Catalog(); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}
