package lease

import (
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// newReapingFollower returns a reaper that is given changes by hand and may purge.
func newReapingFollower(t *testing.T) (*Reaper, *tenant.Bucket) {
	t.Helper()
	b := newBucket(t, natstest.Start(t))
	r := newFollower(1)
	r.bucket = b
	r.proof.first, r.proof.last = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	return r, b
}

// A purge leaves a key that has changed, and is tried again soon, because it may have been lost.
// Seen to fail with purges at any revision, and with a round that waits for the next end.
func TestPurgeLeavesWhatMovedOn(t *testing.T) {
	t.Parallel()
	r, b := newReapingFollower(t)
	now := time.Now()
	for _, key := range []string{"svc.web.a", "svc.web.moved"} {
		r.index.put(key, "L", put(t, b, key, "L"), now)
	}
	put(t, b, "svc.web.moved", "M") // the stream has not shown it yet
	r.index.end("L", 0, now)
	wait, _, err := r.reapOnce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if has(t, b, "svc.web.a") || !has(t, b, "svc.web.moved") {
		t.Error("it purged the wrong keys")
	}
	if wait > purgeRetry || r.Reaped() != 1 {
		t.Errorf("purged %d, next round in %s", r.Reaped(), wait)
	}
}

// A lease that is named and was not seen is sealed if it is over, and left alone if it lives. If
// its end is at its key, it has ended. Seen to fail with seals on top of any revision, and if all
// conflicts count as a living lease's.
func TestSeal(t *testing.T) {
	t.Parallel()
	r, b := newReapingFollower(t)
	renew(t, b, "LIVES", 10*MinTTL)
	renew(t, b, "ENDED", 10*MinTTL)
	if _, err := b.Write(t.Context(), tenant.Write{Key: tenant.LeaseKey("ENDED"),
		Op: tenant.Purge}); err != nil {
		t.Fatal(err)
	}
	ids := []string{"LIVES", "ENDED", "NEVER-WAS"}
	unseen := map[string]uint64{}
	for i, id := range ids {
		r.index.put("svc.web."+id, id, uint64(i+1), time.Now())
		unseen[id] = 0
	}
	if err := r.seal(t.Context(), unseen); err != nil {
		t.Fatal(err)
	}
	if !has(t, b, tenant.LeaseKey("LIVES")) {
		t.Error("a living lease was ended")
	}
	for i, want := range []state{unknown, ended, ended} {
		if h := r.index.leases[ids[i]]; h == nil || h.state != want {
			t.Errorf("%s: %+v", ids[i], h)
		} else if want == ended && time.Until(h.due) < MinTTL {
			t.Errorf("%s: due in %s", ids[i], time.Until(h.due))
		}
	}
	if last, err := b.Last(t.Context(), tenant.LeaseKey("NEVER-WAS")); err != nil ||
		last.Op != tenant.Purge {
		t.Errorf("the seal is %+v, %v", last, err)
	}
}
