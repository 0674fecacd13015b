package lease

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// TestMain lets more tests run at once than there are cores, because they mostly wait.
func TestMain(m *testing.M) {
	natstest.Parallel(8)
	os.Exit(m.Run())
}

func newBucket(t *testing.T, s *natstest.Server, opts ...nats.Option) *tenant.Bucket {
	t.Helper()
	return bucketOf(t, s, tenant.Config{}, opts...)
}

func bucketOf(t *testing.T, s *natstest.Server, cfg tenant.Config,
	opts ...nats.Option) *tenant.Bucket {
	t.Helper()
	b, err := tenant.New(s.Connect(opts...), "test", cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func newKeeper(t *testing.T, b *tenant.Bucket, cfg KeeperConfig) *Keeper {
	t.Helper()
	if cfg.TTL = cmp.Or(cfg.TTL, MinTTL); cfg.Value == nil {
		cfg.Value = []byte("test")
	}
	if cfg.Granted = func() {}; cfg.Lost == nil {
		cfg.Lost = func(error) {}
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	k, err := NewKeeper(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close(context.Background(), true) })
	return k
}

// newReaper returns a reaper of keys whose value is the id of their lease.
func newReaper(t *testing.T, b *tenant.Bucket) *Reaper {
	t.Helper()
	return newReaperOf(t, b, MinTTL)
}

// newReaperOf returns a reaper with another TTL: with a longer one, a pause of the machine costs no
// slot.
func newReaperOf(t *testing.T, b *tenant.Bucket, ttl time.Duration) *Reaper {
	t.Helper()
	r := NewReaper(b, ReaperConfig{
		TTL: ttl, Owner: rand.Text(), LeaseOf: func(key string, value []byte) (string, bool) {
			return string(value), len(value) > 0 && tenant.ByLease(key)
		},
		Steady: func() bool { return false }, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(r.Close)
	return r
}

func held(t *testing.T, k *Keeper) *Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	l, err := k.Lease(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func put(t *testing.T, b *tenant.Bucket, key, value string) uint64 {
	t.Helper()
	rev, err := b.Write(t.Context(), tenant.Write{Key: key, Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func has(t *testing.T, b *tenant.Bucket, key string) bool {
	t.Helper()
	_, found, err := b.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A lease lives while it is renewed, and ends at once when it is given back.
func TestLeaseIsKept(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	const ttl = 2 * MinTTL
	k := newKeeper(t, b, KeeperConfig{TTL: ttl})
	l := held(t, k)
	select {
	case <-l.Done():
		t.Fatalf("lost: %v", l.Err())
	case <-time.After(2*ttl + ttl/2): // the time that it must live through
	}
	if !has(t, b, tenant.LeaseKey(l.ID)) || held(t, k) != l {
		t.Fatal("the lease did not live through two TTLs")
	}
	if err := k.Close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if has(t, b, tenant.LeaseKey(l.ID)) || !errors.Is(l.Err(), errRevoked) {
		t.Errorf("after Close: %v", l.Err())
	}
	if _, err := k.Lease(t.Context()); err == nil {
		t.Error("a closed keeper gave a lease")
	}
}

// A heartbeat that is under way while the keeper closes does not outlive the keeper. Seen to fail
// with a revocation that gives up at a conflict.
func TestLastHeartbeatIsRevoked(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	k := newKeeper(t, b, KeeperConfig{})
	l := held(t, k)
	renew(t, b, l.ID, MinTTL) // the keeper does not get the answer
	if err := k.Close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if has(t, b, tenant.LeaseKey(l.ID)) {
		t.Error("the lease is still there")
	}
}

// A lease is lost if its key has another writer's value, and the next lease has another id.
func TestSealedLeaseIsLost(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	lost := make(chan error, 1)
	k := newKeeper(t, b, KeeperConfig{Lost: func(err error) { lost <- err }})
	l := held(t, k)
	if _, err := b.Write(t.Context(), tenant.Write{Key: tenant.LeaseKey(l.ID),
		Op: tenant.Purge}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-lost:
		if !errors.Is(err, ErrLost) || !errors.Is(l.Err(), ErrLost) {
			t.Errorf("lost by %v, %v", err, l.Err())
		}
	case <-time.After(natstest.Soon):
		t.Fatal("the owner did not notice")
	}
	if next := held(t, k); next.ID == l.ID {
		t.Error("a lease's id was used twice")
	}
}

// A heartbeat whose answer was lost is found again. A marker in its place is not taken for it.
func TestLostAnswerIsAdopted(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	k := newKeeper(t, b, KeeperConfig{})
	l := k.newLease("by-hand")
	key := tenant.LeaseKey(l.ID)
	l.rev = put(t, b, key, "granted")
	if _, err := k.adopt(l); err == nil || errors.Is(err, tenant.ErrConflict) {
		t.Errorf("the write that is known already gave %v, want another try", err)
	}
	want := put(t, b, key, "heartbeat")
	if rev, err := k.adopt(l); err != nil || rev != want {
		t.Errorf("adopted %d, %v, want %d", rev, err, want)
	}
	if _, err := b.Write(t.Context(), tenant.Write{Key: key, Op: tenant.Purge}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.adopt(l); !errors.Is(err, tenant.ErrConflict) {
		t.Errorf("a sealed lease gave %v", err)
	}
}

// fullBucket returns a bucket that has what first puts there, and no more room.
func fullBucket(t *testing.T, s *natstest.Server, first func(*tenant.Bucket)) *tenant.Bucket {
	t.Helper()
	b := limited(t, s)
	first(b)
	fill(t, b)
	return b
}

// limited creates a small bucket, or takes the one that is there.
func limited(t *testing.T, s *natstest.Server, opts ...nats.Option) *tenant.Bucket {
	t.Helper()
	return bucketOf(t, s, tenant.Config{MaxBytes: 8 << 10}, opts...)
}

// fill uses all the room of a bucket.
func fill(t *testing.T, b *tenant.Bucket) {
	t.Helper()
	for size := 100; size >= 0; size -= 50 {
		var err error
		for i := 0; err == nil; i++ {
			w := tenant.Write{Key: fmt.Sprintf("junk.%d.%d", size, i), Value: make([]byte, size)}
			_, err = b.Write(t.Context(), w)
		}
		if !errors.Is(err, tenant.ErrStorageFull) {
			t.Fatal(err)
		}
	}
}

// Heartbeats that were acknowledged in time for a TTL prove that there was no outage. They prove
// nothing right after an outage or a reconnect. Seen to fail with a keeper that is steady from the
// start.
func TestKeeperIsNotSteadyAfterAnOutage(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	k := newKeeper(t, newBucket(t, s), KeeperConfig{})
	if k.Steady() {
		t.Error("steady without a lease")
	}
	first := held(t, k)
	steady := func() error {
		if !k.Steady() {
			return errors.New("not steady")
		}
		return nil
	}
	natstest.Eventually(t, natstest.Soon, steady)
	began, before := time.Now(), k.bucket.Conn().Stats().Reconnects
	if err := k.bucket.Conn().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if k.bucket.Conn().Stats().Reconnects == before {
			return errors.New("no reconnect")
		}
		return nil
	})
	if steady := k.Steady(); steady && time.Since(began) < holdTime(MinTTL) {
		t.Error("steady despite a reconnect")
	}
	held(t, k)
	if steady := k.Steady(); steady && time.Since(began) < holdTime(MinTTL) {
		t.Error("steady right after a reconnect")
	}
	natstest.Eventually(t, natstest.Soon, steady)
	s.Down()
	time.Sleep(MinTTL + time.Second) // the fault itself
	began = time.Now()
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if l := k.Current(); l == nil || l == first {
			return errors.New("no new lease")
		}
		return nil
	})
	if steady := k.Steady(); steady && time.Since(began) < holdTime(MinTTL) {
		t.Error("steady right after the outage")
	}
	natstest.Eventually(t, natstest.Soon, steady)
}

// A call that asks for a lease gets the error of a try that was made for it. A bucket that was full
// and has room again gives a lease at once. Seen to fail if the last try's error is returned.
func TestLeaseIsTriedForWhoAsks(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := fullBucket(t, s, func(*tenant.Bucket) {})
	k := newKeeper(t, b, KeeperConfig{})
	for range 8 { // so that the keeper waits between two tries of its own
		if _, err := k.Lease(t.Context()); !errors.Is(err, tenant.ErrStorageFull) {
			t.Fatalf("a full bucket gave %v", err)
		}
	}
	stream := natstest.Stream(t, b.Conn(), "KV_"+b.Name())
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Lease(t.Context()); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// A lease that is no longer renewed is over by its owner's clock before the server says so. Each
// heartbeat moves that time. Seen to fail with a TTL and a quarter.
func TestUntilIsBeforeTheMarker(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	k := newKeeper(t, b, KeeperConfig{})
	l := held(t, k)
	granted := l.Until()
	natstest.Eventually(t, natstest.Soon, func() error {
		if !l.Until().After(granted) {
			return errors.New("no heartbeat moved it on")
		}
		return nil
	})
	if err := k.Close(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if lives := l.Until().Sub(k.Renewed()); lives < MinTTL/2 || lives > MinTTL*7/8 {
		t.Errorf("it is sure for %s after a heartbeat was begun", lives)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if has(t, b, tenant.LeaseKey(l.ID)) {
			return errors.New("the lease lives")
		}
		return nil
	})
	if early := time.Since(l.Until()); early < MinTTL/8 {
		t.Errorf("over by the owner's clock only %s before the server's marker", early)
	} else {
		t.Logf("over by the owner's clock %s before the server's marker",
			early.Round(time.Millisecond))
	}
}
