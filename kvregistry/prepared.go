package kvregistry

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Part is what a [Lookup] is made of: a [Filter], a [Picker], an [Outcome].
type Part interface {
	join(*Lookup) error
}

// Lookup is a look-up that was prepared: of one service, by filters and a picker. What these make of a snapshot is kept until the next snapshot, so that a call finds it
// done. All of its methods may be called by any number of goroutines. It has no end of its own: it needs no goroutine, and goes with its registry.
type Lookup struct {
	r       *Registry
	svc     *service
	filters []Filter
	picker  Picker
	outcome Outcome

	now atomic.Pointer[prepared] // nil before the first pick
	mu  sync.Mutex               // guards the making of now, and who is set aside and until when
}

// prepared is what a Lookup made of a snapshot. It is immutable.
type prepared struct {
	snap *Snapshot
	all  []*Candidate // what the filters let through, ordered by id
	from []*Service   // of each of all
	sure choosable    // those that are not set aside: one at least, where there is one at all
	try  choosable    // these, and those whose time is over; empty where there are none
	due  time.Time    // when the next of those set aside is to be tried; zero where none is
}

// choosable is a list with what the picker made of it.
type choosable struct {
	list []*Candidate
	pick func(Request) int
}

// Lookup prepares look-ups of a service: filters, at most one picker, at most one [Outcome], in any order. Without a picker the instances are picked in
// turn. It starts the service's watch and does not wait for it. The error wraps [ErrInvalidService], [ErrInvalidOption] or [ErrClosed].
func (r *Registry) Lookup(name string, parts ...Part) (*Lookup, error) {
	l := &Lookup{r: r}
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
	l.svc = r.observe(name)
	return l, nil
}

// join takes the parts, and the defaults of those that are not there.
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
		l.picker.Prepare = inTurn
	}
	l.outcome = l.outcome.orDefaults()
	return nil
}

func (f Filter) join(l *Lookup) error {
	l.filters = append(l.filters, f)
	return nil
}

// Request is what a call says of itself.
type Request struct {
	Key   string   // of pickers that go by one, as those that hash or stick
	Not   []string // ids that are not to be picked, as a retry's: unless there is no other
	Depth int      // of pickers within pickers, which count it: each of them shares keys out anew
}

// Pick picks an instance for a call. done has to be called once, with the call's outcome: the instance counts as busy until then, and what
// became of its calls decides whether it is set aside, see [Outcome]. Where there is no error, done is not nil.
//
// Errors, and the wait for a service that was not read yet, are those of [Registry.GetServices]: by the status, too, those are picked from
// that it would return.
func (l *Lookup) Pick(ctx context.Context) (picked Service, done func(error), err error) {
	return l.PickWith(ctx, Request{})
}

// PickWith is [Lookup.Pick] for a call that says something of itself.
func (l *Lookup) PickWith(ctx context.Context, req Request) (picked Service, done func(error), err error) {
	p, err := l.current(ctx)
	if err != nil {
		return Service{}, nil, err
	}
	if p.try.list != nil {
		if c := l.choose(p.try, req); !c.aside.Load() {
			return *c.Service, c.begin(), nil
		} else if l.probe(c) {
			c.begin()
			return *c.Service, c.probed, nil
		}
	}
	c := l.choose(p.sure, req)
	return *c.Service, c.begin(), nil
}

// choose is what the picker says, among those that the request leaves. A retry takes no turn among the calls': the next of these would be passed over.
func (l *Lookup) choose(from choosable, req Request) *Candidate {
	others := from.list
	if len(req.Not) > 0 {
		others = slices.DeleteFunc(slices.Clone(others), func(c *Candidate) bool { return slices.Contains(req.Not, c.Service.ID) })
	}
	if n := len(others); n == 0 || n == len(from.list) {
		return from.list[from.pick(req)]
	}
	return others[l.picker.Prepare(others)(req)]
}

// current is what is prepared of the service's current snapshot, one instance at least.
func (l *Lookup) current(ctx context.Context) (*prepared, error) {
	snap, p := l.svc.snap.Load(), l.now.Load()
	if snap == nil || l.r.opt.maxStale > 0 || l.r.closed.Load() {
		var err error
		if _, snap, err = l.r.lookFresh(ctx, l.svc.name); err != nil {
			return nil, err
		}
	}
	if p == nil || p.snap != snap || p.isDue() {
		p = l.refresh(snap)
	}
	if len(p.all) == 0 {
		return nil, l.r.notFound(p.snap, l.filters)
	}
	return p, nil
}

// isDue reports whether someone's time was over since it was prepared.
func (p *prepared) isDue() bool { return !p.due.IsZero() && !time.Now().Before(p.due) }

// refresh prepares the newest snapshot, or the one that is given where none was read yet, unless another call just did, or what changed is nothing that the filters
// let through.
func (l *Lookup) refresh(snap *Snapshot) *prepared {
	l.mu.Lock()
	defer l.mu.Unlock()
	if read := l.svc.snap.Load(); read != nil {
		snap = read
	}
	p := l.now.Load()
	if p == nil {
		p = new(prepared)
	}
	if p.snap == snap && !p.isDue() {
		return p
	}
	all, from := p.all, p.from
	if p.snap != snap {
		all, from = l.candidates(snap, p)
	}
	if p.isDue() || !slices.Equal(from, p.from) {
		return l.prepare(snap, all, from, len(p.sure.list) < len(p.all))
	}
	same := *p
	same.snap = snap
	l.now.Store(&same)
	return &same
}

// again prepares what was prepared before, after a change of who is set aside. The caller holds l.mu.
func (l *Lookup) again() {
	p := l.now.Load()
	l.prepare(p.snap, p.all, p.from, true)
}

// prepare has the picker prepare those of all who are not set aside, where some may be. The caller holds l.mu.
func (l *Lookup) prepare(snap *Snapshot, all []*Candidate, from []*Service, some bool) *prepared {
	p := &prepared{snap: snap, all: all, from: from}
	if some {
		l.part(p)
	} else {
		p.sure = l.choosable(all)
	}
	l.now.Store(p)
	return p
}

// part tells those who are set aside from the others. The caller holds l.mu.
func (l *Lookup) part(p *prepared) {
	now := time.Now()
	l.outcome.limit(p.all, now)
	var sure, try []*Candidate
	for _, c := range p.all {
		switch {
		case c.until.IsZero():
			sure, try = append(sure, c), append(try, c)
		case !c.until.After(now):
			try = append(try, c)
		case p.due.IsZero() || c.until.Before(p.due):
			p.due = c.until
		}
	}
	p.sure = l.choosable(sure)
	if len(try) > len(sure) {
		p.try = l.choosable(try)
	}
}

func (l *Lookup) choosable(list []*Candidate) choosable {
	if len(list) == 0 {
		return choosable{}
	}
	return choosable{list, l.picker.Prepare(list)}
}
