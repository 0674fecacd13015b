package page

import (
	"cmp"
	"context"
	"sync"
	"time"
)

const (
	freshTime = 2 * time.Second  // for which an answer of the server is given again
	askTime   = 10 * time.Second // that the server has for one
)

// recent asks the server for something, for all clients together: at most once in freshTime.
type recent[T any] struct {
	read  func(context.Context) (T, error)
	fresh time.Duration // freshTime if it is 0
	most  time.Duration // that the server has for an answer; askTime if it is 0

	mu    sync.Mutex // guards what follows; held while the server is asked
	at    time.Time
	value T
	err   error
}

// get returns the last answer if it is fresh, and asks otherwise. A caller that goes away meanwhile
// does not spoil the answer for the others.
func (r *recent[T]) get(ctx context.Context) (T, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() || time.Since(r.at) > cmp.Or(r.fresh, freshTime) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx),
			cmp.Or(r.most, askTime))
		defer cancel()
		r.value, r.err = r.read(ctx)
		r.at = time.Now()
	}
	return r.value, r.at, r.err
}
