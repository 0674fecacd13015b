package kvregistrytest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func register(t *testing.T, reg *kvregistry.Registry, name, id string) {
	t.Helper()
	_, err := reg.Register(kvregistry.Service{Name: name, ID: id, Address: "127.0.0.1:80"})
	must(t, err)
}

// seen is what a test compares of an event.
type seen struct {
	Kind     kvregistry.Kind
	Name, ID string
}

// watch returns a function that returns the next n events of a registry, in order of their ids.
func watch(t *testing.T, reg *kvregistry.Registry) (next func(n int) []seen) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	t.Cleanup(cancel)
	events, err := reg.Watch(ctx, kvregistry.Everything)
	must(t, err)
	return func(n int) (list []seen) {
		t.Helper()
		for range n {
			e, ok := <-events
			if !ok {
				t.Fatalf("only %v came, want %d events", list, n)
			}
			list = append(list, seen{e.Kind, e.Service.Name, e.Service.ID})
		}
		slices.SortFunc(list, func(a, b seen) int { return strings.Compare(a.ID, b.ID) })
		return list
	}
}

func wantEvents(t *testing.T, got []seen, want ...seen) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// Kill ends all that the process registered, at once, and the process with it. Another process may
// take its place, and nothing of the dead one comes back. No reaper is needed. Seen to fail with a
// crash that leaves the owner running, with one that purges nothing, and with one that deletes.
func TestKill(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.WithoutReaping())
	next := watch(t, env.Registry)
	var told atomic.Int32
	doomed := env.Open(kvregistry.WithoutReaping(),
		kvregistry.OnFenced(func(kvregistry.Service) { told.Add(1) }),
		kvregistry.OnLeaseLost(func(error) { told.Add(1) }))
	register(t, doomed, "web", "1")
	register(t, doomed, "admin", "2")
	register(t, env.Open(kvregistry.WithoutReaping()), "web", "3")
	next(3)

	env.Kill("1")
	wantEvents(t, next(2), seen{kvregistry.Expired, "web", "1"},
		seen{kvregistry.Expired, "admin", "2"})
	_, err := doomed.Register(kvregistry.Service{Name: "web", Address: "127.0.0.1:80"})
	if !errors.Is(err, kvregistry.ErrClosed) {
		t.Errorf("a killed process registers: %v, want ErrClosed", err)
	}
	register(t, env.Open(kvregistry.WithoutReaping()), "web", "1")
	wantEvents(t, next(1), seen{kvregistry.Registered, "web", "1"})
	env.Kill("3")
	wantEvents(t, next(1), seen{kvregistry.Expired, "web", "3"})
	if n := told.Load(); n != 0 {
		t.Errorf("a killed process was told %d times that it lost something", n)
	}
}

// What an observer sees of Kill is what it sees of a process that is gone, except for the time.
// Seen to fail with a delete in place of the purge.
func TestKillIsACrash(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.TTL(2*time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	events, err := env.Watch(ctx, "web")
	must(t, err)
	nc, err := nats.Connect(env.URL())
	must(t, err)
	crashes, err := kvregistry.New(ctx, nc, kvregistry.TTL(2*time.Second),
		kvregistry.WithoutReaping(), kvregistry.Logger(slog.New(slog.DiscardHandler)))
	must(t, err)
	t.Cleanup(func() { _ = crashes.Close() })
	register(t, crashes, "web", "crashed")
	register(t, env.Open(kvregistry.WithoutReaping()), "web", "killed")
	<-events // both came
	<-events

	env.Kill("killed")
	nc.Close() // no heartbeat leaves the process any more
	ends := map[string]kvregistry.Event{}
	for range 2 {
		e := <-events
		ends[e.Service.ID] = e
	}
	plain := func(e kvregistry.Event) kvregistry.Event {
		if before := e.Before; before == nil || e.Revision <= before.Revision ||
			e.Service.Revision != before.Revision {
			t.Errorf("the revisions of %v are not those of an end", e)
		}
		e.Service.ID, e.Service.Owner, e.Service.Lease, e.Service.Revision = "", "", "", 0
		e.Before, e.Revision = nil, 0
		return e
	}
	if diff := cmp.Diff(plain(ends["crashed"]), plain(ends["killed"])); diff != "" {
		t.Errorf("a crash and Kill differ (-crash +Kill):\n%s", diff)
	}
}

// The process of Env.Registry can be killed too: another one sees it. Seen to fail without the
// registry that New opened among those that Kill looks at.
func TestKillOwnRegistry(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.Tenant("shop"))
	next := watch(t, env.Open(kvregistry.Tenant("shop")))
	register(t, env.Registry, "web", "1")
	next(1)
	env.Kill("1")
	wantEvents(t, next(1), seen{kvregistry.Expired, "web", "1"})
	if _, err := env.GetService("web"); !errors.Is(err, kvregistry.ErrClosed) {
		t.Errorf("a look-up by a killed process: %v, want ErrClosed", err)
	}
}

// What a killed process held exclusively goes to the next in line, and its lease is gone, without
// any reaper. Seen to fail without the end of the lease.
func TestKillEndsHolds(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.WithoutReaping())
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	leader := env.Open(kvregistry.WithoutReaping())
	register(t, leader, "web", "1")
	first, err := leader.Exclusive(ctx, "leader")
	must(t, err)
	lease := "lease." + inside.Lease(leader).ID
	env.Kill("1")
	js, err := jetstream.New(env.Conn())
	must(t, err)
	bucket, err := js.KeyValue(ctx, "registry_default")
	must(t, err)
	if _, err := bucket.Get(ctx, lease); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("the lease of a killed process: %v, want ErrKeyNotFound", err)
	}
	<-first.Done()
	second, err := env.Exclusive(ctx, "leader")
	must(t, err)
	if second.Token() <= first.Token() {
		t.Errorf("token %d follows %d", second.Token(), first.Token())
	}
}

