package lease

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/tenant"
)

// ReaperConfig says how a reaper works. TTL and LeaseOf are needed.
type ReaperConfig struct {
	TTL     time.Duration                                       // of this bucket's leases, as far as this process knows
	LeaseOf func(key string, value []byte) (id string, ok bool) // the lease that a key lives by; not ok where it lives by none
	Steady  func(d time.Duration) bool                          // whether this process's own heartbeats were in time for d; nil: always
	Logger  *slog.Logger
}

// Reaper removes what dead processes left. Any number of them may work on a bucket; the server hands each
// marker to one of them, and to another if that one dies.
//
// A reaper doubts itself first: after an outage every lease has run out, and live services need a moment to
// take new ones. One that has just connected takes nothing from the queue for a while, and one that saw
// the server or its own heartbeats late gives what it has back until that is a TTL ago.
type Reaper struct {
	bucket *tenant.Bucket
	cfg    ReaperConfig
	pulse  pulse
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	once    sync.Once // says that it may not reap
	failing bool      // the last work failed, and the log says so; the serving goroutine's own

	lives  atomic.Uint64 // the connection's number of reconnects, once this reaper has waited after the last one
	reaped atomic.Uint64
	held   atomic.Uint64
}

// NewReaper makes a reaper. [Reaper.Start] starts it.
func NewReaper(b *tenant.Bucket, cfg ReaperConfig) *Reaper {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Steady == nil {
		cfg.Steady = func(time.Duration) bool { return true }
	}
	r := &Reaper{bucket: b, cfg: cfg}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Start begins to take markers. [Reaper.Close] ends it.
func (r *Reaper) Start() {
	r.wg.Go(r.serve) // these end with r.ctx; Close waits
	r.wg.Go(r.keepTimer)
}

// Close stops. A marker that was taken and not dealt with goes to another reaper.
func (r *Reaper) Close() {
	r.cancel()
	r.wg.Wait()
}

// Reaped is how many keys this reaper has purged.
func (r *Reaper) Reaped() uint64 { return r.reaped.Load() }

// Waiting is how many messages wait in the queue or were given back to come again, heartbeats that no reaper has looked
// at included: as of a quarter of a TTL ago at the most. It is 0 where the queue does not serve this reaper.
func (r *Reaper) Waiting() uint64 { return r.pulse.depth.Load() }

// Held is how many times this reaper gave a marker back because it was in doubt.
func (r *Reaper) Held() uint64 { return r.held.Load() }

// minHold is how long live services are given after an outage at the least: nats.go waits 2 s between two
// attempts to connect.
const minHold = 3 * time.Second

// hold is how long a reaper that has reason to doubt leaves the dead alone.
func (r *Reaper) hold() time.Duration { return max(r.cfg.TTL, minHold) }

// newcomer is how long a new reaper takes nothing from the queue. Its owner saw no outage, and a process
// that is killed after it came has renewed its lease at most a third of a TTL before: so much less than a
// TTL is enough for this reaper to be there in time.
func (r *Reaper) newcomer() time.Duration { return r.cfg.TTL * 2 / 3 }

// doubtful reports whether this reaper saw the connection lost, or the server or its own heartbeats late, so lately
// that it can't tell dead processes from an outage that is just over.
func (r *Reaper) doubtful() bool {
	return r.reconnected() || !r.pulse.steady(r.hold()) || !r.cfg.Steady(r.hold())
}
