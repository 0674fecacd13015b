package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/balance"
)

// Part is what a [Lookup] is made of: a [Filter], a [Picker], an [Outcome].
type Part interface {
	join(*Lookup) error
}

// Lookup is a look-up that was prepared: of one service, by filters and a picker. What these make
// of a snapshot is kept until the next snapshot, so that a call finds it done. All of its methods
// may be called by any number of goroutines. It has no end of its own: it needs no goroutine, and
// goes with its registry.
type Lookup struct {
	o       *observer
	svc     *service
	filters []Filter
	picker  Picker
	outcome Outcome
	set     *balance.Set[Snapshot, Service, Candidate]
}

// Lookup prepares look-ups of a service: filters, at most one picker, at most one [Outcome], in any
// order. Without a picker the instances are picked in turn. It starts the service's watch and does
// not wait for it. The error wraps [ErrInvalidService], [ErrInvalidOption] or [ErrClosed].
func (r *Registry) Lookup(name string, parts ...Part) (*Lookup, error) {
	l := &Lookup{o: &r.observer}
	if err := l.join(parts); err != nil {
		return nil, fmt.Errorf("kvregistry: %w: Lookup(%q): %w", ErrInvalidOption, name, err)
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("kvregistry: %w", err)
	}
	if r.closed.Load() {
		return nil, fmt.Errorf("kvregistry: %w", ErrClosed)
	}
	r.need(name)
	l.svc = r.hold(name)
	return l, nil
}

// join takes the parts, and the defaults of those that are missing.
func (l *Lookup) join(parts []Part) error {
	for i, part := range parts {
		if part == nil {
			return fmt.Errorf("part %d is nil", i+1)
		}
		if err := part.join(l); err != nil {
			return err
		}
	}
	if l.picker.Prepare == nil {
		l.picker.Prepare = balance.InTurn
	}
	cfg := balance.Config[Snapshot, Service, Candidate]{
		Source: lookupSource{l}, Rules: l.outcome.rules(), Prepare: l.picker.Prepare,
		Candidate: func(s *Service, c *balance.Calls) *Candidate { return &Candidate{s, c} },
	}
	l.set = &balance.Set[Snapshot, Service, Candidate]{Config: cfg}
	return nil
}

func (f Filter) join(l *Lookup) error {
	l.filters = append(l.filters, f)
	return nil
}

// Request is what a call says of itself: its Key (a string), for pickers that go by one; Not, the
// ids that are not to be picked, as a retry's, unless there is no other; and Depth, which pickers
// within pickers count, because each of them shares keys out again.
type Request = balance.Request

// Pick picks an instance for a call. Call done once, with the call's outcome: the instance counts
// as busy until then, and what became of its calls decides whether it is set aside, see [Outcome].
// If there is no error, done is not nil.
//
// Errors, and the wait for a service that was not read yet, are those of [Registry.GetServices].
// Pick picks from the instances that GetServices would return, also by status.
func (l *Lookup) Pick(ctx context.Context) (picked Service, done func(error), err error) {
	return l.PickWith(ctx, Request{})
}

// PickWith is [Lookup.Pick] for a call that says something of itself.
func (l *Lookup) PickWith(ctx context.Context,
	req Request) (picked Service, done func(error), err error) {
	s, done, err := l.set.Pick(ctx, req)
	if err != nil {
		return Service{}, nil, err
	}
	return *s, done, nil
}

// lookupSource gives a Lookup's set the instances that the filters let through.
type lookupSource struct{ *Lookup }

func (l lookupSource) Newest() *Snapshot { return l.svc.snap.Load() }

func (l lookupSource) Current(ctx context.Context) (*Snapshot, error) {
	if snap := l.svc.snap.Load(); snap != nil && l.o.opt.maxStale == 0 && !l.o.closed.Load() {
		return snap, nil
	}
	_, snap, err := l.o.lookFresh(ctx, l.svc.name)
	return snap, err
}

func (l lookupSource) All(snap *Snapshot) (list iter.Seq[*Service], atMost int) {
	class := snap.choice(l.filters)
	if len(l.filters) == 0 {
		return snap.list.Each(class), snap.list.Count(class)
	}
	return func(yield func(*Service) bool) {
		for s := range snap.list.Each(class) {
			if matches(l.filters, s) && !yield(s) {
				return
			}
		}
	}, 0
}

func (lookupSource) Key(s *Service) string { return s.ID }

func (lookupSource) SamePlace(a, b *Service) bool {
	return a.URL == b.URL && a.Address == b.Address && maps.Equal(a.Endpoints, b.Endpoints)
}

func (l lookupSource) None(snap *Snapshot) error { return l.o.notFound(snap, l.filters) }

// Picker says which of a list of instances a call is for. The zero value picks in turn, evenly;
// package pick has others.
type Picker struct {
	// Prepare is called with the instances that there are to pick from, one at least, ordered by
	// id, and again whenever these change. What it returns is called for each call, by many
	// goroutines at once, and gives an index into the list. Prepare must neither change the list
	// nor call the [Lookup], and may be called by several goroutines at once.
	Prepare func(list []*Candidate) func(Request) int
	// Err says why there is no such picker. [Registry.Lookup] returns it.
	Err error
}

func (p Picker) join(l *Lookup) error {
	if p.Err != nil {
		return p.Err
	}
	if l.picker.Prepare != nil {
		return errors.New("it has two pickers; give it one")
	}
	if p.Prepare == nil {
		p.Prepare = balance.InTurn
	}
	l.picker = p
	return nil
}

// Candidate is an instance that a [Lookup] may pick, with what the Lookup knows of its calls. If
// the instance says something new it becomes another Candidate, which knows the same. An instance
// with another URL or Address is a new one.
type Candidate struct {
	Service *Service // it must not be changed
	calls   *balance.Calls
}

// InFlight is how many calls of the Lookup the instance has that have not ended yet.
func (c *Candidate) InFlight() int64 {
	if c.calls == nil { // made by a test of a picker
		return 0
	}
	return c.calls.InFlight()
}

// LookupHealth is what a [Lookup] knows of its instances, at one moment.
type LookupHealth struct {
	Instances []InstanceHealth // those that the filters let through, ordered by id
}

// InstanceHealth is what a [Lookup] knows of one instance by its own calls.
type InstanceHealth struct {
	ID       string
	InFlight int64     // calls that have not ended yet
	Failures int       // calls in a row that failed
	Aside    bool      // it is set aside: it is not picked, except to be tried
	Until    time.Time // when it may be tried, if it is set aside
}

// Health is a read of memory: it asks no server and does not wait. It has no instance before the
// service was read.
func (l *Lookup) Health() (h LookupHealth) {
	l.set.Health(func(s *Service, c *balance.Calls, until time.Time) {
		h.Instances = append(h.Instances, InstanceHealth{
			ID: s.ID, InFlight: c.InFlight(), Failures: c.Failures(), Aside: !until.IsZero(),
			Until: until,
		})
	})
	return h
}
