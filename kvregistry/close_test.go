package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// absent returns a connection to a server that is not there yet.
func absent(t testing.TB, url string) *nats.Conn {
	t.Helper()
	return natstest.Connect(t, url, nats.RetryOnFailedConnect(true))
}

// bucketKeys returns the registrations and tickets in a registry's bucket.
func bucketKeys(t testing.TB, r *Registry) map[string]tenant.Op {
	t.Helper()
	keys := map[string]tenant.Op{}
	err := watcher.Read(t.Context(), r.bucket, tenant.AllKeys,
		watcher.Config{Apply: func(changes []watcher.Change, _ *watcher.Snapshot) {
			for _, ch := range changes {
				if ch.Op == tenant.Put && (strings.HasPrefix(ch.Key, "svc.") ||
					strings.HasPrefix(ch.Key, "lock.")) {
					keys[ch.Key] = ch.Op
				}
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// within waits for a function that should return at once.
func within(t testing.TB, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(natstest.Soon):
		t.Fatalf("%s has not returned", what)
		return nil
	}
}

// endings are the ways to end a registry with a context that does not end. The caller's own
// goroutine calls them, or another one that it waits for.
var endings = map[string]func(*Registry) error{
	"Close":        func(r *Registry) error { return r.Close() },
	"CloseContext": func(r *Registry) error { return r.CloseContext(context.Background()) },
	"Leave":        func(r *Registry) error { return r.Leave(context.Background()) },
	"Close, by a goroutine": func(r *Registry) error {
		done := make(chan error)
		go func() { done <- r.CloseContext(context.Background()) }()
		return <-done
	},
}

// A user's function may close the registry that calls it. The close returns when everything is
// taken back, and no function starts after it. Seen to fail with a Close that waits for the
// functions that run, and with a second OnFenced that does not check the registry.
func TestCloseInACallback(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	fence := func(t *testing.T, r *Registry, tenant string) {
		mustRegister(t, newRegistry(t, s, Tenant(tenant)), Service{ID: "a", Name: "web",
			Address: "h:1"})
	}
	type triggered struct {
		opt     func(end func()) Option // the second function must not be called
		trigger func(t *testing.T, r *Registry, tenant string)
	}
	for name, tc := range map[string]triggered{
		"OnEvent":  {func(end func()) Option { return OnEvent(func(Event) { end() }) }, nil},
		"OnHealth": {func(end func()) Option { return OnHealth(func(Health) { end() }) }, nil},
		"OnFenced": {func(end func()) Option { return OnFenced(func(Service) { end() }) }, fence},
		"OnLeaseLost": {func(end func()) Option { return OnLeaseLost(func(error) { end() }) },
			func(t *testing.T, r *Registry, _ string) {
				w := tenant.Write{Key: tenant.LeaseKey(r.keeper.Current().ID), Op: tenant.Purge}
				if _, err := r.bucket.Write(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				r.keeper.Check()
			}},
	} {
		for how, end := range endings {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				space := fmt.Sprint("t", tenants.Add(1))
				ready := make(chan *Registry, 1)
				ended := make(chan error, 1)
				var closed atomic.Bool
				first := sync.OnceFunc(func() {
					r := <-ready
					ended <- end(r)
					closed.Store(true)
				})
				second := func() {
					if closed.Load() {
						t.Error("a function was called after the registry had ended")
					}
				}
				r := newRegistry(t, s, Tenant(space), tc.opt(first), tc.opt(second))
				if err := r.ObserveContext(t.Context(), "web"); err != nil {
					t.Fatal(err)
				}
				mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
				ready <- r
				if tc.trigger != nil {
					tc.trigger(t, r, space)
				}
				select {
				case err := <-ended:
					if err != nil {
						t.Error(err)
					}
				case <-time.After(natstest.Soon):
					t.Fatal("it has not returned")
				}
				r.calls.Wait() // what still runs
			})
		}
	}
}

// tenants numbers the tenants of tests that share a server.
var tenants atomic.Int64

// No function starts after Close has returned, while changes come in all the time. Seen to fail if
// the loop of OnEvent does not check the registry before each call.
func TestNoCallbackAfterClose(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	busy := newRegistry(t, s)
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _ = busy.Register(Service{ID: fmt.Sprint(i % 20), Name: "web",
					Address: fmt.Sprint("h:1", i)})
			}
		}
	})
	for range 10 {
		var closed atomic.Bool
		called := make(chan struct{}, 1)
		look := func() {
			if closed.Load() {
				t.Error("a function was called after Close")
			}
			select {
			case called <- struct{}{}:
			default:
			}
		}
		r := newRegistry(t, s, OnEvent(func(Event) { look() }), OnEvent(func(Event) { look() }),
			OnHealth(func(Health) { look() }))
		if err := r.Observe("web"); err != nil {
			t.Fatal(err)
		}
		<-called
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		closed.Store(true)
		r.calls.Wait()
	}
	close(stop)
	churn.Wait()
}

