package check

import (
	"context"
	"fmt"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// The defaults of the options.
const (
	DefaultEvery   = 5 * time.Second
	DefaultTimeout = 2 * time.Second
	DefaultRise    = 2
	DefaultFall    = 3
)

// Check is one check, which [Run] runs. Several runs can share it.
type Check struct {
	f              func(context.Context) error
	name           string
	every, timeout time.Duration
	rise, fall     int
	failed         kvregistry.Status // the service's status while the check fails
	err            error             // from an invalid option
}

// errMade says that a Check is the zero value.
var errMade = fmt.Errorf("%w: make the check with Of, HTTP, TCP or Heartbeat",
	kvregistry.ErrInvalidOption)

// Of makes a check of a function, which returns nil if all is well. The check calls f once at a
// time. f must return when its context ends, which is at the check's timeout. If f does not return,
// the check fails, and does not call f again until f has returned. If f panics, the check has
// failed.
func Of(f func(ctx context.Context) error, opts ...Option) Check {
	c := Check{f: f, every: DefaultEvery, timeout: DefaultTimeout, rise: DefaultRise,
		fall: DefaultFall, failed: kvregistry.Critical}
	if f == nil {
		c.err = fmt.Errorf("%w: Of(nil): a check needs a function", kvregistry.ErrInvalidOption)
	}
	return c.with(opts)
}

// with sets options, and keeps the first error for Run.
func (c Check) with(opts []Option) Check {
	for _, opt := range opts {
		err := fmt.Errorf("%w: it is nil", kvregistry.ErrInvalidOption)
		if opt != nil {
			err = opt(&c)
		}
		if c.err == nil {
			c.err = err
		}
	}
	return c
}

// Option sets one property of a check. An invalid option makes [Run] return an error that wraps
// [kvregistry.ErrInvalidOption].
type Option func(*Check) error

// Every sets the time from the start of one run to the start of the next, [DefaultEvery] by
// default. The time is up to a tenth shorter, at random, so that many processes do not run in step.
// A run that takes longer is followed by the next at once. The first run starts at a random moment
// within that time, at most a second.
func Every(d time.Duration) Option { return positive("Every", d, func(c *Check) { c.every = d }) }

// Timeout sets how long a run may take, [DefaultTimeout] by default.
func Timeout(d time.Duration) Option {
	return positive("Timeout", d, func(c *Check) { c.timeout = d })
}

// Rise sets how many times in a row a failed check has to pass to count as passing, [DefaultRise]
// by default.
func Rise(n int) Option { return positive("Rise", n, func(c *Check) { c.rise = n }) }

// Fall sets how many times in a row a passing check has to fail to count as failed, [DefaultFall]
// by default.
func Fall(n int) Option { return positive("Fall", n, func(c *Check) { c.fall = n }) }

// OnlyWarns makes the service warning, and not critical, while the check fails. Look-ups still give
// a warning instance if no instance passes.
func OnlyWarns() Option {
	return func(c *Check) error {
		c.failed = kvregistry.Warning
		return nil
	}
}

// Named sets the name of the check in log lines and in [Result].
func Named(name string) Option {
	return func(c *Check) error {
		c.name = name
		return nil
	}
}

func positive[T int | time.Duration](what string, n T, set func(*Check)) Option {
	return func(c *Check) error {
		if n <= 0 {
			return fmt.Errorf("%w: %s(%v); it must be positive", kvregistry.ErrInvalidOption, what,
				n)
		}
		if d, ok := any(n).(time.Duration); ok && d < time.Millisecond {
			return fmt.Errorf("%w: %s(%s); use 1ms or more, such as 5*time.Second",
				kvregistry.ErrInvalidOption, what, d)
		}
		set(c)
		return nil
	}
}
