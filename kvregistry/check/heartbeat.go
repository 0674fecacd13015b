package check

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// Heartbeat is touched by the service's own code while its work makes progress. A check made by
// [Heartbeat.Within] notices a loop that is stuck in a process that lives. The zero value is ready
// for use. A Heartbeat must not be copied after its first use.
type Heartbeat struct {
	touched atomic.Bool // since the last look

	mu   sync.Mutex // guards last, and each check's first look
	last time.Time  // when a touch was found
}

// Touch says that the work makes progress. It costs a few nanoseconds. Any number of goroutines may
// call it.
func (h *Heartbeat) Touch() {
	if !h.touched.Load() { // usually it is set, and no other core has to read a write
		h.touched.Store(true)
	}
}

// Within makes a check that fails if there was no touch for d. The first touch may take as long,
// also after another call of Within for a loop that starts again. The check looks ten times in d,
// so it notices a stop after d to 1.2 d. It is not damped, unless options say otherwise.
func (h *Heartbeat) Within(d time.Duration, opts ...Option) Check {
	var first time.Time // when this check looked first
	c := Of(func(context.Context) error { return h.look(d, &first) },
		append([]Option{Named("heartbeat"), Every(max(d/10, time.Millisecond)), Rise(1), Fall(1)},
			opts...)...)
	if d <= 0 {
		c.err = fmt.Errorf("%w: Within(%s); it must be positive", kvregistry.ErrInvalidOption, d)
	}
	return c
}

func (h *Heartbeat) look(d time.Duration, first *time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if first.IsZero() {
		*first = now
	}
	if h.touched.Swap(false) {
		h.last = now
	}
	if age := min(now.Sub(h.last), now.Sub(*first)); age > d {
		return fmt.Errorf("not touched for %s, which is more than %s", age.Round(time.Millisecond),
			d)
	}
	return nil
}
