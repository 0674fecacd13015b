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
func (b *Bucket) Scan(ctx context.Context, filter string, message func(Message)) (State, error) {
	return b.ScanFor(ctx, filter, 0, message)
}

// ScanFor is [Bucket.Scan], and goes on for a time with what is written then.
func (b *Bucket) ScanFor(
	ctx context.Context, filter string, more time.Duration, message func(Message),
) (state State, err error) {
	if state, err = b.State(ctx); err != nil {
		return state, err
	}
	s := scan{last: state.Last, message: message, read: make(chan struct{}),
		lost: make(chan error, 1)}
	feed, err := b.OpenFeed(ctx, FeedConfig{
		Name: "view-", Keys: []string{filter}, Heartbeat: scanBeat,
		Message: s.take, Mark: s.mark, Lost: func(err error) { s.lost <- err },
	})
	defer s.close()
	if feed != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTime)
			defer cancel()
			_ = feed.Delete(ctx)
		}()
		defer feed.Close()
	}
	if err != nil {
		return state, err
	}
	select {
	case <-s.read:
	case err = <-s.lost:
		return state, err
	case <-ctx.Done():
		return state, ctx.Err()
	}
	select {
	case <-time.After(more):
	case err = <-s.lost:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return state, err
}

// scan takes what the feed of a Scan brings.
type scan struct {
	last    uint64 // revision when it began
	message func(Message)
	lost    chan error    // gets one error, if a message is missing
	read    chan struct{} // closes when everything was read

	mu   sync.Mutex // guards what follows, and is held while message runs
	over bool       // the caller takes no more
	ends bool       // everything was read, as far as the server has counted
	all  bool       // everything was read
}

func (s *scan) take(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.message(m)
	}
	// A key that is written meanwhile comes behind the others, and may not be counted yet.
	if m.Pending == 0 && m.Revision >= s.last && !s.ends {
		s.ends = true
		time.AfterFunc(scanBeat, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.end()
		})
	}
}

// mark ends the reading if the consumer has looked at everything, and has no more.
func (s *scan) mark(upTo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if upTo >= s.last {
		s.end()
	}
}

// end notes that everything was read. The caller holds s.mu.
func (s *scan) end() {
	if !s.all {
		s.all = true
		close(s.read)
	}
}

func (s *scan) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}
