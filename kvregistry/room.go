package kvregistry

import (
	"maps"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// memory is how many bytes the instances take, about.
func (c *cache) memory() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// fill notes how many instances did not fit into memory. Whether all do is known from the next
// whole snapshot. The caller holds c.mu.
func (c *cache) fill(over int, snapshot *watcher.Snapshot) {
	switch {
	case over > 0:
		c.peak = max(c.peak, c.held)
		if !c.full.Swap(true) {
			c.filled()
			c.log.Warn("kvregistry: the view is as large as it may be, instances are left out",
				"max", c.most.memory)
		}
	case snapshot != nil && !snapshot.Part:
		c.peak = 0
		if c.full.Swap(false) {
			bell.Ring(c.freed)
			c.log.Info("kvregistry: the view has room again, no instance is left out")
		}
	}
	if c.full.Load() && c.held < c.peak/2 {
		c.peak = c.held
		bell.Ring(c.freed)
	}
}

// overflows says why an instance is not kept, nil if it is. The caller holds c.mu.
func (c *cache) overflows(svc *service, s *sighting) error {
	if s.Op != tenant.Put {
		return nil
	}
	if svc == nil {
		if _, all := c.observed[Everything]; all {
			c.more = true
			return errMore
		}
		return nil
	}
	was, now := svc.list.Find(s.id), &s.rec.Instance
	switch {
	case was == nil && svc.count >= c.most.instances:
		return errMany
	case c.most.memory > 0 && now.bytes() > was.bytes() &&
		c.held+now.bytes()-was.bytes() > c.most.kept():
		return errMemory
	}
	return nil
}

// prune forgets services that nobody asked for by name and that have no instance any more, if
// everything is observed: they come back with their next instance. The caller holds c.mu.
func (c *cache) prune(changed map[*service]bool) {
	if _, all := c.synced[Everything]; !all {
		return
	}
	services := *c.services.Load()
	kept := services
	for svc := range changed {
		if _, asked := c.observed[svc.name]; asked || svc.held || svc.count > 0 {
			continue
		}
		if len(kept) == len(services) {
			kept = maps.Clone(services)
		}
		delete(kept, svc.name)
	}
	c.services.Store(&kept)
}

// kept is how many bytes the instances that are kept may take, about, and those of a snapshot that
// is read.
func (b bounds) kept() int { return b.memory / 3 }

// shows reports whether a service's list is complete, so that it may be shown. The caller holds
// c.mu.
func (c *cache) shows(svc *service) bool {
	_, all := c.synced[Everything]
	return all || svc.snap.Load() != nil
}
