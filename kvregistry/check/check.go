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

// Check is one check, which [Run] runs. It may be given to several runs.
type Check struct {
	f              func(context.Context) error
	name           string
	every, timeout time.Duration
	rise, fall     int
	failed         kvregistry.Status // what the service is while it fails
	err            error             // of a bad option
}

// Of is a check by a function, which returns nil where all is well. f is called once at a time; it is to return when its context ends, at the check's timeout. One that does not is
// not called again until it has returned, and fails meanwhile; so does one that panics.
func Of(f func(ctx context.Context) error, opts ...Option) Check {
	c := Check{f: f, every: DefaultEvery, timeout: DefaultTimeout, rise: DefaultRise, fall: DefaultFall, failed: kvregistry.Critical}
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

// Option sets something of a check. A bad one is an error of [Run] that wraps [kvregistry.ErrInvalidOption].
type Option func(*Check) error

// Every is the time from the start of one run to that of the next, up to a tenth less so that many processes don't keep step; [DefaultEvery] by default. A run that takes longer is
// followed by the next at once. The first run is at a random moment of that time, within a second.
func Every(d time.Duration) Option { return positive("Every", d, func(c *Check) { c.every = d }) }

// Timeout is how long a run may take, [DefaultTimeout] by default.
func Timeout(d time.Duration) Option {
	return positive("Timeout", d, func(c *Check) { c.timeout = d })
}

// Rise is how often in a row a check that failed has to pass until it counts as passing, [DefaultRise] by default.
func Rise(n int) Option { return positive("Rise", n, func(c *Check) { c.rise = n }) }

// Fall is how often in a row a check that passed has to fail until it counts as failed, [DefaultFall] by default.
func Fall(n int) Option { return positive("Fall", n, func(c *Check) { c.fall = n }) }

// OnlyWarns makes the service warning, and not critical, while the check fails: look-ups still give it where no instance passes.
func OnlyWarns() Option {
	return func(c *Check) error {
		c.failed = kvregistry.Warning
		return nil
	}
}

// Named is what log lines and [Result] call the check.
func Named(name string) Option {
	return func(c *Check) error {
		c.name = name
		return nil
	}
}

func positive[T int | time.Duration](what string, n T, set func(*Check)) Option {
	return func(c *Check) error {
		if n <= 0 {
			return fmt.Errorf("%w: %s(%v); it must be positive", kvregistry.ErrInvalidOption, what, n)
		}
		set(c)
		return nil
	}
}
