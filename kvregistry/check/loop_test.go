package check

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A check that alternates does not change the verdict. Results in a row do, and so does the first
// result at once. Seen to fail with results in a row that are not counted from 0 again, and with
// Rise and Fall exchanged.
func TestVerdict(t *testing.T) {
	t.Parallel()
	const rise, fall = 2, 3
	for _, tc := range []struct{ results, want string }{ // p passes, f fails; verdict after each
		{"p", "p"},
		{"f", "f"},
		{"pffpffpff", "ppppppppp"},
		{"pfffpfpp", "pppffffp"},
		{"fpfpfpp", "ffffffp"},
		{"pfffppfffpp", "pppffppp" + "ffp"},
	} {
		var v verdict
		got, before := "", ""
		for _, r := range tc.results {
			changed := v.add(r == 'f', rise, fall)
			now := map[bool]string{true: "f", false: "p"}[v.failing]
			if changed != (now != before) {
				t.Errorf("%s: changed is %v at %q", tc.results, changed, got+now)
			}
			got, before = got+now, now
		}
		if got != tc.want {
			t.Errorf("%s gave %s, want %s", tc.results, got, tc.want)
		}
	}
}

// result is what a loop reported, and when.
type result struct {
	err error
	at  time.Duration
}

// looped returns the results of a check that runs for a time, in the bubble of a test.
func looped(t *testing.T, c Check, d time.Duration) (list []result) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	began := time.Now()
	c.loop(ctx, func(err error, _ time.Duration) {
		list = append(list, result{err, time.Since(began)})
	})
	return list
}

// Runs are Every apart, or up to a tenth less, and begin within a second, not all at the same
// moment. Seen to fail without the wait before the first run, and without the jitter of the others.
func TestRunsAreSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		firsts, gaps := map[time.Duration]bool{}, map[time.Duration]bool{}
		for range 20 {
			ok := Of(func(context.Context) error { return nil }, Every(10*time.Second))
			list := looped(t, ok, time.Minute)
			if list[0].at >= spread {
				t.Errorf("the first run is after %s", list[0].at)
			}
			firsts[list[0].at] = true
			for i := 1; i < len(list); i++ {
				gap := list[i].at - list[i-1].at
				if gap < 9*time.Second || gap > 10*time.Second {
					t.Errorf("%s between two runs", gap)
				}
				gaps[gap] = true
			}
		}
		if len(firsts) < 10 || len(gaps) < 50 {
			t.Errorf("%d first moments of 20, and %d gaps of 100, differ", len(firsts), len(gaps))
		}
	})
}

// A check that hangs fails at its timeout and at each run after it. It is not called a second time
// meanwhile, and passes when it has returned and passes. Seen to fail with a call of the function
// in the loop's own goroutine, with a second call beside the first, and with the late result taken
// for a new one.
func TestCheckThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		c := Of(func(context.Context) error {
			if calls.Add(1) == 1 {
				time.Sleep(25 * time.Second) // whatever its context says
			}
			return nil
		}, Every(10*time.Second), Timeout(2*time.Second))
		list := looped(t, c, 70*time.Second)
		var got []string
		for _, r := range list {
			got = append(got, fmt.Sprint(r.err))
		}
		want := []string{"no result in time, 2s", errBusy.Error(), errBusy.Error(),
			"<nil>", "<nil>", "<nil>"}
		failed := func(s string) bool { return s != "<nil>" }
		if len(got) < len(want) || !slices.Equal(got[:4], want[:4]) ||
			slices.ContainsFunc(got[4:], failed) {
			t.Errorf("got %q", got)
		}
		if at := list[0].at; at < 2*time.Second || at >= 3*time.Second {
			t.Errorf("the first result came after %s", at)
		}
		if n := int(calls.Load()); n != len(list)-2 {
			t.Errorf("called %d times in %d runs", n, len(list))
		}
	})
}

// A check that panics, or ends its goroutine, has failed, and is called again. Seen to fail without
// the recovery (the test binary died), and with a result that is sent when the function returns (no
// result came).
func TestCheckThatPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for want, f := range map[string]func(){
			"the check panicked: oops": func() { panic("oops") },
			errExit.Error():            runtime.Goexit,
		} {
			list := looped(t, Of(func(context.Context) error { f(); return nil }), 30*time.Second)
			for _, r := range list {
				if fmt.Sprint(r.err) != want {
					t.Errorf("got %v, want %s", r.err, want)
				}
			}
			if len(list) < 5 {
				t.Errorf("%d results", len(list))
			}
		}
	})
}

// A check that obeys its context fails at its timeout, and once per run. Its own error is the
// result.
func TestCheckThatMindsItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		list := looped(t, Of(func(ctx context.Context) error {
			calls.Add(1)
			<-ctx.Done()
			return ctx.Err()
		}, Every(time.Second), Timeout(100*time.Millisecond)), 10*time.Second)
		for _, r := range list {
			if !errors.Is(r.err, context.DeadlineExceeded) && !errors.Is(r.err, errLate) {
				t.Errorf("got %v", r.err)
			}
		}
		if n := int(calls.Load()); n < len(list) || n > len(list)+1 || len(list) < 9 {
			t.Errorf("%d calls, %d results", n, len(list))
		}
	})
}
