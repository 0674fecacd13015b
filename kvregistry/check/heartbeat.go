package check

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// Heartbeat is touched by the service's own code as it gets on with its work: a loop that is stuck is noticed though its process lives. Its zero value is ready, and must not be copied
// after its first use.
type Heartbeat struct {
	touched atomic.Bool // since it was looked at

	mu   sync.Mutex // guards last, and when each check looked first
	last time.Time  // when a touch was found
}

// Touch says that the work gets on. It costs a few nanoseconds, and may be called by any number of goroutines.
func (h *Heartbeat) Touch() {
	if !h.touched.Load() { // most find it done, and write nothing that another core would have to read
		h.touched.Store(true)
	}
}

// Within is the check that fails where there was no touch for d. The first one may take as long, also after another call of Within, for a loop that is begun again. It is looked at ten times in d, so that what stops is noticed after d to 1.2 d, and
// it is not damped, unless options say otherwise.
func (h *Heartbeat) Within(d time.Duration, opts ...Option) Check {
	var first time.Time // look of this check
	c := Of(func(context.Context) error { return h.look(d, &first) },
		append([]Option{Named("heartbeat"), Every(max(d/10, time.Millisecond)), Rise(1), Fall(1)}, opts...)...)
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
		return fmt.Errorf("not touched for %s, which is more than %s", age.Round(time.Millisecond), d)
	}
	return nil
}
