package integration

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// reads lists the methods that read memory, for names that are observed.
var reads = map[string]func(r *kvregistry.Registry){
	"Health":             func(r *kvregistry.Registry) { r.Health() },
	"Logger":             func(r *kvregistry.Registry) { r.Logger() },
	"ObservedServices":   func(r *kvregistry.Registry) { r.ObservedServices() },
	"RegisteredServices": func(r *kvregistry.Registry) { r.RegisteredServices() },
	"Snapshot":           func(r *kvregistry.Registry) { _, _ = r.Snapshot("web") },
	"GetService":         func(r *kvregistry.Registry) { _, _ = r.GetService("web") },
	"Observe":            func(r *kvregistry.Registry) { _ = r.Observe("other") },
	"Lookup":             func(r *kvregistry.Registry) { _, _ = r.Lookup("web") },
	"OnHealth": func(r *kvregistry.Registry) {
		if stop, err := r.OnHealth(func(kvregistry.Health) {}); err == nil {
			stop()
		}
	},
}

// calls lists the other methods, except those that end the registry.
var calls = map[string]func(ctx context.Context, r *kvregistry.Registry){
	"SnapshotContext": func(ctx context.Context,
		r *kvregistry.Registry) {
		_, _ = r.SnapshotContext(ctx, "web")
	},
	"GetServiceContext": func(ctx context.Context,
		r *kvregistry.Registry) {
		_, _ = r.GetServiceContext(ctx, "new")
	},
	"GetServices": func(ctx context.Context,
		r *kvregistry.Registry) {
		_, _ = r.GetServices(ctx, "web")
	},
	"Catalog": func(_ context.Context, r *kvregistry.Registry) { _, _ = r.Catalog() },
	"CatalogContext": func(ctx context.Context,
		r *kvregistry.Registry) {
		_, _ = r.CatalogContext(ctx)
	},
	"Catalogs": func(ctx context.Context, r *kvregistry.Registry) {
		for range r.Catalogs(ctx) {
			break
		}
	},
	"Leases": func(ctx context.Context, r *kvregistry.Registry) { _, _ = r.Leases(ctx) },
	"ServiceNames": func(_ context.Context,
		r *kvregistry.Registry) {
		_, _ = r.ServiceNames()
	},
	"ServiceNamesContext": func(ctx context.Context,
		r *kvregistry.Registry) {
		_, _ = r.ServiceNamesContext(ctx)
	},
	"ObserveContext": func(ctx context.Context, r *kvregistry.Registry) {
		_ = r.ObserveContext(ctx,
			"newer")
	},
	"Unobserve": func(_ context.Context, r *kvregistry.Registry) {
		_ = r.Unobserve("newer")
	},
	"WaitFor": func(ctx context.Context, r *kvregistry.Registry) {
		_, _ = r.WaitFor(ctx, "web",
			1)
	},
	"Watch": func(ctx context.Context, r *kvregistry.Registry) { _, _ = r.Watch(ctx, "web") },
	"Events": func(ctx context.Context, r *kvregistry.Registry) {
		for range r.Events(ctx, "web") {
			break
		}
	},
	"Snapshots": func(ctx context.Context, r *kvregistry.Registry) {
		for range r.Snapshots(ctx, "web") {
			break
		}
	},
	"Register": func(_ context.Context, r *kvregistry.Registry) { _, _ = r.Register(extra) },
	"RegisterContext": func(ctx context.Context,
		r *kvregistry.Registry) {
		_, _ = r.RegisterContext(ctx, extra)
	},
	"RegisterAll": func(ctx context.Context, r *kvregistry.Registry) {
		_, _ = r.RegisterAll(ctx,
			extra)
	},
	"Update": func(_ context.Context, r *kvregistry.Registry) { _ = r.Update(extra) },
	"UpdateContext": func(ctx context.Context, r *kvregistry.Registry) {
		_ = r.UpdateContext(ctx,
			web("a"))
	},
	"SetStatus": func(_ context.Context, r *kvregistry.Registry) {
		_ = r.SetStatus("extra",
			kvregistry.Warning)
	},
	"SetStatusContext": func(ctx context.Context, r *kvregistry.Registry) {
		_ = r.SetStatusContext(ctx, "web", kvregistry.Passing)
	},
	"UpdateFunc": func(ctx context.Context, r *kvregistry.Registry) {
		_ = r.UpdateFunc(ctx, "web", "a", func(*kvregistry.Service) {})
	},
	"Unregister": func(_ context.Context,
		r *kvregistry.Registry) {
		_ = r.Unregister("extra")
	},
	"UnregisterContext": func(ctx context.Context,
		r *kvregistry.Registry) {
		_ = r.UnregisterContext(ctx, "extra")
	},
	"Exclusive": func(ctx context.Context, r *kvregistry.Registry) {
		if hold, err := r.Exclusive(ctx, "name"); err == nil {
			_ = hold.Close()
		}
	},
}

var extra = kvregistry.Service{ID: "x", Name: "extra", Address: "h:1"}

// guest stands for a user's function. It calls every method, or it blocks.
type guest struct {
	reg   atomic.Pointer[kvregistry.Registry]
	calls bool
	begun chan struct{} // closed by the first call
	done  chan struct{} // closed when it has called all methods
	free  chan struct{} // closed when it may stop blocking
	first atomic.Bool
	err   error // the error of a first look-up; read it after done
}

