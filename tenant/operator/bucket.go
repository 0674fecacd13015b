package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/internal/stream"
)

// requestTime bounds what one call asks of the server.
const requestTime = 10 * time.Second

// Unlimited is a limit of [Change] that takes the limit away.
const Unlimited = -1

// bucket is a tenant's bucket and the connection's JetStream, for one call of this package.
type bucket struct {
	*tenant.Bucket
	js     jetstream.JetStream
	stream string // the name of the bucket's stream
}

// with runs do once the connection is up. Its errors say what it was about, except those of
// tenant.New: what may hold a name that is not checked yet.
func with(
	ctx context.Context, nc *nats.Conn, what, name string, cfg tenant.Config,
	do func(context.Context, bucket) error,
) error {
	b, err := tenant.New(nc, name, cfg)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("operator: %w", err)
	}
	s := stream.Name(b.Name())
	var subjects []string
	for _, op := range []string{"INFO.", "CREATE.", "UPDATE.", "DELETE."} {
		subjects = append(subjects, stream.API+".STREAM."+op+s)
	}
	err = b.Do(ctx, requestTime, func(ctx context.Context) error {
		return do(ctx, bucket{b, js, s})
	}, append(subjects, stream.API+".STREAM.LIST")...)
	if err != nil {
		return fmt.Errorf("operator: %s: %w", what, err)
	}
	return nil
}

// Provision makes a tenant's bucket, or checks the one that is there. Of that one it changes the
// duplicate window alone, if it is longer than in a new bucket, and the metadata for monitors, if
// there is none. A registry that may make its bucket does so itself; this is for an operator whose
// services may not. Errors are those of
// [tenant.New], [tenant.Bucket.Ensure] and [Change].
func Provision(ctx context.Context, nc *nats.Conn, name string, cfg tenant.Config) error {
	b, err := tenant.New(nc, name, cfg)
	if err == nil {
		err = b.Ensure(ctx)
	}
	if err != nil {
		return err
	}
	var old bool
	err = with(ctx, nc, "provision "+name, name, tenant.Config{},
		func(ctx context.Context, b bucket) error {
			s, err := b.js.Stream(ctx, b.stream)
			if errors.Is(err, jetstream.ErrStreamNotFound) { // it is the hub's, without a mirror
				return nil
			}
			if err == nil {
				have := s.CachedInfo().Config
				old = have.Mirror == nil &&
					(have.Duplicates > stream.DuplicateWindow || !stream.Watched(have))
			}
			return err
		})
	if err != nil || !old {
		return err
	}
	return Change(ctx, nc, name, tenant.Config{})
}

// Remove deletes a tenant's bucket with everything in it. Services of the tenant that still run
// recreate it if they may. The error wraps [tenant.ErrInvalidTenant], [tenant.ErrBucketNotFound]
// or [tenant.ErrPermission].
func Remove(ctx context.Context, nc *nats.Conn, name string) error {
	return with(ctx, nc, "delete "+name, name, tenant.Config{},
		func(ctx context.Context, b bucket) error {
			return b.js.DeleteStream(ctx, b.stream)
		})
}

// Info is what a server says of a tenant's bucket.
type Info struct {
	Tenant   string
	Keys     uint64 // registrations, leases and the messages that say that some have ended
	Bytes    uint64 // on disk, of each replica
	MaxBytes int64  // 0: no limit
	MaxKeys  int64  // 0: no limit
	Replicas int

	Advice []string // see tenant.Bucket.Advice
}

