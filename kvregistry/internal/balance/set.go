// Package balance chooses which of a list's instances a call goes to, and sets instances aside
// whose calls fail.
//
// A [Set] prepares each list once: what the picker makes of it is kept until the list changes. The
// package knows nothing of services: a [Source] gives the lists.
package balance

import (
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/turn"
)

// Request is what a call says of itself.
type Request struct {
	Key   string   // of pickers that go by one, as those that hash or stick
	Not   []string // keys that are not to be picked, as a retry's, unless there is no other
	Depth int      // of pickers within pickers, which count it: each of them shares keys out again
}

// Source gives the snapshots V of a list of S. Its methods may be called by any number of
// goroutines.
type Source[V, S any] interface {
	Newest() *V                             // nil before the first
	Current(context.Context) (*V, error)    // for a call: waits for the first, or fails
	All(*V) (list iter.Seq[*S], atMost int) // ordered by key; atMost is 0 if it is not known
	Key(*S) string                          // of an instance
	SamePlace(*S, *S) bool                  // whether two instances have one address
	None(*V) error                          // why there is nothing to choose from
}

// Config says how a set is. S is an instance, C a candidate: an instance as the picker sees it.
type Config[V, S, C any] struct {
	Source    Source[V, S]
	Rules     Rules
	Candidate func(*S, *Calls) *C
	Prepare   func([]*C) func(Request) int // the picker; see kvregistry.Picker
}

// Set chooses among the instances of a source. Its methods may be called by any number of
// goroutines. It needs no goroutine, and so no end.
type Set[V, S, C any] struct {
	Config[V, S, C]
	now atomic.Pointer[prepared[V, S, C]] // nil before the first pick
	mu  sync.Mutex                        // guards the making of now, and what is set aside
}

// entry is an instance, with what is known of its calls and what the picker sees. An instance that
// says something new has another entry with the same calls.
type entry[S, C any] struct {
	instance *S
	calls    *Calls
	seen     *C
}

// prepared is what a set made of a snapshot. It is immutable.
type prepared[V, S, C any] struct {
	snap *V
	all  []entry[S, C] // ordered by key
	sure choice[S, C]  // those that are not set aside: one at least, if there is one at all
	try  choice[S, C]  // these, and those whose time is over; empty if there are none
	due  time.Time     // when the next instance set aside is tried; zero if none is
}

// choice is a list with what the picker made of it.
type choice[S, C any] struct {
	list []entry[S, C]
	pick func(Request) int
}

// Pick picks an instance for a call. done ends the call with its outcome; it is not nil without an
// error. Pick allocates nothing when nothing changed.
func (set *Set[V, S, C]) Pick(ctx context.Context,
	req Request) (instance *S, done func(error), err error) {
	p, err := set.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	if p.try.list != nil {
		if e := set.choose(p.try, req); !e.calls.aside.Load() {
			return e.instance, e.calls.begin(), nil
		} else if set.probe(e.calls) {
			e.calls.begin()
			return e.instance, e.calls.probed, nil
		}
	}
	e := set.choose(p.sure, req)
	return e.instance, e.calls.begin(), nil
}

// choose returns what the picker says, among those that the request leaves. A retry takes no turn
// among the calls': the next of these would be passed over.
func (set *Set[V, S, C]) choose(from choice[S, C], req Request) entry[S, C] {
	others := from.list
	if len(req.Not) > 0 {
		others = slices.DeleteFunc(slices.Clone(others), func(e entry[S, C]) bool {
			return slices.Contains(req.Not, set.Source.Key(e.instance))
		})
	}
	if n := len(others); n == 0 || n == len(from.list) {
		return from.list[from.pick(req)]
	}
	return others[set.Prepare(candidates(others))(req)]
}

// current is what is prepared of the current snapshot, one instance at least.
func (set *Set[V, S, C]) current(ctx context.Context) (*prepared[V, S, C], error) {
	snap, err := set.Source.Current(ctx)
	if err != nil {
		return nil, err
	}
	p := set.now.Load()
	if p == nil || p.snap != snap || p.isDue() {
		p = set.refresh(snap)
	}
	if len(p.all) == 0 {
		return nil, set.Source.None(p.snap)
	}
	return p, nil
}

// isDue reports whether the time of an instance that is set aside is over since it was prepared.
func (p *prepared[V, S, C]) isDue() bool { return !p.due.IsZero() && !time.Now().Before(p.due) }

