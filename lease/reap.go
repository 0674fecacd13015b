package lease

import (
	"context"
	"errors"
	"time"

	"github.com/kvregistry/go/tenant"
)

// purgeRetry is the time after which a purge is tried again that the stream has not brought.
const purgeRetry = time.Second

// reap purges what ended leases hold, as it becomes due, until ctx ends.
func (r *Reaper) reap(ctx context.Context) {
	overdue := time.NewTicker(r.cfg.TTL / 2)
	defer overdue.Stop()
	failing := false // the last round failed, and the log says so
	for ctx.Err() == nil {
		wait, tried, err := r.reapOnce(ctx)
		if failed := err != nil; tried && failed != failing && ctx.Err() == nil {
			if failing = failed; failed {
				r.cfg.Logger.Warn("kvregistry: could not reap, trying again", "cause", err)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.work:
		case <-timer.C:
		case <-overdue.C:
			r.endOverdue(ctx)
			r.judge()
		}
		timer.Stop()
	}
}

// reapOnce purges what is due, and returns the time until there may be more, and whether anything
// was.
func (r *Reaper) reapOnce(ctx context.Context) (wait time.Duration, tried bool, err error) {
	now := time.Now()
	r.mu.Lock()
	hold := r.hold()
	wait = hold
	switch {
	case len(r.index.doomed) == 0:
		r.mu.Unlock()
		return wait, false, nil
	case !r.proof.holds(now, 0): // an echo is waited for, which wakes this one
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
		r.cfg.Logger.Info("kvregistry: reaped", "leases", leases, "registrations", purged)
	}
}

// seal makes sure that leases without a key are over, by a purge that succeeds only if the key has
// no revision: a living owner's next heartbeat is refused then, and it takes a new lease. In a full
// bucket, which has no room for the seal, a lease is given the benefit of the doubt.
func (r *Reaper) seal(ctx context.Context, ids []string) (err error) {
	ws := make([]tenant.Write, len(ids))
	for i, id := range ids {
		ws[i] = tenant.Write{Key: tenant.LeaseKey(id), Op: tenant.Purge, If: tenant.At(0)}
	}
	if len(ws) == 0 {
		return nil
	}
	_, errs := r.bucket.WriteAll(ctx, ws)
	for i, failed := range errs {
		if errors.Is(failed, tenant.ErrConflict) { // it has a revision: its end may stand there
			var last tenant.Entry
			if last, failed = r.bucket.Last(ctx, ws[i].Key); failed == nil && last.Op == tenant.Put {
				continue
			}
		}
		switch {
		case failed == nil:
			r.mu.Lock()
			r.index.end(ids[i], time.Now().Add(holdTime(r.cfg.TTL)))
			r.mu.Unlock()
		case !errors.Is(failed, tenant.ErrStorageFull):
			err = failed
		}
	}
	return err
}

// judge sees whether this process reaps, though it holds a slot: its purges may be refused, or it
// may never have proof.
func (r *Reaper) judge() {
	r.mu.Lock()
	leases, keys := r.index.idle(time.Now().Add(-idleTime(r.cfg.TTL)))
	r.mu.Unlock()
	r.tellIdle(leases, keys)
}

// endOverdue ends leases that outlived their TTL by another one, while there was no outage: the
// server's clock jumped back.
func (r *Reaper) endOverdue(ctx context.Context) {
	now := time.Now()
	var ids []string
	var ws []tenant.Write
	r.mu.Lock()
	r.index.prune(now)
	for id, h := range r.index.leases {
		if h.overdue(now) && r.proof.holds(now, max(h.ttl, holdTime(r.cfg.TTL))) {
			ids = append(ids, id)
			ws = append(ws, tenant.Write{Key: tenant.LeaseKey(id), Op: tenant.Purge, If: tenant.At(h.rev)})
		}
	}
	r.mu.Unlock()
	if len(ws) == 0 {
		return
	}
	_, errs := r.bucket.WriteAll(ctx, ws)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, err := range errs {
		switch {
		case err == nil:
			r.index.end(ids[i], now)
		case errors.Is(err, tenant.ErrConflict): // renewed a moment ago, or its key is gone without a trace
			r.index.forget(ids[i], now.Add(holdTime(r.cfg.TTL)))
		}
	}
}
