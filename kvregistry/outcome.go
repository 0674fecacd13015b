package kvregistry

import (
	"errors"
	"fmt"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/balance"
)

// Outcome is how a [Lookup] takes failed calls. An instance whose calls fail one after the other is
// set aside: it is not picked for a time. When that time is over one call is made with it. If the
// call succeeds, the instance is taken back; if it fails, the instance is set aside for twice as
// long. All of this is local to the Lookup. Nothing is written to the bucket. An instance that the
// filters stop letting through, and that comes back, is a new one, as is one with another URL or
// Address.
//
// The zero value has the defaults, and is what a Lookup without an Outcome has.
type Outcome struct {
	// Failures is how many calls in a row fail before the instance is set aside: 5 if it is 0. A
	// negative number means never.
	Failures int
	// Aside is for how long an instance is set aside at first: 1 s if it is 0. The time is up to a
	// quarter less, at random, so that callers don't come back together.
	Aside time.Duration
	// Longest is for how long an instance is set aside at most. If it is 0, that is 1 min, or Aside
	// if Aside is more.
	Longest time.Duration
	// Share is the part of the instances, rounded down, that may be set aside at a time: half if it
	// is 0. Even with 1 one instance is left.
	Share float64

	// Failed says which errors are failures of the instance; one that is none counts as a success.
	// It is not asked for errors that wrap context.Canceled, nor for those of a process that has no
	// file descriptor, buffer or local port left (EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL):
	// these say nothing of the instance. If it is nil all others are failures.
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
		return fmt.Errorf("Outcome: Aside %s, Longest %s: they must not be negative", o.Aside,
			o.Longest)
	case o.Longest != 0 && o.Longest < o.Aside:
		return fmt.Errorf("Outcome: Longest %s is less than Aside %s", o.Longest, o.Aside)
	case !(o.Share >= 0 && o.Share <= 1):
		return fmt.Errorf("Outcome: Share %v; it must be from 0 to 1", o.Share)
	}
	l.outcome = Outcome(o.rules())
	return nil
}

// rules are the outcome's, with the defaults of what is left out.
func (o Outcome) rules() balance.Rules {
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
	return balance.Rules(o)
}
