package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// ReaperConfig describes how a reaper works. All but Check and StandBy are needed.
type ReaperConfig struct {
	TTL   time.Duration // of this bucket's leases, as far as this process knows
	Owner string        // this process's id, which no other process has
	// LeaseOf returns the lease that a key lives by. It is not ok if the key lives by none.
	LeaseOf func(key string, value []byte) (id string, ok bool)
	// Steady reports whether this process's own heartbeats prove that there was no outage of late.
	Steady  func() bool
	Check   time.Duration // see [watcher.Config]
	StandBy bool          // the reaper takes no slot, and checks whether others reap
	Logger  *slog.Logger
}

// Reaper removes what dead processes left, while it holds one of the bucket's slots. Any number of
// reapers may stand by: each looks now and then whether a slot is free, and whether others reap.
//
// A reaper purges only while it has proof that living processes could renew their leases. Its
// methods may be called by any number of goroutines.
type Reaper struct {
	bucket *tenant.Bucket
	cfg    ReaperConfig
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	// The goroutine that stands by alone uses these.
	told bool                // the log says that this process may not reap
	seen [tenant.Slots]sight // the slots, as they were last read
	idle idle

	slot     atomic.Int32              // the slot that it holds, counted from 1; 0 for none
	renewed  atomic.Pointer[time.Time] // when the slot was last written
	reaped   atomic.Uint64
	unreaped atomic.Int64  // see Unreaped
	work     chan struct{} // there may be something to purge; holds one
	renews   chan struct{} // the slot is to be renewed at once; holds one

	mu    sync.Mutex // guards what follows
	index *index     // nil while it stands by
	proof proof
	since time.Time     // when the consumer was last asked for, or was another one
	doubt time.Time     // when the server's clock was last seen to jump
	most  time.Duration // the longest TTL that ended by such a jump, until a proof outlasts it
	beat  string        // what the last renewal of the slot says
	begun time.Time     // when that renewal was begun
	free  bool          // the first slot is free, as far as the stream has told
}

// NewReaper makes a reaper. [Reaper.Start] starts it.
func NewReaper(b *tenant.Bucket, cfg ReaperConfig) *Reaper {
	r := &Reaper{
		bucket: b, cfg: cfg, log: cfg.Logger, proof: proof{gap: echoGap(cfg.TTL)},
		work: make(chan struct{}, 1), renews: make(chan struct{}, 1),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Start takes a slot as soon as one is free. [Reaper.Close] ends it.
func (r *Reaper) Start() {
	r.wg.Go(r.run) // ends with r.ctx; Close waits
}

// Close stops the reaper, and gives its slot back.
func (r *Reaper) Close() {
	r.cancel()
	r.wg.Wait()
}

// Reaped returns how many keys this reaper has purged.
func (r *Reaper) Reaped() uint64 { return r.reaped.Load() }

// Slot returns the slot that this reaper holds. It is not ok while the reaper stands by, and while
// its renewals go unacknowledged for longer than the slot lives.
func (r *Reaper) Slot() (slot int, ok bool) {
	n := int(r.slot.Load())
	return n - 1, n > 0 && time.Since(*r.renewed.Load()) < slotTTL(r.cfg.TTL)
}

// Waiting returns how many leases have ended whose keys are not purged yet, as far as this reaper
// knows. It is 0 while the reaper stands by.
func (r *Reaper) Waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index == nil {
		return 0
	}
	return len(r.index.doomed)
}

// run stands by until a slot is free, and serves until the slot is lost, in turns. While it has
// none, it checks whether others reap.
func (r *Reaper) run() {
	for n := 0; r.bucket.AwaitConnected(r.ctx) == nil; n++ {
		slot := n % tenant.Slots // a free slot is found at the second look at the latest
		rev, err := r.claim(r.ctx, slot)
		wait := backoff.Jitter(standbyTime(r.cfg.TTL))
		switch {
		case errors.Is(err, tenant.ErrPermission):
			r.refuse(err)
			wait = r.guard(slot, wait)
		case errors.Is(err, tenant.ErrStorageFull):
			if purged, err := r.makeRoom(); err != nil {
				r.log.Debug("kvregistry: reaper", "cause", err)
			} else if purged > 0 {
				wait = 0
			} else { // each process that stands by reads the bucket
				wait *= 4
			}
		case err != nil:
			r.log.Debug("kvregistry: reaper", "cause", err)
		case rev > 0:
			r.serve(slot, rev)
		default:
			wait = r.guard(slot, wait)
			if n == 0 && !r.cfg.StandBy {
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

// refuse logs once that the server does not let this process reap.
func (r *Reaper) refuse(why error) {
	if !r.told {
		r.told = true
		r.log.Info("kvregistry: leaves reaping to others", "cause", why)
	}
}

// serve follows the bucket and purges what the dead left, until the slot is lost or the reaper
// closed.
func (r *Reaper) serve(slot int, rev uint64) {
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	view := r.follow()
	wg.Go(func() { r.reap(ctx) }) // ends with ctx; waited for below
	r.log.Info("kvregistry: holds a reaper slot", "slot", slot)
	r.keep(slot, rev)
	r.log.Info("kvregistry: holds no reaper slot any more")
	cancel()
	wg.Wait()
	view.Close()
	r.unfollow()
}

// keep renews the slot until it is lost or the reaper closed; then it gives the slot back.
func (r *Reaper) keep(slot int, rev uint64) {
	for {
		r.slot.Store(int32(slot) + 1)
		if backoff.SleepOr(r.ctx, echoTime(r.cfg.TTL), r.renews) != nil {
			r.give(slot, rev)
			return
		}
		deaf, free := r.hears()
		if deaf && r.bucket.Connected() {
			r.log.Warn("kvregistry: reaper slot given up, its consumer brings nothing",
				"slot", slot)
			r.give(slot, rev)
			return
		}
		if slot > 0 && free {
			if first, err := r.claim(r.ctx, 0); err == nil && first > 0 {
				r.give(slot, rev)
				slot, rev = 0, first
				r.log.Info("kvregistry: holds a reaper slot", "slot", slot)
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

// hears reports whether no echo came for so long that another process should have the slot, and
// whether the first slot is free.
func (r *Reaper) hears() (deaf, free bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.proof.last
	if last.IsZero() {
		last = r.since
	}
	return time.Since(last) > deafTime(r.cfg.TTL), r.free
}
