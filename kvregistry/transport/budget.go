package transport

import (
	"math"
	"sync"
	"time"
)

// window is over how much time a budget counts.
const window = 10 * time.Second

// budget bounds retries to a share of the requests, and a few per second beside. It holds what may still be retried: a request adds the share,
// a second adds perSecond, a retry takes 1, and what is not used fades with the window as its time constant.
type budget struct {
	share, perSecond float64

	mu   sync.Mutex // guards what follows
	left float64
	at   time.Time
}

func newBudget(share, perSecond float64) *budget {
	return &budget{share: share, perSecond: perSecond, left: perSecond * window.Seconds(), at: time.Now()}
}

// request counts a request, which is no retry.
func (b *budget) request() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fade()
	b.left += b.share
}

// retry takes one retry, if there is one left.
func (b *budget) retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fade()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// fade moves what is left towards what the seconds alone would make of it.
func (b *budget) fade() {
	now := time.Now()
	gone := -math.Expm1(-now.Sub(b.at).Seconds() / window.Seconds())
	b.left += (b.perSecond*window.Seconds() - b.left) * gone
	b.at = now
}
