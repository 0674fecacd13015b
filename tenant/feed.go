package tenant

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// ErrGap says that a message of a feed was lost. What it told before stays true; a new feed tells
// the rest.
var ErrGap = errors.New("a message was lost")

// abandoned is how long the server keeps a consumer that nobody listens to.
const abandoned = 5 * time.Second

// FeedConfig says what a [Feed] reads, and what it calls for what it reads. It calls Message, Mark
// and Lost from one goroutine. After Lost, it calls nothing more.
type FeedConfig struct {
	Name      string        // begins the name of the consumer: "view-" or "reaper-"
	Keys      []string      // keys and filters of keys, of which none covers another
	Near      bool          // read the mirror, and not the bucket's leader
	Heartbeat time.Duration // how often the server gives a sign of life while it sends nothing

	// Within, if it is set, has monitors of the server raise an alarm when nothing was sent for as
	// long, or when many messages wait.
	Within time.Duration

	// Message takes a message. It must not keep the value: the buffer may be larger.
	Message func(Message)
	// Mark is called when everything that was sent has been received. upTo is the revision up to
	// which the consumer has looked; 0 if the server does not say.
	Mark func(upTo uint64)
	// Lost is called when a message is missing.
	Lost func(error)
}

// Feed reads keys of a bucket by a push consumer: the last message of each key first, then each
// message as it is written, all in order of their revisions.
type Feed struct {
	Messages uint64 // how many there were when it was opened

	bucket *Bucket
	js     jetstream.JetStream
	cfg    FeedConfig
	name   string
	inbox  string // what the consumer sends to; a message of a key has the subject of that key
	sub    *nats.Subscription
	closed atomic.Bool
	opened time.Time
	heard  atomic.Int64 // nanoseconds since opened: the last message or sign of life

	// Of the subscription's goroutine.
	received uint64 // messages so far, which the consumer numbers from 1
	revision uint64 // of the last of them
}

// Message is a message of a [Feed].
type Message struct {
	Entry
	Pending uint64 // messages that are still to come, as far as the server has counted them
	Last    bool   // no other message has been received behind it

	msg *nats.Msg
}

// TTL is the time to live that a message gives its key; 0 if it gives none.
func (m *Message) TTL() time.Duration { return ttlOf(m.msg) }

// Time is when the message was written, by the server's clock.
func (m *Message) Time() time.Time {
	meta, err := m.msg.Metadata()
	if err != nil { // receive has looked
		return time.Time{}
	}
	return meta.Timestamp
}

// Note is what a message that ends a key says beside that, for people to read. It must not be kept.
func (m *Message) Note() []byte {
	if m.Op == Put {
		return nil
	}
	return m.msg.Data
}

// If is the revision that the write was to go on top of; nil if it named none.
func (m *Message) If() *uint64 { return expectedOf(m.msg) }

// OpenFeed makes a consumer. Its functions may be called before OpenFeed returns. The errors are
// those of [Bucket.Ensure]. If there is an error, the server may have made the consumer all the
// same, and the caller deletes the returned feed; the feed is nil if nothing was sent.
func (b *Bucket) OpenFeed(ctx context.Context, cfg FeedConfig) (*Feed, error) {
	f := &Feed{bucket: b, js: b.jetStream(), cfg: cfg, name: cfg.Name + rand.Text(),
		inbox: b.nc.NewInbox(), opened: time.Now()}
	api := b.api("CONSUMER.CREATE")
	if cfg.Near {
		f.js, api = b.near(), ownAPI+".CONSUMER.CREATE."+b.stream
		f.name = cfg.Name + "near-" + rand.Text()
	}
	ctx, cancel := b.try(ctx, attempt, api+"."+cfg.Name+"*")
	defer cancel()
	var err error
	if f.sub, err = b.nc.Subscribe(f.inbox, f.receive); err != nil {
		return nil, b.explain(ctx, err)
	}
	_ = f.sub.SetPendingLimits(-1, -1) // flow control bounds what is under way
	consumer, err := f.js.CreatePushConsumer(ctx, b.stream, f.consumer(cfg.Keys))
	if err != nil {
		f.Close()
		return f, b.explain(ctx, err)
	}
	made := consumer.CachedInfo()
	f.Messages = made.NumPending + made.Delivered.Consumer
	return f, nil
}

// consumer is what the server is asked for.
func (f *Feed) consumer(keys []string) jetstream.ConsumerConfig {
	subjects := make([]string, len(keys))
	for i, key := range keys {
		subjects[i] = f.bucket.subjectOf(key)
	}
	cfg := jetstream.ConsumerConfig{
		Name:              f.name,
		DeliverSubject:    f.inbox,
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubjects:    subjects,
		FlowControl:       true,
		IdleHeartbeat:     f.cfg.Heartbeat,
		InactiveThreshold: abandoned,
		MemoryStorage:     true,
		Replicas:          1,
		MaxDeliver:        1,
	}
	if f.cfg.Within > 0 {
		cfg.Metadata = stream.WatchedConsumer(f.cfg.Within)
	}
	return cfg
}

