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

// room is what a bucket with limits has left, as the server last said.
type room struct {
	limited atomic.Bool   // the bucket has a limit
	account atomic.Bool   // the account's storage has a limit
	turn    chan struct{} // holds one token; its holder may use what follows

	asked time.Time
	keys  level // of the bucket, with those that were let in since asked
	bytes level // of the bucket, or of the account if that has fewer left
}

// level is how much of something there is, and how much there may be.
type level struct {
	what       string
	have, most int64
	spare      int64 // beyond most, for keys that are there already
}

// fits reports whether n more fit. A write that adds nothing may use the spare part.
func (l level) fits(n int64) bool {
	if n <= 0 {
		return l.have < l.most+l.spare
	}
	return l.have+n <= l.most
}

// roomTime is how long an answer is good for: many that register at once share one.
const roomTime = 250 * time.Millisecond

// overhead is about what a message takes on disk beside its value.
const overhead = 150

// Room returns an error that wraps [ErrStorageFull] if the bucket has no room for a value of size
// bytes at a key: it has all the keys that it may have, or less than a tenth of its bytes, or of
// the account's, would be left. A caller that adds a key, or makes its value larger, asks first: a
// cluster refuses heartbeats in a full stream, as each server does in a full account, and every
// registration would end.
//
// Room lets a key that is there use some of the spare part. It sends nothing if there is no limit.
// It returns nil if the server does not answer or ctx ends: the write will tell.
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

// take takes what a write adds, if there is room for it.
func (b *Bucket) take(ctx context.Context, keys, bytes int64) error {
	r := &b.room
	select {
	case <-r.turn:
		defer func() { r.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil
	}
	if time.Since(r.asked) > roomTime {
		if err := b.measure(ctx); errors.Is(err, ErrPermission) {
			return err
		}
	}
	full, more := r.keys, keys
	if full.fits(keys) {
		full, more = r.bytes, bytes
	}
	if !full.fits(more) {
		return fmt.Errorf("%w for bucket %s: of %d %s that it may use it has %d, "+
			"and this takes %d; raise the limit, or register less",
			ErrStorageFull, b.name, full.most, full.what, full.have, more)
	}
	r.keys.have += keys
	r.bytes.have += max(0, bytes)
	return nil
}

// measure asks how much room there is. What it does not learn has no limit until it asks again.
func (b *Bucket) measure(ctx context.Context) error {
	r := &b.room
	r.keys, r.bytes = level{most: math.MaxInt64}, level{most: math.MaxInt64}
	defer func() { r.asked = time.Now() }()
	return b.Do(ctx, attempt, func(ctx context.Context) error {
		leader := b.leads.Load()
		s, err := leader.js.Stream(ctx, b.stream)
		if err != nil {
			return err
		}
		info := s.CachedInfo()
		if most := stream.KeysOf(info.Config); most > 0 {
			r.keys = level{"keys", int64(info.State.Msgs), most, (info.Config.MaxMsgs - most) / 2}
		}
		if most := info.Config.MaxBytes; most > 0 {
			r.bytes = level{"bytes", int64(info.State.Bytes), most - most/10, most / 20}
		}
		if !r.account.Load() {
			return nil
		}
		account, err := leader.js.AccountInfo(ctx)
		if err != nil {
			return err
		}
		have, most := storage(account, info.Config.Replicas)
		if most > 0 && most-most/10-have < r.bytes.most-r.bytes.have {
			r.bytes = level{"bytes of the account's", have, most - most/10, most / 20}
		}
		return nil
	}, b.api("STREAM.INFO"), b.leads.Load().api+".INFO")
}

// learn takes a stream's configuration that was just read: somebody may have set limits since
// [Bucket.Ensure].
func (b *Bucket) learn(cfg jetstream.StreamConfig) {
	b.room.limited.Store(cfg.MaxMsgs > 0 || cfg.MaxBytes > 0)
}

// storage returns what an account has stored and may store, in bytes of a bucket with that many
// replicas. most is not positive if there is no limit.
func storage(a *jetstream.AccountInfo, replicas int) (have, most int64) {
	n := int64(max(1, replicas))
	have, most = int64(a.Store), a.Limits.MaxStore/n // an account's limit is for all replicas
	if tier, ok := a.Tiers[fmt.Sprintf("R%d", n)]; ok {
		have, most = int64(tier.Store), tier.Limits.MaxStore // a tier's is for each
	}
	return have / n, most
}
