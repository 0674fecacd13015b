package kvregistry

import (
	"context"
	"errors"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// crash ends the registry, and does at once what happens within a TTL after the death of its
// process: the lease ends, and everything that it wrote is purged, as a reaper does it. What it
// holds exclusively ends.
func crash(ctx context.Context, r *Registry) error {
	err := r.finish(ctx, func() error {
		r.own.Shut()
		err := errors.Join(r.lines.Close(ctx), r.keeper.Close(ctx, true))
		r.stop()
		return err
	})
	return wrap("crash", errors.Join(err, purgeOwn(ctx, r)))
}

// purgeOwn purges each registration that this registry wrote and that no newer owner took over.
func purgeOwn(ctx context.Context, r *Registry) error {
	var own []tenant.Entry
	err := watcher.Read(ctx, r.bucket, tenant.AllServices, watcher.Config{
		Apply: func(changes []watcher.Change, _ *watcher.Snapshot) {
			for _, ch := range changes {
				if ch.Op == tenant.Put && wire.HeadOf(ch.Value).Owner == r.id {
					own = append(own, tenant.Entry{Key: ch.Key, Revision: ch.Revision})
				}
			}
		},
	})
	if err == nil {
		_, err = r.bucket.PurgeAt(ctx, own)
	}
	return err
}