// Change makes the consumer send the messages of other keys from now on. What was written before
// under a key that is new is not sent.
func (f *Feed) Change(ctx context.Context, keys []string) error {
	ctx, cancel := f.bucket.try(ctx, attempt, f.bucket.api("CONSUMER.CREATE")+"."+f.name)
	defer cancel()
	_, err := f.js.UpdatePushConsumer(ctx, f.bucket.stream, f.consumer(keys))
	return f.bucket.explain(ctx, err)
}

// requestRest is how many bytes a request for a consumer has beside its filters, at the most.
const requestRest = 1024

// FitsFeed reports whether the keys of a feed fit into one message of this connection.
func (b *Bucket) FitsFeed(keys []string) bool {
	size := requestRest
	for _, key := range keys {
		size += len(b.subjectOf(key)) + len(`"",`)
	}
	return int64(size) <= b.nc.MaxPayload()
}

// receive takes what the consumer sends.
func (f *Feed) receive(msg *nats.Msg) {
	if f.closed.Load() {
		return
	}
	f.heard.Store(int64(time.Since(f.opened)))
	if msg.Subject == f.inbox { // a message has the subject of its key, whatever its headers say
		f.control(msg)
		return
	}
	meta, err := msg.Metadata()
	if err != nil || meta.Sequence.Consumer != f.received+1 || meta.Sequence.Stream <= f.revision {
		f.lose()
		return
	}
	f.received, f.revision = f.received+1, meta.Sequence.Stream
	value, op := contentOf(msg)
	queued, _, err := msg.Sub.Pending() // counts msg itself
	f.cfg.Message(Message{
		Entry: Entry{
			Key: f.bucket.keyOf(msg.Subject), Value: value, Revision: f.revision, Op: op,
		},
		Pending: meta.NumPending, Last: err != nil || queued <= 1, msg: msg,
	})
}

// control takes the server's own messages: it answers flow control, and compares a sign of life
// with what was received.
func (f *Feed) control(msg *nats.Msg) {
	if msg.Reply != "" {
		_ = msg.Respond(nil)
		f.cfg.Mark(0)
		return
	}
	sent, err := strconv.ParseUint(msg.Header.Get("Nats-Last-Consumer"), 10, 64)
	if err != nil || sent != f.received {
		f.lose()
		return
	}
	if stalled := msg.Header.Get("Nats-Consumer-Stalled"); stalled != "" {
		_ = f.bucket.nc.Publish(stalled, nil)
		return
	}
	upTo, _ := strconv.ParseUint(msg.Header.Get("Nats-Last-Stream"), 10, 64)
	f.cfg.Mark(upTo)
}

func (f *Feed) lose() {
	f.closed.Store(true)
	f.cfg.Lost(ErrGap)
}

// Quiet is how long ago the server gave the last sign of life.
func (f *Feed) Quiet() time.Duration {
	return time.Since(f.opened) - time.Duration(f.heard.Load())
}

// Queued reports whether messages wait that were received and not looked at yet.
func (f *Feed) Queued() bool {
	queued, _, _ := f.sub.Pending()
	return queued > 0
}

// Close ends the subscription. A function of the feed may still be running when it returns.
// [Feed.Delete] ends the consumer.
func (f *Feed) Close() {
	f.closed.Store(true)
	_ = f.sub.Unsubscribe()
}

// Delete deletes the consumer of a feed that was closed. A consumer that is not deleted ends by
// itself after a few seconds.
func (f *Feed) Delete(ctx context.Context) error {
	err := f.js.DeleteConsumer(ctx, f.bucket.stream, f.name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	return err
}

// State is how the bucket stands, as its leader says.
type State struct {
	Created  time.Time // by the clock of the server: it tells one life of the bucket from the next
	Now      time.Time // by the clock of the server; zero if the server does not say
	First    uint64    // the revision of the oldest message
	Last     uint64    // the revision of the last change
	Replicas int
}

// State asks how the bucket stands, and learns its limits. The errors are those of [Bucket.Ensure].
func (b *Bucket) State(ctx context.Context) (State, error) {
	var s jetstream.Stream
	err := b.Do(ctx, attempt, func(ctx context.Context) (err error) {
		s, err = b.jetStream().Stream(ctx, b.stream)
		return err
	}, b.api("STREAM.INFO"))
	if err != nil {
		return State{}, err
	}
	info := s.CachedInfo()
	b.learn(info.Config)
	return State{info.Created, info.TimeStamp, info.State.FirstSeq, info.State.LastSeq,
		info.Config.Replicas}, nil
}

// Probe returns when everything that the server had for this connection has been received.
func (b *Bucket) Probe(ctx context.Context) error { return b.nc.FlushWithContext(ctx) }

// Connected reports whether the connection is up.
func (b *Bucket) Connected() bool { return b.nc.IsConnected() }
