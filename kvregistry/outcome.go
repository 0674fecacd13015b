package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/kvregistry/internal/fault"
)

// Outcome is how a [Lookup] takes failed calls. An instance whose calls fail one after the other is set aside: it is not picked for a time. When that is over one call is made
// with it. If the call succeeds, the instance is taken back; if it fails, the instance is set aside for twice as long. All of this is local to the Lookup. Nothing is
// written to the bucket, and an instance that leaves the list of those that the filters let through, and comes back, is a new one, as is one with another URL or Address.
//
// The zero value has the defaults, and is what a Lookup without an Outcome has.
type Outcome struct {
	Failures int           // how many calls in a row fail before the instance is set aside: 5 where it is 0, and none is set aside where it is negative
	Aside    time.Duration // for how long, at first: 1 s where it is 0. Up to a quarter less, at random, so that callers don't come back together
	Longest  time.Duration // for how long, at most: 1 min, or Aside if that is more, where it is 0
	Share    float64       // of the instances, rounded down, how many may be set aside at a time: half where it is 0. Even with 1 one is left

	// Failed says which errors are failures of the instance; one that is none counts as a success.
	// It is not asked for errors that wrap context.Canceled, nor for those of a process that has no
	// file descriptor, buffer or local port left (EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL):
	// these say nothing of the instance. Where it is nil all others are failures.
	Failed func(error) bool
}

// The defaults of an [Outcome].
const (
	DefaultFailures = 5
	DefaultAside    = time.Second
	DefaultLongest  = time.Minute
	DefaultShare    = 0.5
)

func (o Outcome) join(l *Lookup) error {
	switch {
	case l.outcome.Failures != 0:
		return errors.New("it has two Outcomes; give it one")
	case o.Aside < 0 || o.Longest < 0:
		return fmt.Errorf("Outcome: Aside %s, Longest %s: they must not be negative", o.Aside, o.Longest)
	case o.Longest != 0 && o.Longest < o.Aside:
		return fmt.Errorf("Outcome: Longest %s is less than Aside %s", o.Longest, o.Aside)
	case !(o.Share >= 0 && o.Share <= 1):
		return fmt.Errorf("Outcome: Share %v; it must be from 0 to 1", o.Share)
	}
	l.outcome = o.orDefaults()
	return nil
}

func (o Outcome) orDefaults() Outcome {
	if o.Failures == 0 {
		o.Failures = DefaultFailures
	}
	if o.Aside == 0 {
		o.Aside = DefaultAside
		if o.Longest != 0 {
			o.Aside = min(o.Aside, o.Longest)
		}
	}
	if o.Longest == 0 {
		o.Longest = max(DefaultLongest, o.Aside)
	}
	if o.Share == 0 {
		o.Share = DefaultShare
	}
	return o
}

// verdict is what the end of a call says of its instance.
type verdict int

const (
	nothing verdict = iota
	good
	bad
)

func (o *Outcome) verdict(err error) verdict {
	switch {
	case err == nil:
		return good
	case errors.Is(err, context.Canceled), fault.Own(err):
		return nothing
	case o.Failed != nil && !o.Failed(err):
		return good
	}
	return bad
}

// most is how many of n instances may be set aside: never all.
func (o *Outcome) most(n int) int { return max(0, min(int(o.Share*float64(n)), n-1)) }

// limit takes back who is set aside beyond what may be, who has been for longest first. The caller holds the Lookup's mu.
func (o *Outcome) limit(all []*Candidate, now time.Time) {
	var aside []*Candidate
	for _, c := range all {
		if !c.until.IsZero() {
			aside = append(aside, c)
		}
	}
	over := len(aside) - o.most(len(all))
	if over <= 0 {
		return
	}
	slices.SortFunc(aside, func(a, b *Candidate) int { return a.until.Compare(b.until) })
	for _, c := range aside[:over] {
		c.takeBack(now)
	}
}

func (c *calls) takeBack(now time.Time) {
	c.until, c.back = time.Time{}, now
	c.aside.Store(false)
	c.failures.Store(0)
}

// ended is told of a call's end.
func (l *Lookup) ended(c *calls, err error) {
	c.end()
	switch l.outcome.verdict(err) {
	case good:
		if c.failures.Load() != 0 && !c.aside.Load() {
			c.failures.Store(0)
		}
	case bad:
		if n := int(c.failures.Add(1)); l.outcome.Failures > 0 && n >= l.outcome.Failures {
			l.setAside(c)
		}
	}
}

// setAside sets an instance aside, unless as many are as may be. One whose time is over makes place: it is there to be tried, and its picker may never ask for it.
func (l *Lookup) setAside(c *calls) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, now := l.now.Load(), time.Now()
	full := len(p.all)-len(p.sure.list) >= l.outcome.most(len(p.all))
	if c.aside.Load() || full && len(p.try.list) == 0 || !slices.ContainsFunc(p.all, func(o *Candidate) bool { return o.calls == c }) {
		return
	}
	if now.Sub(c.back) > c.wait {
		c.wait = 0 // it was good for long enough since
	}
	l.outcome.send(c, now)
	l.again()
}

// send sets an instance aside, for longer than the last time. The caller holds the Lookup's mu.
func (o *Outcome) send(c *calls, now time.Time) {
	c.wait = min(max(2*c.wait, o.Aside), o.Longest)
	c.until = now.Add(backoff.Jitter(c.wait))
	c.aside.Store(true)
}

// probe reports whether a call may be made with an instance that is set aside: by one caller, when its time is over. If that does not tell its outcome for as
// long as the instance was set aside, another may.
func (l *Lookup) probe(c *Candidate) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if c.until.IsZero() || c.until.After(now) {
		return false
	}
	c.until = now.Add(c.wait)
	l.again()
	return true
}

// probeEnded is told of the end of a call that was a probe.
func (l *Lookup) probeEnded(c *calls, err error) {
	c.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.until.IsZero() { // taken back meanwhile
		return
	}
	now := time.Now()
	switch l.outcome.verdict(err) {
	case good:
		c.takeBack(now)
	case bad:
		l.outcome.send(c, now)
	default:
		c.until = now
	}
	l.again()
}
