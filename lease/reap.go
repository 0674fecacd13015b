package lease

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/tenant"
)

// set is a set of lease ids.
type set map[string]struct{}

// reap purges what names the leases that the markers are of.
func (r *Reaper) reap(markers []*nats.Msg) error {
	dead := set{}
	for _, m := range markers {
		if id, ok := tenant.ParseLeaseKey(r.bucket.Key(m.Subject)); ok {
			dead[id] = struct{}{}
		}
	}
	entries, err := r.heldKeys(r.ctx)
	if err != nil {
		return err
	}
	return r.purge(dead, entries)
}

// purge ends each of the entries that names a dead lease, at the revision that was read.
func (r *Reaper) purge(dead set, entries []heldKey) error {
	var gone []tenant.Entry
	for _, e := range entries {
		if _, ok := dead[e.lease]; ok {
			gone = append(gone, e.Entry)
		}
	}
	n, err := r.bucket.PurgeAt(r.ctx, gone)
	r.reaped.Add(uint64(n))
	if n > 0 {
		r.cfg.Logger.Info("kvregistry: reaped", "leases", len(dead), "registrations", n)
	}
	return err
}

// heldKey is a key and the lease that it names.
type heldKey struct {
	tenant.Entry
	lease string
}

// heldKeys reads every key that lives by a lease.
func (r *Reaper) heldKeys(ctx context.Context) (keys []heldKey, err error) {
	err = r.bucket.Scan(ctx, ">", true, func(e tenant.Entry) {
		if e.Op != tenant.Put {
			return
		}
		if id, ok := r.cfg.LeaseOf(e.Key, e.Value); ok {
			e.Value = nil
			keys = append(keys, heldKey{e, id})
		}
	})
	return keys, err
}

// sweep purges what names a lease that is gone, and starts the timer again. Where another process started
// the timer first, the sweep is that one's.
func (r *Reaper) sweep(markers []*nats.Msg) error {
	meta, err := markers[0].Metadata()
	if err != nil {
		return err
	}
	return r.sweepOnce(func() error { return r.startTimer(r.ctx, meta.Sequence.Stream) })
}

// errDoubt says that nothing was done, for an outage may be just over.
var errDoubt = errors.New("in doubt")

// sweepOnce finds who is dead, then has start begin the time to the next sweep, which one process alone can do,
// and purges what the dead left: unless an outage came in between, in which the living lost their leases too. A full bucket
// has no room for the timer, and each of the reapers sweeps.
func (r *Reaper) sweepOnce(start func() error) error {
	if r.doubtful() {
		return errDoubt
	}
	dead, keys, err := r.gone(r.ctx)
	if err != nil {
		return err
	}
	if r.doubtful() {
		return errDoubt
	}
	err = start()
	switch {
	case errors.Is(err, tenant.ErrConflict):
		return nil
	case errors.Is(err, tenant.ErrStorageFull):
		return errors.Join(r.purge(dead, keys), err)
	case err != nil:
		return err
	}
	return r.purge(dead, keys)
}

// gone finds the leases that keys name and that are over: keys first, leases second, so that a lease taken
// in between is not missed. A read may come from a replica that lags, so a lease that seems not to be there
// is sealed first: a purge that succeeds only where its key has no revision. Where that fails, it lives.
func (r *Reaper) gone(ctx context.Context) (dead set, keys []heldKey, err error) {
	if keys, err = r.heldKeys(ctx); err != nil {
		return nil, nil, err
	}
	if len(keys) == 0 {
		return nil, nil, nil
	}
	live, over := set{}, set{}
	err = r.bucket.Scan(ctx, tenant.AllLeases, false, func(e tenant.Entry) {
		switch id, ok := tenant.ParseLeaseKey(e.Key); {
		case !ok: // nothing lives by it
		case e.Op == tenant.Put:
			live[id] = struct{}{}
		default:
			over[id] = struct{}{} // a marker, a revocation or a seal: each of them final
		}
	})
	if err != nil {
		return nil, nil, err
	}
	dead = set{}
	for _, k := range keys {
		_, known := dead[k.lease]
		if _, ok := live[k.lease]; ok || known {
			continue
		}
		if _, ok := over[k.lease]; !ok {
			if ok, err := r.seal(ctx, k.lease); err != nil {
				return nil, nil, err
			} else if !ok {
				live[k.lease] = struct{}{}
				continue
			}
		}
		dead[k.lease] = struct{}{}
	}
	return dead, keys, nil
}

