package bell

import (
	"sync"
	"testing"
	"testing/synctest"
)

// Ring does not block, and one token stands for all rings before it is taken. Seen to fail without
// the default case.
func TestRing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := make(chan struct{}, 1)
		Ring(c)
		Ring(c)
		<-c
		select {
		case <-c:
			t.Error("two tokens after two rings")
		default:
		}
		Ring(c)
		<-c
	})
}

// Send wakes each goroutine that waits, and none that waits later. Seen to fail with a Send that
// keeps the closed channel, and with one that closes nothing.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b Broadcast
		b.Send() // nobody waits
		var woken sync.WaitGroup
		for range 3 {
			next := b.Next()
			woken.Go(func() { <-next })
		}
		b.Send()
		woken.Wait()
		select {
		case <-b.Next():
			t.Error("a reader is woken by a token that was sent before it waited")
		default:
		}
	})
}

// Any number of goroutines may send and wait.
func TestBroadcastFromMany(t *testing.T) {
	t.Parallel()
	var b Broadcast
	var all sync.WaitGroup
	for range 8 {
		next := b.Next()
		all.Go(func() {
			for range 100 {
				b.Send()
				<-next
				next = b.Next()
				b.Send()
			}
		})
	}
	all.Wait()
}
