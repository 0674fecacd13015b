package turn

import (
	"sync"
	"testing"
)

// Turns are even: exactly for one goroutine, and within one per stripe for many. Seen to fail with
// a stripe that is chosen at random for each turn.
func TestTurnsAreEven(t *testing.T) {
	const instances, each = 7, 7000
	take := func(s *Turns) (n [instances]int) {
		for range each {
			n[s.Next()%instances]++
		}
		return n
	}
	s := New()
	for i, n := range take(s) {
		// a stack that is moved may change the stripe
		if n < each/instances-1 || n > each/instances+1 {
			t.Errorf("instance %d had %d turns of %d", i, n, each)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all [instances]int
	for range 100 {
		wg.Go(func() {
			got := take(s)
			mu.Lock()
			defer mu.Unlock()
			for i, n := range got {
				all[i] += n
			}
		})
	}
	wg.Wait()
	stripes := len(s)
	for i, n := range all {
		if n < 100*each/instances-stripes || n > 100*each/instances+stripes {
			t.Errorf("instance %d had %d turns of %d", i, n, 100*each)
		}
	}
}
