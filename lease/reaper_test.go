package lease

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// grant writes a lease by hand, and registers a key under it.
func grant(t *testing.T, b *tenant.Bucket, id, key string, ttl time.Duration) {
	t.Helper()
	renew(t, b, id, ttl)
	put(t, b, key, id)
}

func renew(t *testing.T, b *tenant.Bucket, id string, ttl time.Duration) {
	t.Helper()
	w := tenant.Write{Key: tenant.LeaseKey(id), Value: []byte("x"), TTL: ttl}
	if _, err := b.Write(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

// isReaped waits for a key to be gone.
func isReaped(t *testing.T, b *tenant.Bucket, key string) {
	t.Helper()
	// the reaper's own waits take up to half of this time
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		if has(t, b, key) {
			return fmt.Errorf("%s is not reaped", key)
		}
		return nil
	})
}

// isIndexed waits until a reaper's index has a living lease, and calls f with it.
func isIndexed(t *testing.T, r *Reaper, lease string, f func(*holding)) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		h := r.index.leases[lease]
		if h == nil || h.state != live {
			return fmt.Errorf("lease %s is not in the index", lease)
		}
		f(h)
		return nil
	})
}

// serves waits until a reaper holds a slot and has proof that it may purge.
func serves(t *testing.T, r *Reaper) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon+holdTime(r.cfg.TTL), func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.proof.holds(time.Now(), holdTime(r.cfg.TTL)) {
			return errors.New("the reaper may not purge")
		}
		return nil
	})
}

// slots waits until reapers hold certain slots, -1 for none.
func slots(t *testing.T, reapers []*Reaper, want ...int) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		for i, r := range reapers {
			if got, ok := r.Slot(); got != want[i] {
				return fmt.Errorf("reaper %d holds slot %d (%v), want %d", i, got, ok, want[i])
			}
		}
		return nil
	})
}

// A key that names an ended lease without a marker goes; a key that names a living one stays. A
// newcomer hides the first, and deletes nothing. Seen to fail without seal.
func TestLeaseWithoutAKey(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	l := held(t, newKeeper(t, b, KeeperConfig{}))
	put(t, b, "svc.web.dead", "NEVER-WAS")
	put(t, b, "svc.web.live", l.ID)
	put(t, b, "svc.web.unreadable", "")
	r := newReaper(t, b)
	if dead, err := r.Dead(t.Context()); err != nil || len(dead) != 1 {
		t.Fatalf("dead are %v, %v", dead, err)
	}
	if !has(t, b, "svc.web.dead") {
		t.Fatal("a newcomer deleted something")
	}
	r.Start()
	isReaped(t, b, "svc.web.dead")
	if !has(t, b, "svc.web.live") || !has(t, b, "svc.web.unreadable") {
		t.Error("too much was purged")
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if dead, err := r.Dead(t.Context()); err != nil || dead != nil {
			return fmt.Errorf("with a reaper that is ready, dead are %v, %v", dead, err)
		}
		return nil
	})
}

