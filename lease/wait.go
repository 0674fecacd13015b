package lease

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
)

// longer is the back-off that follows d: 25 ms, then twice as long each time, up to a second.
func longer(d time.Duration) time.Duration {
	return min(max(2*d, 25*time.Millisecond), time.Second)
}

// jitter is between three quarters of d and d.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

// sleep waits for d, or until ctx ends or the connection comes back.
func sleep(ctx context.Context, d time.Duration, up <-chan nats.Status) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-up:
	case <-t.C:
	}
}
