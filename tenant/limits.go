package tenant

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxKeys is the name, in the metadata of a bucket's stream, of how many keys it may have.
const maxKeys = "kvregistry.max_keys"

// spareKeys is how many messages a server takes beyond twice a bucket's limit of keys. In a cluster, what is being written counts twice until it has taken the place of
// what was there; and processes that lost their leases, all of them at worst, take new ones, while the old ones' markers stay.
const spareKeys = 1000

// Unlimited is a limit of [Change] that takes one away.
const Unlimited = -1

// largest is the largest limit that there may be, in keys or bytes: it can be multiplied by the replicas.
const largest = 1 << 60

// limitKeys sets how many keys a bucket may have.
func limitKeys(cfg *jetstream.StreamConfig, n int64) {
	if n <= 0 {
		cfg.MaxMsgs = -1
		delete(cfg.Metadata, maxKeys)
		return
	}
	if cfg.Metadata == nil {
		cfg.Metadata = map[string]string{}
	}
	cfg.MaxMsgs, cfg.Metadata[maxKeys] = 2*n+spareKeys, strconv.FormatInt(n, 10)
}

// keysOf is how many keys a bucket may have, 0 where there is no limit. Of a limit of the stream that was set by hand, a tenth is kept for heartbeats.
func keysOf(cfg jetstream.StreamConfig) int64 {
	if cfg.MaxMsgs <= 0 {
		return 0
	}
	keys := max(1, cfg.MaxMsgs-cfg.MaxMsgs/10)
	if n, err := strconv.ParseInt(cfg.Metadata[maxKeys], 10, 64); err == nil && n > 0 {
		keys = min(keys, n)
	}
	return keys
}

// learn takes a stream's configuration from who has just read it: limits may have been set since [Bucket.Ensure].
func (b *Bucket) learn(cfg jetstream.StreamConfig) {
	b.room.limited.Store(cfg.MaxMsgs > 0 || cfg.MaxBytes > 0)
}

// Change sets the limits of a tenant's bucket that is there, and its replicas. What is 0 stays as
// it is, and [Unlimited] takes a limit of keys, bytes or values away. A bucket that has no limit of
// consumers gets one, for a server allows 1,000 then. A longer duplicate window than that of a new
// bucket is shortened. Registries that observe or registered something know of it within a TTL. A
// limit below what the bucket holds now would end what is registered there, and is refused. The
// error wraps [ErrInvalidTenant], [ErrInvalidConfig], [ErrBucketNotFound], [ErrPermission] or
// [ErrStorageFull].
func Change(ctx context.Context, nc *nats.Conn, tenant string, cfg Config) error {
	asked := cfg
	asked.MaxBytes, asked.MaxKeys = max(0, cfg.MaxBytes), max(0, cfg.MaxKeys)
	asked.MaxValue = max(0, cfg.MaxValue)
	b, err := New(nc, tenant, asked)
	if err != nil {
		return err
	}
	ctx, cancel := b.Try(ctx, adminTime, "$JS.API.STREAM.INFO."+b.Stream(), "$JS.API.STREAM.UPDATE."+b.Stream())
	defer cancel()
	if err := b.change(ctx, cfg); err != nil {
		return fmt.Errorf("tenant: change %s: %w", tenant, b.Explain(ctx, err))
	}
	return nil
}

func (b *Bucket) change(ctx context.Context, want Config) error {
	stream, err := b.own.js.Stream(ctx, b.Stream())
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	cfg := info.Config
	if cfg.Mirror != nil {
		return fmt.Errorf("%w: this is a mirror: change the hub's bucket", ErrInvalidConfig)
	}
	if keys := int64(info.State.Msgs); want.MaxKeys > 0 && want.MaxKeys < keys {
		return fmt.Errorf("%w: %d keys; it has %d now", ErrInvalidConfig, want.MaxKeys, keys)
	}
	if bytes := int64(info.State.Bytes); want.MaxBytes > 0 && want.MaxBytes-want.MaxBytes/10 < bytes {
		return fmt.Errorf("%w: %d bytes, of which a tenth is kept for heartbeats; it has %d now", ErrInvalidConfig, want.MaxBytes, bytes)
	}
	if want.MaxKeys != 0 {
		limitKeys(&cfg, want.MaxKeys)
	}
	if want.MaxBytes != 0 {
		cfg.MaxBytes = want.MaxBytes
	}
	if want.MaxValue != 0 {
		cfg.MaxMsgSize = int32(want.MaxValue)
	}
	if want.Replicas != 0 {
		cfg.Replicas = want.Replicas
	}
	cfg.Duplicates = min(cfg.Duplicates, duplicateWindow)
	if cfg.MaxConsumers <= 0 { // it was made by hand, or by an earlier version
		more := cfg
		more.MaxConsumers = maxConsumers
		if _, err := b.own.js.UpdateStream(ctx, more); err == nil {
			return nil
		} // the account may allow fewer, and a server of before 2.15 no change of it
	}
	_, err = b.own.js.UpdateStream(ctx, cfg)
	return err
}