// A newcomer goes on without the dead if the bucket takes more than half of its time to read. Seen
// to fail if the reading may take all of it.
func TestDeadOfABucketThatReadsSlowly(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	for i := range 200 {
		put(t, b, fmt.Sprintf("svc.web.%d", i), "NEVER-WAS")
	}
	r := newReaper(t, b)
	r.cfg.LeaseOf = func(string, []byte) (string, bool) {
		time.Sleep(100 * time.Millisecond) // all of them take 20 s
		return "NEVER-WAS", true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	if dead, err := r.Dead(ctx); err != nil || dead != nil {
		t.Errorf("dead are %v, %v", dead, err)
	}
}

// A lease whose key was purged by hand ends, and its owner has a TTL to take a new one. Seen to
// fail if all ends are due at once.
func TestLeaseThatWasPurgedByHand(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	r := newReaper(t, b)
	r.Start()
	serves(t, r)
	grant(t, b, "L", "svc.web.a", 2*MinTTL)
	// A grant that is overwritten before the consumer sends it is never seen.
	isIndexed(t, r, "L", func(*holding) {})
	ended := time.Now()
	if _, err := b.Write(t.Context(), tenant.Write{Key: "lease.L", Op: tenant.Purge}); err != nil {
		t.Fatal(err)
	}
	isReaped(t, b, "svc.web.a")
	if took := time.Since(ended); took < 2*MinTTL {
		t.Errorf("purged %s after the lease's end", took)
	}
}

// An instance that only a replica shows ends, even if its leader has nothing of it. A replica shows
// such an instance if its server was killed. Seen to fail with purges at only the revision that was
// read.
func TestPurgeOfWhatTheLeaderDoesNotHave(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	if _, err := b.PurgeAt(t.Context(),
		[]tenant.Entry{{Key: "lock.job.a", Revision: 7}}); err != nil {
		t.Fatal(err)
	}
	last, err := b.Last(t.Context(), "lock.job.a")
	if err != nil || last.Revision == 0 || last.Op != tenant.Purge {
		t.Errorf("the leader has %+v, %v", last, err)
	}
}

// Two reapers hold the slots, and a third stands by. Leases that end at once are purged, each key
// once. When the holder of the first slot closes, the other two hold both slots. No slot is held
// after all have closed. Seen to fail with a holder that does not give its slot back.
func TestSlots(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := newBucket(t, s)
	var reapers []*Reaper
	for i := range 3 {
		r := newReaperOf(t, newBucket(t, s), 3*MinTTL)
		r.Start()
		reapers = append(reapers, r)
		slots(t, reapers, []int{0, 1, -1}[:i+1]...)
	}
	serves(t, reapers[0])
	serves(t, reapers[1])
	const n = 500
	var ws []tenant.Write
	for i := range n {
		id := fmt.Sprintf("L%d", i)
		ws = append(ws, tenant.Write{Key: tenant.LeaseKey(id), Value: []byte("x"), TTL: MinTTL},
			tenant.Write{Key: fmt.Sprintf("svc.web.%d", i), Value: []byte(id)})
	}
	_, errs := b.WriteAll(t.Context(), ws)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		isReaped(t, b, fmt.Sprintf("svc.web.%d", i))
	}
	// a reaper counts a purge when it has the answer
	natstest.Eventually(t, natstest.Soon, func() error {
		if total := reapers[0].Reaped() + reapers[1].Reaped(); total != n {
			return fmt.Errorf("purged %d, want %d", total, n)
		}
		return nil
	})
	reapers[0].Close()
	// the third may be faster than the second
	natstest.Eventually(t, natstest.Soon+standbyTime(3*MinTTL), func() error {
		second, _ := reapers[1].Slot()
		if third, _ := reapers[2].Slot(); second+third != 1 || second*third != 0 {
			return fmt.Errorf("the second holds slot %d, the third slot %d", second, third)
		}
		return nil
	})
	for _, r := range reapers {
		r.Close()
	}
	for slot := range tenant.Slots {
		if has(t, b, tenant.SlotKey(slot)) {
			t.Errorf("slot %d is taken after all have closed", slot)
		}
	}
}

// The second slot's holder alone purges what the first one's leaves. Seen to fail with one slot. No
// process takes the slot while it starts and looks up what it needs.
func TestSecondSlot(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := newBucket(t, s)
	valve := &natstest.Valve{}
	frozen := newBucket(t, s, nats.SetCustomDialer(valve))
	first, second := newReaper(t, frozen), newReaper(t, newBucket(t, s))
	for i, r := range []*Reaper{first, second} {
		began := time.Now()
		r.Start()
		slots(t, []*Reaper{r}, i)
		if after := time.Since(began); i == 1 && after < secondLook*3/4 {
			t.Errorf("the second slot was taken %s after the start", after)
		}
		serves(t, r)
	}
	grant(t, b, "L", "svc.web.a", MinTTL)
	valve.Lock()
	defer valve.Unlock()
	ended := time.Now().Add(MinTTL)
	isReaped(t, b, "svc.web.a")
	t.Logf("purged %s after the lease's end", time.Since(ended).Round(time.Millisecond))
	natstest.Eventually(t, natstest.Soon, func() error {
		if second.Reaped() != 1 {
			return fmt.Errorf("the second purged %d", second.Reaped())
		}
		return nil
	})
}

