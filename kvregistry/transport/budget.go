package transport

import (
	"math"
	"sync"
	"time"
)

// window is the time over which a budget counts.
const window = 10 * time.Second

// budget bounds retries to a share of the requests, and a few per second in addition. It holds how
// many retries are left: a request adds the share, a second adds perSecond, and a retry takes 1.
// The unused rest fades with the window as its time constant.
type budget struct {
	share, perSecond float64

	mu   sync.Mutex // guards what follows
	left float64
	at   time.Time
}

func newBudget(share, perSecond float64) *budget {
	return &budget{share: share, perSecond: perSecond, left: perSecond * window.Seconds(),
		at: time.Now()}
}

// request counts a request that is no retry.
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

// fade moves what is left towards what perSecond alone would leave.
func (b *budget) fade() {
	now := time.Now()
	gone := -math.Expm1(-now.Sub(b.at).Seconds() / window.Seconds())
	b.left += (b.perSecond*window.Seconds() - b.left) * gone
	b.at = now
}
