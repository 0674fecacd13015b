package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// ctxCalls are the methods that take a context and change something, or wait for something.
var ctxCalls = map[string]func(ctx context.Context, r *Registry) error{
	"RegisterContext": func(ctx context.Context, r *Registry) error {
		un, err := r.RegisterContext(ctx, Service{ID: "new", Name: "web", Address: "h:1"})
		if un != nil && err != nil {
			err = fmt.Errorf("unregister is not nil: %w", ErrPending)
		}
		return err
	},
	"RegisterContext, no id": func(ctx context.Context, r *Registry) error {
		return second(r.RegisterContext(ctx, Service{Name: "web", Address: "h:2"}))
	},
	"RegisterContext, of what is registered": func(ctx context.Context, r *Registry) error {
		return second(r.RegisterContext(ctx, Service{ID: "a", Name: "web", Address: "h:7"}))
	},
	"RegisterAll": func(ctx context.Context, r *Registry) error {
		un, err := r.RegisterAll(ctx, Service{ID: "n1", Name: "web", Address: "h:1"},
			Service{ID: "n2", Name: "db", Address: "h:1"})
		if un != nil && err != nil {
			err = fmt.Errorf("unregister is not nil: %w", ErrPending)
		}
		return err
	},
	"UpdateContext": func(ctx context.Context, r *Registry) error {
		return r.UpdateContext(ctx, Service{ID: "a", Name: "web", Address: "h:9"})
	},
	"SetStatusContext": func(ctx context.Context, r *Registry) error {
		return r.SetStatusContext(ctx, "web", Critical)
	},
	"UpdateFunc": func(ctx context.Context, r *Registry) error {
		return r.UpdateFunc(ctx, "web", "", func(s *Service) { s.Weight++ })
	},
	"Exclusive": func(ctx context.Context, r *Registry) error {
		return second(r.Exclusive(ctx, "lock"))
	},
	"ObserveContext": func(ctx context.Context, r *Registry) error {
		return r.ObserveContext(ctx, "n1")
	},
	"GetServices": func(ctx context.Context, r *Registry) error {
		return second(r.GetServices(ctx, "n2"))
	},
	"GetServiceContext": func(ctx context.Context, r *Registry) error {
		return second(r.GetServiceContext(ctx, "n3"))
	},
	"SnapshotContext": func(ctx context.Context, r *Registry) error {
		return second(r.SnapshotContext(ctx, "n4"))
	},
	"WaitFor": func(ctx context.Context, r *Registry) error {
		return second(r.WaitFor(ctx, "n5", 1))
	},
	"ServiceNamesContext": func(ctx context.Context, r *Registry) error {
		return second(r.ServiceNamesContext(ctx))
	},
	"Events": func(ctx context.Context, r *Registry) error {
		for _, err := range r.Events(ctx, "n6") {
			return err
		}
		return nil
	},
	"Snapshots": func(ctx context.Context, r *Registry) error {
		for _, err := range r.Snapshots(ctx, "n7") {
			return err
		}
		return nil
	},
}

func second[T any](_ T, err error) error { return err }

// A call whose context has already ended does nothing, and says so. Seen to fail with a
// registration that is declared first, and with names that are observed.
func TestContextThatHasEnded(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := newRegistry(t, s)
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
	if err := r.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
	defer cancelLate()
	before, keys := r.RegisteredServices(), bucketKeys(t, r)
	all := map[string]func(context.Context, *Registry) error{
		"UnregisterContext": func(ctx context.Context, r *Registry) error {
			return r.UnregisterContext(ctx, "web")
		},
		"New": func(ctx context.Context, r *Registry) error { return second(New(ctx, r.opt.nc)) },
	}
	for name, call := range ctxCalls {
		all[name] = call
	}
	for name, call := range all {
		for _, ctx := range []context.Context{cancelled, late} {
			if err := call(ctx, r); !errors.Is(err, ctx.Err()) || errors.Is(err, ErrPending) {
				t.Errorf("%s: %v, want %v", name, err, ctx.Err())
			}
			if diff := cmp.Diff(before, r.RegisteredServices()); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if observed := r.ObservedServices(); !slices.Equal(observed, []string{"web"}) {
				t.Errorf("%s: %v are observed", name, observed)
			}
			if h := r.Health(); h.Unwritten > 0 {
				t.Errorf("%s: %d are unwritten", name, h.Unwritten)
			}
			for range 2 {
				if list, err := r.GetServices(ctx, "web"); err != nil || len(list) != 1 {
					t.Errorf("a read of memory: %v, %v", list, err)
				}
			}
		}
	}
	if diff := cmp.Diff(keys, bucketKeys(t, r)); diff != "" {
		t.Error(diff)
	}
}