// While the first slot's holder lives and may not purge, as after a reconnect, the second one
// purges. Seen to fail with a second holder that leaves all to the first.
func TestSecondSlotWhileTheFirstWaits(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, far := newBucket(t, s), newBucket(t, s)
	const ttl = 3 * MinTTL // the first one's wait, and much longer than the rest of the lease
	first, second := newReaperOf(t, far, ttl), newReaperOf(t, b, ttl)
	for i, r := range []*Reaper{first, second} {
		r.Start()
		slots(t, []*Reaper{r}, i)
	}
	serves(t, first)
	serves(t, second)
	grant(t, b, "L", "svc.web.a", MinTTL)
	if err := far.Conn().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	isReaped(t, b, "svc.web.a")
	slots(t, []*Reaper{first, second}, 0, 1)
	natstest.Eventually(t, natstest.Soon, func() error { // it counts a purge when it has the answer
		if first.Reaped() != 0 || second.Reaped() != 1 {
			return fmt.Errorf("the first purged %d, the second %d", first.Reaped(), second.Reaped())
		}
		return nil
	})
}

// After an outage a reaper leaves the living leases a whole TTL. The TTL counts from the first
// write that comes back through the stream. No connection reports the fault. Seen to fail with a
// proof that outlives the gap.
func TestOutageEndsTheProof(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := newBucket(t, s)
	valve := &natstest.Valve{}
	far := newBucket(t, s, nats.SetCustomDialer(valve))
	r := newReaper(t, far)
	r.Start()
	serves(t, r)
	valve.Lock()
	grant(t, b, "L", "svc.web.a", MinTTL)
	natstest.Eventually(t, natstest.Soon, func() error {
		if has(t, b, "lease.L") {
			return errors.New("the lease lives")
		}
		return nil
	})
	over := time.Now()
	valve.Unlock()
	isReaped(t, b, "svc.web.a")
	if took := time.Since(over); took < holdTime(MinTTL) {
		t.Errorf("purged %s after an outage", took)
	}
}

// After a reconnect a reaper leaves the living leases its whole wait, however short its own outage
// was. Another process may need 2 s more to connect. Seen to fail with a snapshot that does not end
// the proof.
func TestReaperWaitsAfterAReconnect(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	r := newReaper(t, b)
	r.Start()
	serves(t, r)
	grant(t, b, "L", "svc.web.a", MinTTL)
	up, stop := b.Reconnected()
	defer stop()
	again := time.Now()
	if err := b.Conn().ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	<-up
	isReaped(t, b, "svc.web.a")
	if took := time.Since(again); took < holdTime(MinTTL) {
		t.Errorf("purged %s after a reconnect", took)
	}
}

// A reaper whose heartbeats prove that there was no outage waits less when it takes a slot. Seen to
// fail with a proof that is not extended, and with one that is extended without grace.
func TestSteadyReaperTakesOver(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	const ttl = 6 * MinTTL // a heartbeat may come late by a twelfth of that
	k := newKeeper(t, b, KeeperConfig{TTL: ttl})
	held(t, k)
	natstest.Eventually(t, natstest.Soon+ttl, func() error {
		if !k.Steady() {
			return errors.New("its heartbeats prove nothing")
		}
		return nil
	})
	r := newReaperOf(t, b, ttl)
	r.cfg.Steady = k.Steady
	began := time.Now()
	r.Start()
	serves(t, r)
	if took := time.Since(began); took < graceTime(ttl) || took >= holdTime(ttl) {
		t.Errorf("it waited %s", took)
	}
}

