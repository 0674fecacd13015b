package tenant

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// room is what a bucket with limits has left, as it was last asked for.
type room struct {
	limited atomic.Bool   // the bucket has a limit
	account atomic.Bool   // the account's storage has
	turn    chan struct{} // has one token; who has it asks, or takes of what follows

	asked time.Time
	keys  level // those of the bucket, and those that were let in since
	bytes level // of the bucket's, or of the account's, where less is left there
}

// level is how much of something there is.
type level struct {
	what       string
	have, most int64
	spare      int64 // of what the server takes beyond most, what may be used for keys that are there already
}

// roomTime is how long an answer is good for: many who register at once share one.
const roomTime = 250 * time.Millisecond

// overhead is about what a message takes on disk besides its value.
const overhead = 150

// Room returns an error that wraps [ErrStorageFull] where the bucket has as many keys as it may, or less than a tenth of its bytes, or of the account's, would be left
// beside a value of a size. Who adds a key, or makes its value larger, asks first: in a stream that is full, a cluster refuses heartbeats too, as any server does in an account that is, and everything
// that is registered there would go. A key that is there already is let take some of what is spared. It sends nothing
// where there is no limit. Where the server does not answer, or ctx ends, the write will tell.
func (b *Bucket) Room(ctx context.Context, key string, size int) error {
	if !b.room.limited.Load() && !b.room.account.Load() {
		return nil
	}
	cost := int64(size) + overhead
	full := b.take(ctx, 1, cost)
	if full == nil || errors.Is(full, ErrPermission) {
		return full
	}
	there, err := b.Last(ctx, key)
	if err != nil || there.Revision == 0 {
		return full
	}
	return b.take(ctx, 0, cost-int64(len(there.Value))-overhead)
}

// take takes what a write adds, where there is room for it.
func (b *Bucket) take(ctx context.Context, keys, bytes int64) error {
	r := &b.room
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil
	}
	if time.Since(r.asked) > roomTime {
		if err := b.measure(ctx); err != nil {
			return err
		}
	}
	if !r.keys.fits(keys) || !r.bytes.fits(bytes) {
		full, more := r.keys, keys
		if full.fits(keys) {
			full, more = r.bytes, bytes
		}
		return fmt.Errorf("%w for bucket %s: of %d %s that it may use it has %d, and this takes %d; raise the limit, or register less",
			ErrStorageFull, b.name, full.most, full.what, full.have, more)
	}
	r.keys.have += keys
	r.bytes.have += max(0, bytes)
	return nil
}

// fits reports whether n more fit. What adds nothing may use what is spared.
func (l level) fits(n int64) bool {
	if n <= 0 {
		return l.have < l.most+l.spare
	}
	return l.have+n <= l.most
}

// measure asks how things stand. What it can't learn has no limit until it is asked again.
func (b *Bucket) measure(ctx context.Context) error {
	ctx, cancel := b.Try(ctx, attempt, b.API("STREAM.INFO"), b.leads.Load().api+".INFO")
	defer cancel()
	r := &b.room
	unlimited := level{most: math.MaxInt64}
	r.keys, r.bytes = unlimited, unlimited
	defer func() { r.asked = time.Now() }()
	s, err := b.JetStream().Stream(ctx, b.Stream())
	if err != nil {
		return denied(ctx)
	}
	info := s.CachedInfo()
	if most := stream.KeysOf(info.Config); most > 0 {
		r.keys = level{"keys", int64(info.State.Msgs), most, (info.Config.MaxMsgs - most) / 2}
	}
	if most := info.Config.MaxBytes; most > 0 {
		r.bytes = level{"bytes", int64(info.State.Bytes), most - most/10, most / 20}
	}
	if !b.room.account.Load() {
		return nil
	}
	account, err := b.JetStream().AccountInfo(ctx)
	if err != nil {
		return denied(ctx)
	}
	if have, most := storage(account, info.Config.Replicas); most > 0 && most-most/10-have < r.bytes.most-r.bytes.have {
		r.bytes = level{"bytes of the account's", have, most - most/10, most / 20}
	}
	return nil
}

// denied is why a request was refused; nil where it failed for another reason.
func denied(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrPermission) {
		return cause
	}
	return nil
}

// storage is what an account has stored and may store, in bytes of a bucket with that many replicas. most is not positive where there is no limit.
func storage(a *jetstream.AccountInfo, replicas int) (have, most int64) {
	n := int64(max(1, replicas))
	have, most = int64(a.Store), a.Limits.MaxStore/n // an account's own limit is for all replicas together,
	if tier, ok := a.Tiers[fmt.Sprintf("R%d", n)]; ok {
		have, most = int64(tier.Store), tier.Limits.MaxStore // and a tier's for each
	}
	return have / n, most
}
