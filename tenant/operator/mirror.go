package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/internal/stream"
)

// MakeMirror makes a mirror of a tenant's bucket in the JetStream of the connection's leaf node,
// and so in the leaf node's domain. The bucket must be there already, in the hub's domain. A
// mirror of a bucket that was deleted and recreated since is replaced. The error wraps
// [tenant.ErrInvalidTenant], [tenant.ErrInvalidConfig], [tenant.ErrBucketNotFound],
// [tenant.ErrBucketMismatch] or [tenant.ErrPermission].
func MakeMirror(ctx context.Context, nc *nats.Conn, name, hubDomain string) error {
	api, err := apiOf(hubDomain)
	if err != nil {
		return err
	}
	return with(ctx, nc, "mirror "+name, name, tenant.Config{},
		func(ctx context.Context, b bucket) error {
			return b.mirror(ctx, nc, api)
		})
}

// mirror makes the mirror of the bucket that has its API at a prefix.
func (b bucket) mirror(ctx context.Context, nc *nats.Conn, api string) error {
	hub, err := jetstream.NewWithAPIPrefix(nc, api)
	if err != nil {
		return err
	}
	var origin jetstream.Stream
	err = b.Do(ctx, requestTime, func(ctx context.Context) (err error) {
		origin, err = hub.Stream(ctx, b.stream)
		return b.unmade(err)
	}, api+".STREAM.INFO."+b.stream)
	if err != nil {
		return err
	}
	info := origin.CachedInfo()
	if wrong := stream.Wrong(info.Config); wrong != nil {
		return fmt.Errorf("%w: the hub's %s: %s",
			tenant.ErrBucketMismatch, b.Name(), strings.Join(wrong, "; "))
	}
	cfg := stream.Mirror(b.Name(), api, info.Created)
	have, err := b.js.Stream(ctx, b.stream)
	if err == nil {
		if keep, err := b.keeps(have.CachedInfo().Config, cfg); keep || err != nil {
			return err
		}
		err = b.js.DeleteStream(ctx, b.stream) // it mirrors a bucket that was deleted
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	_, err = stream.Create(ctx, b.js, cfg)
	return err
}

// keeps reports whether the stream that is there is the mirror that is wanted.
func (b bucket) keeps(have, want jetstream.StreamConfig) (bool, error) {
	if have.Mirror == nil {
		return false, fmt.Errorf("%w: %s is a bucket of its own in this domain",
			tenant.ErrBucketMismatch, b.Name())
	}
	external := have.Mirror.External
	if !stream.Made(have).Equal(stream.Made(want)) || external == nil ||
		external.APIPrefix != want.Mirror.External.APIPrefix {
		return false, nil
	}
	if wrong := stream.WrongMirror(b.Name(), have); wrong != nil {
		return false, fmt.Errorf("%w: %s",
			tenant.ErrBucketMismatch, stream.WrongMirrorText(b.Name(), wrong))
	}
	return true, nil
}
