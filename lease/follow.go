package lease

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// follow begins to follow the bucket with a new index.
func (r *Reaper) follow() *watcher.View {
	r.mu.Lock()
	r.index, r.since, r.free = newIndex(), time.Now(), true
	r.mu.Unlock()
	var view *watcher.View
	view = watcher.New(r.bucket, r.config(func(changes []watcher.Change, snapshot *watcher.Snapshot) {
		r.apply(changes, snapshot)
		for i := range changes {
			id, read := changes[i].Read.(string)
			if _, ofLease := tenant.ParseLeaseKey(changes[i].Key); read && id == "" && !ofLease { // it lives by none
				view.Forget(changes[i].Key)
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

// config is that of a view of the whole bucket that reads of each value what a reaper needs.
func (r *Reaper) config(apply func([]watcher.Change, *watcher.Snapshot)) watcher.Config {
	return watcher.Config{
		Follow: true, Apply: apply, Read: r.read,
		Heartbeat: ViewHeartbeat(r.cfg.TTL), Patience: r.cfg.TTL, Check: r.cfg.Check,
	}
}

// ViewHeartbeat is how often a view's idle consumer says that it is there, in a bucket whose leases
// have a TTL. A consumer that falls silent is then noticed within half a TTL, and an idle process
// stays quiet.
func ViewHeartbeat(ttl time.Duration) time.Duration {
	return min(max(ttl/6, time.Second*2/5), 5*time.Second)
}

// read is what a reaper keeps of a value: a slot's value, whether a lease's one keeps it alive, or
// the id of the lease that a key lives by.
func (r *Reaper) read(ch watcher.Change) any {
	if isSlot(ch.Key) {
		return readSlot(ch.Value)
	}
	if id, ok := tenant.ParseLeaseKey(ch.Key); ok {
		return r.grants(id, ch)
	}
	id, _ := r.cfg.LeaseOf(ch.Key, ch.Value)
	return id
}

func isSlot(key string) bool { return strings.HasPrefix(key, "reaper.") }

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
		if isSlot(ch.Key) {
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
	anew := r.proof.last.IsZero()
	r.proof.add(r.begun, now)
	if hold := holdTime(r.cfg.TTL); anew && now.Sub(r.doubt) > hold && r.cfg.Steady() {
		r.proof.extend(now, hold-graceTime(r.cfg.TTL))
	}
}

// seeLease takes a change of a lease. A marker ends it at once; another end may be somebody's by
// hand, of which the lease's owner does not know yet.
func (r *Reaper) seeLease(id string, ch watcher.Change, now time.Time, snapshot bool) {
	hand := r.cfg.TTL // the owner of a lease that lives finds out by its next heartbeat
	if h := r.index.leases[id]; h != nil {
		hand = max(hand, h.ttl)
	}
	switch alive, _ := ch.Read.(bool); {
	case ch.Op == tenant.Put && alive:
		r.index.renew(id, ch.Revision, ch.TTL, now, !snapshot)
	case ch.Op == tenant.Put:
		r.index.deny(id, ch.Revision, now.Add(holdTime(hand)))
	case ch.Op == tenant.Expire:
		if h := r.index.leases[id]; h != nil && h.premature(now) {
			r.proof.lose()
			r.doubt, r.most = now, max(r.most, h.ttl)
		}
		due := now
		if r.slot.Load() > 1 {
			due = now.Add(secondDelay)
		}
		r.index.end(id, due)
	default:
		r.index.end(id, now.Add(holdTime(hand)))
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

// readTime bounds one reading of the bucket.
const readTime = 10 * time.Second

// readAll reads the whole bucket once.
func (r *Reaper) readAll(ctx context.Context) (*index, error) {
	x := newIndex()
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	err := watcher.Read(ctx, r.bucket, tenant.AllKeys, r.config(func(changes []watcher.Change, _ *watcher.Snapshot) {
		now := time.Now()
		for _, ch := range changes {
			if id, ok := tenant.ParseLeaseKey(ch.Key); !ok {
				see(x, ch, now)
			} else if alive, _ := ch.Read.(bool); ch.Op == tenant.Put && alive {
				x.renew(id, ch.Revision, ch.TTL, now, false)
			} else {
				x.end(id, now)
			}
		}
	}))
	return x, err
}

// Dead finds the leases that keys name and that are over, for a process that has just come and
// finds no reaper that is ready: the bucket may be full of the dead. It deletes nothing, for this
// process can't know of an outage yet. It is nil if a reaper is ready.
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
	x, err := r.readAll(ctx)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil // a bucket that takes so long to read is not read in vain again and again
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

// makeRoom purges what ended leases hold in a bucket that has no room for a slot. Nobody can take a
// new lease there either, so it waits once for those that may have lost theirs, and no proof is to
// be had.
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
