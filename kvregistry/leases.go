package kvregistry

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/lease"
)

// Lease is a lease of the tenant: all that one process registers lives by it. Owner, Host, PID and
// Started are what the owner says of itself.
type Lease struct {
	ID      string
	Owner   string        // the registry that has it, as in Service.Owner
	Host    string        // of the owner
	PID     int           // of the owner
	Started time.Time     // when the owner started, by its own clock; zero if it does not say
	TTL     time.Duration // from its last renewal on
	Age     time.Duration // since its last renewal, by the server's clock
	Control string        // the subject at which the owner takes requests; empty if it takes none
}

// Leases reads the leases of the tenant, ordered by id, within [Timeout] if ctx has no deadline.
// The error wraps [ErrUnavailable] or [ErrClosed].
func (r *Registry) Leases(ctx context.Context) ([]Lease, error) {
	if r.closed.Load() {
		return nil, fmt.Errorf("kvregistry: leases: %w", ErrClosed)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.opt.timeout)
		defer cancel()
	}
	var found []lease.Info
	err := r.awaitReady(ctx)
	if err == nil {
		found, err = lease.List(ctx, r.bucket)
	}
	if err != nil {
		return nil, fmt.Errorf("kvregistry: leases: %w: %w", ErrUnavailable, err)
	}
	list := make([]Lease, len(found))
	for i, one := range found {
		v := wire.ReadLease(one.Value)
		list[i] = Lease{one.ID, v.Owner, v.Host, v.PID, v.Started, one.TTL, one.Age, v.Control}
	}
	slices.SortFunc(list, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}
