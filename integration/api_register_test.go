package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A registered instance equals the Service that was registered. Each change of its content or
// status is one write.
func TestRegisterUpdateAndStatus(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s), open(t, s)
	want := kvregistry.Service{
		ID: "a", Name: "web", Version: "1.2.3", Network: "tcp", Address: "10.0.0.1:80",
		URL: "https://10.0.0.1/x", Host: "h1", Zone: "z1",
		Tags: []string{"t1", "t2"}, Metadata: map[string]string{"k": "v"}, Weight: 3,
		Status: kvregistry.Warning,
	}
	register(t, owner, want)
	got, err := observer.GetService("web")
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(kvregistry.Service{},
		"Revision", "Owner", "Lease")); diff != "" || err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
	want.Address, want.Tags = "10.0.0.2:80", nil
	if err := owner.Update(kvregistry.Service{Name: "web", Address: "10.0.0.2:80"}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon,
		func() error { return wantAddress(observer, "10.0.0.2:80") })
	if got, _ := observer.GetService("web"); got.Version != "" || got.ID != "a" {
		t.Errorf("Update must replace the whole instance, which is %+v", got)
	}
	for _, status := range []kvregistry.Status{kvregistry.Critical, kvregistry.Draining} {
		if err := owner.SetStatus("web", status); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			return second(observer.GetService("web", kvregistry.WithStatus(status)))
		})
		if _, err := observer.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
			t.Errorf("an instance that is %s is handed out: %v", status, err)
		}
	}
	if err := owner.Update(kvregistry.Service{Name: "other",
		Address: "h:1"}); !isErr(err, kvregistry.ErrNotRegistered) {
		t.Errorf("an update of an unknown service gave %v", err)
	}
	if err := owner.Unregister("other"); !isErr(err, kvregistry.ErrNotRegistered) {
		t.Errorf("Unregister of an unknown service gave %v", err)
	}
	register(t, owner, web("b"))
	err = owner.Update(kvregistry.Service{Name: "web", Address: "h:1"})
	if !isErr(err, kvregistry.ErrInvalidService) {
		t.Errorf("an update without an id gave %v", err)
	}
	if err := owner.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web")
}

// While the server is away, or not started yet, Register waits until its context ends. A declared
// registration is written as soon as it can be. Seen to fail with a reconcile that returns at once.
func TestRegisterBeforeTheServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	s.Down()
	nc, err := nats.Connect(s.URL(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	r := openOn(t, nc, kvregistry.Timeout(200*time.Millisecond))
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	un, err := r.RegisterContext(short, web("declared"))
	if !isErr(err, kvregistry.ErrPending) || !isErr(err, context.DeadlineExceeded) || un == nil {
		t.Fatalf("without a server it gave %v", err)
	}
	if strings.Count(err.Error(), "deadline exceeded") != 1 {
		t.Errorf("it says more than once that time ran out: %v", err)
	}
	for range 2 { // a second call waits again, and registers no second instance
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.RegisterContext(short, kvregistry.Service{Name: "unnamed",
			Address: "h:1"}); !isErr(err, kvregistry.ErrPending) {
			t.Fatal(err)
		}
	}
	taken, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	back, err := r.RegisterContext(taken, web("taken back"))
	if !isErr(err, kvregistry.ErrPending) {
		t.Fatal(err)
	}
	if err := back(); err != nil {
		t.Fatalf("unregistering an unsent registration gave %v", err)
	}
	waited := make(chan error, 1)
	go func() { // ends when the server is there
		long, cancel := context.WithTimeout(context.Background(), natstest.Soon)
		defer cancel()
		_, err := r.RegisterContext(long, web("waits"))
		waited <- err
	}()
	if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrUnavailable) {
		t.Fatalf("a look-up without a server gave %v", err)
	}
	s.Up()
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	observer := open(t, s)
	sees(t, observer, natstest.Soon, "web", "declared", "waits")
	// The instance was written in the background, and the next Register returns it. A further call
	// makes another one.
	for want := 1; want <= 2; want++ {
		register(t, r, kvregistry.Service{Name: "unnamed", Address: "h:1"})
		natstest.Eventually(t, natstest.Soon, func() error {
			if got := ids(t, observer, "unnamed"); len(got) != want {
				return fmt.Errorf("registered %d times, want %d", len(got), want)
			}
			return nil
		})
	}
	s.Down()
	err = unregisterWithin(r, "web", 200*time.Millisecond)
	if !isErr(err, kvregistry.ErrPending) {
		t.Fatalf("Unregister without a server gave %v", err)
	}
	s.Up()
	sees(t, observer, natstest.Soon, "web")
}

func unregisterWithin(r *kvregistry.Registry, name string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return r.UnregisterContext(ctx, name)
}

// Close deletes a registration that was unregistered while the server was away.
func TestCloseFinishesWhatIsPending(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	nc := s.Connect()
	r := openOn(t, nc)
	register(t, r, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	s.Down()
	if err := unregisterWithin(r, "web", 100*time.Millisecond); !isErr(err, kvregistry.ErrPending) {
		t.Fatal(err)
	}
	s.Up()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	plain := s.Connect()
	if left := keys(t, plain, "default", "svc."); len(left) > 0 {
		t.Errorf("Close left %v", left)
	}
}
