package tenant

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// scanStall is how long a scan waits for the next entry. A consumer that a cluster lost, or never made, sends nothing:
// who has more time scans again.
const scanStall = 2 * time.Second

// scanTime bounds a whole scan.
const scanTime = 10 * time.Minute

// scanHeartbeat is how often the server says that a scan that waits has all that was sent; scanLeft, after which it ends a consumer that was left behind.
const (
	scanHeartbeat = 500 * time.Millisecond
	scanLeft      = 5 * time.Second
)

var errStalled = fmt.Errorf("the server sent nothing for %s: %w", scanStall, context.DeadlineExceeded)
var errLost = errors.New("an entry was lost") // with a connection that was made again

// scan is one reading of the keys under a filter. Each entry is looked at as it comes and is not kept: a value may be as large as the server
// lets through, and flow control bounds what is under way. So it does not use the watcher of nats.go, which keeps 256 of them; nor its ordered consumer, which takes
// an entry whose headers say so for a word of the server's, and is silent from then on.
type scan struct {
	bucket *Bucket
	name   string // of the consumer
	inbox  string
	prefix string // of the keys that are asked for
	each   func(Entry)
	fail   func(error)
	stall  *time.Timer
	done   chan struct{} // closed when all have come

	mu       sync.Mutex // guards what follows; held while each runs
	received uint64     // entries so far, which the consumer numbers from 1
	left     uint64     // entries that are still to come
	over     bool
}

// Scan reads every key under a filter that ends in '>' once, deleted ones whose tombstone still stands included, in the
// order of their revisions, and calls each for it. Values are left out where values is false. With
// replicas the answer may come from one that lags.
func (b *Bucket) Scan(ctx context.Context, filter string, values bool, each func(Entry)) error {
	ctx, end := b.Try(ctx, scanTime, b.API("CONSUMER.CREATE")+".*")
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &scan{
		bucket: b, name: "scan-" + rand.Text(), inbox: b.nc.NewInbox(), prefix: strings.TrimSuffix(filter, ">"), each: each, fail: cancel, done: make(chan struct{}),
		stall: time.AfterFunc(scanStall, func() { cancel(errStalled) }),
	}
	defer s.stall.Stop()
	sub, err := s.start(ctx, values)
	if err != nil {
		return fmt.Errorf("tenant: scan %s: %w", filter, b.Explain(ctx, cmp.Or(context.Cause(ctx), err)))
	}
	sub.SetClosedHandler(func(string) { cancel(errStalled) })
	defer s.stop(sub)
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tenant: scan %s: %w", filter, b.Explain(ctx, context.Cause(ctx)))
	}
}

// start subscribes, and finds out how many entries there are to come.
func (s *scan) start(ctx context.Context, values bool) (*nats.Subscription, error) {
	if err := s.bucket.await(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock() // no entry is looked at before their number is known
	defer s.mu.Unlock()
	sub, err := s.bucket.nc.Subscribe(s.inbox, s.receive)
	if err != nil {
		return nil, err
	}
	_ = sub.SetPendingLimits(-1, -1) // flow control bounds what is under way
	c, err := s.bucket.JetStream().CreatePushConsumer(ctx, s.bucket.Stream(), jetstream.ConsumerConfig{
		Name:              s.name,
		DeliverSubject:    s.inbox,
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubject:     s.bucket.Subject(">"), // a server goes through the messages then, and does not search them for each
		HeadersOnly:       !values,
		FlowControl:       true,
		IdleHeartbeat:     scanHeartbeat,
		InactiveThreshold: scanLeft,
		MemoryStorage:     true,
		Replicas:          1,
		MaxDeliver:        1,
	})
	if err != nil { // it may have been made all the same, and its first entries be here
		s.end(sub)
		return nil, err
	}
	made := c.CachedInfo()
	if s.left = made.NumPending + made.Delivered.Consumer; s.left == 0 { // what was sent already waits for s.mu
		s.finish()
	}
	return sub, nil
}

// receive takes what the consumer sends. A word of the server's has the inbox's subject, and an entry that of its key, whatever its headers say.
func (s *scan) receive(msg *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	if msg.Subject == s.inbox {
		s.control(msg)
		return
	}
	meta, err := msg.Metadata()
	if s.received++; err != nil || meta.Sequence.Consumer != s.received {
		s.fail(errLost)
		return
	}
	s.stall.Reset(scanStall)
	value, op := ContentOf(msg)
	if key := s.bucket.Key(msg.Subject); strings.HasPrefix(key, s.prefix) {
		s.each(Entry{Key: key, Value: value, Revision: meta.Sequence.Stream, Op: op})
	}
	if s.left--; s.left == 0 || meta.NumPending == 0 {
		s.finish()
	}
}

// control answers flow control, and learns from a heartbeat whether an entry was lost. The caller holds s.mu.
func (s *scan) control(msg *nats.Msg) {
	if msg.Reply != "" {
		_ = msg.Respond(nil)
		return
	}
	if stalled := msg.Header.Get("Nats-Consumer-Stalled"); stalled != "" {
		_ = s.bucket.nc.Publish(stalled, nil)
	}
	if sent, err := strconv.ParseUint(msg.Header.Get("Nats-Last-Consumer"), 10, 64); err != nil || sent != s.received {
		s.fail(errLost)
	}
}

// finish ends the scan: all have come. The caller holds s.mu.
func (s *scan) finish() {
	s.over = true
	close(s.done)
}

// stop has each run no more.
func (s *scan) stop(sub *nats.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(sub)
}

// end is stop for who holds s.mu. It does not wait for the consumer's end: where what it sends is lost, the server ends the consumer by itself.
func (s *scan) end(sub *nats.Subscription) {
	s.over = true
	_ = sub.Unsubscribe()
	_ = s.bucket.nc.Publish(s.bucket.API("CONSUMER.DELETE")+"."+s.name, nil)
}
