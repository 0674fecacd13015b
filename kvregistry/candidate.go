package kvregistry

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/turn"
)

// Picker says which of a list of instances a call is for. The zero value picks in turn, evenly; package pick has others.
type Picker struct {
	// Prepare is called with the instances that there are to pick from, one at least, ordered by id, and again whenever these change. What it returns is called
	// for each call, by many goroutines at once, and gives an index into the list. Prepare must neither change the list nor call the [Lookup], and may
	// be called by several goroutines at once.
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
		p.Prepare = inTurn
	}
	l.picker = p
	return nil
}

// inTurn gives one after the other.
func inTurn(list []*Candidate) func(Request) int {
	t, n := turn.New(), uint32(len(list))
	return func(Request) int { return int(t.Next() % n) }
}

// Candidate is an instance that a [Lookup] may pick, with what the Lookup knows of its calls. Where the instance says something new it becomes another Candidate, that
// knows the same; one with another URL or Address is a new one.
type Candidate struct {
	Service *Service // it must not be changed
	*calls
}

// calls is what a Lookup knows of an instance's calls, for as long as its filters let the instance through.
type calls struct {
	inFlight     atomic.Int64
	failures     atomic.Int32 // in a row
	aside        atomic.Bool  // until is not zero
	done, probed func(error)  // what a call, and one that is the probe, are ended by

	// Guarded by the Lookup's mu.
	until time.Time     // when it may be tried again; zero where it is not set aside
	wait  time.Duration // how long it was set aside for at last
	back  time.Time     // when it was taken back at last
}

// InFlight is how many calls of the Lookup the instance has that did not end yet.
func (c *Candidate) InFlight() int64 {
	if c.calls == nil { // made by a test of a picker
		return 0
	}
	return c.inFlight.Load()
}

// begin counts a call, and gives what ends it.
func (c *calls) begin() (done func(error)) {
	c.inFlight.Add(1)
	return c.done
}

// end counts a call's end. One that is told twice takes another call's, and never makes it less than none.
func (c *calls) end() {
	if c.inFlight.Add(-1) < 0 {
		c.inFlight.Add(1)
	}
}

// candidates are the instances that the filters let through. What is known of those that were there before is kept. Most are the same as before, and neither they nor their
// candidates are looked at: of a large service they are in no cache. The caller holds l.mu.
func (l *Lookup) candidates(snap *Snapshot, was *prepared) (all []*Candidate, from []*Service) {
	choice := snap.choice(l.filters)
	if n := snap.list.Count(choice); len(l.filters) == 0 {
		all, from = make([]*Candidate, 0, n), make([]*Service, 0, n)
	}
	i := 0
	for s := range snap.list.Each(choice) {
		if !matches(l.filters, s) {
			continue
		}
		for i < len(was.from) && was.from[i] != s && was.from[i].ID < s.ID {
			i++
		}
		var c *Candidate
		switch {
		case i < len(was.from) && was.from[i] == s:
			c = was.all[i]
			i++
		case i < len(was.from) && was.from[i].ID == s.ID && was.from[i].URL == s.URL && was.from[i].Address == s.Address:
			c = &Candidate{Service: s, calls: was.all[i].calls}
			i++
		default:
			c = &Candidate{Service: s, calls: l.newCalls()}
		}
		all, from = append(all, c), append(from, s)
	}
	return all, from
}

// newCalls makes what ends calls once: a call then allocates nothing.
func (l *Lookup) newCalls() *calls {
	c := new(calls)
	c.done = func(err error) { l.ended(c, err) }
	c.probed = func(err error) { l.probeEnded(c, err) }
	return c
}

// LookupHealth is what a [Lookup] knows of its instances, at one moment.
type LookupHealth struct {
	Instances []InstanceHealth // those that the filters let through, ordered by id
}

// InstanceHealth is what a [Lookup] knows of one instance by its own calls.
type InstanceHealth struct {
	ID       string
	InFlight int64     // calls that did not end yet
	Failures int       // calls in a row that failed
	Aside    bool      // it is set aside: it is not picked, but to be tried
	Until    time.Time // when it may be tried, where it is set aside
}

// Health is a read of memory: it asks no server and does not wait. It has no instance before the service was read.
func (l *Lookup) Health() (h LookupHealth) {
	snap := l.svc.snap.Load()
	if p := l.now.Load(); snap == nil && p != nil {
		snap = p.snap // from the run before
	}
	if snap == nil {
		return h
	}
	p := l.refresh(snap)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range p.all {
		h.Instances = append(h.Instances, InstanceHealth{
			ID: c.Service.ID, InFlight: c.InFlight(), Failures: int(c.failures.Load()), Aside: !c.until.IsZero(), Until: c.until,
		})
	}
	return h
}