// A lease that ends before its time shows that the server's clock jumped. The living leases' owners
// have a TTL to take new ones. Seen to fail with premature returning false.
func TestLeaseThatEndsBeforeItsTime(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	r := newReaper(t, b)
	r.Start()
	serves(t, r)
	grant(t, b, "L", "svc.web.a", 2*MinTTL)
	// A grant that is overwritten before the consumer sends it is never seen.
	isIndexed(t, r, "L", func(*holding) {})
	msg := nats.NewMsg("$KV." + b.Name() + ".lease.L")
	msg.Header.Set("Nats-Marker-Reason", "MaxAge") // as the server writes it
	ended := time.Now()
	if _, err := b.Conn().RequestMsgWithContext(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	isReaped(t, b, "svc.web.a")
	if took := time.Since(ended); took < holdTime(2*MinTTL) {
		t.Errorf("purged %s after the clock's jump", took)
	}
}

// The reaper ends a lease that outlives its TTL by another one while the server makes progress. The
// server's clock has jumped back. Seen to fail without endOverdue.
func TestLeaseThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	r := newReaper(t, b)
	r.Start()
	serves(t, r)
	grant(t, b, "L", "svc.web.a", 1000*MinTTL)
	// As if it were one of those whose time has come.
	isIndexed(t, r, "L", func(h *holding) { h.ttl = MinTTL })
	isReaped(t, b, "svc.web.a")
	if has(t, b, "lease.L") {
		t.Error("the lease is still there")
	}
}

// A full bucket has no room for a slot. The dead leases' keys are purged all the same, and that
// makes room. Seen to fail with a reaper that gives up.
func TestReapingInAFullBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := fullBucket(t, s, func(b *tenant.Bucket) {
		// the server takes a purge that is smaller than the value that it ends
		put(t, b, "svc.web.a", "GONE"+strings.Repeat(" ", 300))
		rev := put(t, b, "lease.GONE", "x")
		w := tenant.Write{Key: "lease.GONE", Op: tenant.Purge, If: tenant.At(rev)}
		if _, err := b.Write(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	})
	r := newReaper(t, b)
	r.cfg.LeaseOf = func(key string, value []byte) (string, bool) {
		return strings.TrimSpace(string(value)), tenant.ByLease(key)
	}
	r.Start()
	isReaped(t, b, "svc.web.a")
}

// Invariant 9: an entry at the key of a lease or a slot is an ordinary entry even if its headers
// imitate the server's. Seen to fail with a follower that believes the headers.
func TestEntriesThatLookLikeTheServersWords(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	write := func(key, status string) {
		t.Helper()
		msg := nats.NewMsg("$KV." + b.Name() + "." + key)
		msg.Header = nats.Header{"Status": {status}, "Description": {"Consumer Deleted"}}
		if _, err := b.Conn().RequestMsgWithContext(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	statuses := []string{"100", "404", "408", "409", "503"}
	for _, status := range statuses {
		write(tenant.LeaseKey("S"+status), status)
	}
	const ttl = 5 * MinTTL
	r := newReaperOf(t, b, ttl)
	r.Start()
	serves(t, r)
	began := time.Now()
	for _, status := range statuses {
		write(tenant.LeaseKey("T"+status), status)
	}
	write(tenant.SlotKey(1), "404")
	grant(t, b, "L", "svc.web.a", MinTTL)
	isReaped(t, b, "svc.web.a")
	if took := time.Since(began); took >= holdTime(ttl) { // a new follower's wait
		t.Errorf("purged after %s", took)
	}
}

// A slot with a value without a TTL is taken over. Seen to fail if any value counts as a holder's.
func TestSlotThatIsNobodys(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	put(t, b, tenant.SlotKey(0), "for ever")
	put(t, b, tenant.SlotKey(1), "for ever")
	r := newReaper(t, b)
	r.Start()
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		if _, ok := r.Slot(); !ok {
			return errors.New("no slot")
		}
		return nil
	})
}

// A holder whose slot ended in a full bucket stands by, and purges the dead leases' keys as any
// process does there. Seen to fail with a holder that tries for ever to write its slot.
func TestHolderInABucketThatFillsUp(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	valve := &natstest.Valve{}
	r := newReaper(t, limited(t, s, nats.SetCustomDialer(valve)))
	r.cfg.LeaseOf = func(key string, value []byte) (string, bool) {
		return strings.TrimSpace(string(value)), tenant.ByLease(key)
	}
	b := limited(t, s)
	r.Start()
	serves(t, r)
	put(t, b, "svc.web.a", "GONE"+strings.Repeat(" ", 300))
	renew(t, b, "GONE", MinTTL)
	valve.Lock()
	natstest.Eventually(t, natstest.Soon, func() error {
		if has(t, b, tenant.SlotKey(0)) || has(t, b, "lease.GONE") {
			return errors.New("the slot or the lease lives")
		}
		return nil
	})
	fill(t, b)
	valve.Unlock()
	isReaped(t, b, "svc.web.a")
}