// List returns the tenants of the account, by name. It needs a user that may ask for all of the
// account's streams, which no role allows. The error wraps [tenant.ErrPermission] if the user may
// not.
func List(ctx context.Context, nc *nats.Conn) (list []Info, err error) {
	err = with(ctx, nc, "list", "default", tenant.Config{},
		func(ctx context.Context, b bucket) error {
			streams := b.js.ListStreams(ctx, jetstream.WithStreamListSubject("$KV.*.>"))
			for s := range streams.Info() {
				if info, ok := infoOf(s, nc.ConnectedServerVersion()); ok {
					list = append(list, info)
				}
			}
			return streams.Err()
		})
	switch {
	case errors.Is(err, tenant.ErrPermission):
		return nil, fmt.Errorf("operator: list: %w: "+
			"this user may not see the account's streams (%s.STREAM.LIST)",
			tenant.ErrPermission, stream.API)
	case err != nil:
		return nil, err
	}
	slices.SortFunc(list, func(a, b Info) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return list, nil
}

func infoOf(s *jetstream.StreamInfo, version string) (Info, bool) {
	name, ok := strings.CutPrefix(s.Config.Name, stream.Name("registry_"))
	bucket, err := tenant.BucketName(name)
	if !ok || err != nil {
		return Info{}, false
	}
	return Info{
		Tenant: name, Keys: s.State.Msgs, Bytes: s.State.Bytes, MaxBytes: max(0, s.Config.MaxBytes),
		MaxKeys: stream.KeysOf(s.Config), Replicas: s.Config.Replicas,
		Advice: stream.Advice(version, bucket, s.Config),
	}, true
}

// Change sets the limits and the replicas of a tenant's bucket that is there. A field of cfg that
// is 0 stays as it is, and [Unlimited] takes a limit of keys, bytes or values away. A limit below
// what the bucket holds now would end registrations, and is refused. Change also gives a bucket
// without a limit of consumers one, shortens a duplicate window that is longer than in a new
// bucket, and sets the metadata for monitors. Registries that observe or registered something know
// of new limits within a TTL. The error wraps [tenant.ErrInvalidTenant], [tenant.ErrInvalidConfig],
// [tenant.ErrBucketNotFound], [tenant.ErrPermission] or [tenant.ErrStorageFull].
func Change(ctx context.Context, nc *nats.Conn, name string, cfg tenant.Config) error {
	asked := cfg
	asked.MaxBytes, asked.MaxKeys = max(0, cfg.MaxBytes), max(0, cfg.MaxKeys)
	asked.MaxValue = max(0, cfg.MaxValue)
	return with(ctx, nc, "change "+name, name, asked, func(ctx context.Context, b bucket) error {
		return b.change(ctx, cfg)
	})
}

// unmade adds the remedy to the error of a bucket that does not exist.
func (b bucket) unmade(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: %s; make it: kvregistry tenant create %s", tenant.ErrBucketNotFound,
			b.Name(), strings.TrimPrefix(b.Name(), "registry_"))
	}
	return err
}

func (b bucket) change(ctx context.Context, want tenant.Config) error {
	s, err := b.js.Stream(ctx, b.stream)
	if err != nil {
		return b.unmade(err)
	}
	info := s.CachedInfo()
	cfg := info.Config
	if cfg.Mirror != nil {
		return fmt.Errorf("%w: this is a mirror: change the hub's bucket", tenant.ErrInvalidConfig)
	}
	if keys := int64(info.State.Msgs); want.MaxKeys > 0 && want.MaxKeys < keys {
		return fmt.Errorf("%w: %d keys; it has %d now", tenant.ErrInvalidConfig, want.MaxKeys, keys)
	}
	if n := int64(info.State.Bytes); want.MaxBytes > 0 && want.MaxBytes-want.MaxBytes/10 < n {
		return fmt.Errorf("%w: %d bytes, of which a tenth is kept for heartbeats; it has %d now",
			tenant.ErrInvalidConfig, want.MaxBytes, n)
	}
	if want.MaxKeys != 0 {
		stream.LimitKeys(&cfg, want.MaxKeys)
	}
	cfg.MaxBytes = cmp.Or(want.MaxBytes, cfg.MaxBytes)
	cfg.MaxMsgSize = cmp.Or(int32(want.MaxValue), cfg.MaxMsgSize)
	cfg.Replicas = cmp.Or(want.Replicas, cfg.Replicas)
	cfg.Duplicates = min(cfg.Duplicates, stream.DuplicateWindow)
	stream.Watch(&cfg)
	if cfg.MaxConsumers <= 0 { // somebody made it by hand, or an earlier version did
		more := cfg
		more.MaxConsumers = stream.MaxConsumers
		if _, err := b.js.UpdateStream(ctx, more); err == nil {
			return nil
		} // the account may allow fewer; a server before 2.15 refuses the change
	}
	_, err = b.js.UpdateStream(ctx, cfg)
	return err
}
