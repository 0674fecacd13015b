package lease

import (
	"context"
	cryptorand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/document"
	"github.com/kvregistry/go/tenant"
)

// ReaperConfig says how a reaper works. TTL, Owner and LeaseOf are needed.
type ReaperConfig struct {
	TTL     time.Duration                                       // of this bucket's leases, as far as this process knows
	Owner   string                                              // this process's id, which no other has
	LeaseOf func(key string, value []byte) (id string, ok bool) // the lease that a key lives by; not ok if it lives by none
	Steady  func() bool                                         // whether this process's own heartbeats prove that there was no outage of late; nil: never
	Check   time.Duration                                       // see [watcher.Config]
	StandBy bool                                                // it takes no slot, and sees whether others reap
	Logger  *slog.Logger
}

// Reaper removes what dead processes left, while it holds one of the bucket's slots. Any number of
// reapers may stand by: each looks now and then whether a slot is free, and whether others reap.
//
// A reaper purges only while it has proof that living processes could renew their leases: see proof.
type Reaper struct {
	bucket *tenant.Bucket
	cfg    ReaperConfig
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// The goroutine's that stands by.
	refused time.Time           // when the server last refused a slot
	lives   uint64              // how often the connection had come back then
	left    bool                // it was said that this process may not reap
	seen    [tenant.Slots]sight // the slots, as they were last looked at
	watch   watch               // of what nobody reaps

	slot    atomic.Int32              // that it holds, counted from 1; 0 while it stands by
	renewed atomic.Pointer[time.Time] // when the slot was last written
	reaped  atomic.Uint64
	idle    atomic.Int64  // leases whose end nobody minds: see Unreaped
	work    chan struct{} // there may be something to purge; holds one
	renews  chan struct{} // the slot is to be renewed at once; holds one

	mu    sync.Mutex // guards what follows
	index *index     // nil while it stands by
	proof proof
	since time.Time     // when the consumer was last asked for, or was another one
	doubt time.Time     // when the server's clock was last seen to jump
	most  time.Duration // the longest TTL of a lease that ended by such a jump, until a proof outlasts it
	beat  string        // what the last renewal of the slot says
	begun time.Time     // when that one was begun
	free  bool          // the first slot is free, as far as the stream has said
}

// sight is a slot's value as it was last looked at.
type sight struct {
	rev   uint64
	at    time.Time
	held  bool // another process holds it,
	ready bool // and purges what is dead
}

