package lease

import (
	"maps"
	"time"

	"github.com/kvregistry/go/tenant"
)

// index knows which keys live by which lease. It takes the bucket's changes in stream order, so
// when a lease's end comes, the index has every key that was written under that lease before.
type index struct {
	leases map[string]*holding
	of     map[string]string    // the lease that a key lives by
	doomed map[string]*holding  // leases that do not live, and hold keys or have a value
	over   map[string]time.Time // leases that have ended and hold nothing, and when that was seen
	news   bool                 // a lease was doomed; the reader clears it
}

// holding is what is known of one lease.
type holding struct {
	state   state
	rev     uint64            // of the lease's key while it has a value
	ttl     time.Duration     // of the lease's key
	renewed time.Time         // when its last renewal came
	exact   bool              // that renewal came when it was written, and not with a snapshot
	keys    map[string]uint64 // what lives by the lease, and the revisions
	due     time.Time         // when what it holds may be purged, once it has ended
	since   time.Time         // the first such time; zero if the lease has not ended
}

type state uint8

const (
	unknown state = iota // the lease's key was never seen
	live
	ended // by a marker, a purge or a seal: each of them final
)

func newIndex() *index {
	return &index{
		leases: map[string]*holding{}, of: map[string]string{},
		doomed: map[string]*holding{}, over: map[string]time.Time{},
	}
}

// lease returns the entry of an id, and makes it if there is none.
func (x *index) lease(id string) *holding {
	h := x.leases[id]
	if h == nil {
		h = &holding{}
		if _, over := x.over[id]; over {
			h.state = ended
		}
		x.leases[id] = h
	}
	return h
}

// renew takes a value of a lease's key that grants or renews the lease. A lease that has ended is
// not brought back.
func (x *index) renew(id string, rev uint64, ttl time.Duration, now time.Time, exact bool) {
	h := x.lease(id)
	if h.state == ended {
		x.end(id, rev, now)
		return
	}
	h.state, h.rev, h.ttl, h.renewed, h.exact = live, rev, ttl, now, exact
	delete(x.doomed, id)
}

// end takes the end of a lease, or a value of its key that keeps nothing alive: rev is that value's
// revision, or 0. What the lease holds may be purged from due on. An earlier end may bring that
// forward, a value may not.
func (x *index) end(id string, rev uint64, due time.Time) {
	h := x.lease(id)
	if _, waits := x.doomed[id]; h.state != ended || !waits || rev == 0 && due.Before(h.due) {
		h.state, h.due, h.since = ended, due, due
	}
	h.rev = rev
	x.settle(id, h)
	x.news = true
}

// prune forgets the leases that ended long ago.
func (x *index) prune(now time.Time) {
	maps.DeleteFunc(x.over, func(_ string, at time.Time) bool { return now.Sub(at) > overTime })
}

// put takes a key that names a lease. If that lease is not known to live, the key is doomed from
// late on.
func (x *index) put(key, id string, rev uint64, late time.Time) {
	if x.of[key] != id {
		x.drop(key)
	}
	h := x.lease(id)
	if h.keys == nil {
		h.keys = map[string]uint64{}
	}
	h.keys[key], x.of[key] = rev, id
	if _, waits := x.doomed[id]; h.state != live && !waits {
		h.due = late
		if h.state == ended { // before a key named it
			h.since = late
		}
		x.doomed[id], x.news = h, true
	}
}

// drop takes the end of a key.
func (x *index) drop(key string) {
	id, ok := x.of[key]
	if !ok {
		return
	}
	delete(x.of, key)
	h := x.leases[id]
	delete(h.keys, key)
	x.settle(id, h)
}

// settle keeps doomed right, and forgets a lease of which nothing is left.
func (x *index) settle(id string, h *holding) {
	switch {
	case h.state == live:
	case len(h.keys) > 0, h.state == ended && h.rev > 0:
		x.doomed[id] = h
	default:
		if h.state == ended {
			x.over[id] = time.Now()
		}
		delete(x.doomed, id)
		delete(x.leases, id)
	}
}

// idle counts the ended leases whose keys might have been purged for longer than most, and these
// keys. It returns the time until another lease counts, or most.
func (x *index) idle(now time.Time, most time.Duration) (leases, keys int, next time.Duration) {
	next = most
	for _, h := range x.doomed {
		if h.state != ended {
			continue
		}
		if rest := most - now.Sub(h.since); rest > 0 {
			next = min(next, rest)
		} else {
			leases, keys = leases+1, keys+len(h.keys)
		}
	}
	return leases, keys, next
}

// premature reports whether the end of a lease comes long before its time by this process's clock,
// as when the server's clock jumped forward.
func (h *holding) premature(now time.Time) bool {
	return h.state == live && h.exact && now.Sub(h.renewed) < h.ttl/2
}

// overdue reports whether a lease outlived its TTL by another one, as when the server's clock
// jumped back.
func (h *holding) overdue(now time.Time) bool {
	return h.state == live && now.Sub(h.renewed) > 2*h.ttl
}

// sealMost is how many leases are sealed in one round.
const sealMost = 512

// due returns the keys of ended leases that may be purged, the leases of which no key was ever
// seen, and when the next ones are due; zero if there are none. Each is due again after purgeRetry,
// or at late, unless the stream tells that it is gone.
func (x *index) due(now, late time.Time) (
	keys []tenant.Entry, unseen map[string]uint64, leases int, next time.Time,
) {
	unseen = map[string]uint64{}
	for id, h := range x.doomed {
		if h.due.After(now) {
			if next.IsZero() || h.due.Before(next) {
				next = h.due
			}
			continue
		}
		if h.state == unknown {
			if len(unseen) == sealMost {
				next = now
				continue
			}
			h.due = late
			unseen[id] = 0
			continue
		}
		h.due = now.Add(purgeRetry)
		leases++
		for key, rev := range h.keys {
			keys = append(keys, tenant.Entry{Key: key, Revision: rev})
		}
		if h.rev > 0 {
			keys = append(keys, tenant.Entry{Key: tenant.LeaseKey(id), Revision: h.rev})
		}
	}
	return keys, unseen, leases, next
}
