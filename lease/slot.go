package lease

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/tenant"
)

// slotValue is the value of a slot's key: see docs/wire-format.md. All values of an owner have the
// same length.
type slotValue struct {
	Format int    `json:"format"`
	Owner  string `json:"owner"`
	Beat   string `json:"beat"`  // another one with each renewal
	Ready  int    `json:"ready"` // 1 if the owner purges what is dead, 0 while it waits
}

// readSlot reads the value of a slot's key. Other bytes have no owner, and are no echo.
func readSlot(value []byte) (v slotValue) {
	for m, _ := document.Read(value); m.Next(); {
		switch string(m.Name) {
		case "format":
			v.Format, _ = document.Whole(m.Value)
		case "owner":
			v.Owner, _ = document.Text(m.Value)
		case "beat":
			v.Beat, _ = document.Text(m.Value)
		case "ready":
			v.Ready, _ = document.Whole(m.Value)
		}
	}
	return v
}

// sight is a slot as it was last read.
type sight struct {
	rev   uint64
	at    time.Time // when this revision was first read
	held  bool      // another process holds the slot,
	ready bool      // and purges what is dead
}

// inspect reads a slot, and reports whether another process holds it. A value that stands for
// longer than a slot's TTL is nobody's: it was written without one.
func (r *Reaper) inspect(ctx context.Context, slot int) (rev uint64, held bool, err error) {
	last, err := r.bucket.Last(ctx, tenant.SlotKey(slot))
	if err != nil {
		return 0, false, err
	}
	v := readSlot(last.Value)
	s := &r.seen[slot]
	s.held = last.Op == tenant.Put && last.Revision > 0 && v.Owner != r.cfg.Owner
	s.ready = s.held && v.Ready == 1
	if s.held && s.rev == last.Revision {
		age := time.Since(s.at)
		s.held, s.ready = age < 2*slotTTL(r.cfg.TTL), s.ready && age < slotTTL(r.cfg.TTL)
		return last.Revision, s.held, nil
	}
	s.rev, s.at = last.Revision, time.Now()
	return last.Revision, s.held, nil
}

// claim writes a slot that is free or this process's own, and returns the revision. The revision is
// 0 if another process holds the slot, or this one leaves slots alone.
func (r *Reaper) claim(ctx context.Context, slot int) (rev uint64, err error) {
	last, held, err := r.inspect(ctx, slot)
	if err != nil || held || r.cfg.StandBy {
		return 0, err
	}
	if r.slot.Load() == 0 {
		if err := r.bucket.MayWrite(ctx, tenant.SlotKey(slot)); err != nil {
			return 0, err
		}
	}
	rev, err = r.renew(ctx, slot, last)
	if errors.Is(err, tenant.ErrConflict) {
		return 0, nil
	}
	return rev, err
}

// renew writes the slot's key on top of a revision.
func (r *Reaper) renew(ctx context.Context, slot int, on uint64) (rev uint64, err error) {
	v := slotValue{Format: 1, Owner: r.cfg.Owner, Beat: cryptorand.Text()[:8]}
	begun := time.Now()
	r.mu.Lock()
	r.beat, r.begun = v.Beat, begun
	if r.proof.holds(begun, r.hold()) && r.unreaped.Load() == 0 {
		v.Ready = 1
	}
	r.mu.Unlock()
	value, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	rev, err = r.bucket.Write(ctx, tenant.Write{
		Key: tenant.SlotKey(slot), Value: padded(value, on), TTL: slotTTL(r.cfg.TTL),
		If:     tenant.At(on),
		Within: tryTime(r.cfg.TTL),
	})
	if err == nil {
		r.renewed.Store(&begun)
	}
	return rev, err
}

// hold returns how long a proof must have lasted. The caller holds r.mu.
func (r *Reaper) hold() time.Duration { return holdTime(max(r.cfg.TTL, r.most)) }

// give ends a slot's key, so that another process finds the slot free. The last renewal may have
// been cut short, so that its revision is not known.
func (r *Reaper) give(slot int, rev uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), giveTime)
	defer cancel()
	w := tenant.Write{Key: tenant.SlotKey(slot), Op: tenant.Purge, If: tenant.At(rev)}
	if _, err := r.bucket.Write(ctx, w); !errors.Is(err, tenant.ErrConflict) {
		return
	}
	if last, held, err := r.inspect(ctx, slot); err == nil && !held {
		w.If = tenant.At(last)
		_, _ = r.bucket.Write(ctx, w)
	}
}