// A second Close waits for the first, and returns the same error. Seen to fail with a second one
// that returns nil at once.
func TestCloseAgain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			nc := s.Connect()
			r, err := New(t.Context(), nc, discard(), Tenant(fmt.Sprint("t", tenants.Add(1))))
			if err != nil {
				t.Fatal(err)
			}
			mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
			s.Down()
			defer s.Up()
			ctx, cancel := context.WithCancel(t.Context())
			errs := make(chan error, 4)
			go func() { errs <- r.CloseContext(ctx) }()
			natstest.Eventually(t, natstest.Soon, func() error {
				if r.closed.Load() {
					return nil
				}
				return errors.New("it is not closed")
			})
			ended, endNow := context.WithCancel(t.Context())
			endNow()
			if err := within(t, "a second one whose context has ended",
				func() error { return r.CloseContext(ended) }); !errors.Is(err, context.Canceled) {
				t.Errorf("a second one whose context has ended: %v", err)
			}
			for range 3 {
				go func() { errs <- end(r) }()
			}
			cancel()
			first := <-errs
			if first == nil {
				t.Fatal("the server is away, and everything is taken back")
			}
			for range 3 {
				if err := <-errs; err == nil || err.Error() != first.Error() {
					t.Errorf("one call returned %v, and another %v", first, err)
				}
			}
			if err := end(r); err == nil || err.Error() != first.Error() {
				t.Errorf("one call returned %v, and a later one %v", first, err)
			}
		})
	}
}

// If nothing was sent, nothing is left: Close returns at once and says so. Seen to fail with calls
// that wait although the registry is closed, and with a registration that counts as sent while
// there is no connection.
func TestCloseWhereNothingWasSent(t *testing.T) {
	t.Parallel()
	one := Service{ID: "a", Name: "web", Address: "h:1"}
	for name, begin := range map[string]func(t *testing.T, s *natstest.Server) *Registry{
		"no server ever": func(t *testing.T, s *natstest.Server) *Registry {
			url := s.URL()
			s.Down()
			return absentRegistry(t, url)
		},
		"a server that went": func(t *testing.T, s *natstest.Server) *Registry {
			r := newRegistry(t, s)
			s.Down()
			return r
		},
		"a server that went, after a registration": func(
			t *testing.T, s *natstest.Server) *Registry {
			r := newRegistry(t, s)
			mustRegister(t, r, Service{ID: "b", Name: "web", Address: "h:1"})
			if err := r.Unregister("web"); err != nil {
				t.Fatal(err)
			}
			s.Down()
			return r
		},
	} {
		for how, end := range endings {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				s := natstest.Start(t)
				r := begin(t, s)
				natstest.Eventually(t, natstest.Soon, func() error {
					if r.opt.nc.IsConnected() {
						return errors.New("the connection is up")
					}
					return nil
				})
				short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				if _, err := r.RegisterContext(short, one); !errors.Is(err, ErrPending) {
					t.Fatal(err)
				}
				errs := make(chan error, 4)
				go func() {
					_, err := r.RegisterContext(context.Background(),
						Service{ID: "c", Name: "web", Address: "h:1"})
					errs <- err
				}()
				go func() {
					_, err := r.RegisterAll(context.Background(),
						Service{ID: "d", Name: "web", Address: "h:1"},
						Service{ID: "e", Name: "web", Address: "h:1"})
					errs <- err
				}()
				go func() { errs <- r.UpdateContext(context.Background(), one) }()
				go func() { _, err := r.Exclusive(context.Background(), "lock"); errs <- err }()
				natstest.Eventually(t, natstest.Soon, func() error {
					if n := len(r.RegisteredServices()); n < 4 {
						return fmt.Errorf("%d are declared", n)
					}
					return nil
				})
				if err := within(t, "the end", func() error { return end(r) }); err != nil {
					t.Error(err)
				}
				for range cap(errs) {
					err := within(t, "a call", func() error { return <-errs })
					if !errors.Is(err, ErrClosed) || errors.Is(err, ErrPending) ||
						errors.Is(err, ErrNotRegistered) {
						t.Errorf("a call that waited: %v", err)
					}
				}
			})
		}
	}
}

