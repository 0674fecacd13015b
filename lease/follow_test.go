package lease

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// newFollower returns a reaper that is given changes by hand.
func newFollower(slot int32) *Reaper {
	r := NewReaper(nil, ReaperConfig{
		TTL: MinTTL, Owner: "me", LeaseOf: func(key string, value []byte) (string, bool) {
			return string(value), len(value) > 0 && tenant.ByLease(key)
		},
		Steady: func() bool { return false }, Logger: slog.New(slog.DiscardHandler),
	})
	r.index, r.proof = newIndex(), proof{gap: echoGap(MinTTL)}
	r.slot.Store(slot)
	r.beat, r.begun = "7", time.Now()
	return r
}

// tell gives a reaper one change.
func (r *Reaper) tell(ch watcher.Change, snapshot *watcher.Snapshot) {
	if ch.Op == tenant.Put {
		ch.Read = r.read(ch)
	}
	r.apply([]watcher.Change{ch}, snapshot)
}

// beat returns the value of a slot.
func beat(owner, n string) []byte {
	return fmt.Appendf(nil, `{"format":1,"owner":%q,"beat":%q,"ready":0}`, owner, n)
}

// Only a process's own last renewal of its slot, if it comes alone, is an echo. Seen to fail with
// echoes of another owner's renewal, of an earlier one, and of a snapshot.
func TestEchoes(t *testing.T) {
	slot := tenant.SlotKey(1)
	tests := map[string]struct {
		ch       watcher.Change
		snapshot *watcher.Snapshot
		echo     bool
	}{
		"the last renewal": {watcher.Change{Key: slot, Value: beat("me", "7")}, nil, true},
		"one of before":    {watcher.Change{Key: slot, Value: beat("me", "6")}, nil, false},
		"another owner's":  {watcher.Change{Key: slot, Value: beat("you", "7")}, nil, false},
		"with a snapshot": {watcher.Change{Key: slot, Value: beat("me", "7")},
			&watcher.Snapshot{}, false},
		"an end":             {watcher.Change{Key: slot, Op: tenant.Expire}, nil, false},
		"what can't be read": {watcher.Change{Key: slot, Value: []byte("me")}, nil, false},
	}
	for name, tt := range tests {
		r := newFollower(2)
		r.tell(tt.ch, tt.snapshot)
		if echo := r.proof.last.Equal(r.begun); echo != tt.echo {
			t.Errorf("%s: taken for an echo: %v", name, echo)
		}
	}
}

// A snapshot ends the proof. A first echo restores what the process's own heartbeats prove, less a
// time of grace, unless the server's clock jumped recently. Seen to fail without each of the four.
func TestWhatEndsAndExtendsAProof(t *testing.T) {
	hold := holdTime(MinTTL)
	echo := watcher.Change{Key: tenant.SlotKey(0), Value: beat("me", "7")}
	holds := func(r *Reaper, in time.Duration) bool { // there were echoes until then
		r.proof.last = time.Now().Add(in)
		return r.proof.holds(time.Now().Add(in), hold)
	}
	steady := func() *Reaper {
		r := newFollower(1)
		r.cfg.Steady = func() bool { return true }
		return r
	}
	r := newFollower(1)
	r.tell(echo, nil)
	if holds(r, hold-100*time.Millisecond) || !holds(r, hold) {
		t.Error("a first echo proves something of before")
	}
	r.apply(nil, &watcher.Snapshot{})
	if !r.proof.last.IsZero() {
		t.Error("the proof outlives a snapshot")
	}
	r = steady()
	r.tell(echo, nil)
	if holds(r, graceTime(MinTTL)-100*time.Millisecond) || !holds(r, graceTime(MinTTL)) {
		t.Error("steady heartbeats do not shorten the wait to the grace")
	}
	r = steady()
	r.doubt = time.Now().Add(-hold / 2)
	r.tell(echo, nil)
	if holds(r, hold-100*time.Millisecond) {
		t.Error("steady heartbeats spare the wait after a jump of the clock")
	}
}

// Each lease's end wakes the purging. Seen to fail with a reaper that looks at intervals.
func TestEachEndIsReapedAtOnce(t *testing.T) {
	r := newFollower(1)
	for i, id := range []string{"L", "M", "N"} {
		rev := uint64(3 * i)
		r.tell(watcher.Change{Key: tenant.LeaseKey(id), Value: []byte("x"), Revision: rev + 1,
			TTL: MinTTL}, nil)
		r.tell(watcher.Change{Key: "svc.web." + id, Value: []byte(id), Revision: rev + 2}, nil)
		if len(r.work) > 0 {
			t.Errorf("%s: woken by a lease that lives", id)
		}
		r.tell(watcher.Change{Key: tenant.LeaseKey(id), Op: tenant.Expire, Revision: rev + 3}, nil)
		select {
		case <-r.work:
		default:
			t.Errorf("%s: its end does not wake the purging", id)
		}
	}
}

