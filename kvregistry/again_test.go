package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// slowSigner blocks one signature after it has been shut.
type slowSigner struct {
	nkeys.KeyPair
	shut   atomic.Bool
	held   chan struct{} // closed when a signature waits
	reopen chan struct{} // the test closes it
}

func newSlowSigner(t *testing.T) *slowSigner {
	pair := keyPair(t)
	return &slowSigner{KeyPair: pair, held: make(chan struct{}), reopen: make(chan struct{})}
}

func (s *slowSigner) Sign(data []byte) ([]byte, error) {
	if s.shut.Swap(false) {
		close(s.held)
		<-s.reopen
	}
	return s.KeyPair.Sign(data)
}

// absentKey reports whether a key has no value.
func absentKey(t *testing.T, r *Registry, key string) error {
	e, found, err := r.bucket.Get(t.Context(), key)
	if err == nil && found {
		err = fmt.Errorf("%s is left: %s", key, e.Value)
	}
	return err
}

// Invariant 3: if the newer of two registrations of one id is taken back, nothing of either is
// left. Both are of one process, the earlier one is still under way, and any call may take the
// newer one back. The newer one does not wait for the earlier one's signer. Seen to fail with a
// registration of its own for each call, and a first write that takes the key: that came after the
// delete, and stayed. Seen to fail with a signature that is made by the one that has the turn.
func TestSameIDTwiceAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	for _, same := range []bool{true, false} {
		for name, takeBack := range map[string]func(r *Registry, un func() error) error{
			"unregister": func(_ *Registry, un func() error) error { return un() },
			"Unregister": func(r *Registry, _ func() error) error { return r.Unregister("web") },
			"Drain": func(r *Registry, _ func() error) error {
				return r.Drain(context.Background(), Settle(0))
			},
			"Close": func(r *Registry, _ func() error) error { return r.Close() },
		} {
			t.Run(fmt.Sprint(name, ", same content ", same), func(t *testing.T) {
				t.Parallel()
				signer := newSlowSigner(t)
				space := Tenant(fmt.Sprint("t", tenants.Add(1)))
				r, reader := newRegistry(t, s, space, SignWith(signer)), newRegistry(t, s, space)
				// it has a lease
				mustRegister(t, r, Service{ID: "a", Name: "other", Address: "h:1"})
				one := Service{ID: "a", Name: "web", Address: "h:1"}
				two := one
				if !same {
					two.Address = "h:2"
				}
				signer.shut.Store(true)
				type result struct {
					un  func() error
					err error
				}
				older := make(chan result, 1)
				go func() {
					un, err := r.Register(one)
					older <- result{un, err}
				}()
				<-signer.held
				un, err := r.Register(two)
				if err != nil {
					t.Fatal(err)
				}
				if err := takeBack(r, un); err != nil {
					t.Error(err)
				}
				close(signer.reopen)
				if first := <-older; first.err == nil {
					if err := first.un(); err != nil && !errors.Is(err, ErrFenced) {
						t.Errorf("unregistering the older one gave %v", err)
					}
				}
				if err := absentKey(t, reader, "svc.web.a"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A registration that is taken back while its first write is prepared is never written. This holds
// after the registry is closed, too. Seen to fail with a write that does not look again after the
// signature.
func TestTakenBackWhileItIsSigned(t *testing.T) {
	t.Parallel()
	signer := newSlowSigner(t)
	s := natstest.Start(t)
	r, reader := newRegistry(t, s, SignWith(signer)), newRegistry(t, s)
	mustRegister(t, r, Service{ID: "a", Name: "other", Address: "h:1"})
	signer.shut.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := r.Register(Service{ID: "a", Name: "web", Address: "h:1"})
		done <- err
	}()
	<-signer.held
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.UnregisterContext(ctx, "web"); err != nil && !errors.Is(err, ErrPending) &&
		!errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_ = r.CloseContext(ctx)
	close(signer.reopen)
	if err := <-done; err == nil {
		t.Error("Register returned nil")
	}
	if err := absentKey(t, reader, "svc.web.a"); err != nil {
		t.Error(err)
	}
}

// A Register of what is registered writes nothing; with other content it is an update. A process
// does not fence itself. Seen to fail with a registration of its own for each call.
func TestRegisterTheSameAgain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var fenced atomic.Int32
	r := newRegistry(t, s, OnFenced(func(Service) { fenced.Add(1) }), OnEvent(func(e Event) {
		if e.Kind == Fenced {
			fenced.Add(1)
		}
	}))
	nc := s.Connect()
	writes, err := nc.SubscribeSync("$KV.registry_default.svc.web.a")
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	written := func(want int) {
		t.Helper()
		var n int
		natstest.Eventually(t, natstest.Soon, func() error { // the server answers the writer first
			if n, _, _ = writes.Pending(); n < want {
				return fmt.Errorf("written %d times, want %d", n, want)
			}
			return nil
		})
		if n > want {
			t.Errorf("written %d times, want %d", n, want)
		}
	}
	one := Service{ID: "a", Name: "web", Address: "h:1", Tags: []string{"x"}}
	var uns []func() error
	again := func(s Service) {
		t.Helper()
		un, err := r.Register(s)
		if err != nil {
			t.Fatal(err)
		}
		uns = append(uns, un)
	}
	again(one)
	explicit := one
	explicit.Status, explicit.Host, explicit.Metadata = Passing, hostname(), map[string]string{}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := r.Register([]Service{one, explicit}[i%2]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := r.RegisterAll(t.Context(), one, one); err != nil {
		t.Error(err)
	}
	written(1)

	if err := r.SetStatus("web", Critical); err != nil { // as a health check does
		t.Fatal(err)
	}
	again(one)
	if list := r.RegisteredServices(); len(list) != 1 || list[0].Status != Critical {
		t.Errorf("the status is not kept: %v", list)
	}
	again(explicit)
	two := one
	two.Address = "h:2"
	written(3) // the call of the check, and the one that took the registration back
	again(two)
	if list := r.RegisteredServices(); len(list) != 1 || list[0].Address != "h:2" ||
		list[0].Status != Passing {
		t.Errorf("registered: %v", list)
	}
	written(4)
	large := two
	large.Metadata = map[string]string{"k": string(make([]byte, 1<<20))}
	if _, err := r.Register(large); !errors.Is(err, ErrInvalidService) {
		t.Errorf("too large: %v", err)
	}
	if list := r.RegisteredServices(); len(list) != 1 || list[0].Metadata != nil {
		t.Errorf("after a refused registration: %v", list)
	}
	if err := uns[0](); !errors.Is(err, ErrFenced) {
		t.Errorf("unregistering the replaced one gave %v", err)
	}
	for range 2 {
		if err := uns[len(uns)-1](); err != nil {
			t.Error(err)
		}
	}
	if err := absentKey(t, r, "svc.web.a"); err != nil {
		t.Error(err)
	}
	if n := fenced.Load(); n > 0 {
		t.Errorf("OnFenced was called %d times", n)
	}
}

// If the server refuses a registration, the earlier one stays as it was, in the bucket too. Seen to
// fail with one that is withdrawn.
func TestRegisterAgainThatIsRefused(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	if err := operator.Provision(t.Context(), s.Connect(), "default",
		tenant.Config{MaxBytes: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	r := newRegistry(t, s)
	un, err := r.Register(Service{ID: "a", Name: "web", Address: "h:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Register(Service{ID: "a", Name: "web", Address: "h:2",
		Version: string(make([]byte, 10<<10))})
	if !errors.Is(err, ErrStorageFull) {
		t.Errorf("got %v", err)
	}
	if list := r.RegisteredServices(); len(list) != 1 || list[0].Address != "h:1" {
		t.Errorf("registered: %v", list)
	}
	if err := un(); err != nil {
		t.Error(err)
	}
	if err := absentKey(t, r, "svc.web.a"); err != nil {
		t.Error(err)
	}
}
