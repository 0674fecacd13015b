package lease

import (
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// watch is what a reaper without a slot knows of what nobody reaps.
type watch struct {
	since map[string]time.Time // when a lease was first found to be over whose keys still stand
	next  time.Time            // when the bucket may be read again
	doubt bool                 // no holder was ready at the last look
}

// idleTime is how long what an ended lease holds may stand before it is said that nobody reaps. A
// process that takes over from a crashed reaper has purged it by then.
func idleTime(ttl time.Duration) time.Duration { return 2 * holdTime(ttl) }

// readCost is the time between two readings of the bucket for each of its keys and each of its
// leases: processes in which nobody reaps all read it, a few thousand keys a second together.
const readCost = 500 * time.Microsecond

// Unreaped is how many leases have ended whose keys still stand after two TTLs, 6 s at least, as
// far as this reaper knows. If it is not 0, nobody reaps.
func (r *Reaper) Unreaped() int { return int(r.idle.Load()) }

// guard sees whether others reap, after it was looked at a slot. Only if neither slot's holder says
// so, it reads the bucket for leases that are over and whose keys stand. It returns the time until
// the next look, which is wait unless there is something to say sooner.
func (r *Reaper) guard(slot int, wait time.Duration) time.Duration {
	for i := range tenant.Slots {
		if i > 0 { // the first was looked at just now
			slot = (slot + 1) % tenant.Slots
			if _, _, err := r.look(r.ctx, slot); err != nil {
				return wait
			}
		}
		if r.seen[slot].ready {
			r.watch = watch{}
			r.tellIdle(0, 0)
			return wait
		}
	}
	now := time.Now()
	if !r.watch.doubt || now.Before(r.watch.next) { // once may be by chance
		r.watch.doubt = true
		return wait
	}
	x, err := r.readAll(r.ctx)
	if err != nil {
		r.cfg.Logger.Debug("kvregistry: reaper", "cause", err)
		return wait
	}
	r.watch.next = now.Add(backoff.Jitter(readCost * time.Duration(len(x.of)) * time.Duration(len(x.leases))))
	since := map[string]time.Time{}
	leases, keys := 0, 0
	for id, h := range x.doomed {
		since[id] = now
		if first, ok := r.watch.since[id]; ok {
			since[id] = first
		}
		if rest := idleTime(r.cfg.TTL) - now.Sub(since[id]); rest > 0 {
			wait = min(wait, rest)
		} else {
			leases, keys = leases+1, keys+len(h.keys)
		}
	}
	r.watch.since = since
	r.tellIdle(leases, keys)
	return wait
}

// tellIdle notes how many leases nobody reaps, and what they hold. It says when that begins and
// when it is over.
func (r *Reaper) tellIdle(leases, keys int) {
	switch was := r.idle.Swap(int64(leases)); {
	case was == 0 && leases > 0:
		r.cfg.Logger.Warn("kvregistry: nobody reaps: what dead processes registered stays",
			"leases", leases, "registrations", keys)
	case was > 0 && leases == 0:
		r.cfg.Logger.Info("kvregistry: what dead processes registered is removed again")
	}
}
