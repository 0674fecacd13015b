package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// Deregister removes the registration of an instance whose owner is dead: its lease is gone, or the
// registration names none. With force it removes that of a living owner, too, which writes it again
// as soon as it sees that. It removes what it has read, and never a newer registration.
//
// The error wraps [ErrNotFound], [ErrAlive], [ErrChanged], [tenant.ErrPermission] or ctx's error.
func Deregister(ctx context.Context, b *tenant.Bucket, service, id string, force bool) error {
	return wrap(service, id, deregister(ctx, b, service, id, force))
}

func deregister(ctx context.Context, b *tenant.Bucket, service, id string, force bool) error {
	r, err := read(ctx, b, service, id)
	if err != nil {
		return err
	}
	if r.alive && !force {
		return fmt.Errorf("%w: %s; to take the instance out of the calls, use kvregistry drain",
			ErrAlive, process(r.owner))
	}
	return r.remove(ctx, b)
}

// remove removes a registration, if it is still the one that was read.
func (r *registration) remove(ctx context.Context, b *tenant.Bucket) error {
	_, err := b.Write(ctx, tenant.Write{Key: r.key, Op: tenant.Purge, If: tenant.At(r.revision),
		Value: wire.NewRemoval("kvregistry deregister")})
	if errors.Is(err, tenant.ErrConflict) {
		return fmt.Errorf("%w: look again whose it is (%w)", ErrChanged, err)
	}
	return err
}
