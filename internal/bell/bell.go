// Package bell wakes goroutines that wait for something to change: one of them, or all of them.
package bell

import "sync"

// Ring puts a token into a channel that holds one. If one is there, Ring does nothing: the reader
// that takes the token looks at everything that was changed before.
func Ring(bell chan<- struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// Broadcast wakes all goroutines that wait. Its zero value is ready, and its methods may be called
// by any number of goroutines.
type Broadcast struct {
	mu   sync.Mutex // guards next
	next chan struct{}
}

// Next returns a channel that closes at the next call of [Broadcast.Send]. A reader calls Next
// before it looks at what may change, or under the mutex that guards it.
func (b *Broadcast) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// Send wakes the goroutines that wait for a channel of [Broadcast.Next].
func (b *Broadcast) Send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
