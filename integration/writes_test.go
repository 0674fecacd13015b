package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/inside"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 4: a registration whose write was still under way when it was taken back does not come into the bucket behind that. Seen to
// fail with a removal that believes a read: it left 90 ghosts of 330.
func TestWriteUnderWayIsTakenBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	register(t, r, web("warm"))
	pending := 0
	for i := range 600 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i/2)*time.Microsecond)
		un, err := r.RegisterContext(ctx, kvregistry.Service{Name: "ghost", ID: fmt.Sprint(i), Address: "a:1"})
		cancel()
		if isErr(err, kvregistry.ErrPending) {
			pending++
		}
		if un != nil {
			if err := un(); err != nil {
				t.Fatal(err)
			}
		}
	}
	register(t, r, web("last")) // comes behind whatever was sent before
	if left := keys(t, s.Connect(), "default", "svc.ghost."); len(left) > 0 || pending == 0 {
		t.Errorf("%d of %d pending registrations stayed: %v", len(left), pending, left)
	}
}

// A change that is refused takes no other with it that is made at the same time. Seen to fail with changes that are made before their turn: SetStatus
// said that it was done, and it was not.
func TestRefusedChangeTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	register(t, r, web("a"))
	observer := open(t, s)
	limitValues(t, s, 4<<10)
	for i := range 50 {
		large, status := web("a"), []kvregistry.Status{kvregistry.Critical, kvregistry.Warning}[i%2]
		large.Metadata = map[string]string{"large": strings.Repeat("x", 8<<10)}
		var wg sync.WaitGroup
		var tooLarge, set error
		wg.Go(func() { tooLarge = r.Update(large) })
		wg.Go(func() { set = r.SetStatus("web", status) })
		wg.Wait()
		if tooLarge == nil || isErr(tooLarge, kvregistry.ErrPending) || set != nil {
			t.Fatalf("too large: %v, set: %v", tooLarge, set)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if snap, err := observer.Snapshot("web"); err != nil || snap.Len() != 1 || slices.Collect(snap.All())[0].Status != status {
				return fmt.Errorf("round %d: the bucket does not say %s: %v", i, status, err)
			}
			return nil
		})
	}
}

// A status that makes a record too large is refused, and nothing changes. Seen to fail with a status that is not checked: SetStatus said that it was done.
func TestStatusThatDoesNotFit(t *testing.T) {
	t.Parallel()
	r := open(t, natstest.Start(t))
	full := web("a")
	un := register(t, r, full)
	for n := 64 << 10; ; n-- { // the longest that fits
		full.Metadata = map[string]string{"long": strings.Repeat("x", n)}
		err := r.Update(full)
		if err == nil {
			break
		}
		if !isErr(err, kvregistry.ErrInvalidService) {
			t.Fatal(err)
		}
	}
	if err := r.SetStatus("web", kvregistry.Critical); !isErr(err, kvregistry.ErrInvalidService) { // one letter more than passing
		t.Errorf("SetStatus gave %v, want ErrInvalidService", err)
	}
	if got := r.RegisteredServices(); len(got) != 1 || got[0].Status != kvregistry.Passing {
		t.Error("the status was changed")
	}
	if err := un(); err != nil {
		t.Error(err)
	}
}

// Invariant 4: in a bucket that was made anew, a registration stands under a lease
// that is there long before the next heartbeat is due: a newcomer finds it. Seen to fail without
// Keeper.Check.
func TestNewcomerInABucketMadeAnew(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := open(t, s, kvregistry.TTL(10*time.Minute))
	register(t, owner, web("a"))
	sees(t, owner, natstest.Soon, "web", "a")
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "registry_default"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, 15*time.Second+natstest.Soon, func() error { // in which the loss is noticed
		_, err := js.KeyValue(t.Context(), "registry_default")
		return err
	})
	natstest.Eventually(t, natstest.Soon, func() error {
		kv, err := js.KeyValue(t.Context(), "registry_default")
		if err != nil {
			return err
		}
		l := inside.Lease(owner)
		if l == nil {
			return errors.New("the owner has no lease")
		}
		_, err = kv.Get(t.Context(), "lease."+l.ID)
		return err
	})
	newcomer := open(t, s, kvregistry.TTL(time.Minute))
	sees(t, newcomer, natstest.Soon, "web", "a")
}

// limitValues bounds the values that the bucket of the default tenant takes.
func limitValues(t *testing.T, s *natstest.Server, most int32) {
	t.Helper()
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = most
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}