// fatal is a test that records why it would have ended.
type fatal struct {
	testing.TB
	why string
}

func (f *fatal) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// Kill ends the test if nobody registered the id, or if no server runs. The message says what to
// do. Seen to fail with a Kill that returns.
func TestKillOfNothing(t *testing.T) {
	t.Parallel()
	f := &fatal{TB: t}
	env := kvregistrytest.New(f)
	register(t, env.Registry, "web", "here")
	kill := func(id string) string {
		f.why = ""
		var done sync.WaitGroup
		done.Go(func() { env.Kill(id) })
		done.Wait()
		return f.why
	}
	why := kill("there")
	if !strings.Contains(why, `"there"`) || !strings.Contains(why, `["here"]`) {
		t.Errorf("an id that is not registered: %q", why)
	}
	env.StopServer()
	if why := kill("here"); !strings.Contains(why, "call StartServer first") {
		t.Errorf("without a server: %q", why)
	}
	env.StartServer()
	if why := kill("here"); why != "" {
		t.Errorf("with a server: %q", why)
	}
}

// The server comes back at the same URL with its store, and StopServer and StartServer return when
// the connections know. Seen to fail with another store, and without StartServer's wait.
func TestOutageKeepsTheStore(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	register(t, env.Open(), "web", "1")
	before, err := env.GetService("web")
	must(t, err)
	url := env.URL()

	env.StopServer()
	env.StopServer()
	if env.Health().Connected || env.Conn().IsConnected() {
		t.Error("the registry takes itself for connected after StopServer")
	}
	if now, err := env.GetService("web"); err != nil || now.Revision != before.Revision {
		t.Errorf("a look-up during the outage returns %v, %v, want %v", now, err, before)
	}
	late := env.Open() // waits for the server

	env.StartServer()
	env.StartServer()
	if !env.Health().Connected || !env.Conn().IsConnected() || env.URL() != url {
		t.Error("the registry is not connected to the same URL after StartServer")
	}
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	list, err := late.WaitFor(ctx, "web", 1)
	if err != nil || list[0].Revision != before.Revision {
		t.Errorf("after the outage there is %v, %v, want %v", list, err, before)
	}
}

// A registration comes back after an outage in which the server lost it: the outage is longer than
// the TTL. Seen to fail with an owner that was left before.
func TestOutageLongerThanTheTTL(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.TTL(2*time.Second))
	owner := env.Open(kvregistry.TTL(2 * time.Second))
	register(t, owner, "web", "1")
	_, err := env.GetService("web")
	must(t, err)
	env.StopServer()
	natstest.Eventually(t, natstest.Soon, func() error {
		if owner.Health().Lease != kvregistry.LeaseGone {
			return errors.New("the lease has not ended")
		}
		return nil
	})
	env.StartServer()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := owner.Health(); !h.OK() {
			return fmt.Errorf("the owner is not well: %+v", h)
		}
		_, err := env.GetService("web")
		return err
	})
}

// Many tests may have an Env each, and goroutines may share one. Seen to fail with a fixed port.
func TestManyEnvs(t *testing.T) {
	t.Parallel()
	for i := range 12 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			env := kvregistrytest.New(t)
			var processes sync.WaitGroup
			for _, id := range []string{"1", "2", "3"} {
				processes.Go(func() {
					if _, err := env.Open().Register(kvregistry.Service{Name: "web", ID: id,
						Address: "127.0.0.1:80"}); err != nil {
						t.Error(err)
						return
					}
					if id != "1" {
						env.Kill(id)
					}
				})
			}
			processes.Wait()
			env.StopServer()
			env.StartServer()
			natstest.Eventually(t, natstest.Soon, func() error {
				list, err := env.GetServices(t.Context(), "web")
				if err == nil && (len(list) != 1 || list[0].ID != "1") {
					err = fmt.Errorf("%v is left, want 1", list)
				}
				return err
			})
		})
	}
}

// Nothing is left of an Env after its test, even if the server is stopped then or the test had a
// name exclusively. Seen to fail without the end of the registries, and without that of the server.
//
// It cannot run beside other tests.
func TestNothingIsLeft(t *testing.T) {
	before := goroutines()
	for name, end := range map[string]func(*kvregistrytest.Env){
		"running": func(*kvregistrytest.Env) {},
		"stopped": (*kvregistrytest.Env).StopServer,
		"killed":  func(env *kvregistrytest.Env) { env.Kill("1") },
		"closed":  func(env *kvregistrytest.Env) { must(t, env.Close()); env.Conn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			env := kvregistrytest.New(t)
			register(t, env.Registry, "web", "1")
			_, err := env.Exclusive(t.Context(), "leader")
			must(t, err)
			_, err = env.Open().GetService("web")
			must(t, err)
			end(env)
		})
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		for id, stack := range goroutines() {
			if _, ok := before[id]; !ok {
				return errors.New("left: " + stack)
			}
		}
		return nil
	})
}

// goroutines returns the stacks of this process's goroutines by their first words.
func goroutines() map[string]string {
	list, buf := map[string]string{}, make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		id, _, _ := strings.Cut(stack, " [")
		list[id] = stack
	}
	return list
}
