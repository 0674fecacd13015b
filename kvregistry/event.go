package kvregistry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/kvregistry/go/internal/bell"
)

// Kind says what an Event tells.
type Kind string

const (
	Registered   Kind = "registered"   // an instance came
	Updated      Kind = "updated"      // an instance says something else than before
	Unregistered Kind = "unregistered" // an instance went, by its owner's will
	Expired      Kind = "expired"      // an instance went with its owner's lease

	// These two are about this process's own registrations, and go to OnEvent only.
	Fenced    Kind = "fenced"     // a newer registration of the same id took over
	LeaseLost Kind = "lease-lost" // the lease ran out; a new one is taken
)

// Event is one change.
type Event struct {
	Kind    Kind
	Service Service // as it is after the change, or as it was last where it went; of LeaseLost empty
	Err     error   // why, of Fenced and LeaseLost
}

// MarshalJSON gives the members "kind", "service" and, as its text, "error", which is left out if
// there is none.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Kind    Kind    `json:"kind"`
		Service Service `json:"service"`
		Error   string  `json:"error,omitempty"`
	}{e.Kind, e.Service, errorText(e.Err)})
}

// Watch yields the changes of a service, each once, in order per instance, beginning with a [Registered]
// for each instance that is there. Whoever reads slowly sees changes coalesced per instance, and holds
// up nobody. The channel is closed when ctx ends or the registry is closed. Name may be [Everything].
//
// It does not wait: where the service could not be read yet, events come when it can be.
func (r *Registry) Watch(ctx context.Context, name string) (<-chan Event, error) {
	if err := r.observeFor(ctx, name); err != nil {
		return nil, err
	}
	out := make(chan Event)
	started := r.goUnlessClosed(&r.wg, func() { // ends with ctx or the registry; Close waits
		defer close(out)
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

// callback runs OnEvent's functions.
func (r *Registry) callback(q *queue) {
	for {
		e, ok := q.next(r.ctx, r.ctx)
		if !ok {
			return
		}
		tell(r, r.opt.onEvent, e)
	}
}

// instance names what an event is about; events of one instance are coalesced.
type instance struct {
	own      Kind // Fenced or LeaseLost, which are not coalesced with changes of the instance
	name, id string
}

// queue holds the events that one reader has not taken yet, at most one per instance.
type queue struct {
	mu      sync.Mutex // guards what follows
	pending map[instance]placed
	order   []place // of the oldest event of each instance; what was taken back leaves its place behind
	places  uint64  // given so far
	wake    chan struct{}
}

// place is where an instance's event stands in the order. No number is given twice.
type place struct {
	of instance
	no uint64
}

type placed struct {
	Event
	no uint64
}

func newQueue() *queue {
	return &queue{pending: map[instance]placed{}, wake: make(chan struct{}, 1)}
}

// newBell is a queue that keeps no events: it wakes its reader, who looks at the snapshot.
func newBell() *queue { return &queue{wake: make(chan struct{}, 1)} }

// keeps reports whether it keeps events.
func (q *queue) keeps() bool { return q.pending != nil }

// add puts an event behind the others, or merges it with the one of its instance.
func (q *queue) add(e Event) {
	if !q.keeps() {
		q.poke()
		return
	}
	of := instance{name: e.Service.Name, id: e.Service.ID}
	if e.Kind == Fenced || e.Kind == LeaseLost {
		of.own = e.Kind
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	old, ok := q.pending[of]
	switch {
	case !ok:
		q.places++
		old.no = q.places
		q.order = append(q.order, place{of, old.no})
	case old.Kind == Registered && e.gone(): // the reader never knew of it
		delete(q.pending, of)
		q.tidy()
		return
	case old.Kind == Registered:
		e.Kind = Registered
	case old.gone() && !e.gone():
		e.Kind = Updated
	}
	q.pending[of] = placed{e, old.no}
	q.poke()
}

// tidy takes the places out of the order that were left behind, when they are most of it. The caller holds q.mu.
func (q *queue) tidy() {
	if len(q.order) > 2*len(q.pending)+16 {
		q.order = slices.DeleteFunc(q.order, func(p place) bool { return q.pending[p.of].no != p.no })
	}
}

func (e Event) gone() bool { return e.Kind == Unregistered || e.Kind == Expired }

// poke wakes the reader without an event.
func (q *queue) poke() {
	bell.Ring(q.wake)
}

// next takes the oldest event, waiting for one until one of the contexts ends.
func (q *queue) next(ctx, also context.Context) (Event, bool) {
	for {
		if ctx.Err() != nil || also.Err() != nil {
			return Event{}, false
		}
		q.mu.Lock()
		for len(q.order) > 0 {
			p := q.order[0]
			q.order = q.order[1:]
			if e := q.pending[p.of]; e.no == p.no {
				delete(q.pending, p.of)
				q.mu.Unlock()
				return e.Event, true
			}
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
		case <-also.Done():
		}
	}
}
