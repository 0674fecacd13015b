package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// call is a call of RegisterContext that is under way.
type call struct {
	cancel context.CancelFunc
	done   chan error
}

// begin starts a call of RegisterContext, and returns when the call has declared s.
func begin(t *testing.T, r *Registry, s Service) *call {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &call{cancel: cancel, done: make(chan error, 1)}
	go func() {
		c.done <- second(r.RegisterContext(ctx, s))
	}()
	natstest.Eventually(t, natstest.Soon, func() error {
		for _, one := range r.RegisteredServices() {
			if one.Name == s.Name && one.ID == s.ID && one.Address == s.Address {
				return nil
			}
		}
		return errors.New("it is not declared")
	})
	return c
}

// end cancels the call, and waits for its error. A later call that declares another value fences
// it.
func (c *call) end(t *testing.T) {
	t.Helper()
	c.cancel()
	if err := within(t, "RegisterContext", func() error { return <-c.done }); !errors.Is(err,
		context.Canceled) && !errors.Is(err, ErrFenced) {
		t.Errorf("got %v", err)
	}
}

// An id that several calls declare while NATS is away goes when its last call is cancelled. Seen to
// fail if only the newest call can be taken back.
func TestCallsOfOneIDThatAreCancelled(t *testing.T) {
	t.Parallel()
	one, two, three := Service{ID: "a", Name: "web", Address: "h:1"},
		Service{ID: "a", Name: "web", Address: "h:2"}, Service{ID: "a", Name: "web", Address: "h:3"}
	for name, tc := range map[string]struct {
		first bool // one is registered before
		do    func(t *testing.T, r *Registry, un func() error) (stays *call)
		want  string // the address that is left
	}{
		"all, the oldest first": {do: func(t *testing.T, r *Registry, _ func() error) *call {
			a, b, c := begin(t, r, one), begin(t, r, two), begin(t, r, three)
			a.end(t)
			b.end(t)
			c.end(t)
			return nil
		}},
		"all, the newest first": {do: func(t *testing.T, r *Registry, _ func() error) *call {
			a, b, c := begin(t, r, one), begin(t, r, two), begin(t, r, three)
			c.end(t)
			b.end(t)
			a.end(t)
			return nil
		}},
		"two, beside what is registered": {first: true, want: "h:1",
			do: func(t *testing.T, r *Registry, _ func() error) *call {
				b, c := begin(t, r, two), begin(t, r, three)
				b.end(t)
				c.end(t)
				return nil
			}},
		"one, after what was registered is taken back": {first: true,
			do: func(t *testing.T, r *Registry, un func() error) *call {
				b := begin(t, r, two)
				if err := un(); !errors.Is(err, ErrFenced) {
					t.Errorf("unregister: %v", err)
				}
				b.end(t)
				return nil
			}},
		"one of two that say the same": {want: "h:1",
			do: func(t *testing.T, r *Registry, _ func() error) *call {
				a, b := begin(t, r, one), begin(t, r, one)
				a.end(t)
				return b
			}},
		"one of two that say the same, of what is registered": {first: true, want: "h:2",
			do: func(t *testing.T, r *Registry, _ func() error) *call {
				a, b := begin(t, r, two), begin(t, r, two)
				a.end(t)
				return b
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			// its lease lasts longer than the outage
			r := newRegistry(t, s, TTL(time.Minute), Timeout(time.Hour))
			mustRegister(t, r, Service{ID: "a", Name: "other", Address: "h:1"})
			var un func() error
			if tc.first {
				var err error
				if un, err = r.Register(one); err != nil {
					t.Fatal(err)
				}
			}
			s.Down()
			stays := tc.do(t, r, un)
			s.Up()
			if stays != nil {
				if err := within(t, "RegisterContext",
					func() error { return <-stays.done }); err != nil {
					t.Errorf("the other call: %v", err)
				}
			}
			want := "other h:1,"
			if tc.want != "" {
				want += "web " + tc.want + ","
			}
			natstest.Eventually(t, natstest.Soon, func() error {
				got := ""
				for _, s := range r.RegisteredServices() {
					got += s.Name + " " + s.Address + ","
				}
				if h := r.Health(); got != want || h.Unwritten > 0 {
					return fmt.Errorf("registered %s, want %s; %d unwritten", got, want,
						h.Unwritten)
				}
				if tc.want == "" {
					return absentKey(t, r, "svc.web.a")
				}
				return nil
			})
		})
	}
}

