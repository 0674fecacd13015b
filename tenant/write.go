package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Op is what a message does to its key. A delete is a registration's graceful end. A purge is its
// end with its lease. The server alone expires a key.
type Op uint8

// What a message does to its key.
const (
	Put Op = iota
	Delete
	Purge
	Expire // the key's TTL ended, and the server's marker stands in its place
)

func (o Op) String() string { return [...]string{"put", "delete", "purge", "expire"}[o] }

// TombstoneTTL is how long the bucket keeps a delete or a purge, as long as the server's marker of
// a lease that ran out. An observer or reaper that was away longer needs a full snapshot.
const TombstoneTTL = 10 * time.Minute

// Write is one write to a bucket.
type Write struct {
	Key   string
	Value []byte
	Op    Op
	// TTL is whole seconds after which the server ends the key. 0 is never for a put, and
	// [TombstoneTTL] for a delete or purge.
	TTL time.Duration
	// If makes the write a compare-and-swap: the server does it only if the key's last revision is
	// *If. A key without one has 0.
	If *uint64
	// Within is how long [Bucket.Write] waits for the answer; 0 is 1.5 seconds.
	Within time.Duration
}

// At is a Write's If: the key's last revision must be rev.
func At(rev uint64) *uint64 { return &rev }

// attempt bounds one request to the server. The server never answers a request that is lost, as in
// a change of leader: a caller that has more time asks again.
const attempt = 1500 * time.Millisecond

// Write does one write, and returns its revision when the server has acknowledged it. The error
// wraps [ErrConflict] if a compare-and-swap lost, or [ErrTooLarge], or is one of [Bucket.Ensure].
// After a time-out the write may have happened, or may happen yet.
func (b *Bucket) Write(ctx context.Context, w Write) (revision uint64, err error) {
	err = b.Do(ctx, cmp.Or(w.Within, attempt), func(ctx context.Context) error {
		ack, err := b.own.js.PublishMsg(ctx, b.message(w), w.options()...)
		if err == nil {
			revision = ack.Sequence
		}
		return err
	}, b.target(w.Key))
	return revision, b.failed(w, err)
}

// failed adds to an error which write failed, and remembers a refusal.
func (b *Bucket) failed(w Write, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrPermission) {
		b.remember(kind(w.Key))
	}
	return fmt.Errorf("tenant: %s %s: %w", w.Op, w.Key, err)
}

func (b *Bucket) message(w Write) *nats.Msg {
	msg := nats.NewMsg(b.target(w.Key))
	msg.Data = w.Value
	switch w.Op {
	case Delete:
		msg.Header.Set("KV-Operation", "DEL")
	case Purge:
		msg.Header.Set("KV-Operation", "PURGE")
	}
	return msg
}

func (w Write) options() []jetstream.PublishOpt {
	var opts []jetstream.PublishOpt
	ttl := w.TTL
	if ttl == 0 && w.Op != Put {
		ttl = TombstoneTTL
	}
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL(ttl))
	}
	if w.If != nil {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(*w.If))
	}
	return opts
}

// underWay is how many writes of one WriteAll wait for their answers at once.
const underWay = 1024

// WriteAll does many writes at once, in no order, for less than each of them alone. revisions[i]
// and errs[i] are what ws[i] came to. The errors are those of [Bucket.Write].
func (b *Bucket) WriteAll(ctx context.Context, ws []Write) (revisions []uint64, errs []error) {
	revisions, errs = make([]uint64, len(ws)), make([]error, len(ws))
	js, err := jetstream.New(b.nc, jetstream.WithPublishAsyncTimeout(attempt),
		jetstream.WithPublishAsyncMaxPending(underWay))
	if err == nil {
		defer js.CleanupPublisher()
		b.together(ctx, js, ws, revisions, errs)
	}
	for i, w := range ws {
		if errors.Is(errs[i], ErrPermission) && ctx.Err() == nil { // of this write, or of another
			revisions[i], errs[i] = b.alone(ctx, js, w)
		}
		if err := cmp.Or(err, errs[i]); err != nil {
			errs[i] = b.failed(w, b.explain(context.WithoutCancel(ctx), err))
		}
	}
	return revisions, errs
}