// A call whose context is cancelled while it waits is taken back: nothing of it is left or comes
// later. Seen to fail with a change that stays declared.
func TestContextThatIsCancelled(t *testing.T) {
	t.Parallel()
	for name, call := range ctxCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			// its lease lasts longer than the outage
			r := newRegistry(t, s, TTL(time.Minute), Timeout(time.Hour))
			mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
			before := r.RegisteredServices()
			s.Down()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- call(ctx, r) }()
			time.Sleep(20 * time.Millisecond) // any moment is right; most of them wait by now
			cancel()
			if err := within(t, name, func() error { return <-done }); !errors.Is(err,
				context.Canceled) || errors.Is(err, ErrPending) {
				t.Errorf("got %v", err)
			}
			s.Up()
			left(t, r, before)
		})
	}
}

// left checks that the declared instances, and those in the bucket, are the same as before.
func left(t testing.TB, r *Registry, want []Service) {
	t.Helper()
	mustRegister(t, r, Service{ID: "later", Name: "other", Address: "h:1"})
	if err := r.Unregister("other"); err != nil {
		t.Fatal(err)
	}
	plain := func(list []Service) []Service {
		list = slices.Clone(list)
		for i := range list {
			list[i].Revision, list[i].Owner, list[i].Lease = 0, "", ""
		}
		return list
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if diff := cmp.Diff(plain(want), plain(r.RegisteredServices())); diff != "" {
			return errors.New(diff)
		}
		if h := r.Health(); h.Unwritten > 0 {
			return fmt.Errorf("%d are unwritten", h.Unwritten)
		}
		var keys, has []string
		for _, one := range want {
			keys = append(keys, "svc."+one.Name+"."+one.ID)
		}
		for key := range bucketKeys(t, r) {
			has = append(has, key)
		}
		slices.Sort(has)
		if !slices.Equal(keys, has) {
			return fmt.Errorf("the bucket has %v, want %v", has, keys)
		}
		return nil
	})
	all := bucketServices(t, r)
	if diff := cmp.Diff(plain(want), plain(all)); diff != "" {
		t.Error(diff)
	}
}

// bucketServices returns the registrations in a registry's bucket, as another registry reads them.
func bucketServices(t testing.TB, r *Registry) (list []Service) {
	t.Helper()
	reader, err := New(t.Context(), r.opt.nc, discard(), Tenant(r.opt.tenant), WithoutReaping())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	names, err := reader.ServiceNames()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		snap, err := reader.Snapshot(name)
		if err != nil {
			t.Fatal(err)
		}
		list = slices.AppendSeq(list, snap.All())
	}
	return list
}

// A write that was sent and not acknowledged is taken back too when its context is cancelled. Seen
// to fail if the registration is forgotten, and if a change is no longer declared and stays in the
// bucket.
func TestCancelledAfterItWasSent(t *testing.T) {
	t.Parallel()
	const again = "RegisterContext, of what is registered"
	for name, change := range map[string]func(ctx context.Context, r *Registry) error{
		// It has no id, because the key of a given id is read before it is first written.
		"RegisterContext": func(ctx context.Context, r *Registry) error {
			return second(r.RegisterContext(ctx, Service{Name: "web", Address: "h:2"}))
		},
		"RegisterAll": func(ctx context.Context, r *Registry) error {
			return second(r.RegisterAll(ctx, Service{Name: "web", Address: "h:2"}))
		},
		"UpdateContext":    ctxCalls["UpdateContext"],
		"SetStatusContext": ctxCalls["SetStatusContext"],
		again:              ctxCalls[again],
		"UpdateFunc":       ctxCalls["UpdateFunc"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			var v natstest.Valve
			r, err := New(t.Context(), s.Connect(nats.SetCustomDialer(&v)), discard())
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
			before := r.RegisteredServices()
			observer := newRegistry(t, s)
			stands := bucketServices(t, observer)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			v.Lock()
			go func() { done <- change(ctx, r) }()
			natstest.Eventually(t, natstest.Soon, func() error {
				if cmp.Equal(stands, bucketServices(t, observer)) {
					return errors.New("nothing was written")
				}
				return nil
			})
			cancel()
			err = within(t, name, func() error { return <-done })
			v.Unlock()
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrPending) {
				t.Errorf("got %v", err)
			}
			left(t, r, before)
		})
	}
}

// A Register that is cancelled at any point is done, or nothing of it is left. Seen to fail with a
// cancelled call that leaves what it declared.
func TestCancelledAnywhere(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, natstest.Start(t))
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
	before := r.RegisteredServices()
	done := 0
	for i := range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Duration(i) * 2 * time.Microsecond)
			cancel()
		}()
		un, err := r.RegisterContext(ctx, Service{ID: fmt.Sprint("n", i), Name: "web",
			Address: "h:1"})
		switch {
		case err == nil:
			done++
			if err := un(); err != nil {
				t.Error(err)
			}
		case !errors.Is(err, context.Canceled) || errors.Is(err, ErrPending) || un != nil:
			t.Errorf("got %v", err)
		}
		cancel()
	}
	t.Logf("%d of 200 were done", done)
	left(t, r, before)
}
