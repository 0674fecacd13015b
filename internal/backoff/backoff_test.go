package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A wait doubles from Least to Most, and jitter takes off at most a quarter. Seen to fail with a
// step of Least<<n that has no bound, and with a jitter of a half.
func TestCurve(t *testing.T) {
	t.Parallel()
	c := Curve{Least: 10 * time.Millisecond, Most: 250 * time.Millisecond}
	steps := []time.Duration{10, 20, 40, 80, 160, 250, 250}
	for n, step := range steps {
		step *= time.Millisecond
		for range 1000 {
			if d := c.After(n); d < step*3/4 || d > step {
				t.Fatalf("After(%d) = %s, want %s less up to a quarter", n, d, step)
			}
			if d := c.Within(n); d < 0 || d > step {
				t.Fatalf("Within(%d) = %s, want up to %s", n, d, step)
			}
		}
	}
	if d := c.After(1 << 30); d < c.Most*3/4 || d > c.Most {
		t.Errorf("After(1 << 30) = %s, want %s less up to a quarter", d, c.Most)
	}
}

// A sleep ends after its time, with its context, or when it is woken. Seen to fail with a SleepOr
// that does not read early, and with one that does not look at ctx.
func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		if err := Sleep(ctx, time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("Sleep: %v after %s", err, time.Since(began))
		}
		early := make(chan int)
		time.AfterFunc(time.Second, func() { close(early) })
		began = time.Now()
		if err := SleepOr(ctx, time.Minute, early); err != nil || time.Since(began) != time.Second {
			t.Errorf("SleepOr: %v after %s", err, time.Since(began))
		}
		time.AfterFunc(time.Second, cancel)
		began = time.Now()
		err := Sleep(ctx, time.Minute)
		if !errors.Is(err, context.Canceled) || time.Since(began) != time.Second {
			t.Errorf("Sleep with a context that ends: %v after %s", err, time.Since(began))
		}
		if err := SleepOr(ctx, 0, early); !errors.Is(err, context.Canceled) {
			t.Errorf("SleepOr with a context that is over: %v", err)
		}
	})
}
