package balance

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/fault"
)

// Rules say how a set takes failed calls. All but Failed are needed.
type Rules struct {
	Failures int           // in a row, before an instance is set aside; negative for never
	Aside    time.Duration // for how long, at first
	Longest  time.Duration // for how long, at most
	Share    float64       // of the instances, how many may be set aside at a time
	Failed   func(error) bool
}

// Calls is what a set knows of an instance's calls, for as long as the source has the instance.
type Calls struct {
	inFlight     atomic.Int64
	failures     atomic.Int32 // in a row
	aside        atomic.Bool  // until is not zero
	done, probed func(error)  // what a call, and one that is the probe, are ended by

	// Guarded by the set's mu.
	until time.Time     // when it may be tried again; zero if it is not set aside
	wait  time.Duration // how long it was set aside for at last
	back  time.Time     // when it was taken back at last
}

// InFlight is how many calls have not ended yet.
func (c *Calls) InFlight() int64 { return c.inFlight.Load() }

// Failures is how many calls in a row failed.
func (c *Calls) Failures() int { return int(c.failures.Load()) }

// newCalls makes what ends calls once, so that a call allocates nothing.
func (set *Set[V, S, C]) newCalls() *Calls {
	c := new(Calls)
	c.done = func(err error) { set.ended(c, err) }
	c.probed = func(err error) { set.probeEnded(c, err) }
	return c
}

// begin counts a call, and returns what ends it.
func (c *Calls) begin() (done func(error)) {
	c.inFlight.Add(1)
	return c.done
}

// end counts a call's end. A call that is ended twice is counted against another call; the count
// never goes below zero.
func (c *Calls) end() {
	if c.inFlight.Add(-1) < 0 {
		c.inFlight.Add(1)
	}
}

func (c *Calls) takeBack(now time.Time) {
	c.until, c.back = time.Time{}, now
	c.aside.Store(false)
	c.failures.Store(0)
}

// verdict is what the end of a call says of its instance.
type verdict int

const (
	nothing verdict = iota
	good
	bad
)

func (r *Rules) verdict(err error) verdict {
	switch {
	case err == nil:
		return good
	case errors.Is(err, context.Canceled), fault.Own(err):
		return nothing
	case r.Failed != nil && !r.Failed(err):
		return good
	}
	return bad
}

// most is how many of n instances may be set aside: never all.
func (r *Rules) most(n int) int { return max(0, min(int(r.Share*float64(n)), n-1)) }

// limit takes back those that are set aside beyond what may be, the longest first. The caller holds
// the set's mu.
func limit[S, C any](r *Rules, all []entry[S, C], now time.Time) {
	var aside []*Calls
	for _, e := range all {
		if !e.calls.until.IsZero() {
			aside = append(aside, e.calls)
		}
	}
	over := len(aside) - r.most(len(all))
	if over <= 0 {
		return
	}
	slices.SortFunc(aside, func(a, b *Calls) int { return a.until.Compare(b.until) })
	for _, c := range aside[:over] {
		c.takeBack(now)
	}
}

// send sets an instance aside, for longer than the last time. The caller holds the set's mu.
func (r *Rules) send(c *Calls, now time.Time) {
	c.wait = min(max(2*c.wait, r.Aside), r.Longest)
	c.until = now.Add(c.wait - rand.N(c.wait/4+1))
	c.aside.Store(true)
}

// ended takes the end of a call.
func (set *Set[V, S, C]) ended(c *Calls, err error) {
	c.end()
	switch set.Rules.verdict(err) {
	case good:
		if c.failures.Load() != 0 && !c.aside.Load() {
			c.failures.Store(0)
		}
	case bad:
		if n := int(c.failures.Add(1)); set.Rules.Failures > 0 && n >= set.Rules.Failures {
			set.setAside(c)
		}
	}
}

// setAside sets an instance aside, unless as many are as may be. One whose time is over makes
// place: it may be tried, and its picker may never ask for it.
func (set *Set[V, S, C]) setAside(c *Calls) {
	set.mu.Lock()
	defer set.mu.Unlock()
	p, now := set.now.Load(), time.Now()
	full := len(p.all)-len(p.sure.list) >= set.Rules.most(len(p.all))
	here := func(e entry[S, C]) bool { return e.calls == c }
	if c.aside.Load() || full && len(p.try.list) == 0 || !slices.ContainsFunc(p.all, here) {
		return
	}
	if now.Sub(c.back) > c.wait {
		c.wait = 0 // it was good for long enough since
	}
	set.Rules.send(c, now)
	set.again()
}

// probe reports whether a call may be made with an instance that is set aside: one call, when its
// time is over. If that call does not end for as long as the instance was set aside, another may be
// made.
func (set *Set[V, S, C]) probe(c *Calls) bool {
	set.mu.Lock()
	defer set.mu.Unlock()
	now := time.Now()
	if c.until.IsZero() || c.until.After(now) {
		return false
	}
	c.until = now.Add(c.wait)
	set.again()
	return true
}

// probeEnded takes the end of a call that was a probe.
func (set *Set[V, S, C]) probeEnded(c *Calls, err error) {
	c.end()
	set.mu.Lock()
	defer set.mu.Unlock()
	if c.until.IsZero() { // taken back meanwhile
		return
	}
	now := time.Now()
	switch set.Rules.verdict(err) {
	case good:
		c.takeBack(now)
	case bad:
		set.Rules.send(c, now)
	default:
		c.until = now
	}
	set.again()
}