func (u *guest) called() {
	r := u.reg.Load()
	if r == nil || u.first.Swap(true) { // a method that it calls may call it again
		return
	}
	close(u.begun)
	if !u.calls {
		<-u.free
		close(u.done)
		return
	}
	for _, read := range reads {
		read(r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	_, u.err = r.SnapshotContext(ctx, "new") // this needs the server's answer and the view
	cancel()
	for _, call := range calls {
		// some wait for the goroutine that this function blocks
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		call(ctx, r)
		cancel()
	}
	close(u.done)
}

// Enabled, Handle and WithGroup make guest a log handler. PublicKey and Sign make it a signer.
func (u *guest) Enabled(context.Context, slog.Level) bool { return true }

func (u *guest) Handle(context.Context, slog.Record) error {
	u.called()
	return nil
}

func (u *guest) WithAttrs([]slog.Attr) slog.Handler { return u }

func (u *guest) WithGroup(string) slog.Handler { return u }

func newGuest(calls bool) *guest {
	return &guest{calls: calls, begun: make(chan struct{}), done: make(chan struct{}),
		free: make(chan struct{})}
}

type guestSigner struct {
	nkeys.KeyPair
	*guest
}

func (u guestSigner) Sign(data []byte) ([]byte, error) {
	u.called()
	return u.KeyPair.Sign(data)
}

// Invariant 12: each function of the user may call every method of the registry, and may block: no
// read of memory waits for it, and no write waits for a function that is told of something. Seen to
// fail with events that are told while the cache is locked.
func TestUsersFunctions(t *testing.T) {
	t.Parallel()
	// they end the registry: see close_test.go of kvregistry
	known := []string{"Close", "CloseContext", "Leave", "Drain"}
	for method := range reflect.TypeFor[*kvregistry.Registry]().Methods() {
		if reads[method.Name] == nil && calls[method.Name] == nil &&
			!slices.Contains(known, method.Name) {
			t.Errorf("%s is not tried", method.Name)
		}
	}
	option := func(opts ...kvregistry.Option) func(*guest) []kvregistry.Option {
		return func(*guest) []kvregistry.Option { return opts }
	}
	type state struct {
		s  *natstest.Server
		nc *nats.Conn
		r  *kvregistry.Registry
	}
	fence := func(t *testing.T, st state, _ *guest) { register(t, open(t, st.s), web("a")) }
	for name, tt := range map[string]struct {
		opts    func(u *guest) []kvregistry.Option
		provoke func(t *testing.T, st state, u *guest) // makes the registry call the function
	}{
		"log handler": {func(u *guest) []kvregistry.Option {
			return []kvregistry.Option{kvregistry.Logger(slog.New(u))}
		}, fence},
		"OnEvent": {func(u *guest) []kvregistry.Option {
			return []kvregistry.Option{kvregistry.OnEvent(func(kvregistry.Event) { u.called() })}
		}, fence},
		"OnFenced": {func(u *guest) []kvregistry.Option {
			return []kvregistry.Option{kvregistry.OnFenced(func(kvregistry.Service) { u.called() })}
		}, fence},
		"OnHealth": {func(u *guest) []kvregistry.Option {
			return []kvregistry.Option{kvregistry.OnHealth(func(kvregistry.Health) { u.called() })}
		}, func(_ *testing.T, st state, _ *guest) { st.s.Outage(2 * time.Second) }},
		"OnLeaseLost": {func(u *guest) []kvregistry.Option {
			return []kvregistry.Option{kvregistry.OnLeaseLost(func(error) { u.called() })}
		}, func(t *testing.T, st state, _ *guest) {
			must(t, bucket(t, st.nc, "default").Purge(t.Context(), "lease."+inside.Lease(st.r).ID))
		}},
		"filter": {option(), func(t *testing.T, st state, u *guest) {
			go func() { // ends when u does
				_, _ = st.r.GetService("web",
					kvregistry.Where(func(kvregistry.Service) bool { u.called(); return true }))
			}()
		}},
		"UpdateFunc": {option(), func(t *testing.T, st state, u *guest) {
			// ends when u does
			go func() {
				_ = st.r.UpdateFunc(t.Context(), "web", "a",
					func(*kvregistry.Service) { u.called() })
			}()
		}},
		"signer": {func(u *guest) []kvregistry.Option {
			pair, _ := nkeys.CreateUser()
			return []kvregistry.Option{kvregistry.SignWith(guestSigner{pair, u})}
		}, func(_ *testing.T, st state, _ *guest) {
			go func() { _ = st.r.SetStatus("web", kvregistry.Warning) }() // ends when u does
		}},
	} {
		for way, calls := range map[string]bool{"calls": true, "sleeps": false} {
			t.Run(name+" "+way, func(t *testing.T) {
				t.Parallel()
				s := natstest.Start(t)
				u := newGuest(calls)
				nc := s.Connect()
				r := openOn(t, nc, tt.opts(u)...)
				register(t, r, web("a"))
				sees(t, r, natstest.Soon, "web", "a")
				u.reg.Store(r)
				tt.provoke(t, state{s, nc, r}, u)
				await := func(what string, done <-chan struct{}) {
					t.Helper()
					select {
					case <-done:
					case <-time.After(30 * time.Second):
						t.Errorf("%s hangs", what)
					}
				}
				await("what calls it", u.begun)
				if !calls {
					for method, read := range reads {
						done := make(chan struct{})
						go func() { read(r); close(done) }() // ends when the registry answers
						await(method, done)
					}
					if strings.HasPrefix(name, "On") { // no call of the registry waits for these
						register(t, r, web("b"))
					}
					close(u.free)
				}
				await("it", u.done)
				if !t.Failed() && u.err != nil {
					t.Errorf("a first look-up by the function gave %v", u.err)
				}
			})
		}
	}
}