// A lease whose key vanished without a marker is over as soon as it is overdue. One whose key has
// no TTL is over at once. Seen to fail if an overdue lease is left alone because its revision is
// gone, and if a lease without a TTL is never overdue.
func TestLeaseWhoseKeyIsNotAsItShouldBe(t *testing.T) {
	t.Parallel()
	for name, hurt := range map[string]func(*testing.T, *tenant.Bucket){
		"gone without a trace": func(t *testing.T, b *tenant.Bucket) {
			stream := natstest.Stream(t, b.Conn(), "KV_"+b.Name())
			if err := stream.Purge(t.Context(),
				jetstream.WithPurgeSubject("$KV."+b.Name()+".lease.L")); err != nil {
				t.Fatal(err)
			}
		},
		"without a TTL": func(t *testing.T, b *tenant.Bucket) { renew(t, b, "L", 0) },
		"brought back": func(t *testing.T, b *tenant.Bucket) {
			isReaped(t, b, "svc.web.a")
			grant(t, b, "L", "svc.web.a", 1000*MinTTL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBucket(t, natstest.Start(t))
			r := newReaper(t, b)
			r.Start()
			serves(t, r)
			put(t, b, "svc.web.first", "") // this keeps the stream's first revision low
			grant(t, b, "L", "svc.web.a", 2*MinTTL)
			hurt(t, b)
			isReaped(t, b, "svc.web.a")
			isReaped(t, b, "lease.L")
		})
	}
}

// A holder gives its slot back even if it does not know of its last renewal. It leaves another
// holder's slot alone. Seen to fail with one purge at the known revision, and at any revision.
func TestSlotIsGivenAfterALostRenewal(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	r, other := newReaper(t, b), newReaper(t, b)
	for _, last := range []*Reaper{r, other} {
		rev, err := last.claim(t.Context(), 0)
		if err == nil {
			_, err = last.renew(t.Context(), 0, rev)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.give(0, rev)
		if taken := has(t, b, tenant.SlotKey(0)); taken != (last == other) {
			t.Errorf("taken: %t", taken)
		}
	}
}

// The holder of the second slot moves to the first if that was never held. Seen to fail with a slot
// that is free only after its end was seen.
func TestSecondHolderAlone(t *testing.T) {
	t.Parallel()
	b := newBucket(t, natstest.Start(t))
	r := newReaper(t, b)
	rev, err := r.claim(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	r.wg.Go(func() { r.serve(1, rev) }) // ends with r.ctx; Close waits
	slots(t, []*Reaper{r}, 0)
}

// A lease with a longer TTL than the reaper's has that TTL to notice its end. Seen to fail with
// waits of the reaper's TTL.
func TestLongerTTLThanTheReapers(t *testing.T) {
	r := newFollower(1)
	const ttl = 10 * MinTTL
	r.tell(watcher.Change{Key: tenant.LeaseKey("L"), Value: []byte("x"), Revision: 1, TTL: ttl},
		nil)
	r.tell(watcher.Change{Key: "svc.web.a", Value: []byte("L"), Revision: 2}, nil)
	began := time.Now()
	r.tell(watcher.Change{Key: tenant.LeaseKey("L"), Op: tenant.Purge, Revision: 3}, nil)
	if wait := r.index.doomed["L"].due.Sub(began); wait < ttl {
		t.Errorf("after an end by hand it has %s", wait)
	}
	r.tell(watcher.Change{Key: tenant.LeaseKey("M"), Value: []byte("x"), Revision: 4, TTL: ttl},
		nil)
	r.tell(watcher.Change{Key: tenant.LeaseKey("M"), Op: tenant.Expire, Revision: 5}, nil)
	// enough for the reaper's TTL
	r.proof.first, r.proof.last = time.Now().Add(-2*holdTime(MinTTL)), time.Now()
	if _, _, err := r.reapOnce(t.Context()); err != nil || r.most != ttl {
		t.Errorf("after a jump of the clock it waits as long as for a TTL of %s, %v", r.most, err)
	}
}
