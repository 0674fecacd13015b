package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// filters returns the services that the consumers of the tenant's views are sent, in order.
func filters(t *testing.T, s *natstest.Server) (list []string) {
	t.Helper()
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	consumers := stream.ListConsumers(t.Context())
	for c := range consumers.Info() {
		if strings.HasPrefix(c.Name, "view-") {
			list = append(list, c.Config.FilterSubjects...)
			if c.Config.FilterSubject != "" {
				list = append(list, c.Config.FilterSubject)
			}
		}
	}
	if consumers.Err() != nil {
		t.Fatal(consumers.Err())
	}
	for i := range list {
		list[i] = strings.TrimPrefix(list[i], "$KV.registry_default.")
	}
	list = slices.DeleteFunc(list, func(f string) bool { // a key is what an owner registered
		return !strings.HasSuffix(f, ".*") && !strings.HasSuffix(f, ">")
	})
	slices.Sort(list)
	return list
}

// sent waits until the consumers of the views are sent some filters.
func sent(t *testing.T, s *natstest.Server, want ...string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		if got := filters(t, s); !slices.Equal(got, want) {
			return fmt.Errorf("the server sends %q, want %q", got, want)
		}
		return nil
	})
}

// keepsNothing returns an error if a registry that registered nothing keeps anything of services.
func (r *Registry) keepsNothing() error {
	r.stateMu.Lock()
	needs := len(r.needs)
	r.stateMu.Unlock()
	services, observed := len(*r.cache.services.Load()), len(r.ObservedServices())
	if services+observed+needs+r.cache.memory() > 0 {
		return fmt.Errorf("%d services, %d bytes, %d observed names and %d needs are kept",
			services, r.cache.memory(), observed, needs)
	}
	return nil
}

