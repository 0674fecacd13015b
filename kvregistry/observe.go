package kvregistry

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kvregistry/go/kvregistry/internal/plist"
	"github.com/kvregistry/go/tenant"
)

// interest is why a name is observed.
type interest struct {
	kept  bool // by Observe, a look-up or a Lookup, until Unobserve
	loops int  // that go on over what the name has to tell
}

// Observe starts the watch of a service, so that the first look-up does not have to wait for it; it
// does not wait itself. With [Everything] it watches all services of the tenant. The watch goes on
// until [Registry.Unobserve]. The error wraps [ErrInvalidService] or [ErrClosed].
func (r *Registry) Observe(name string) error {
	return r.observeFor(context.Background(), name)
}

// Unobserve ends the watch of a service, or of [Everything], that Observe or a look-up started: its
// instances are no longer kept, and the server sends no more changes of them. A loop over the
// service goes on, and the watch ends with the last loop. The next look-up starts it again. If
// everything is observed, the service is still known. The error wraps [ErrInvalidService] or
// [ErrClosed].
func (r *Registry) Unobserve(name string) error {
	if err := r.checkObserved(name); err != nil {
		return err
	}
	r.release(name, false)
	return nil
}

// checkObserved checks the name of a service, or Everything.
func (o *observer) checkObserved(name string) error {
	if o.closed.Load() {
		return fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	if name != Everything {
		if err := checkName(name); err != nil {
			return fmt.Errorf("kvregistry: %w", err)
		}
	}
	return nil
}

// observeFor is Observe for a call with a context: if that has ended before the call, it starts no
// watch.
func (o *observer) observeFor(ctx context.Context, name string) error {
	err := o.checkObserved(name)
	if err == nil && ctx.Err() == nil {
		o.need(name)
		o.observe(name)
	}
	return err
}

// observe watches a name, or Everything. It returns the service; nil for Everything.
func (o *observer) observe(name string) *service {
	o.observeMu.Lock()
	defer o.observeMu.Unlock()
	svc := o.cache.observe(name)
	o.watch(svc)
	return svc
}

// watch has the view watch a service, or everything if svc is nil.
func (o *observer) watch(svc *service) {
	filter := tenant.AllServices
	if svc != nil {
		filter = svc.filter
	}
	o.view.Watch(filter)
}

// hold is observe for a caller that keeps the service.
func (o *observer) hold(name string) *service {
	o.cache.track(name)
	return o.observe(name)
}

// follow watches a name for a loop over what it has to tell. Without an error, release must follow.
// If everything is observed, the view need not watch the name.
func (o *observer) follow(ctx context.Context, name string) error {
	if err := o.checkObserved(name); err != nil {
		return err
	}
	o.observeMu.Lock()
	defer o.observeMu.Unlock()
	svc := o.cache.follow(name)
	if ctx.Err() == nil && (svc != nil || name == Everything) {
		o.need(name)
		o.watch(svc)
	}
	return nil
}

// release takes back what observe or, with loop, follow did. If it was the last that observes the
// name, what is known of it is forgotten.
func (o *observer) release(name string, loop bool) {
	o.observeMu.Lock()
	defer o.observeMu.Unlock()
	if o.closed.Load() || !o.cache.release(name, loop) {
		return
	}
	o.needNot(name)
	if name == Everything {
		for _, svc := range o.cache.part() {
			o.watch(svc)
		}
		o.cache.hideAll()
		o.view.Unwatch(tenant.AllServices)
	} else {
		o.cache.hide(name)
		filter, _ := tenant.ServiceFilter(name) // was checked
		o.view.Unwatch(filter)
	}
	o.cache.sweep()
}

// observesAll reports whether everything is observed.
func (c *cache) observesAll() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, all := c.observed[Everything]
	return all
}

// names are the observed ones, in order.
func (c *cache) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.observed))
}

// observe keeps a name, or Everything. It returns the service; nil for Everything.
func (c *cache) observe(name string) *service {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interest(name).kept = true
	return c.begin(name)
}

// follow notes a loop over a name. It returns the service; nil for Everything, and if everything is
// observed.
func (c *cache) follow(name string) *service {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, all := c.observed[Everything]; all && name != Everything {
		c.passing[name]++
		return nil
	}
	c.interest(name).loops++
	return c.begin(name)
}

// interest is the interest in a name. The caller holds c.mu.
func (c *cache) interest(name string) *interest {
	if c.observed[name] == nil {
		c.observed[name] = &interest{}
	}
	return c.observed[name]
}

// begin makes the service of a name that is observed. The caller holds c.mu.
func (c *cache) begin(name string) *service {
	if name == Everything {
		return nil
	}
	svc := c.add([]string{name})[0]
	if _, all := c.synced[Everything]; all && svc.snap.Load() == nil && !c.more {
		c.publish(svc)
	}
	return svc
}

// release takes back what observe or, with loop, follow did, and reports whether nothing observes
// the name any more.
func (c *cache) release(name string, loop bool) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := c.observed[name]
	switch {
	case loop && (i == nil || i.loops == 0):
		if c.passing[name]--; c.passing[name] == 0 {
			delete(c.passing, name)
		}
		return false
	case i == nil:
		return false
	case loop:
		i.loops--
	default:
		i.kept = false
	}
	if i.kept || i.loops > 0 {
		return false
	}
	delete(c.observed, name)
	return true
}

// part makes the names of loops that went by the watch of Everything observed themselves, and
// returns the services that are observed now. What the watch has shown of them stays shown.
func (c *cache) part() (list []*service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, loops := range c.passing {
		c.interest(name).loops += loops
	}
	clear(c.passing)
	for name := range c.observed {
		svc := c.begin(name)
		list = append(list, svc)
		if svc.snap.Load() != nil {
			c.synced[name] = struct{}{}
		}
	}
	return list
}

// hide makes a service that is not observed any more unknown to look-ups, unless everything is
// observed.
func (c *cache) hide(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.synced, name)
	if _, all := c.observed[Everything]; all {
		return
	}
	if svc := c.find(name); svc != nil { // it may have been pruned
		c.conceal(svc)
	}
}

// conceal makes a service unknown to look-ups. Its list, of which readers may have snapshots, is
// changed by a batch of its own from then on. The caller holds c.mu.
func (c *cache) conceal(svc *service) {
	if svc.snap.Swap(nil) != nil {
		c.batch++
		svc.unshown = c.batch
	}
}

// hideAll is hide for Everything.
func (c *cache) hideAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.synced, Everything)
	for name, svc := range *c.services.Load() {
		if c.observed[name] == nil {
			c.conceal(svc)
		}
	}
	c.catalog.Store(nil)
	c.list, c.enlisted = plist.New(snapshotKind), false
	c.revision++ // the next catalog may be another
	c.dropped = max(c.dropped, c.revision)
}

// sweep drops the services without instances that nobody observes and nothing holds.
func (c *cache) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	services := maps.Clone(*c.services.Load())
	for name, svc := range services {
		if c.observed[name] == nil && !svc.held && svc.count == 0 {
			delete(services, name)
			c.dropped = max(c.dropped, svc.revision+1)
		}
	}
	if len(services) < len(*c.services.Load()) {
		c.services.Store(&services)
	}
}