func absentRegistry(t testing.TB, url string) *Registry {
	t.Helper()
	r, err := New(t.Context(), absent(t, url), discard(), TTL(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// If something was sent, Close tries to take it back until its context ends, and says what is left.
// Seen to fail with a Close that returns no error then.
func TestCloseWhereSomethingWasSent(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := newRegistry(t, s)
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
	s.Down()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := within(t, "Close", func() error { return r.CloseContext(ctx) }); !errors.Is(err,
		ErrPending) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// A call that races with Close is done and taken back, or returns ErrClosed. Nothing is left. Seen
// to fail with the error of the registration that Close took back.
func TestCallsThatRaceWithClose(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	for name, call := range map[string]func(r *Registry, i int) error{
		"Register": func(r *Registry, i int) error {
			_, err := r.Register(Service{ID: fmt.Sprint("new", i), Name: "web", Address: "h:1"})
			return err
		},
		"RegisterAll": func(r *Registry, i int) error {
			_, err := r.RegisterAll(context.Background(), Service{ID: fmt.Sprint("n", i),
				Name: "web", Address: "h:1"}, Service{ID: fmt.Sprint("m", i), Name: "web",
				Address: "h:1"})
			return err
		},
		"Update": func(r *Registry, i int) error {
			return r.Update(Service{ID: "a", Name: "web", Address: fmt.Sprint("h:1", i)})
		},
		"SetStatus": func(r *Registry, i int) error {
			return r.SetStatus("web", []Status{Passing, Warning}[i%2])
		},
		"UpdateFunc": func(r *Registry, _ int) error {
			return r.UpdateFunc(context.Background(), "web", "", func(s *Service) { s.Weight++ })
		},
		"Unregister": func(r *Registry, i int) error {
			// as another call has done
			if err := r.Unregister("web"); err != nil && !errors.Is(err, ErrNotRegistered) {
				return err
			}
			_, err := r.Register(Service{ID: fmt.Sprint("own", i%2), Name: "web", Address: "h:1"})
			return err
		},
		"Exclusive": func(r *Registry, _ int) error {
			h, err := r.Exclusive(context.Background(), "lock")
			if err != nil {
				return err
			}
			return h.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			space := Tenant(fmt.Sprint("t", tenants.Add(1)))
			for range 8 {
				r := newRegistry(t, s, space)
				mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
				var calls sync.WaitGroup
				warm := make(chan struct{}, 4)
				for k := range 4 {
					calls.Go(func() {
						for i := k; ; i += 4 {
							err := call(r, i)
							if errors.Is(err, ErrClosed) && !errors.Is(err, ErrNotRegistered) &&
								!errors.Is(err, ErrPending) {
								return
							}
							if err != nil && (name != "Unregister" ||
								!errors.Is(err, ErrNotRegistered) && !errors.Is(err, ErrFenced)) {
								t.Errorf("got %v", err)
								return
							}
							select {
							case warm <- struct{}{}:
							default:
							}
						}
					})
				}
				<-warm
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				calls.Wait()
			}
			r := newRegistry(t, s, space)
			for key, last := range bucketKeys(t, r) {
				t.Errorf("%s is left: %s", key, last)
			}
		})
	}
}

// A log handler, or a function that the caller's own goroutine calls, may close the registry too,
// or unregister. Seen to fail with an UpdateFunc that holds the owner's lock while it calls its
// function, and with log lines that come from goroutines which Close waits for.
func TestCloseInAFunction(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	ways := map[string]func(*Registry) error{
		"Unregister": func(r *Registry) error {
			if err := r.UnregisterContext(context.Background(), "web"); !errors.Is(err,
				ErrNotRegistered) && !errors.Is(err, ErrClosed) {
				return err
			}
			return nil
		},
	}
	for how, end := range endings {
		ways[how] = end
	}
	for name, call := range map[string]func(r *Registry, end func()){
		"Until": func(r *Registry, end func()) {
			_ = r.Drain(context.Background(), Settle(0), Until(func(context.Context) error {
				end()
				return nil
			}))
		},
		"UpdateFunc": func(r *Registry, end func()) {
			_ = r.UpdateFunc(context.Background(), "web", "", func(s *Service) {
				end()
				s.Weight++
			})
		},
		"Where": func(r *Registry, end func()) {
			_, _ = r.GetServices(context.Background(), "web",
				Where(func(Service) bool { end(); return true }))
		},
		"Where of a Lookup": func(r *Registry, end func()) {
			l, err := r.Lookup("web", Where(func(Service) bool { end(); return true }))
			if err == nil {
				_, _, _ = l.Pick(context.Background())
			}
		},
		"Where of WaitFor": func(r *Registry, end func()) {
			_, _ = r.WaitFor(context.Background(), "web", 1,
				Where(func(Service) bool { end(); return true }))
		},
		"Events": func(r *Registry, end func()) {
			for range r.Events(context.Background(), "web") {
				end()
				return
			}
		},
		"Snapshots": func(r *Registry, end func()) {
			for range r.Snapshots(context.Background(), "web") {
				end()
				return
			}
		},
		"a log handler": nil, // the registry itself calls it
	} {
		for how, way := range ways {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				ended := make(chan error, 1)
				var r *Registry
				end := sync.OnceFunc(func() { ended <- way(r) })
				lost := make(chan struct{}) // a lease, so that there is something to log
				handler := hooked(func(text string) {
					if call == nil && strings.Contains(text, "lease lost") {
						close(lost)
						end()
					}
				})
				r = newRegistry(t, s, Tenant(fmt.Sprint("t", tenants.Add(1))), handler)
				mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
				if call == nil {
					w := tenant.Write{Key: tenant.LeaseKey(r.keeper.Current().ID), Op: tenant.Purge}
					if _, err := r.bucket.Write(t.Context(), w); err != nil {
						t.Fatal(err)
					}
					r.keeper.Check()
					<-lost
				} else {
					_ = within(t, name, func() error { call(r, end); return nil })
				}
				if err := within(t, how, func() error { return <-ended }); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