// What is not observed any more costs neither memory nor messages, and a look-up observes it again,
// at a greater revision. Seen to fail with a consumer that keeps its filters, with a service that
// stays in the cache, and with revisions that begin again.
func TestUnobserve(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s, WithoutReaping()), newRegistry(t, s, WithoutReaping())
	mustRegister(t, owner, Service{Name: "web", ID: "a", Address: "a:1"},
		Service{Name: "web", ID: "b", Address: "b:1"}, Service{Name: "db", ID: "c", Address: "c:1"})
	for _, name := range []string{"web", "db"} {
		if _, err := reg.GetService(name); err != nil {
			t.Fatal(err)
		}
	}
	sent(t, s, "svc.db.*", "svc.web.*")
	snap, err := reg.Snapshot("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Unobserve("web"); err != nil {
		t.Fatal(err)
	}
	sent(t, s, "svc.db.*")
	if got := reg.ObservedServices(); !slices.Equal(got, []string{"db"}) {
		t.Errorf("observed: %q", got)
	}
	if err := owner.UpdateFunc(t.Context(), "web", "a", func(s *Service) {
		s.Version = "2"
	}); err != nil {
		t.Fatal(err)
	}
	again, err := reg.Snapshot("web")
	if err != nil || again.Len() != 2 || again.Revision() <= snap.Revision() {
		t.Fatal(again, err)
	}
	if at := again.At(0); at.Version != "2" {
		t.Errorf("%+v", at)
	}
	if err := owner.Unregister("web"); err != nil { // one instance of two, or both
		t.Fatal(err)
	}
	for _, name := range []string{"web", "db", "nosuch"} {
		if err := reg.Unobserve(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := reg.keepsNothing(); err != nil {
		t.Error(err)
	}
	last, err := reg.Snapshot("web")
	if err != nil || last.Revision() <= again.Revision() {
		t.Errorf("revision %d after %d, %v", last.Revision(), again.Revision(), err)
	}
	if err := reg.Unobserve(""); !errors.Is(err, ErrInvalidService) {
		t.Error(err)
	}
	_ = reg.Close()
	if err := reg.Unobserve("web"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// A loop that ends gives its name back, unless something else observes it. Seen to fail with loops
// that keep their name, and with a first loop that ends the watch of the second one.
func TestLoopsGiveTheirNamesBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s, WithoutReaping()), newRegistry(t, s, WithoutReaping())
	mustRegister(t, owner, Service{Name: "web", ID: "a", Address: "a:1"})
	for i := range 200 {
		for _, err := range reg.Snapshots(t.Context(), fmt.Sprint("nosuch-", i)) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		for e, err := range reg.Events(t.Context(), "web") { // of the same name, again and again
			if err != nil || e.Service.ID != "a" {
				t.Fatal(e, err)
			}
			break
		}
	}
	if err := reg.keepsNothing(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := reg.Watch(ctx, "web")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != Registered {
		t.Fatal(e)
	}
	for range reg.Snapshots(t.Context(), "web") {
		break
	}
	if err := owner.SetStatus("web", Warning); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != Updated { // the other loop goes on
		t.Errorf("%+v", e)
	}
	cancel()
	natstest.Eventually(t, natstest.Soon, reg.keepsNothing)
	if _, err := reg.WaitFor(t.Context(), "web", 1); err != nil {
		t.Fatal(err)
	}
	if got := reg.ObservedServices(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("what was waited for is not observed, but %q", got)
	}
}

// If everything is not observed any more, loops over single services go on, and what nobody
// observes is forgotten. The next catalog has a greater revision. Seen to fail with loops that go
// by the watch that ended.
func TestUnobserveEverything(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s, WithoutReaping()), newRegistry(t, s, WithoutReaping())
	mustRegister(t, owner, Service{Name: "web", ID: "a", Address: "a:1"},
		Service{Name: "db", ID: "c", Address: "c:1"})
	old, err := reg.Catalog()
	if err != nil || old.Len() != 2 {
		t.Fatal(old, err)
	}
	events, err := reg.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != Registered {
		t.Fatal(e)
	}
	if err := reg.Unobserve(Everything); err != nil {
		t.Fatal(err)
	}
	sent(t, s, "svc.web.*")
	if services := *reg.cache.services.Load(); len(services) != 1 || services["web"] == nil {
		t.Errorf("%d services are kept", len(services))
	}
	if err := owner.Unregister("db"); err != nil {
		t.Fatal(err)
	}
	if err := owner.SetStatus("web", Warning); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Kind != Updated {
		t.Errorf("%+v", e)
	}
	catalog, err := reg.Catalog()
	if err != nil || catalog.Len() != 1 || catalog.Revision() <= old.Revision() {
		t.Errorf("%v at %d, after %d, %v", catalog.Names(), catalog.Revision(), old.Revision(), err)
	}
}

// What this process registers stays its own when the service is not observed any more. Seen to fail
// with a service that is dropped with its last observer.
func TestUnobserveOfAnOwner(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg, other := newRegistry(t, s), newRegistry(t, s)
	mustRegister(t, reg, Service{Name: "web", ID: "a", Address: "a:1"})
	mustRegister(t, other, Service{Name: "web", ID: "b", Address: "b:1"})
	for range 3 {
		snap, err := reg.Snapshot("web")
		if err != nil || snap.Len() != 2 {
			t.Fatal(snap.Len(), err)
		}
		if err := reg.Unobserve("web"); err != nil {
			t.Fatal(err)
		}
	}
	if err := reg.SetStatus("web", Warning); err != nil {
		t.Fatal(err)
	}
	mustRegister(t, other, Service{Name: "web", ID: "a", Address: "c:1"}) // takes it over
	natstest.Eventually(t, natstest.Soon, func() error {
		if n := len(reg.RegisteredServices()); n > 0 {
			return fmt.Errorf("%d are still registered", n)
		}
		return nil
	})
}

// Whatever observes and stops observing, and however it meets changes, a name that is observed at
// the end shows what the bucket has, and no snapshot has a smaller revision than one before. Seen
// to fail with a view that remembers what an earlier watch of the same name read.
func TestObservedByTurns(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s, WithoutReaping()), newRegistry(t, s, WithoutReaping())
	names := []string{"s0", "s1", "s2", Everything}
	var work sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	work.Go(func() {
		for i := range 300 {
			name := names[i%3]
			mustRegister(t, owner, Service{Name: name, ID: fmt.Sprint(i % 7), Address: "a:1",
				Version: fmt.Sprint(i)})
			if rand.IntN(3) == 0 {
				_ = owner.Unregister(name)
			}
		}
		stop()
	})
	for range 4 {
		work.Go(func() {
			last := map[string]uint64{}
			for ctx.Err() == nil {
				name := names[rand.IntN(len(names))]
				switch rand.IntN(4) {
				case 0:
					_ = reg.Observe(name)
				case 1:
					_ = reg.Unobserve(name)
				case 2:
					for range reg.Events(ctx, name) {
						break
					}
				default:
					if name == Everything {
						_, _ = reg.CatalogContext(ctx)
						continue
					}
					snap, err := reg.SnapshotContext(ctx, name)
					if err == nil && snap.Revision() < last[name] {
						t.Errorf("%s: revision %d after %d", name, snap.Revision(), last[name])
					} else if err == nil {
						last[name] = snap.Revision()
					}
				}
			}
		})
	}
	work.Wait()
	for _, name := range names[:3] {
		var want []Service
		for _, one := range owner.RegisteredServices() {
			if one.Name == name {
				want = append(want, one)
			}
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			snap, err := reg.Snapshot(name)
			if err != nil {
				return err
			}
			got := slices.Collect(snap.All())
			if !slices.EqualFunc(got, want, func(a, b Service) bool {
				return a.ID == b.ID && a.Version == b.Version
			}) {
				return fmt.Errorf("%s is %v, want %v", name, got, want)
			}
			return nil
		})
	}
	for _, name := range names {
		_ = reg.Unobserve(name)
	}
	if err := reg.keepsNothing(); err != nil {
		t.Error(err)
	}
}
