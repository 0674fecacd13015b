package bridge

import (
	"fmt"
	"time"
)

// budget bounds how much plain processes can make a bridge write: so much at once, and as much again in the ten minutes for which what ends leaves a tombstone
// in the bucket.
type budget struct {
	left, most float64
	at         time.Time // when left was so
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

// faults counts what was passed over.
type faults struct{ skipped, dropped uint64 }

// skip counts what can't be taken as it is, and logs the 1st, 2nd, 4th, 8th … of it: a flood is no flood of log lines.
func (b *Bridge) skip(reason, name string) {
	b.skipped++
	if b.skipped&(b.skipped-1) == 0 {
		b.opt.logger.Warn("bridge: skipped", "cause", fmt.Sprintf("%.200q", reason), "service", fmt.Sprintf("%.80q", name), "skipped", b.skipped)
	}
}

// drop counts what is more than MaxInstances lets in.
func (b *Bridge) drop(name string) {
	b.dropped++
	if b.dropped&(b.dropped-1) == 0 {
		b.opt.logger.Warn("bridge: plain processes register more than MaxInstances lets in", "service", fmt.Sprintf("%.80q", name), "dropped", b.dropped)
	}
}
