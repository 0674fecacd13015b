package kvregistry

import (
	"context"
	"errors"
	"fmt"

	"github.com/kvregistry/go/lease/line"
	"github.com/kvregistry/go/tenant"
)

// Hold is a name that this process holds, and no other process, from when [Registry.Exclusive]
// returned it until its Done closes. A bucket that is deleted meanwhile is an exception: see
// [Registry.Exclusive]. Its methods may be called by any number of goroutines:
//
//   - Name and Token give the name, and the fencing token, which is higher than that of each
//     earlier hold.
//   - Done closes when the name is not held any more; Err then wraps [ErrNotHeld], and
//     [ErrLeaseLost] or [ErrClosed] if that is the reason. Ask Err right before an action: no
//     goroutine has to run first.
//   - Context(ctx) gives a context that ends with ctx, or with the hold.
//   - Release(ctx) ends the hold, and returns when the next in line has the name. Its error wraps
//     [ErrPending] or [ErrPermission]. Close is Release within 5 s.
type Hold = line.Hold

// HoldHealth is a name that a process holds exclusively, or a place that it has in the line for
// one: its Name, its Token (0 while it waits), Since when it holds it or waits for it, and how many
// stand Ahead of it, as soon as its place is known.
type HoldHealth = line.Health

// Exclusive waits in line for a name until this process holds it, or ctx ends: of all processes of
// the tenant at most one holds a name at a time. Waiting callers get it in the order in which they
// came. A name is 1 to 255 bytes of UTF-8, and has nothing to do with a service of that name.
//
// A hold lives by the process's lease, like a registration: when the process dies, the next one has
// the name within a TTL and a second. A hold ends when this process can't be sure of its lease any
// more: with no heartbeat acknowledged for seven eighths of a TTL, while the server still keeps the
// lease and with it the others away. It is not taken again by itself: call Exclusive again.
//
// If the tenant's bucket is deleted, a process that starts after that may hold the name at once,
// and a holder that is cut off does not know of it for up to seven eighths of its TTL. End the
// holders before you delete the bucket of a tenant.
//
// A process that is frozen can't end its hold, and what it sent before is still under way. Give the
// hold's Token to what is written to, and have that refuse a token below the highest it has seen.
//
// If ctx has ended before the call, nothing is done; if it ends while this waits, the place is
// given up. While NATS is away, Exclusive waits for it. A place is lost with the lease; the wait
// then goes on at the end of the line. Each call takes a place of its own, also in one process. The
// error wraps ctx's, or [ErrInvalidName], [ErrClosed], [ErrConnectionClosed], [ErrPermission] or
// [ErrStorageFull].
func (r *Registry) Exclusive(ctx context.Context, name string) (*Hold, error) {
	_, err := tenant.LockFilter(name)
	if err == nil {
		err = r.usable(ctx)
	}
	if err == nil {
		err = r.awaitReady(ctx)
	}
	if err == nil {
		var h *Hold
		if h, err = r.lines.Hold(ctx, name); err == nil {
			return h, nil
		}
	}
	if r.closed.Load() && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil, fmt.Errorf("kvregistry: exclusive %.40q: %w", name, err)
}
