package kvregistry

import (
	"iter"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/plist"
	"github.com/kvregistry/go/watcher"
)

// Snapshot is an immutable list of a service's instances at one revision, of every status, ordered
// by id.
type Snapshot struct {
	name     string
	list     instances
	callable plist.Class // what a look-up without a status filter chooses from
	few      []*Service  // these, if they are in one leaf
	version
}

// version says what of the bucket a snapshot or a catalog is, and who confirms it.
type version struct {
	revision uint64
	view     *watcher.View
	saved    time.Time // when the server last confirmed it, if the SnapshotFile had it
}

func newSnapshot(name string, list instances, at version) *Snapshot {
	s := &Snapshot{name: name, list: list, callable: passing, version: at}
	if list.Count(passing) == 0 {
		s.callable = warning
	}
	s.few = list.Leaf(s.callable)
	return s
}

// instances is a list of a service's instances, ordered by id.
type instances = plist.List[Service]

// The classes of instances. The other statuses have none of their own.
const (
	every   = plist.All
	passing = plist.First
	warning = plist.Second
)

var instanceKind = &plist.Kind[Service]{
	Key: func(s *Service) string { return s.ID }, Class: classOf,
}

// noInstances is an empty list.
var noInstances = plist.New(instanceKind)

func classOf(s *Service) plist.Class {
	switch s.Status {
	case Passing:
		return passing
	case Warning:
		return warning
	}
	return every
}

// Name is the service's name.
func (s *Snapshot) Name() string { return s.name }

// Len is the number of instances.
func (s *Snapshot) Len() int { return s.list.Count(every) }

// At is instance i, from 0 to Len()-1. Its Tags and Metadata are shared and must not be changed.
func (s *Snapshot) At(i int) Service { return *s.list.At(every, i) }

// All yields every instance.
func (s *Snapshot) All() iter.Seq[Service] {
	return func(yield func(Service) bool) {
		for one := range s.list.Each(every) {
			if !yield(*one) {
				return
			}
		}
	}
}

// Revision is the bucket's revision of the last change of this service that the snapshot holds; 0
// if there was none yet. It grows with each change that a registry shows. So it is a number of the
// registry's own, greater than the last one, after the bucket was recreated, or if [MaxMemory] has
// room again for an older instance.
func (s *Snapshot) Revision() uint64 { return s.revision }

// Age is how long ago the server last confirmed, by this process's clock, that the registry's view
// is current. It is below a heartbeat of the view in quiet times (2.5 s at a TTL of 15 s), and
// grows while the server is away.
func (s *Snapshot) Age() time.Duration { return s.age() }

func (v *version) age() time.Duration {
	if v.stale() {
		return time.Since(v.saved)
	}
	return time.Since(v.view.Heard())
}

// Stale reports whether the snapshot is of an earlier run of the program, which the [SnapshotFile]
// kept: nothing is known of what changed since.
func (s *Snapshot) Stale() bool { return s.stale() }

func (v *version) stale() bool { return !v.saved.IsZero() }

// choice is what the filters choose from.
func (s *Snapshot) choice(filters []Filter) plist.Class {
	for i := range filters {
		if filters[i].status {
			return every
		}
	}
	return s.callable
}