// refresh prepares the newest snapshot, or the given one before the first. It prepares nothing if
// another call just did, or if the source's instances are the same.
func (set *Set[V, S, C]) refresh(snap *V) *prepared[V, S, C] {
	set.mu.Lock()
	defer set.mu.Unlock()
	if newest := set.Source.Newest(); newest != nil {
		snap = newest
	}
	p := set.now.Load()
	if p == nil {
		p = new(prepared[V, S, C])
	}
	if p.snap == snap && !p.isDue() {
		return p
	}
	all := p.all
	if p.snap != snap {
		all = set.entries(snap, p.all)
	}
	same := func(a, b entry[S, C]) bool { return a.instance == b.instance }
	if p.isDue() || !slices.EqualFunc(all, p.all, same) {
		return set.prepare(snap, all, len(p.sure.list) < len(p.all))
	}
	next := *p
	next.snap = snap
	set.now.Store(&next)
	return &next
}

// entries are the instances of a snapshot. What is known of those that were there before is kept.
// Most are the same as before and are not looked at: those of a large service are in no cache. The
// caller holds set.mu.
func (set *Set[V, S, C]) entries(snap *V, was []entry[S, C]) (all []entry[S, C]) {
	list, most := set.Source.All(snap)
	if most > 0 {
		all = make([]entry[S, C], 0, most)
	}
	key, i := set.Source.Key, 0
	for s := range list {
		for i < len(was) && was[i].instance != s && key(was[i].instance) < key(s) {
			i++
		}
		switch {
		case i < len(was) && was[i].instance == s:
			all = append(all, was[i])
			i++
		case i < len(was) && key(was[i].instance) == key(s) &&
			set.Source.SamePlace(was[i].instance, s):
			all = append(all, entry[S, C]{s, was[i].calls, set.Candidate(s, was[i].calls)})
			i++
		default:
			calls := set.newCalls()
			all = append(all, entry[S, C]{s, calls, set.Candidate(s, calls)})
		}
	}
	return all
}

// again prepares what was prepared before, after an instance was set aside or taken back. The
// caller holds set.mu.
func (set *Set[V, S, C]) again() {
	p := set.now.Load()
	set.prepare(p.snap, p.all, true)
}

// prepare has the picker prepare those that are not set aside, if some may be. The caller holds
// set.mu.
func (set *Set[V, S, C]) prepare(snap *V, all []entry[S, C], some bool) *prepared[V, S, C] {
	p := &prepared[V, S, C]{snap: snap, all: all}
	if some {
		set.part(p)
	} else {
		p.sure = set.choice(all)
	}
	set.now.Store(p)
	return p
}

// part tells those that are set aside from the others. The caller holds set.mu.
func (set *Set[V, S, C]) part(p *prepared[V, S, C]) {
	now := time.Now()
	limit(&set.Rules, p.all, now)
	var sure, try []entry[S, C]
	for _, e := range p.all {
		switch until := e.calls.until; {
		case until.IsZero():
			sure, try = append(sure, e), append(try, e)
		case !until.After(now):
			try = append(try, e)
		case p.due.IsZero() || until.Before(p.due):
			p.due = until
		}
	}
	p.sure = set.choice(sure)
	if len(try) > len(sure) {
		p.try = set.choice(try)
	}
}

func (set *Set[V, S, C]) choice(list []entry[S, C]) choice[S, C] {
	if len(list) == 0 {
		return choice[S, C]{}
	}
	return choice[S, C]{list, set.Prepare(candidates(list))}
}

func candidates[S, C any](list []entry[S, C]) []*C {
	seen := make([]*C, len(list))
	for i, e := range list {
		seen[i] = e.seen
	}
	return seen
}

// Health calls f for each instance, in order of their keys, until is zero for one that is not set
// aside. It reads memory only, and tells of no instance before the first snapshot. f must not call
// the set.
func (set *Set[V, S, C]) Health(f func(instance *S, calls *Calls, until time.Time)) {
	snap := set.Source.Newest()
	if p := set.now.Load(); snap == nil && p != nil {
		snap = p.snap // of another source than Newest
	}
	if snap == nil {
		return
	}
	p := set.refresh(snap)
	set.mu.Lock()
	defer set.mu.Unlock()
	for _, e := range p.all {
		f(e.instance, e.calls, e.calls.until)
	}
}

// InTurn is a picker that picks one after the other.
func InTurn[C any](list []*C) func(Request) int {
	t, n := turn.New(), uint32(len(list))
	return func(Request) int { return int(t.Next() % n) }
}
