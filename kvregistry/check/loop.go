package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// spread is the time over which processes that start together spread their first runs.
const spread = time.Second

var (
	errLate = errors.New("no result in time")
	errBusy = errors.New("the previous run has not returned yet")
	errExit = errors.New("the check ended its goroutine")
)

// loop runs a check again and again until ctx ends.
func (c *Check) loop(ctx context.Context, result func(err error, took time.Duration)) {
	timer := time.NewTimer(rand.N(min(c.every, spread)))
	defer timer.Stop()
	var running chan error // the result of a run that was late
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		timer.Reset(c.every - rand.N(c.every/10+1))
		err := errBusy
		if returned(running) {
			running = make(chan error, 1)
			err = c.once(ctx, running)
		}
		if ctx.Err() != nil {
			return
		}
		result(err, time.Since(began))
	}
}

// Once runs the check once, and returns its error, or that it took longer than its [Timeout]. If
// ctx has ended, nothing is run. The error of an invalid option wraps
// [kvregistry.ErrInvalidOption].
func (c Check) Once(ctx context.Context) error {
	if c.err == nil && c.f == nil {
		c.err = errMade
	}
	if c.err != nil {
		return c.err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.once(ctx, make(chan error, 1))
}

// returned reports whether a late run is over. Its result is too old to count.
func returned(running chan error) bool {
	if running == nil {
		return true
	}
	select {
	case <-running:
		return true
	default:
		return false
	}
}

// once runs a check, and returns when the check does, or at its timeout. The result of a late run
// comes to done later.
func (c *Check) once(ctx context.Context, done chan error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	go func() { // ends when the check returns, as its context asks
		err := errExit
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the check panicked: %v", p)
			}
			done <- err
		}()
		err = c.f(ctx)
	}()
	select {
	case err := <-done:
		close(done) // the run has returned, for later calls of returned
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w, %s", errLate, c.timeout)
	}
}
