package kvregistry

import (
	"iter"
	"slices"
	"time"

	"github.com/kvregistry/go/watcher"
)

// Snapshot is an immutable list of a service's instances at one revision, of every status, ordered by id.
type Snapshot struct {
	name     string
	all      []*Service
	callable []*Service // what a look-up without a status filter chooses from
	revision uint64
	view     *watcher.View
}

func newSnapshot(name string, all []*Service, revision uint64, view *watcher.View) *Snapshot {
	return &Snapshot{name: name, all: all, callable: callable(all), revision: revision, view: view}
}

// callable are the passing instances, or the warning ones where there are none.
func callable(all []*Service) []*Service {
	for _, status := range []Status{Passing, Warning} {
		if !slices.ContainsFunc(all, func(s *Service) bool { return s.Status != status }) {
			return all
		}
		var some []*Service
		for _, s := range all {
			if s.Status == status {
				some = append(some, s)
			}
		}
		if some != nil {
			return some
		}
	}
	return nil
}

// Name is the service's name.
func (s *Snapshot) Name() string { return s.name }

// Len is the number of instances.
func (s *Snapshot) Len() int { return len(s.all) }

// At is instance i, from 0 to Len()-1. Its Tags and Metadata are shared and must not be changed.
func (s *Snapshot) At(i int) Service { return *s.all[i] }

// All yields every instance.
func (s *Snapshot) All() iter.Seq[Service] {
	return func(yield func(Service) bool) {
		for _, one := range s.all {
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
// current. It is below a second in quiet times, and grows while the server is away.
func (s *Snapshot) Age() time.Duration { return time.Since(s.view.Heard()) }

// choices is what the filters choose from.
func (s *Snapshot) choices(filters []Filter) []*Service {
	for i := range filters {
		if filters[i].status {
			return s.all
		}
	}
	return s.callable
}
