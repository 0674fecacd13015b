package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// spread is the time over which the first runs of many processes that start together are spread.
const spread = time.Second

var (
	errLate = errors.New("no result in time")
	errBusy = errors.New("the run before has not returned yet")
	errExit = errors.New("the check ended its goroutine")
)

// loop runs a check again and again until ctx ends.
func (c *Check) loop(ctx context.Context, result func(err error, took time.Duration)) {
	timer := time.NewTimer(rand.N(min(c.every, spread)))
	defer timer.Stop()
	var running chan error // the result of a run that was not there in time
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

// returned reports whether a run is over that was not in time; its result is too old to count.
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

// once runs a check, and returns at its timeout whether the check does or not. Where it does not, its result comes to done later.
func (c *Check) once(ctx context.Context, done chan error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	go func() { // ends when the check returns, which its context tells it to
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
		close(done) // it has returned, for who asks later
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w, %s", errLate, c.timeout)
	}
}
