package tenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvregistry/go/tenant/internal/stream"
)

// askTime bounds the wait for a user's permissions.
const askTime = time.Second

// MayWrite returns an error that wraps [ErrPermission] if this user may not write a key. It asks
// the server, except if the server refused a write of the same kind of key on this connection,
// less than 10 minutes ago. It returns nil if the server does not say.
func (b *Bucket) MayWrite(ctx context.Context, key string) error {
	if what := kind(key); !b.isRefused(what) {
		if b.may(ctx, b.target(key)) {
			return nil
		}
		b.remember(what)
	}
	return fmt.Errorf("%w: this user may not write %s", ErrPermission, key)
}

// may reports whether this user may publish to a subject, as far as the server says.
func (b *Bucket) may(ctx context.Context, subject string) bool {
	if b.isRefused(permissions) {
		return true
	}
	ctx, cancel := b.try(ctx, askTime, stream.UserInfo)
	defer cancel()
	user, err := stream.AskUser(ctx, b.nc, 0)
	if errors.Is(context.Cause(ctx), ErrPermission) {
		b.remember(permissions)
	}
	return err != nil || user.Publish.Include(subject)
}
