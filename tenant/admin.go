package tenant

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
)

// adminTime bounds a request of an administrator.
const adminTime = 10 * time.Second

// Info is what a server says of a tenant's bucket.
type Info struct {
	Tenant   string
	Keys     uint64 // registrations, leases and what says that some have ended
	Bytes    uint64 // on disk, of each replica
	MaxBytes int64  // 0 where there is no limit, as is
	MaxKeys  int64
	Replicas int

	Advice []string // what should be changed about the bucket and its server, as [Bucket.Advice]
}

// Provision makes a tenant's bucket, or checks the one that is there. Of that one it changes the
// duplicate window alone, if it is longer than in a new bucket. A registry that may make its bucket
// does so itself; this is for an operator whose services may not. Errors are those of [New],
// [Bucket.Ensure] and [Change].
func Provision(ctx context.Context, nc *nats.Conn, tenant string, cfg Config) error {
	b, err := New(nc, tenant, cfg)
	if err != nil {
		return err
	}
	if err := b.Ensure(ctx); err != nil {
		return err
	}
	if have := b.found.Load(); have == nil || have.Duplicates <= duplicateWindow || b.mirrored() {
		return nil
	}
	return Change(ctx, nc, tenant, Config{})
}

// Remove deletes a tenant's bucket with all that is in it. Services of the tenant that go on make it anew, where they may. The error wraps
// [ErrInvalidTenant], [ErrBucketNotFound] or [ErrPermission].
func Remove(ctx context.Context, nc *nats.Conn, tenant string) error {
	b, err := New(nc, tenant, Config{})
	if err != nil {
		return err
	}
	ctx, cancel := b.Try(ctx, adminTime, "$JS.API.STREAM.DELETE."+b.Stream())
	defer cancel()
	if err := b.own.js.DeleteKeyValue(ctx, b.name); err != nil {
		return fmt.Errorf("tenant: delete %s: %w", tenant, b.Explain(ctx, err))
	}
	return nil
}

// List are the tenants of the account, by name. It needs a user who may ask for all of the account's streams: no role may. The error
// wraps [ErrPermission] where this one may not.
func List(ctx context.Context, nc *nats.Conn) ([]Info, error) {
	b, err := New(nc, "default", Config{}) // for its words for errors
	if err != nil {
		return nil, err
	}
	ctx, cancel := b.Try(ctx, adminTime, "$JS.API.STREAM.LIST")
	defer cancel()
	var list []Info
	stores := b.own.js.KeyValueStores(ctx)
	for s := range stores.Status() {
		if info, ok := infoOf(s, nc.ConnectedServerVersion()); ok {
			list = append(list, info)
		}
	}
	if err := stores.Error(); err != nil {
		if errors.Is(context.Cause(ctx), ErrPermission) {
			return nil, fmt.Errorf("tenant: list: %w: this user may not see the account's streams ($JS.API.STREAM.LIST)", ErrPermission)
		}
		return nil, fmt.Errorf("tenant: list: %w", b.Explain(ctx, err))
	}
	slices.SortFunc(list, func(a, b Info) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return list, nil
}

func infoOf(s jetstream.KeyValueStatus, version string) (Info, bool) {
	tenant, ok := strings.CutPrefix(s.Bucket(), "registry_")
	status, isStatus := s.(*jetstream.KeyValueBucketStatus)
	if _, err := BucketName(tenant); !ok || !isStatus || err != nil {
		return Info{}, false
	}
	stream := status.StreamInfo()
	return Info{
		Tenant: tenant, Keys: stream.State.Msgs, Bytes: stream.State.Bytes, MaxBytes: max(0, stream.Config.MaxBytes), MaxKeys: keysOf(stream.Config), Replicas: stream.Config.Replicas,
		Advice: advise(version, s.Bucket(), stream.Config),
	}, true
}
