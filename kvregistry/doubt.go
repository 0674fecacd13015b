package kvregistry

import (
	"errors"
	"time"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// amends is how long an instance stays whose key was overwritten by what can't be read, or is gone
// from a new snapshot without anything that says why: its owner, if it lives, writes it again at
// once. A server that is killed right after it came back may have lost the key, and an operator may
// have purged the bucket.
const amends = time.Second

// doubt leaves an instance to its owner's amends, and reports whether it is one that is there. If
// the owner makes none, the instance went at a revision. The caller holds c.mu.
func (c *cache) doubt(svc *service, s *sighting, revision uint64) bool {
	if svc.list.Find(s.id) == nil {
		return false
	}
	if _, stands := c.suspect[s.Key]; stands { // more of the same gives its owner no more time
		return true
	}
	c.doubts++
	doubt := c.doubts
	c.suspect[s.Key] = doubt
	purge := watcher.Change{Key: s.Key, Revision: revision, Op: tenant.Purge} // without the value
	gone := &sighting{Change: purge, name: s.name, id: s.id}
	time.AfterFunc(amends, func() { c.drop(gone, doubt) })
	return true
}

// skip counts a record that can't be read, or is not kept, and why. It changes no look-up; only
// if it took the place of an instance whose owner does not write it again, that instance goes.
// The caller holds c.mu.
func (c *cache) skip(s *sighting, why error) {
	n := c.skipped.Add(1)
	if n&(n-1) == 0 { // the 1st, 2nd, 4th, 8th …: a flood of them is no flood of log lines
		c.log.Warn("kvregistry: skipped a record that can't be read", "key", journal.Plain(s.Key),
			"service", journal.Plain(s.name), "instance", journal.Plain(s.id),
			"revision", s.Revision,
			"cause", journal.Plain(why.Error()), "skipped", n)
	}
	if why == errMany || why == errMore || why == errMemory {
		s.Again = true
	}
	svc := c.find(s.name)
	if svc != nil && !errors.Is(why, errNotKey) && c.doubt(svc, s, s.Revision) {
		return
	}
	s.Forget = true
}

// drop ends an instance whose key still holds what can't be read: s is its end.
func (c *cache) drop(s *sighting, doubt uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suspect[s.Key] != doubt {
		return
	}
	delete(c.suspect, s.Key)
	svc := c.find(s.name)
	if svc == nil {
		return
	}
	c.batch++
	event, ok := c.change(svc, s)
	if ok && c.shows(svc) {
		c.publish(svc)
		c.showCatalog()
		c.tell(event)
	}
	c.prune(map[*service]bool{svc: true})
}