// When a lease has ended, the holder of the first slot may purge at once, and the holder of the
// second a little later. An end by hand leaves a TTL. Seen to fail with a second holder that does
// not wait, and if ends by hand are due at once.
func TestWhenAnEndIsDue(t *testing.T) {
	tests := map[string]struct {
		slot int32
		op   tenant.Op
		wait time.Duration
	}{
		"a marker, first slot":  {1, tenant.Expire, 0},
		"a marker, second slot": {2, tenant.Expire, secondDelay},
		"a purge, first slot":   {1, tenant.Purge, holdTime(MinTTL)},
		"a delete, second slot": {2, tenant.Delete, holdTime(MinTTL)},
	}
	for name, tt := range tests {
		r := newFollower(tt.slot)
		r.tell(watcher.Change{Key: tenant.LeaseKey("L"), Value: []byte("x"), Revision: 1,
			TTL: MinTTL}, nil)
		r.tell(watcher.Change{Key: "svc.web.a", Value: []byte("L"), Revision: 2}, nil)
		began := time.Now()
		r.tell(watcher.Change{Key: tenant.LeaseKey("L"), Op: tt.op, Revision: 3}, nil)
		took := time.Since(began)
		h := r.index.doomed["L"]
		if h == nil {
			t.Errorf("%s: the lease is not due to be purged", name)
			continue
		}
		if wait := h.due.Sub(began); wait < tt.wait || wait > tt.wait+took {
			t.Errorf("%s: due after %s, want %s", name, wait, tt.wait)
		}
	}
}

// A marker that comes before half of a lease's TTL puts the proof in doubt. A later one does not.
// Seen to fail with a marker that is always believed.
func TestMarkerBeforeItsTime(t *testing.T) {
	for ttl, early := range map[time.Duration]bool{MaxTTL: true, time.Nanosecond: false} {
		r := newFollower(1)
		r.proof.add(r.begun, time.Now())
		r.tell(watcher.Change{Key: tenant.LeaseKey("L"), Value: []byte("x"), Revision: 1, TTL: ttl},
			nil)
		r.tell(watcher.Change{Key: tenant.LeaseKey("L"), Op: tenant.Expire, Revision: 2}, nil)
		if lost := r.proof.last.IsZero() && !r.doubt.IsZero(); lost != early {
			t.Errorf("TTL %s: the proof is lost: %v", ttl, lost)
		}
	}
}

// Only values with a TTL keep a lease, and a lease that has ended is not brought back, even if it
// held nothing. What names it is purged, and so is its key. Before that is due, the lease does not
// count as unreaped. Seen to fail if any value renews a lease, if ends are forgotten, and if such a
// lease counts as unreaped at once.
func TestValueThatKeepsNothingAlive(t *testing.T) {
	t.Parallel()
	lease := tenant.LeaseKey("L")
	put := func(rev uint64, ttl time.Duration) watcher.Change {
		return watcher.Change{Key: lease, Value: []byte("x"), Revision: rev, TTL: ttl}
	}
	marker := watcher.Change{Key: lease, Op: tenant.Expire, Revision: 8}
	sealed := watcher.Change{Key: lease, Op: tenant.Purge, Revision: 8}
	for name, changes := range map[string][]watcher.Change{
		"no TTL":                {put(5, 0)},
		"no TTL any more":       {put(5, MinTTL), put(6, 0)},
		"a TTL as no lease has": {put(5, MaxTTL+time.Second)},
		"a TTL after none":      {put(5, 0), put(6, MinTTL)},
		"again after a marker":  {put(5, MinTTL), marker, put(9, MinTTL)},
		"again after a seal":    {sealed, put(9, MinTTL)},
		"again and again": {put(5, MinTTL), marker, put(9, MinTTL), put(10, MinTTL),
			put(11, 0)},
		"again after several ends": {put(5, MinTTL), marker, put(9, MinTTL), marker,
			put(10, MinTTL)},
		"again, in the next moments": {marker, put(9, MaxTTL)},
	} {
		for _, first := range []bool{false, true} { // whether the key came first
			r := newFollower(1)
			key := watcher.Change{Key: "svc.web.a", Value: []byte("L"), Revision: 4}
			list := slices.Clone(changes)
			if first {
				r.tell(key, nil)
			} else {
				key.Revision = 20
				list = append(list, key)
			}
			last := uint64(0)
			for _, ch := range list {
				if r.tell(ch, nil); ch.Key == lease {
					last = ch.Revision
				}
			}
			if n, _, _ := r.index.idle(time.Now(), idleTime(MinTTL)); n > 0 {
				t.Errorf("%s, first %t: nobody reaps it, at once", name, first)
			}
			keys, unseen, _, _ := r.index.due(time.Now().Add(2*MaxTTL), time.Now())
			var got []string
			for _, e := range keys {
				if got = append(got, e.Key); e.Key == lease && e.Revision != last {
					t.Errorf("%s: the lease's key is purged at %d, want %d", name, e.Revision, last)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, []string{lease, "svc.web.a"}) || len(unseen) > 0 {
				t.Errorf("%s, first %t: due are %v, %v", name, first, got, unseen)
			}
			r.tell(watcher.Change{Key: lease, Op: tenant.Purge, Revision: 30}, nil)
			r.tell(watcher.Change{Key: "svc.web.a", Op: tenant.Purge, Revision: 31}, nil)
			if len(r.index.doomed)+len(r.index.leases) > 0 || len(r.index.over) != 1 {
				t.Errorf("%s: after the purges %d are doomed, and %d known", name,
					len(r.index.doomed), len(r.index.leases))
			}
			if r.index.prune(time.Now().Add(overTime + time.Minute)); len(r.index.over) > 0 {
				t.Errorf("%s: the end is remembered for ever", name)
			}
		}
	}
}
