package lease

import (
	"context"
	"errors"
	"time"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// follow begins to follow the bucket with a new index.
func (r *Reaper) follow() *watcher.View {
	r.mu.Lock()
	r.index, r.since, r.free = newIndex(), time.Now(), true
	r.mu.Unlock()
	view := watcher.New(r.bucket,
		r.config(func(changes []watcher.Change, snapshot *watcher.Snapshot) {
			r.apply(changes, snapshot)
			for i := range changes {
				// the key lives by no lease
				if id, named := changes[i].Read.(string); named && id == "" {
					changes[i].Forget = true
				}
			}
		}))
	view.Watch(tenant.AllKeys)
	view.Start()
	return view
}

// unfollow forgets the index.
func (r *Reaper) unfollow() {
	r.slot.Store(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index, r.proof = nil, proof{gap: echoGap(r.cfg.TTL)}
}

// config returns the configuration of a view of the whole bucket.
func (r *Reaper) config(apply func([]watcher.Change, *watcher.Snapshot)) watcher.Config {
	return watcher.Config{
		Follow: true, Apply: apply, Read: r.read,
		Heartbeat: ViewHeartbeat(r.cfg.TTL), Patience: r.cfg.TTL, Check: r.cfg.Check,
	}
}

// read returns what a reaper keeps of a value: a slotValue, whether a lease's value keeps the lease
// alive, or the id of the lease that a key lives by.
func (r *Reaper) read(ch watcher.Change) any {
	if tenant.IsSlotKey(ch.Key) {
		return readSlot(ch.Value)
	}
	if id, ok := tenant.ParseLeaseKey(ch.Key); ok {
		return r.grants(id, ch)
	}
	id, _ := r.cfg.LeaseOf(ch.Key, ch.Value)
	return id
}

// apply takes what the stream brought. With a snapshot the consumer is another one than before:
// there may have been an outage.
func (r *Reaper) apply(changes []watcher.Change, snapshot *watcher.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if snapshot != nil {
		r.proof.lose()
		r.since = now
		bell.Ring(r.renews)
		if snapshot.Reset { // every key comes again
			r.index = newIndex()
		}
	}
	chain := r.proof.first
	for _, ch := range changes {
		if tenant.IsSlotKey(ch.Key) {
			r.seeSlot(ch, now, snapshot != nil)
		} else if id, ok := tenant.ParseLeaseKey(ch.Key); ok {
			r.seeLease(id, ch, now, snapshot != nil)
		} else {
			see(r.index, ch, now.Add(holdTime(r.cfg.TTL)))
		}
	}
	if r.index.news || r.proof.first != chain {
		r.index.news = false
		bell.Ring(r.work)
	}
}

// seeSlot takes a change of a slot. This process's own last renewal is an echo: the server makes
// progress, and the consumer has come so far.
func (r *Reaper) seeSlot(ch watcher.Change, now time.Time, snapshot bool) {
	if ch.Key == tenant.SlotKey(0) {
		r.free = ch.Op != tenant.Put
	}
	v, _ := ch.Read.(slotValue)
	if snapshot || ch.Op != tenant.Put || v.Owner != r.cfg.Owner || v.Beat != r.beat {
		return
	}
	first := r.proof.last.IsZero()
	r.proof.add(r.begun, now)
	if hold := holdTime(r.cfg.TTL); first && now.Sub(r.doubt) > hold && r.cfg.Steady() {
		r.proof.extend(now, hold-graceTime(r.cfg.TTL))
	}
}

// seeLease takes a change of a lease. A marker ends the lease at once. Another end may be
// somebody's by hand, and the lease's owner finds out by its next heartbeat.
func (r *Reaper) seeLease(id string, ch watcher.Change, now time.Time, snapshot bool) {
	h := r.index.leases[id]
	byHand := now.Add(holdTime(r.cfg.TTL))
	if h != nil {
		byHand = now.Add(holdTime(max(r.cfg.TTL, h.ttl)))
	}
	switch alive, _ := ch.Read.(bool); {
	case ch.Op == tenant.Put && alive:
		r.index.renew(id, ch.Revision, ch.TTL, now, !snapshot)
	case ch.Op == tenant.Put:
		r.index.end(id, ch.Revision, byHand)
	case ch.Op == tenant.Expire:
		if h != nil && h.premature(now) {
			r.proof.lose()
			r.doubt, r.most = now, max(r.most, h.ttl)
		}
		due := now
		if r.slot.Load() > 1 {
			due = now.Add(secondDelay)
		}
		r.index.end(id, 0, due)
	default:
		r.index.end(id, 0, byHand)
	}
}

// see takes a change of a key that is neither a slot nor a lease.
func see(x *index, ch watcher.Change, late time.Time) {
	if id, _ := ch.Read.(string); ch.Op == tenant.Put && id != "" {
		x.put(ch.Key, id, ch.Revision, late)
	} else {
		x.drop(ch.Key)
	}
}

// readAll reads the whole bucket once.
func (r *Reaper) readAll(ctx context.Context) (*index, error) {
	x := newIndex()
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	apply := func(changes []watcher.Change, _ *watcher.Snapshot) {
		now := time.Now()
		for _, ch := range changes {
			if id, ok := tenant.ParseLeaseKey(ch.Key); !ok {
				see(x, ch, now)
			} else if alive, _ := ch.Read.(bool); ch.Op == tenant.Put && alive {
				x.renew(id, ch.Revision, ch.TTL, now, false)
			} else {
				x.end(id, 0, now)
			}
		}
	}
	return x, watcher.Read(ctx, r.bucket, tenant.AllKeys, r.config(apply))
}

// Dead returns the leases that keys name and that are over, for a process that has just started:
// the bucket may be full of the dead. Dead deletes nothing, because this process can't know of an
// outage yet. It returns nil if a reaper is ready, and if the bucket takes too long to read. Half
// of the time that ctx leaves is for what the caller does next.
func (r *Reaper) Dead(ctx context.Context) (map[string]struct{}, error) {
	for slot := range tenant.Slots {
		e, taken, err := r.bucket.Get(ctx, tenant.SlotKey(slot))
		if err != nil {
			return nil, err
		}
		if taken && readSlot(e.Value).Ready == 1 {
			return nil, nil
		}
	}
	read := ctx
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		read, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	x, err := r.readAll(read)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil // it would be read in vain again and again
	}
	if err != nil {
		return nil, err
	}
	dead := make(map[string]struct{}, len(x.doomed))
	for id := range x.doomed {
		dead[id] = struct{}{}
	}
	return dead, nil
}
