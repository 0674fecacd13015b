package tenant

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// spareKeys is how many messages a server takes beyond a bucket's limit of keys: in a cluster, what is being written counts twice
// until it has taken the place of what was there.
const spareKeys = 1000

// room is what a bucket with limits has left, as it was last asked for.
type room struct {
	sync.Mutex
	limited bool // the bucket has a limit, as Ensure found it
	asked   time.Time
	full    error // why there was none
	left    int64 // keys that there was room for, less those that were added since
}

// roomTime is how long an answer is good for: many who register at once share one.
const roomTime = 250 * time.Millisecond

// Room returns an error that wraps [ErrStorageFull] where the bucket has as many keys as it may, or less than a tenth of its bytes is left. Who adds a
// key asks first: in a stream that is full, a cluster refuses heartbeats too, and everything that is registered there would go. It sends nothing
// where Ensure found no limit; where the server does not answer, the write will tell.
func (b *Bucket) Room(ctx context.Context) error {
	b.room.Lock()
	defer b.room.Unlock()
	if !b.room.limited {
		return nil
	}
	if fresh := time.Since(b.room.asked) < roomTime; fresh && (b.room.full != nil || b.room.left > 0) {
		b.room.left--
		return b.room.full
	}
	ctx, cancel := b.Try(ctx, attempt, "$JS.API.STREAM.INFO."+b.Stream())
	defer cancel()
	stream, err := b.js.Stream(ctx, b.Stream())
	if errors.Is(context.Cause(ctx), ErrPermission) {
		return context.Cause(ctx)
	}
	if err != nil {
		return nil
	}
	b.room.asked = time.Now()
	b.room.left, b.room.full = b.measure(stream.CachedInfo())
	return b.room.full
}

// measure is how many keys may be added besides the one that it is asked for, or why none may.
func (b *Bucket) measure(info *jetstream.StreamInfo) (left int64, full error) {
	const words = "%w for bucket %s: it has %d %s, and may have %d; raise its limit, or register less"
	left = math.MaxInt64
	if most := keysOf(info.Config); most > 0 {
		if left = most - int64(info.State.Msgs) - 1; left < 0 {
			return 0, fmt.Errorf(words, ErrStorageFull, b.name, info.State.Msgs, "keys", most)
		}
	}
	if most := info.Config.MaxBytes; most > 0 && int64(info.State.Bytes) >= most-most/10 {
		return 0, fmt.Errorf(words, ErrStorageFull, b.name, info.State.Bytes, "bytes and keeps a tenth for heartbeats", most)
	}
	return left, nil
}

// keysOf is how many keys a bucket may have by its stream's limit, 0 where there is none. A limit that was set by hand may leave no room to spare.
func keysOf(cfg jetstream.StreamConfig) int64 {
	switch {
	case cfg.MaxMsgs > spareKeys:
		return cfg.MaxMsgs - spareKeys
	case cfg.MaxMsgs > 0:
		return max(1, cfg.MaxMsgs-cfg.MaxMsgs/10)
	}
	return 0
}

// limits notes whether there are any.
func (b *Bucket) limits(cfg jetstream.StreamConfig) {
	b.room.Lock()
	defer b.room.Unlock()
	b.room.limited = cfg.MaxMsgs > 0 || cfg.MaxBytes > 0
	b.room.asked, b.room.full = time.Time{}, nil
}
