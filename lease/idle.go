package lease

import (
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// idle is what a reaper without a slot knows of what nobody reaps.
type idle struct {
	doomed map[string]*holding // the leases that were over at the last reading
	next   time.Time           // when the bucket may be read again
	doubt  bool                // no holder was ready at the last look
}

// Unreaped returns how many leases have ended whose keys still stand after two TTLs, 6 s at least,
// as far as this reaper knows. If it is not 0, nobody reaps.
func (r *Reaper) Unreaped() int { return int(r.unreaped.Load()) }

// guard checks whether others reap, after one slot was read. If no holder of a slot says so, guard
// reads the bucket for leases that are over and whose keys stand. It returns the time until the
// next look: wait, or less if a lease counts as idle before.
func (r *Reaper) guard(slot int, wait time.Duration) time.Duration {
	for i := range tenant.Slots {
		if i > 0 { // the first was read just now
			slot = (slot + 1) % tenant.Slots
			if _, _, err := r.inspect(r.ctx, slot); err != nil {
				return wait
			}
		}
		if r.seen[slot].ready {
			r.idle = idle{}
			r.tellIdle(0, 0)
			return wait
		}
	}
	now := time.Now()
	if !r.idle.doubt || now.Before(r.idle.next) { // once may be by chance
		r.idle.doubt = true
		return wait
	}
	x, err := r.readAll(r.ctx)
	if err != nil {
		r.log.Debug("kvregistry: reaper", "cause", err)
		return wait
	}
	cost := readCost * time.Duration(len(x.of)) * time.Duration(len(x.leases))
	r.idle.next = now.Add(backoff.Jitter(cost))
	for id, h := range x.doomed { // a lease that has no key is over as well
		h.state, h.since = ended, now
		if before := r.idle.doomed[id]; before != nil {
			h.since = before.since
		}
	}
	r.idle.doomed = x.doomed
	leases, keys, next := x.idle(now, idleTime(r.cfg.TTL))
	r.tellIdle(leases, keys)
	return min(wait, next)
}

// tellIdle notes how many leases nobody reaps, and what they hold. It logs when that begins and
// when it is over.
func (r *Reaper) tellIdle(leases, keys int) {
	switch was := r.unreaped.Swap(int64(leases)); {
	case was == 0 && leases > 0:
		r.log.Warn("kvregistry: nobody reaps: what dead processes registered stays",
			"leases", leases, "registrations", keys)
	case was > 0 && leases == 0:
		r.log.Info("kvregistry: what dead processes registered is removed again")
	}
}
