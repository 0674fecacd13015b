package kvregistry

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// ObservedServices are the names that this registry watches, in order; [Everything] may be one of
// them.
func (r *Registry) ObservedServices() []string { return r.cache.names() }

// ServiceNames are the names of all services of the tenant that have an instance, in order. See
// [Registry.ServiceNamesContext].
func (r *Registry) ServiceNames() ([]string, error) {
	return r.ServiceNamesContext(context.Background())
}

// ServiceNamesContext are the names of all services of the tenant that have an instance, in order.
// If [Everything] is observed, they are those of [Registry.Catalog]. Otherwise the bucket is read,
// within [Timeout] if ctx has no deadline. The error wraps [ErrUnavailable] or [ErrClosed].
func (r *Registry) ServiceNamesContext(ctx context.Context) ([]string, error) {
	if r.closed.Load() {
		return nil, fmt.Errorf("kvregistry: service names: %w", ErrClosed)
	}
	if r.cache.observesAll() {
		all, err := r.lookAll(ctx, "service names")
		if err != nil {
			return nil, err
		}
		return all.Names(), nil
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.opt.timeout)
		defer cancel()
	}
	names := map[string]struct{}{}
	err := r.awaitReady(ctx)
	if err == nil {
		err = watcher.Read(ctx, r.bucket, tenant.AllServices, watcher.Config{
			Read:     func(ch watcher.Change) any { return r.read(ch) },
			MaxValue: r.opt.bounds.record, MaxBytes: r.opt.bounds.kept(),
			Apply: func(changes []watcher.Change, _ *watcher.Snapshot) {
				for _, s := range r.sightings(changes) {
					if s.Op == tenant.Put && s.err == nil && !r.cache.buried(s.rec.Lease) {
						names[s.name] = struct{}{}
					}
				}
			},
		})
	}
	if err != nil {
		return nil, fmt.Errorf("kvregistry: service names: %w: %w", ErrUnavailable, err)
	}
	return slices.Sorted(maps.Keys(names)), nil
}

func (c *cache) buried(lease string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.dead[lease]
	return ok
}