// NewReaper makes a reaper. [Reaper.Start] starts it.
func NewReaper(b *tenant.Bucket, cfg ReaperConfig) *Reaper {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Steady == nil {
		cfg.Steady = func() bool { return false }
	}
	r := &Reaper{bucket: b, cfg: cfg, work: make(chan struct{}, 1), renews: make(chan struct{}, 1),
		proof: proof{gap: echoGap(cfg.TTL)}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Start takes a slot as soon as one is free. [Reaper.Close] ends it.
func (r *Reaper) Start() {
	r.wg.Go(r.run) // ends with r.ctx; Close waits
}

// Close stops, and gives the slot back.
func (r *Reaper) Close() {
	r.cancel()
	r.wg.Wait()
}

// Reaped is how many keys this reaper has purged.
func (r *Reaper) Reaped() uint64 { return r.reaped.Load() }

// Slot is the slot that this reaper holds; ok is false while it stands by, and while its renewals go
// unacknowledged for longer than the slot lives.
func (r *Reaper) Slot() (slot int, ok bool) {
	n := int(r.slot.Load())
	return n - 1, n > 0 && time.Since(*r.renewed.Load()) < slotTTL(r.cfg.TTL)
}

// Waiting is how many leases have ended whose keys are not purged yet, as far as this reaper knows. It is
// 0 while it stands by.
func (r *Reaper) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index == nil {
		return 0
	}
	return len(r.index.doomed)
}

// run stands by until a slot is free, and serves until it is lost, in turns. While it has none, it
// sees whether others reap.
func (r *Reaper) run() {
	for look := 0; r.bucket.AwaitConnected(r.ctx) == nil; look++ {
		slot, rev, err := r.take(look)
		wait := backoff.Jitter(standbyTime(r.cfg.TTL))
		switch {
		case errors.Is(err, tenant.ErrPermission):
			r.refuse(err)
			wait = r.guard(slot, wait)
		case errors.Is(err, tenant.ErrStorageFull):
			if purged, err := r.makeRoom(); err != nil {
				r.cfg.Logger.Debug("kvregistry: reaper", "cause", err)
			} else if purged > 0 {
				wait = 0
			} else { // each of those that stand by reads the bucket
				wait *= 4
			}
		case err != nil:
			r.cfg.Logger.Debug("kvregistry: reaper", "cause", err)
		case rev > 0:
			r.serve(slot, rev)
		default:
			wait = r.guard(slot, wait)
			if look == 0 && !r.cfg.StandBy {
				wait = backoff.Jitter(secondLook)
			}
		}
		r.rest(wait)
	}
}

// rest waits for d, or until the connection comes back.
func (r *Reaper) rest(d time.Duration) {
	up, stop := r.bucket.Reconnected()
	defer stop()
	_ = backoff.SleepOr(r.ctx, d, up)
}

// refuse notes that the server does not let this process reap, and says so once.
func (r *Reaper) refuse(why error) {
	r.refused, r.lives = time.Now(), r.bucket.Conn().Stats().Reconnects
	if !r.left {
		r.left = true
		r.cfg.Logger.Info("kvregistry: leaves reaping to others", "cause", why)
	}
}

// abstains reports whether this process leaves slots alone that are free: it was told to, or the
// server refused it one on this connection, not long ago.
func (r *Reaper) abstains() bool {
	return r.cfg.StandBy || !r.refused.IsZero() && time.Since(r.refused) < tenant.DispenseTime &&
		r.lives == r.bucket.Conn().Stats().Reconnects
}

// take looks at a slot, and takes it if it is free: a process looks at the first slot, then at the
// second, then at either. It returns the revision of its write, 0 if the slot is not free.
func (r *Reaper) take(look int) (slot int, rev uint64, err error) {
	slot = look
	if look >= tenant.Slots {
		slot = rand.N(tenant.Slots)
	}
	rev, err = r.claim(r.ctx, slot)
	return slot, rev, err
}

// slotValue is the value of a slot's key. docs/wire-format.md describes it. All values of an owner
// have the same length: see padded.
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

// errRole says that a slot is not tried for.
var errRole = fmt.Errorf("%w: this user may not write a reaper slot, as roles registrar and observer may not", tenant.ErrPermission)

// claim writes a slot that is free or this process's own, and returns the revision; 0 if another
// process holds it, or this one leaves slots alone.
func (r *Reaper) claim(ctx context.Context, slot int) (rev uint64, err error) {
	last, held, err := r.look(ctx, slot)
	if err != nil || held || r.abstains() {
		return 0, err
	}
	if r.slot.Load() == 0 && !r.bucket.MayWrite(ctx, tenant.SlotKey(slot)) {
		return 0, errRole
	}
	rev, err = r.renew(ctx, slot, last)
	if errors.Is(err, tenant.ErrConflict) {
		return 0, nil
	}
	return rev, err
}

// look reads a slot, and reports whether another process holds it. A value that stands for longer
// than a slot's TTL is nobody's: it was written without one.
func (r *Reaper) look(ctx context.Context, slot int) (rev uint64, held bool, err error) {
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

// renew writes the slot's key on top of a revision.
func (r *Reaper) renew(ctx context.Context, slot int, on uint64) (rev uint64, err error) {
	v := slotValue{Format: 1, Owner: r.cfg.Owner, Beat: cryptorand.Text()[:8]}
	r.mu.Lock()
	r.beat, r.begun = v.Beat, time.Now()
	if r.proof.holds(r.begun, r.hold()) && r.idle.Load() == 0 {
		v.Ready = 1
	}
	begun := r.begun
	r.mu.Unlock()
	value, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	rev, err = r.bucket.WriteWithin(ctx, tryTime(r.cfg.TTL), tenant.Write{
		Key: tenant.SlotKey(slot), Value: padded(value, on), TTL: slotTTL(r.cfg.TTL), If: tenant.At(on),
	})
	if err == nil {
		r.renewed.Store(&begun)
	}
	return rev, err
}

// hold is how long a proof must have lasted. The caller holds r.mu.
func (r *Reaper) hold() time.Duration { return holdTime(max(r.cfg.TTL, r.most)) }

// serve follows the bucket and purges what the dead left, until the slot is lost or the reaper
// closed.
func (r *Reaper) serve(slot int, rev uint64) {
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	view := r.follow()
	wg.Go(func() { r.reap(ctx) }) // ends with ctx; waited for below
	r.cfg.Logger.Info("kvregistry: holds a reaper slot", "slot", slot)
	r.keep(slot, rev)
	r.cfg.Logger.Info("kvregistry: holds no reaper slot any more")
	cancel()
	wg.Wait()
	view.Close()
	r.unfollow()
}

// keep renews the slot until it is lost or the reaper closed; then it gives it back.
func (r *Reaper) keep(slot int, rev uint64) {
	for {
		r.slot.Store(int32(slot) + 1)
		select {
		case <-r.ctx.Done():
		case <-r.renews:
		case <-time.After(echoTime(r.cfg.TTL)):
		}
		if r.ctx.Err() != nil {
			r.give(slot, rev)
			return
		}
		if r.bucket.Conn().IsConnected() && r.isDeaf() {
			r.cfg.Logger.Warn("kvregistry: reaper slot given up, its consumer brings nothing", "slot", slot)
			r.give(slot, rev)
			return
		}
		if slot > 0 && r.isFree() {
			if first, err := r.claim(r.ctx, 0); err == nil && first > 0 {
				r.give(slot, rev)
				slot, rev = 0, first
				continue
			}
		}
		next, err := r.renew(r.ctx, slot, rev)
		if errors.Is(err, tenant.ErrConflict) {
			next, err = r.claim(r.ctx, slot)
			if err == nil && next == 0 {
				return
			}
		}
		switch {
		case err == nil:
			rev = next
		case errors.Is(err, tenant.ErrPermission), errors.Is(err, tenant.ErrStorageFull):
			return
		}
	}
}

// giveTime bounds the end of a slot's key, which ends by its TTL otherwise.
const giveTime = 500 * time.Millisecond

// give ends a slot's key, so that another process finds it free.
func (r *Reaper) give(slot int, rev uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), giveTime)
	defer cancel()
	_, _ = r.bucket.Write(ctx, tenant.Write{Key: tenant.SlotKey(slot), Op: tenant.Purge, If: tenant.At(rev)})
}

// isDeaf reports whether no echo came for so long that another process should have the slot.
func (r *Reaper) isDeaf() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.proof.last
	if last.IsZero() {
		last = r.since
	}
	return time.Since(last) > deafTime(r.cfg.TTL)
}

func (r *Reaper) isFree() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.free
}
