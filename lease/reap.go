package lease

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// reap purges what ended leases hold, as it becomes due, until ctx ends.
func (r *Reaper) reap(ctx context.Context) {
	overdue := time.NewTicker(r.cfg.TTL / 2)
	defer overdue.Stop()
	failing := false // the last round failed, and the log says so
	for ctx.Err() == nil {
		wait, tried, err := r.reapOnce(ctx)
		if failed := err != nil; tried && failed != failing && ctx.Err() == nil {
			if failing = failed; failed {
				r.log.Warn("kvregistry: could not reap, trying again", "cause", err)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.work:
		case <-timer.C:
		case <-overdue.C:
			r.endOverdue(ctx)
			r.checkIdle()
		}
		timer.Stop()
	}
}

// reapOnce purges what is due. It returns the time until there may be more, and whether anything
// was due.
func (r *Reaper) reapOnce(ctx context.Context) (wait time.Duration, tried bool, err error) {
	now := time.Now()
	r.mu.Lock()
	hold := r.hold()
	wait = hold
	switch {
	case len(r.index.doomed) == 0, !r.proof.holds(now, 0): // an echo rings r.work
		r.mu.Unlock()
		return wait, false, nil
	case !r.proof.holds(now, hold):
		wait = r.proof.first.Add(hold).Sub(now)
		r.mu.Unlock()
		return wait, false, nil
	}
	r.most = 0
	keys, unseen, leases, next := r.index.due(now, now.Add(hold))
	r.mu.Unlock()
	if !next.IsZero() {
		wait = next.Sub(now)
	}
	if len(keys) > 0 {
		wait = min(wait, purgeRetry)
	}
	purged, err := r.bucket.PurgeAt(ctx, keys)
	r.note(leases, purged)
	return wait, len(keys)+len(unseen) > 0, errors.Join(err, r.seal(ctx, unseen))
}

// note counts and logs what was purged.
func (r *Reaper) note(leases, purged int) {
	r.reaped.Add(uint64(purged))
	if purged > 0 {
		r.log.Info("kvregistry: reaped", "leases", leases, "registrations", purged)
	}
}

// seal ends leases by a purge of each one's key, which succeeds only at the revision that is known
// of it: 0 for a lease whose key was never seen. A living owner's next heartbeat is refused then,
// and the owner takes a new lease. A full bucket has no room for a seal, and such a lease is left
// alone.
func (r *Reaper) seal(ctx context.Context, known map[string]uint64) (err error) {
	ids := slices.Collect(maps.Keys(known))
	if len(ids) == 0 {
		return nil
	}
	ws := make([]tenant.Write, len(ids))
	for i, id := range ids {
		ws[i] = tenant.Write{Key: tenant.LeaseKey(id), Op: tenant.Purge, If: tenant.At(known[id])}
	}
	_, errs := r.bucket.WriteAll(ctx, ws)
	for i, failed := range errs {
		due := time.Now()
		if known[ids[i]] == 0 || failed != nil { // its owner may not know yet
			due = due.Add(holdTime(r.cfg.TTL))
		}
		if errors.Is(failed, tenant.ErrConflict) { // its end may stand there, or nothing
			var last tenant.Entry
			last, failed = r.bucket.Last(ctx, ws[i].Key)
			if failed == nil && last.Op == tenant.Put && last.Revision > 0 {
				continue
			}
		}
		switch {
		case failed == nil:
			r.mu.Lock()
			r.index.end(ids[i], 0, due)
			r.mu.Unlock()
		case !errors.Is(failed, tenant.ErrStorageFull):
			err = failed
		}
	}
	return err
}

// checkIdle checks whether this process reaps, even if it holds a slot: its purges may be refused,
// or it may never have proof.
func (r *Reaper) checkIdle() {
	r.mu.Lock()
	leases, keys, _ := r.index.idle(time.Now(), idleTime(r.cfg.TTL))
	r.mu.Unlock()
	r.tellIdle(leases, keys)
}

// endOverdue ends leases that outlived their TTL by another one, while there was no outage: the
// server's clock jumped back.
func (r *Reaper) endOverdue(ctx context.Context) {
	now := time.Now()
	overdue := map[string]uint64{}
	r.mu.Lock()
	r.index.prune(now)
	for id, h := range r.index.leases {
		if h.overdue(now) && r.proof.holds(now, max(h.ttl, holdTime(r.cfg.TTL))) {
			overdue[id] = h.rev
		}
	}
	r.mu.Unlock()
	_ = r.seal(ctx, overdue) // tried again at the next look
}

// makeRoom purges what ended leases hold in a bucket that has no room for a slot. Nobody can take a
// new lease there either, so makeRoom waits once for those that may have lost theirs.
func (r *Reaper) makeRoom() (purged int, err error) {
	if _, err := r.readAll(r.ctx); err != nil { // the bucket answers
		return 0, err
	}
	_ = backoff.Sleep(r.ctx, holdTime(r.cfg.TTL))
	x, err := r.readAll(r.ctx)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	keys, _, leases, _ := x.due(now, now)
	purged, err = r.bucket.PurgeAt(r.ctx, keys)
	r.note(leases, purged)
	return purged, err
}
