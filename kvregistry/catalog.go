package kvregistry

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/plist"
)

// Catalog is an immutable list of all services of a tenant that have an instance, at one revision.
// It shares its memory with the registry: a change costs about the same whatever the number of
// services.
type Catalog struct {
	list plist.List[Snapshot]
	version
}

var snapshotKind = &plist.Kind[Snapshot]{
	Key: (*Snapshot).Name, Class: func(*Snapshot) plist.Class { return plist.All },
}

// Len is the number of services.
func (c *Catalog) Len() int { return c.list.Count(plist.All) }

// Names are the names of the services, in order: a slice of the caller's own.
func (c *Catalog) Names() []string {
	names := make([]string, 0, c.Len())
	for s := range c.list.Each(plist.All) {
		names = append(names, s.name)
	}
	return names
}

// All yields a snapshot of each service, ordered by name.
func (c *Catalog) All() iter.Seq[*Snapshot] { return c.list.Each(plist.All) }

// Snapshot is the snapshot of a service. If the service has no instance, the snapshot is empty, and
// has the revision of the catalog.
func (c *Catalog) Snapshot(name string) *Snapshot {
	if s := c.list.Find(name); s != nil {
		return s
	}
	return newSnapshot(name, noInstances, c.version)
}

// Revision is the revision of the last change that the catalog holds. As that of a [Snapshot] it
// grows with each change.
func (c *Catalog) Revision() uint64 { return c.revision }

// Age is how long ago the server last confirmed that the catalog is current. See [Snapshot.Age].
func (c *Catalog) Age() time.Duration { return c.age() }

// Stale reports whether the catalog is of an earlier run of the program: see [Snapshot.Stale].
func (c *Catalog) Stale() bool { return c.stale() }

// Catalog returns all services of the tenant. It starts the watch of [Everything], and waits for
// the first snapshot for up to [Timeout]; after that it is a read of memory. What [MaxServices],
// [MaxInstances] and [MaxMemory] leave out is not in it: see [Health]. The error wraps
// [ErrUnavailable] or [ErrClosed].
func (r *Registry) Catalog() (*Catalog, error) { return r.CatalogContext(context.Background()) }

// CatalogContext is [Registry.Catalog] with a context for the first call's wait.
func (r *Registry) CatalogContext(ctx context.Context) (*Catalog, error) {
	return r.lookAll(ctx, "catalog")
}

// Catalogs yields the catalog as [Registry.Snapshots] yields the snapshots of a service: the
// current one first, and then the newest after each change.
func (r *Registry) Catalogs(ctx context.Context) iter.Seq2[*Catalog, error] {
	return func(yield func(*Catalog, error) bool) {
		if err := r.follow(ctx, Everything); err != nil {
			yield(nil, err)
			return
		}
		defer r.release(Everything, true)
		newest(ctx, r, Everything, r.cache.catalog.Load,
			func(a, b *Catalog) bool { return a == b }, yield)
	}
}

// lookAll finds the current catalog in memory, or has everything read.
func (o *observer) lookAll(ctx context.Context, what string) (*Catalog, error) {
	old, stale, err := o.archive.everything(), false, error(nil)
	if o.cache.catalog.Load() == nil && !o.closed.Load() {
		stale, err = o.awaitFirst(ctx, Everything, old != nil)
	}
	switch c := o.cache.catalog.Load(); {
	case o.closed.Load():
		return nil, fmt.Errorf("kvregistry: %s: %w", what, ErrClosed)
	case c != nil:
		return c, nil
	case stale:
		return old, nil
	}
	return nil, fmt.Errorf("kvregistry: %s: %w: %w", what, ErrUnavailable, err)
}

// enlist puts a service's snapshot into the next catalog, or takes the service out of it. The
// caller holds c.mu.
func (c *cache) enlist(svc *service) {
	snap := svc.snap.Load()
	switch {
	case snap.Len() > 0:
		c.list = c.list.With(c.batch, snap)
	case c.list.Find(svc.name) != nil:
		c.list = c.list.Without(c.batch, svc.name)
	default:
		return
	}
	c.enlisted = true
}

// showCatalog makes the next catalog, if there is something new in it. The caller holds c.mu.
func (c *cache) showCatalog() {
	old := c.catalog.Load()
	if _, all := c.synced[Everything]; !all || old != nil && !c.enlisted {
		return
	}
	if old == nil {
		for _, svc := range *c.services.Load() {
			c.enlist(svc)
		}
	} else if c.revision <= old.revision {
		c.revision = old.revision + 1
	}
	c.enlisted = false
	c.list.Seal(c.batch)
	c.catalog.Store(&Catalog{list: c.list, version: version{revision: c.revision, view: c.view}})
	c.ring(Everything)
}
