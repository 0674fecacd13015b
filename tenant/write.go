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

// Op is what a message does to its key. A delete is a registration's graceful end, a purge its end
// with its lease. The server alone expires a key.
type Op uint8

const (
	Put Op = iota
	Delete
	Purge
	Expire // the key's TTL ended, and the server's marker stands in its place
)

func (o Op) String() string { return [...]string{"put", "delete", "purge", "expire"}[o] }

// Write is one write to a bucket.
type Write struct {
	Key   string
	Value []byte
	Op    Op
	TTL   time.Duration // whole seconds after which the server ends the key; 0: never, [TombstoneTTL] for a delete or purge
	// If makes the write a compare-and-swap: it is done only where the key's last revision is *If, 0 being
	// a key without one.
	If *uint64
}

// At is a Write's If: the key's last revision must be rev.
func At(rev uint64) *uint64 { return &rev }

// attempt bounds one request to the server. One that is lost, as in a change of leader, is never answered: who has
// more time asks again.
const attempt = 1500 * time.Millisecond

// Write writes, and returns the revision of the write when the server has acknowledged it. Where it was a
// compare-and-swap that lost, the error wraps [ErrConflict]; other errors are those of [Bucket.Ensure], and
// [ErrTooLarge]. After a time-out the write may have happened, or may happen yet.
func (b *Bucket) Write(ctx context.Context, w Write) (revision uint64, err error) {
	return b.WriteWithin(ctx, attempt, w)
}

// WriteWithin is [Bucket.Write] for a caller that waits for a late answer, for as long as limit.
func (b *Bucket) WriteWithin(ctx context.Context, limit time.Duration, w Write) (revision uint64, err error) {
	ctx, cancel := b.Try(ctx, limit, b.target(w.Key))
	defer cancel()
	if err := b.AwaitConnected(ctx); err != nil {
		return 0, fmt.Errorf("tenant: %w", err)
	}
	ack, err := b.own.js.PublishMsg(ctx, b.message(w), w.options()...)
	if err != nil {
		return 0, fmt.Errorf("tenant: %s %s: %w", w.Op, w.Key, b.Explain(ctx, err))
	}
	return ack.Sequence, nil
}

// Create writes a key that has no value: it never was, or it ended and only what says so stands. The error
// wraps [ErrConflict] where it has one.
func (b *Bucket) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (revision uint64, err error) {
	if err := b.await(ctx); err != nil {
		return 0, fmt.Errorf("tenant: create %s: %w", key, err)
	}
	w := Write{Key: key, Value: value, TTL: ttl, If: At(0)}
	revision, err = b.Write(ctx, w)
	if !errors.Is(err, ErrConflict) {
		return revision, err
	}
	last, readErr := b.Last(ctx, key)
	if readErr != nil {
		return 0, readErr
	}
	if last.Op == Put && last.Revision > 0 {
		return 0, err
	}
	w.If = At(last.Revision)
	return b.Write(ctx, w)
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

// WriteAll does the writes, many at once and in no order, for less than each of them alone. It returns what each came to: revisions[i] or
// errs[i] is of ws[i]. The errors are those of [Bucket.Write].
func (b *Bucket) WriteAll(ctx context.Context, ws []Write) (revisions []uint64, errs []error) {
	revisions, errs = make([]uint64, len(ws)), make([]error, len(ws))
	js, err := jetstream.New(b.nc, jetstream.WithPublishAsyncTimeout(attempt), jetstream.WithPublishAsyncMaxPending(underWay))
	if err == nil {
		defer js.CleanupPublisher()
		b.together(ctx, js, ws, revisions, errs)
	}
	for i, w := range ws {
		if errors.Is(errs[i], ErrPermission) && ctx.Err() == nil { // it, or one of the others
			revisions[i], errs[i] = b.alone(ctx, js, w)
		}
		if err := cmp.Or(err, errs[i]); err != nil {
			errs[i] = fmt.Errorf("tenant: %s %s: %w", w.Op, w.Key, b.Explain(context.WithoutCancel(ctx), err))
		}
	}
	return revisions, errs
}

// together does writes that wait for their answers together. Where the server refuses one, all that have no answer yet end with that.
func (b *Bucket) together(ctx context.Context, js jetstream.JetStream, ws []Write, revisions []uint64, errs []error) {
	subjects, acks := make([]string, len(ws)), make([]jetstream.PubAckFuture, len(ws))
	for i, w := range ws {
		subjects[i] = b.target(w.Key)
	}
	ctx, cancel := b.Try(ctx, attempt*time.Duration(2+len(ws)/underWay), subjects...)
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

// alone does one write, and knows whether that is what the server refuses as soon as it does: a refusal comes before what answers to a later request.
func (b *Bucket) alone(ctx context.Context, js jetstream.JetStream, w Write) (revision uint64, err error) {
	ctx, cancel := b.Try(ctx, attempt, b.target(w.Key))
	defer cancel()
	ack, err := js.PublishMsgAsync(b.message(w), w.options()...)
	if err != nil {
		return 0, err
	}
	if b.nc.FlushWithContext(ctx) == nil {
		b.judgeAll()
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

// PurgeAt ends the given entries' keys, each only where it still has the revision that was read. An entry
// that has moved on is left alone, and is no error. It returns how many it ended.
//
// A nats-server (2.15.2) that was killed brings back what was deleted, once what said so has ended, and in a cluster it is then the one replica that shows it: its leader has no such key. So where the revision is
// another, it is tried whether the key has none: what ends it there ends it on every replica, and what has moved on has one.
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
