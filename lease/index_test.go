package lease

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// At a lease's end the index knows what the lease holds, in any order of the stream. Seen to fail
// with a put that leaves the key with the lease of before, with an end that a later renewal takes
// back, with a late key that is due at once, and with a purge that is not tried again.
func TestIndex(t *testing.T) {
	now := time.Now()
	late := now.Add(time.Minute)
	tests := map[string]struct {
		feed   func(*index)
		keys   []string // due now
		unseen []string // likewise
		doomed int
	}{
		"a lease ends": {func(x *index) {
			x.renew("L", 1, time.Second, now, true)
			x.put("a", "L", 2, late)
			x.put("b", "L", 3, late)
			x.end("L", 0, now)
		}, []string{"a", "b"}, nil, 1},
		"it holds nothing": {func(x *index) {
			x.renew("L", 1, time.Second, now, true)
			x.end("L", 0, now)
		}, nil, nil, 0},
		"a key moved on": {func(x *index) {
			x.renew("L", 1, time.Second, now, true)
			x.renew("M", 2, time.Second, now, true)
			x.put("a", "L", 3, late)
			x.put("a", "M", 4, late)
			x.end("L", 0, now)
		}, nil, nil, 0},
		"a key is gone": {func(x *index) {
			x.renew("L", 1, time.Second, now, true)
			x.put("a", "L", 2, late)
			x.drop("a")
			x.drop("a")
			x.end("L", 0, now)
		}, nil, nil, 0},
		"an end comes twice": {func(x *index) {
			x.renew("L", 1, time.Second, now, true)
			x.put("a", "L", 2, late)
			x.end("L", 0, late)
			x.end("L", 0, now)
		}, []string{"a"}, nil, 1},
		"many late keys": {func(x *index) {
			x.put("a", "L", 2, now)
			x.put("b", "L", 3, late)
		}, nil, []string{"L"}, 1},
		"an end is final": {func(x *index) {
			x.renew("L", 1, time.Second, now, true)
			x.put("a", "L", 2, late)
			x.end("L", 0, now)
			x.renew("L", 4, time.Second, now, true)
		}, []string{"a", "lease.L"}, nil, 1},
		"a late key": {func(x *index) {
			x.renew("L", 1, time.Second, now, true)
			x.end("L", 0, now)
			x.put("a", "L", 3, late)
		}, nil, nil, 1},
		"a lease without a key": {func(x *index) {
			x.put("a", "L", 3, now)
		}, nil, []string{"L"}, 1},
		"a snapshot in the order of its revisions": {func(x *index) {
			x.put("a", "L", 2, now)
			x.renew("L", 9, time.Second, now, false)
		}, nil, nil, 0},
	}
	for name, tt := range tests {
		x := newIndex()
		tt.feed(x)
		keys, unseen, _, _ := x.due(now, late)
		var got []string
		for _, e := range keys {
			got = append(got, e.Key)
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.keys) || !slices.Equal(slices.Sorted(maps.Keys(unseen)),
			tt.unseen) || len(x.doomed) != tt.doomed {
			t.Errorf("%s: due are %v and %v, doomed %d", name, got, unseen, len(x.doomed))
		}
		for id, h := range x.leases { // nothing is kept of what has gone
			if h.state != live && len(h.keys) == 0 {
				t.Errorf("%s: lease %s is kept", name, id)
			}
		}
		if keys, _, _, next := x.due(now, late); len(keys) > 0 || len(x.doomed) > 0 &&
			!next.After(now) {
			t.Errorf("%s: due again at once", name)
		}
		if again, _, _, _ := x.due(now.Add(purgeRetry), late); len(again) != len(tt.keys) {
			t.Errorf("%s: due again are %v", name, again)
		}
	}
}

// A lease that ends before half of its TTL shows that a clock jumped forward. One that outlives its
// TTL by another shows that a clock jumped back. A renewal that came with a snapshot may be older,
// and shows nothing.
func TestLeaseAndClock(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration, exact bool) *holding {
		return &holding{state: live, ttl: 10 * time.Second, renewed: now.Add(-d), exact: exact}
	}
	if !ago(4*time.Second, true).premature(now) || ago(6*time.Second, true).premature(now) ||
		ago(4*time.Second, false).premature(now) {
		t.Error("premature is wrong")
	}
	if ago(19*time.Second, true).overdue(now) || !ago(21*time.Second, true).overdue(now) {
		t.Error("overdue is wrong")
	}
}

// A lease that was over before a key named it, or that is denied, is idle only after its keys were
// due for that time: nobody could have purged them earlier. Seen to fail with a since that only end
// sets.
func TestIdleIsCountedFromWhenItWasDue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const most = 6 * time.Second
	late := now.Add(most / 2)
	x := newIndex()
	x.end("OVER", 0, now)
	x.put("svc.web.a", "OVER", 5, late)
	x.end("DENIED", 6, late)
	if leases, _, next := x.idle(now, most); leases != 0 || next != most {
		t.Errorf("%d are idle at once, the next in %s", leases, next)
	}
	if leases, _, next := x.idle(late.Add(most-time.Second), most); leases != 0 ||
		next != time.Second {
		t.Errorf("%d are idle too soon, the next in %s", leases, next)
	}
	if leases, keys, _ := x.idle(late.Add(most), most); leases != 2 || keys != 1 {
		t.Errorf("%d with %d keys are idle, want 2 with 1", leases, keys)
	}
}
