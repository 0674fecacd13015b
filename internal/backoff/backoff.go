// Package backoff says how long to wait before something that failed is tried again, and waits.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Curve is the time between two tries: Least after the first failure, then twice as long each time,
// up to Most. Most is less than a million times Least.
type Curve struct {
	Least, Most time.Duration
}

// After returns the time to wait after n failures in a row before the last one, less up to a
// quarter.
func (c Curve) After(n int) time.Duration { return Jitter(c.step(n)) }

// Within returns a random part of the time that [Curve.After] gives, for rivals and for processes
// that failed together.
func (c Curve) Within(n int) time.Duration { return rand.N(c.step(n) + 1) }

func (c Curve) step(n int) time.Duration { return min(c.Least<<min(n, 20), c.Most) }

// Jitter returns between three quarters of d and d, so that processes do not stay in step.
func Jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

// Sleep waits for d. It returns the context's error if ctx ends before.
func Sleep(ctx context.Context, d time.Duration) error {
	return SleepOr[struct{}](ctx, d, nil)
}

// SleepOr waits for d, or until early delivers or is closed. It returns the context's error if ctx
// ends before.
func SleepOr[T any](ctx context.Context, d time.Duration, early <-chan T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-early:
	case <-t.C:
	}
	return nil
}