// together does writes that wait for their answers together. If the server refuses one, each write
// that has no answer yet ends with that refusal.
func (b *Bucket) together(
	ctx context.Context, js jetstream.JetStream, ws []Write, revisions []uint64, errs []error,
) {
	subjects, acks := make([]string, len(ws)), make([]jetstream.PubAckFuture, len(ws))
	for i, w := range ws {
		subjects[i] = b.target(w.Key)
	}
	ctx, cancel := b.try(ctx, attempt*time.Duration(2+len(ws)/underWay), subjects...)
	defer cancel()
	down := b.AwaitConnected(ctx)
	settle := func(i int) {
		if acks[i] != nil {
			revisions[i], errs[i] = await(ctx, acks[i])
		}
	}
	for i, w := range ws {
		if i >= underWay {
			settle(i - underWay)
		}
		if errs[i] = cmp.Or(down, context.Cause(ctx)); errs[i] == nil {
			acks[i], errs[i] = js.PublishMsgAsync(b.message(w), w.options()...)
		}
	}
	for i := max(0, len(ws)-underWay); i < len(ws); i++ {
		settle(i)
	}
}

// alone does one write, and notices at once if the server refuses it: the refusal comes before the
// answer to a later request.
func (b *Bucket) alone(
	ctx context.Context, js jetstream.JetStream, w Write,
) (revision uint64, err error) {
	before := b.nc.LastError()
	ctx, cancel := b.try(ctx, attempt, b.target(w.Key))
	defer cancel()
	ack, err := js.PublishMsgAsync(b.message(w), w.options()...)
	if err == nil && b.nc.FlushWithContext(ctx) == nil {
		err = b.refusal(before, b.target(w.Key))
	}
	if err != nil {
		return 0, err
	}
	return await(ctx, ack)
}

// await waits for the answer to a write.
func await(ctx context.Context, ack jetstream.PubAckFuture) (revision uint64, err error) {
	select {
	case a := <-ack.Ok():
		return a.Sequence, nil
	case err := <-ack.Err():
		if errors.Is(err, jetstream.ErrAsyncPublishTimeout) {
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return 0, err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// PurgeAt ends the keys of entries, each only if it still has the entry's revision. A key that has
// another one is left alone, and is no error. PurgeAt returns how many keys it ended.
//
// A nats-server (2.15.2) that was killed brings back a deleted key whose tombstone had ended. In a
// cluster that replica alone shows the key then, and the leader has none. So PurgeAt tries a key
// whose revision is another as a key without one: that ends it on every replica.
func (b *Bucket) PurgeAt(ctx context.Context, entries []Entry) (purged int, err error) {
	ws := make([]Write, len(entries))
	for i, e := range entries {
		ws[i] = Write{Key: e.Key, Op: Purge, If: At(e.Revision)}
	}
	purged, conflicts, err := b.purge(ctx, ws)
	for i := range conflicts {
		conflicts[i].If = At(0)
	}
	more, _, again := b.purge(ctx, conflicts)
	return purged + more, cmp.Or(err, again)
}

// purge does writes, and returns those that were in conflict.
func (b *Bucket) purge(ctx context.Context, ws []Write) (purged int, conflicts []Write, err error) {
	if len(ws) == 0 {
		return 0, nil, nil
	}
	_, errs := b.WriteAll(ctx, ws)
	for i, e := range errs {
		switch {
		case e == nil:
			purged++
		case errors.Is(e, ErrConflict):
			conflicts = append(conflicts, ws[i])
		case err == nil:
			err = e
		}
	}
	return purged, conflicts, err
}
