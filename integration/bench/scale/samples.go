package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// samples are durations that many goroutines add.
type samples struct {
	mu  sync.Mutex
	all []time.Duration
}

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, d)
}

func (s *samples) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

const sampleHead = "| | number | p50 | p99 | max |\n| --- | --- | --- | --- | --- |\n"

// row returns a line of a table under sampleHead.
func (s *samples) row(what string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.all)
	if n == 0 {
		return fmt.Sprintf("| %s | 0 | | | |\n", what)
	}
	slices.Sort(s.all)
	at := func(share float64) string {
		return fmt.Sprintf("%.1f ms", s.all[int(share*float64(n-1))].Seconds()*1e3)
	}
	return fmt.Sprintf("| %s | %d | %s | %s | %s |\n", what, n, at(0.5), at(0.99), at(1))
}