// A Register whose signer panics leaves nothing that a goroutine of the registry signs later. Seen
// to fail with a registration that stays declared.
func TestRegisterThatPanics(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	pair := keyPair(t)
	signer := &panicSigner{KeyPair: pair}
	r := newRegistry(t, s, SignWith(signer))
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
	for name, call := range map[string]func(){
		"Register": func() {
			_, _ = r.Register(Service{ID: "b", Name: "web", Address: "h:2"})
		},
		"Register of the same": func() {
			_, _ = r.Register(Service{ID: "a", Name: "web", Address: "h:2"})
		},
		"RegisterAll": func() {
			_, _ = r.RegisterAll(t.Context(), Service{ID: "b", Name: "web", Address: "h:2"},
				Service{ID: "a", Name: "web", Address: "h:2"})
		},
		"Update": func() { _ = r.Update(Service{ID: "a", Name: "web", Address: "h:2"}) },
	} {
		signer.do = func() { panic("oops") }
		if got := ends(call); got != "oops" {
			t.Errorf("%s: %s", name, got)
		}
		signer.do = nil // a registration that was left would be signed now
		if list := r.RegisteredServices(); len(list) != 1 || list[0].Address != "h:1" {
			t.Errorf("%s: registered %v", name, list)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if n := r.Health().Unwritten; n > 0 {
				return fmt.Errorf("%s: %d unwritten", name, n)
			}
			return nil
		})
	}
}

// A Register whose log handler panics leaves no registration that can't be taken back. Seen to fail
// with a registration that stays.
func TestRegisterWhoseLinePanics(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := newRegistry(t, s, hooked(func(string) {
		// not on a goroutine of the registry
		if strings.Contains(string(debug.Stack()), ".(*Registry).Register") {
			panic("oops")
		}
	}))
	a, b := Service{ID: "a", Name: "web", Address: "h:1"}, Service{ID: "b", Name: "web",
		Address: "h:1"}
	for name, call := range map[string]func(){
		"Register":    func() { _, _ = r.Register(a) },
		"RegisterAll": func() { _, _ = r.RegisterAll(t.Context(), a, b) },
	} {
		natstest.Eventually(t, natstest.Soon, func() error {
			if got := ends(call); got != "oops" { // a goroutine of the registry logged it first
				_ = r.Unregister("web")
				return fmt.Errorf("%s %s", name, got)
			}
			return nil
		})
		natstest.Eventually(t, natstest.Soon, func() error {
			if list := r.RegisteredServices(); len(list) > 0 {
				return fmt.Errorf("registered %v", list)
			}
			return absentKey(t, r, "svc.web.a")
		})
	}
}

// A signer may close the registry, also if a goroutine of the registry calls it. Seen to fail if
// Close waits for what registers again.
func TestCloseInASigner(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair := keyPair(t)
			var r *Registry
			closed := make(chan error, 1)
			closes := sync.OnceFunc(func() { closed <- end(r) })
			var lost atomic.Bool
			signer := &panicSigner{KeyPair: pair, do: func() {
				if lost.Load() {
					closes()
				}
			}}
			r = newRegistry(t, s, Tenant(fmt.Sprint("t", tenants.Add(1))), SignWith(signer))
			mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
			lost.Store(true)
			w := tenant.Write{Key: tenant.LeaseKey(r.keeper.Current().ID), Op: tenant.Purge}
			if _, err := r.bucket.Write(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			r.keeper.Check()
			if err := within(t, name, func() error { return <-closed }); err != nil {
				t.Error(err)
			}
		})
	}
}

// A log handler that panics in Exclusive leaves no place in the line without an owner. Seen to fail
// if only the end of the wait removes the ticket, and if the hold is kept.
func TestExclusiveThatPanics(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"waits for a name", "holds a name"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			first := newRegistry(t, s)
			held, err := first.Exclusive(t.Context(), "n")
			if err != nil {
				t.Fatal(err)
			}
			r := newRegistry(t, s, hooked(func(text string) {
				if strings.Contains(text, line) {
					panic("oops")
				}
			}))
			done := make(chan string)
			go func() { done <- ends(func() { _, _ = r.Exclusive(t.Context(), "n") }) }()
			if line == "holds a name" {
				natstest.Eventually(t, natstest.Soon, func() error {
					if len(r.Health().Holds) == 0 {
						return errors.New("it does not wait")
					}
					return nil
				})
				if err := held.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if got := <-done; got != "oops" {
				t.Errorf("Exclusive %s", got)
			}
			if err := held.Close(); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
			defer cancel()
			if _, err := first.Exclusive(ctx, "n"); err != nil {
				t.Error(err)
			}
		})
	}
}
