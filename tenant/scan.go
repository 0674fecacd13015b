package tenant

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// scanStall is how long a scan waits for the next entry. A consumer that a cluster lost, or never made, sends nothing:
// who has more time scans again.
const scanStall = 2 * time.Second

// scanTime bounds a whole scan.
const scanTime = 10 * time.Minute

var errStalled = fmt.Errorf("the server sent nothing for %s: %w", scanStall, context.DeadlineExceeded)

// scan is one reading of the keys under a filter. Each entry is looked at as it comes and is not kept: a value may be as large as the server
// lets through, and flow control bounds what is under way. So it does not use the watcher of nats.go, which keeps 256 of them.
type scan struct {
	bucket *Bucket
	each   func(Entry)
	stall  *time.Timer
	done   chan struct{} // closed when all have come

	mu   sync.Mutex // guards what follows; held while each runs
	left uint64     // entries that are still to come
	over bool
}

// Scan reads every key under a filter once, deleted ones whose tombstone still stands included, in the
// order of their revisions, and calls each for it. Values are left out where values is false. With
// replicas the answer may come from one that lags.
func (b *Bucket) Scan(ctx context.Context, filter string, values bool, each func(Entry)) error {
	ctx, end := b.Try(ctx, scanTime, "$JS.API.CONSUMER.CREATE."+b.Stream()+".*")
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &scan{bucket: b, each: each, done: make(chan struct{}), stall: time.AfterFunc(scanStall, func() { cancel(errStalled) })}
	defer s.stall.Stop()
	sub, err := s.start(ctx, filter, values)
	if err != nil {
		return fmt.Errorf("tenant: scan %s: %w", filter, b.Explain(ctx, cmp.Or(context.Cause(ctx), err)))
	}
	sub.SetClosedHandler(func(string) { cancel(errStalled) })
	defer func() { _ = sub.Unsubscribe() }() // where this fails, the server ends the consumer by itself
	defer s.stop()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tenant: scan %s: %w", filter, b.Explain(ctx, context.Cause(ctx)))
	}
}

// start subscribes, and finds out how many entries there are to come.
func (s *scan) start(ctx context.Context, filter string, values bool) (*nats.Subscription, error) {
	if _, err := s.bucket.store(ctx); err != nil {
		return nil, err
	}
	js, err := s.bucket.nc.JetStream()
	if err != nil {
		return nil, err
	}
	opts := []nats.SubOpt{nats.BindStream(s.bucket.Stream()), nats.OrderedConsumer(), nats.DeliverLastPerSubject(), nats.Context(ctx)}
	if !values {
		opts = append(opts, nats.HeadersOnly())
	}
	s.mu.Lock() // no entry is looked at before their number is known
	defer s.mu.Unlock()
	sub, err := js.Subscribe(s.bucket.Subject(filter), s.receive, opts...)
	if err != nil {
		s.over = true // the consumer may have been made all the same, and its first entries be here
		return nil, err
	}
	if s.left, err = sub.InitialConsumerPending(); s.left == 0 {
		s.finish()
	}
	return sub, err
}

func (s *scan) receive(msg *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	meta, err := msg.Metadata()
	if s.over || err != nil {
		return
	}
	s.stall.Reset(scanStall)
	value, op := ContentOf(msg)
	s.each(Entry{Key: s.bucket.Key(msg.Subject), Value: value, Revision: meta.Sequence.Stream, Op: op})
	if s.left--; s.left == 0 || meta.NumPending == 0 {
		s.finish()
	}
}

// finish ends the scan: all have come. The caller holds s.mu.
func (s *scan) finish() {
	s.over = true
	close(s.done)
}

// stop has each run no more.
func (s *scan) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}
