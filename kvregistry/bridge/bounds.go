package bridge

import (
	"fmt"
	"time"
)

// budget bounds how much plain processes can make a bridge write: most at once, and as much again
// in ten minutes, for which a tombstone stays in the bucket.
type budget struct {
	left, most float64
	at         time.Time // when left was computed
}

const refill = 10 * time.Minute

func newBudget(most int, now time.Time) budget {
	return budget{left: float64(most), most: float64(most), at: now}
}

// take takes one from what is left, and reports whether there was one.
func (b *budget) take(now time.Time) bool {
	b.left = min(b.most, b.left+b.most*float64(now.Sub(b.at))/float64(refill))
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// faults counts what was skipped.
type faults struct{ skipped, dropped uint64 }

// skip counts and logs a message or service that is invalid. It logs the 1st, 2nd, 4th, 8th … of
// them, so that a flood does not flood the log.
func (b *Bridge) skip(reason, name string) {
	b.skipped++
	if b.skipped&(b.skipped-1) == 0 {
		b.opt.logger.Warn("bridge: skipped", "cause", fmt.Sprintf("%.200q", reason), "service",
			fmt.Sprintf("%.80q", name), "skipped", b.skipped)
	}
}

// drop counts an instance beyond MaxInstances.
func (b *Bridge) drop(name string) {
	b.dropped++
	if b.dropped&(b.dropped-1) == 0 {
		b.opt.logger.Warn("bridge: plain processes register more than MaxInstances allows",
			"service", fmt.Sprintf("%.80q", name), "dropped", b.dropped)
	}
}
