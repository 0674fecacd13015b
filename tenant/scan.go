package tenant

import (
	"context"
	"sync"
	"time"
)

const (
	scanBeat   = 100 * time.Millisecond // after which the server says that there are no more
	deleteTime = time.Second            // bounds the removal of a consumer, which ends by itself
)

// Scan reads the newest message of each key under a filter once, in order of their revisions, with
// the tombstones that still stand. Message takes the messages, from another goroutine, until Scan
// returns; it must not keep a value. A key that is written meanwhile may come twice. State is that
// of the bucket before the first message.
//
// The errors are ctx's, [ErrGap] and those of [Bucket.Ensure].
func (b *Bucket) Scan(ctx context.Context, filter string, message func(Message)) (state State,
	err error) {
	if state, err = b.State(ctx); err != nil {
		return state, err
	}
	var mu sync.Mutex
	ended := false // guarded by mu, which is held while message runs
	over := make(chan error, 1)
	end := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			ended = true
			over <- err
		}
	}
	feed, err := b.OpenFeed(ctx, FeedConfig{
		Name: "view-", Keys: []string{filter}, Heartbeat: scanBeat,
		Message: func(m Message) {
			mu.Lock()
			defer mu.Unlock()
			if !ended {
				message(m)
			}
		},
		Mark: func(upTo uint64) {
			if upTo >= state.Last { // the consumer has looked at everything, and has no more
				end(nil)
			}
		},
		Lost: end,
	})
	if feed != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
			defer cancel()
			_ = feed.Delete(ctx)
		}()
		defer feed.Close()
	}
	if err != nil {
		end(err)
		return state, err
	}
	select {
	case err = <-over:
	case <-ctx.Done():
		err = ctx.Err()
		end(err)
	}
	return state, err
}
