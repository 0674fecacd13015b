package kvregistry

import (
	"iter"
	"time"

	"github.com/kvregistry/go/watcher"
)

// Snapshot is an immutable list of a service's instances at one revision, of every status, ordered by id.
type Snapshot struct {
	name     string
	list     *node
	callable choice     // what a look-up without a status filter chooses from: the passing ones, or the warning ones where there are none
	few      []*Service // these, where they are in one leaf
	revision uint64
	view     *watcher.View
	saved    time.Time // when the server last confirmed it, of one that the SnapshotFile had; zero of others
}

func newSnapshot(name string, list *node, revision uint64, view *watcher.View) *Snapshot {
	s := &Snapshot{name: name, list: list, callable: passing, revision: revision, view: view}
	if list.count(passing) == 0 {
		s.callable = warning
	}
	if list != nil && list.kids == nil {
		s.few = list.of[s.callable]
	}
	return s
}

// Name is the service's name.
func (s *Snapshot) Name() string { return s.name }

// Len is the number of instances.
func (s *Snapshot) Len() int { return s.list.count(every) }

// At is instance i, from 0 to Len()-1. Its Tags and Metadata are shared and must not be changed.
func (s *Snapshot) At(i int) Service { return *s.list.at(every, i) }

// All yields every instance.
func (s *Snapshot) All() iter.Seq[Service] {
	return func(yield func(Service) bool) {
		for one := range s.list.all(every) {
			if !yield(*one) {
				return
			}
		}
	}
}

// Revision is the bucket's revision of the last change of this service that the snapshot holds; 0 where
// there was none yet.
func (s *Snapshot) Revision() uint64 { return s.revision }

// Age is how long ago the server last confirmed, by this process's clock, that the registry's view is
// current. It is below a heartbeat of the view in quiet times (2.5 s at a TTL of 15 s), and grows while
// the server is away.
func (s *Snapshot) Age() time.Duration {
	if s.Stale() {
		return time.Since(s.saved)
	}
	return time.Since(s.view.Heard())
}

// Stale reports whether the snapshot is of an earlier run of the program, which the [SnapshotFile] kept: nothing is known of what changed since.
func (s *Snapshot) Stale() bool { return !s.saved.IsZero() }

// choice is what the filters choose from.
func (s *Snapshot) choice(filters []Filter) choice {
	for i := range filters {
		if filters[i].status {
			return every
		}
	}
	return s.callable
}
