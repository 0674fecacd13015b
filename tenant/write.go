package tenant

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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

// operations are the values of a KV bucket's header that says what a message does.
var operations = map[Op]string{Delete: "DEL", Purge: "PURGE"}

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
		ack, err := b.own.js.PublishMsg(ctx, b.message(w))
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

// message returns the message of a write.
func (b *Bucket) message(w Write) *nats.Msg {
	msg := nats.NewMsg(b.target(w.Key))
	msg.Data = w.Value
	ttl := w.TTL
	if w.Op != Put {
		msg.Header.Set("KV-Operation", operations[w.Op])
		ttl = cmp.Or(ttl, TombstoneTTL)
	}
	if ttl > 0 {
		msg.Header.Set(jetstream.MsgTTLHeader, ttl.String())
	}
	if w.If != nil {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(*w.If, 10))
	}
	return msg
}

// underWay is how many writes of one WriteAll wait for their answers at once.
const underWay = 1024

// WriteAll does many writes at once, in no order, for less than each of them alone. revisions[i]
// and errs[i] are what ws[i] came to. The errors are those of [Bucket.Write].
func (b *Bucket) WriteAll(ctx context.Context, ws []Write) (revisions []uint64, errs []error) {
	revisions, errs = make([]uint64, len(ws)), make([]error, len(ws))
	b.together(ctx, ws, revisions, errs)
	for i, w := range ws {
		if errors.Is(errs[i], ErrPermission) && ctx.Err() == nil { // of this write, or of another
			revisions[i], errs[i] = b.Write(ctx, w)
		} else {
			errs[i] = b.failed(w, errs[i])
		}
	}
	return revisions, errs
}

// together does writes that wait for their answers together. If the server refuses one, each write
// that has no answer yet ends with that refusal.
//
// The asynchronous publisher of nats.go (v1.55.0) may leave a goroutine when it is closed.
func (b *Bucket) together(ctx context.Context, ws []Write, revisions []uint64, errs []error) {
	subjects := make([]string, len(ws))
	for i, w := range ws {
		subjects[i] = b.target(w.Key)
	}
	ctx, cancel := b.try(ctx, attempt*time.Duration(1+len(ws)/underWay), subjects...)
	defer cancel()
	inbox, answers := b.nc.NewInbox(), make(chan *nats.Msg, underWay)
	err := b.AwaitConnected(ctx)
	if err == nil {
		var sub *nats.Subscription
		if sub, err = b.nc.ChanSubscribe(inbox+".*", answers); err == nil {
			defer func() { _ = sub.Unsubscribe() }() // an error says that it is gone
		}
	}
	sent, waiting := 0, map[string]int{}
	for err == nil && (sent < len(ws) || len(waiting) > 0) {
		if sent < len(ws) && len(waiting) < underWay {
			msg := b.message(ws[sent])
			msg.Reply = inbox + "." + strconv.Itoa(sent)
			if errs[sent] = b.nc.PublishMsg(msg); errs[sent] == nil {
				waiting[msg.Reply] = sent
			}
			sent++
			continue
		}
		select {
		case answer := <-answers:
			if i, ok := waiting[answer.Subject]; ok {
				delete(waiting, answer.Subject)
				revisions[i], errs[i] = acknowledged(answer)
			}
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	for _, i := range waiting {
		errs[i] = err
	}
	for i := sent; i < len(ws); i++ {
		errs[i] = err
	}
	for i := range errs {
		errs[i] = b.explain(ctx, errs[i])
	}
}

// acknowledged returns what the server's answer to a write says.
func acknowledged(answer *nats.Msg) (revision uint64, err error) {
	var ack struct {
		Seq   uint64              `json:"seq"`
		Error *jetstream.APIError `json:"error"`
	}
	switch {
	case len(answer.Data) == 0: // no server has the stream now
		return 0, jetstream.ErrNoStreamResponse
	case json.Unmarshal(answer.Data, &ack) != nil, ack.Seq == 0 && ack.Error == nil:
		return 0, fmt.Errorf("%w: %q", jetstream.ErrInvalidJSAck, answer.Data)
	case ack.Error != nil:
		return 0, ack.Error
	}
	return ack.Seq, nil
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
