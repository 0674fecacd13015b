package kvregistry

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/kvregistry/go/kvregistry/internal/coalesce"
)

// Kind says what an Event tells.
type Kind string

// The kinds of an event.
const (
	Registered   Kind = "registered"   // an instance came
	Updated      Kind = "updated"      // an instance says something else than before
	Unregistered Kind = "unregistered" // an instance went, by its owner's will
	Expired      Kind = "expired"      // an instance went with its owner's lease

	// Fenced and LeaseLost are about this process's own registrations, and go to OnEvent only.
	// Fenced says that a newer registration of the same id took over.
	Fenced    Kind = "fenced"
	LeaseLost Kind = "lease-lost" // the lease ran out; a new one is taken
)

// Event is one change.
type Event struct {
	Kind    Kind
	Service Service // as it is after the change, or as it was last if it went; of LeaseLost empty
	// Before is the instance as the reader was last told of it, and nil if it was not there. It is
	// shared with the cache and must not be changed.
	Before *Service
	// Revision is the bucket's revision of the change. If an instance went without a trace, it is
	// the revision up to which the bucket was read then, and greater than that of the Service. It
	// is 0 of Fenced and LeaseLost.
	Revision uint64
	Err      error // why, of Fenced and LeaseLost
}

// MarshalJSON gives the members "kind" and "service". It gives "before", "revision" and, as its
// text, "error" if there is one.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind     Kind     `json:"kind"`
		Service  Service  `json:"service"`
		Before   *Service `json:"before,omitempty"`
		Revision uint64   `json:"revision,omitempty"`
		Error    string   `json:"error,omitempty"`
	}{e.Kind, e.Service, e.Before, e.Revision, errorText(e.Err)})
}

// Watch yields the changes of a service, each once, in order per instance, beginning with a
// [Registered] for each instance that is there. A slow reader sees changes coalesced per
// instance, and holds up nobody. The channel is closed when ctx ends or the registry is closed.
// Name may be [Everything].
//
// It does not wait: if the service could not be read yet, events come when it can be. The service
// is observed until the channel is closed, and longer only if something else observes it.
func (r *Registry) Watch(ctx context.Context, name string) (<-chan Event, error) {
	if err := r.follow(ctx, name); err != nil {
		return nil, err
	}
	out := make(chan Event)
	started := r.goUnlessClosed(&r.wg, func() { // ends with ctx or the registry; Close waits
		defer close(out)
		defer r.release(name, true)
		for e, err := range r.Events(ctx, name) {
			if err != nil {
				return
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			case <-r.ctx.Done():
				return
			}
		}
	})
	if !started {
		return nil, fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	return out, nil
}

// instance names what an event is about. Events of one instance are coalesced.
type instance struct {
	own      Kind // Fenced or LeaseLost, which are not coalesced with changes of the instance
	name, id string
}

// queue holds the events that one reader has not taken yet, at most one per instance.
type queue = coalesce.Queue[instance, Event]

// newQueue makes a queue that counts the events that it merges.
func newQueue(merged *atomic.Uint64) *queue {
	return coalesce.New[instance](func(old, e Event) (Event, bool) {
		merged.Add(1)
		return merge(old, e)
	})
}

// newBell makes a queue that keeps no events. It wakes its reader, which looks at the snapshot.
func newBell() *queue { return coalesce.New[instance, Event](nil) }

// of is what the event is about.
func (e Event) of() instance {
	of := instance{name: e.Service.Name, id: e.Service.ID}
	if e.Kind == Fenced || e.Kind == LeaseLost {
		of.own = e.Kind
	}
	return of
}

// add puts an event into a reader's queue.
func add(q *queue, e Event) { q.Add(e.of(), e) }

// merge makes one event of two about the same instance.
func merge(old, e Event) (Event, bool) {
	e.Before = old.Before
	switch {
	case old.Kind == Registered && e.gone(): // the reader never knew of it
		return e, false
	case old.Kind == Registered:
		e.Kind = Registered
	case old.gone() && !e.gone():
		e.Kind = Updated
	}
	return e, true
}

func (e Event) gone() bool { return e.Kind == Unregistered || e.Kind == Expired }