// seal makes sure that a lease without a key is over, and reports whether it is. In a full bucket, which has no room for the
// seal, the lease is given the benefit of the doubt.
func (r *Reaper) seal(ctx context.Context, id string) (bool, error) {
	_, err := r.bucket.Write(ctx, tenant.Write{Key: tenant.LeaseKey(id), Op: tenant.Purge, If: tenant.At(0)})
	if errors.Is(err, tenant.ErrConflict) || errors.Is(err, tenant.ErrStorageFull) {
		return false, nil
	}
	return err == nil, err
}

// timerTTL is the time from one sweep to the next. A sweep key that stands says that the bucket was swept less than
// half a TTL ago, and that a reaper is at work: none of the dead is there unnoticed.
func (r *Reaper) timerTTL() time.Duration {
	return max(time.Second, (r.cfg.TTL / 2).Truncate(time.Second))
}

// timerValue is what stands in the sweep key.
var timerValue = []byte(`{"format":1}`)

// startTimer writes the sweep key, whose own marker is the next sweep's start. rev is its last revision.
func (r *Reaper) startTimer(ctx context.Context, rev uint64) error {
	_, err := r.bucket.Write(ctx, tenant.Write{Key: tenant.SweepKey, Value: timerValue, TTL: r.timerTTL(), If: tenant.At(rev)})
	return err
}

// keepTimer sees to it that the timer runs: at the start, after each time that the connection has come back, and
// every few of its periods, for a marker of it may have been lost with the bucket. Who starts the timer sweeps first, so
// it waits as long as a reaper waits before it reaps. A sweep key that is the same one as many periods before is no timer's: somebody wrote it
// without a TTL.
func (r *Reaper) keepTimer() {
	var seen uint64
	lives := r.bucket.Conn().Stats().Reconnects
	sleep(r.ctx, r.newcomer()*9/8, nil) // a connection remembers only the last thing that it was refused, which may be the queue right now
	up, stop := r.bucket.Reconnected()
	defer stop()
	for r.bucket.AwaitConnected(r.ctx) == nil {
		if now := r.bucket.Conn().Stats().Reconnects; now != lives {
			lives = now
			sleep(r.ctx, r.hold(), nil)
			continue
		}
		key, found, err := r.bucket.Get(r.ctx, tenant.SweepKey)
		stuck := found && key.Revision == seen
		seen = key.Revision
		if err == nil && (!found || stuck) {
			err = r.sweepOnce(func() error {
				if stuck {
					return r.startTimer(r.ctx, key.Revision)
				}
				_, err := r.bucket.Create(r.ctx, tenant.SweepKey, timerValue, r.timerTTL())
				return err
			})
			if err != nil {
				r.cfg.Logger.Debug("kvregistry: sweep", "cause", err)
			}
		}
		wait := 10 * r.timerTTL()
		switch {
		case errors.Is(err, tenant.ErrPermission):
			r.dispense(err)
			wait = tenant.DispenseTime
		case err != nil: // nobody may have swept
			wait = r.timerTTL()
		}
		sleep(r.ctx, jitter(wait), up)
	}
}

// Dead finds the leases that keys name and that are over, for a process that has just come: where no
// reaper was at work lately, and the bucket may be full of the dead. It deletes nothing, for this process can't
// know of an outage yet. It is nil where the sweep key stands.
func (r *Reaper) Dead(ctx context.Context) (map[string]struct{}, error) {
	if _, found, err := r.bucket.Get(ctx, tenant.SweepKey); found || err != nil {
		return nil, err
	}
	dead, _, err := r.gone(ctx)
	return dead, err
}
