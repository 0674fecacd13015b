package integration

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Health says what is the matter while a server is away, and nothing when it is back; and a caller that wants no old answers
// gets none. Seen to fail without the check of the age, and with a lease that counts as held for ever.
func TestHealthThroughAnOutage(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s, kvregistry.MaxStale(2*time.Second), kvregistry.Timeout(300*time.Millisecond))
	if h := r.Health(); !h.OK() || h.Lease != kvregistry.LeaseNone || h.Age != -1 || !h.Renewed.IsZero() {
		t.Errorf("at the start: %+v", h)
	}
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := r.Health(); !h.OK() || h.Lease != kvregistry.LeaseHeld || h.Age < 0 || h.Age > time.Second || len(h.Observed) != 1 {
			return fmt.Errorf("in quiet times: %+v", h)
		}
		return nil
	})
	s.Down()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.RegisterContext(short, web("b")); !isErr(err, kvregistry.ErrPending) {
		t.Errorf("while the server is away, Register gave %v", err)
	}
	_ = r.Observe("other")
	natstest.Eventually(t, natstest.Soon, func() error {
		h := r.Health()
		_, err := r.GetServices(t.Context(), "web")
		if h.OK() || h.Connected || h.Lease != kvregistry.LeaseGone || h.Unwritten != 2 || len(h.Unread) != 1 || !isErr(err, kvregistry.ErrStale) {
			return errors.Join(errors.New("it does not say so"), err)
		}
		return nil
	})
	if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrStale) {
		t.Errorf("GetService on an old view gave %v", err)
	}
	if snap, err := r.Snapshot("web"); err != nil || snap.Age() < 2*time.Second {
		t.Errorf("Snapshot gave %v", err)
	}
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := r.Health(); !h.OK() || h.Lease != kvregistry.LeaseHeld {
			return fmt.Errorf("it is not well again: %+v", h)
		}
		_, err := r.GetService("web")
		return err
	})
}

// Invariant 4: what an operator removes from the stream without a message is noticed within a TTL, and what is not there
// any more leaves the caches; the living are written again, and do not leave them. Seen to fail without the view's check of the
// stream's first revision.
func TestPurgedStreamConverges(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var expired atomic.Int64
	observer, owner := open(t, s, kvregistry.OnEvent(func(e kvregistry.Event) {
		if e.Kind == kvregistry.Expired && e.Service.ID == "a" {
			expired.Add(1)
		}
	})), open(t, s)
	gone := start(t, plan{URL: s.URL(), Services: []kvService{web("gone")}})
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a", "gone")
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	gone.kill()
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := sees(t, observer, natstest.Soon, "web", "a")
	t.Logf("the cache equals the bucket after %s", took.Round(time.Millisecond))
	if expired.Load() > 0 {
		t.Error("the living one was said to be gone")
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if left := keys(t, s.Connect(), "default", "svc."); len(left) != 1 {
			return errors.New("the living is not written again")
		}
		return nil
	})
}
