package transport

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestBudget holds how many retries there are if every request wants as many as it gets. Seen to
// fail without the fading, and without what a retry takes.
func TestBudget(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name             string
		share, perSecond float64
		requests         int           // one after the other
		every            time.Duration // between them
		least, most      int           // retries
	}{
		{"at once", 0.2, 1, 1000, 0, 209, 210},
		{"at once, without a reserve", 0.2, 0, 1000, 0, 199, 200},
		{"none", 0, 0, 1000, time.Second, 0, 0},
		{"few requests: one retry each", 0, 1, 100, time.Second, 90, 111},
		{"many: the share, the seconds and the reserve", 0.2, 1, 10_000, 10 * time.Millisecond,
			2_000, 2_000 + 100 + 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, retries := newBudget(tc.share, tc.perSecond), 0
				for range tc.requests {
					b.request()
					for b.retry() {
						retries++
					}
					time.Sleep(tc.every)
				}
				if retries < tc.least || retries > tc.most {
					t.Errorf("%d retries, want %d to %d", retries, tc.least, tc.most)
				}
			})
		})
	}
	t.Run("the unused rest is not kept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBudget(0.2, 1)
			for range 10_000 {
				b.request()
			}
			time.Sleep(10 * window)
			retries := 0
			for b.retry() {
				retries++
			}
			if retries < 9 || retries > 10 {
				t.Errorf("%d retries at once after a quiet time, want 10", retries)
			}
		})
	})
}
