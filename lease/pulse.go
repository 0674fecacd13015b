package lease

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant"
)

// pulse is what a reaper knows of the server's health: it asks the bucket's leader for its state again and
// again, and remembers when an answer was last late. Only the few reapers that the queue serves do so, and those that have just come or connected
// again.
type pulse struct {
	mu   sync.Mutex // guards what follows
	late time.Duration
	last time.Time // when the last answer came
	bad  time.Time // when one was last found late

	depth atomic.Uint64 // messages in the reapers' queue, as far as is known
}

// run asks until stop is called, which waits for the end. Where there is a queue to look at, it does, and where that is no more it says so to gone: a
// request that came to the queue as it was deleted is never answered.
func (p *pulse) run(ctx context.Context, b *tenant.Bucket, ttl time.Duration, queue jetstream.Consumer, gone context.CancelCauseFunc) (stop func()) {
	period := beatTime(ttl)
	p.begin(period)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with ctx; stop waits
		defer close(done)
		for ctx.Err() == nil {
			sleep(ctx, period, nil)
			ask, cancel := context.WithTimeout(ctx, period)
			stream, err := b.JetStream().Stream(ask, b.Stream())
			p.beat(err == nil)
			if err == nil && !quorate(stream.CachedInfo()) {
				p.fault()
			}
			if queue != nil {
				p.look(ask, queue, gone)
			}
			cancel()
		}
	}()
	return func() { cancel(); <-done; p.depth.Store(0) }
}

// look sees how much waits in the queue, and whether it is there.
func (p *pulse) look(ctx context.Context, queue jetstream.Consumer, gone context.CancelCauseFunc) {
	info, err := queue.Info(ctx)
	switch {
	case err == nil:
		p.depth.Store(info.NumPending + uint64(info.NumAckPending))
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		gone(err)
	}
}

// beatTime is the time between two questions: so that an outage that ends a lease, two thirds of a TTL, is one that is noticed.
func beatTime(ttl time.Duration) time.Duration { return min(ttl/4, 2*time.Second) }

// begin goes on from the last answer. Where that is too long ago, nothing is known of the time in between: there may have been an outage that
// is just over.
func (p *pulse) begin(period time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.late = period * 5 / 2
	switch {
	case p.last.IsZero(): // a newcomer
		p.last = now
	case now.Sub(p.last) > p.late:
		p.bad, p.last = now, now
	}
}

// unheard is how long a leader may not have heard of a replica that it still counts on; with nothing to do it hears every second.
const unheard = 2 * time.Second

// quorate reports whether a stream's leader heard of a majority of the replicas of late. One that did not goes on answering for
// 10 s and more, while it acknowledges no heartbeat.
func quorate(info *jetstream.StreamInfo) bool {
	if info.Cluster == nil {
		return true
	}
	heard := 1 // itself
	for _, r := range info.Cluster.Replicas {
		if !r.Offline && r.Active < unheard {
			heard++
		}
	}
	return heard > info.Config.Replicas/2
}

// fault notes that the server did not serve as it should.
func (p *pulse) fault() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad = time.Now()
}

func (p *pulse) beat(answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.last) > p.late {
		p.bad = now
	}
	if answered {
		p.last = now
	}
}

// steady reports whether every answer of the last d was in time, and the next one is not overdue.
func (p *pulse) steady(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	return now.Sub(p.last) <= p.late && (p.bad.IsZero() || now.Sub(p.bad) > d)
}
