// Package coalesce has a queue that holds at most one entry per key, so a slow reader costs a
// bounded amount of memory and misses nothing but what lies between.
package coalesce

import (
	"context"
	"slices"
	"sync"

	"github.com/kvregistry/go/internal/bell"
)

// Merge makes one entry of the one that waits and the one that comes. keep is false if nothing is
// left to tell the reader.
type Merge[E any] func(old, e E) (merged E, keep bool)

// Queue holds the entries that its one reader has not taken yet. Its methods may be called by any
// number of goroutines.
type Queue[K comparable, E any] struct {
	merge Merge[E]
	wake  chan struct{} // rings when there is something; holds one

	mu      sync.Mutex // guards what follows
	pending map[K]placed[E]
	order   []place[K] // of the oldest entry of each key; dropped entries leave their place
	places  uint64     // given so far
}

// place is where a key's entry stands in the order. Each number is given once.
type place[K comparable] struct {
	of K
	no uint64
}

type placed[E any] struct {
	entry E
	no    uint64
}

// New makes an empty queue. With a nil merge it keeps no entries: [Queue.Add] only rings, for a
// reader that looks elsewhere.
func New[K comparable, E any](merge Merge[E]) *Queue[K, E] {
	return &Queue[K, E]{merge: merge, pending: map[K]placed[E]{}, wake: make(chan struct{}, 1)}
}

// Keeps reports whether the queue keeps entries.
func (q *Queue[K, E]) Keeps() bool { return q.merge != nil }

// Add puts an entry behind the others, or merges it with the one of its key.
func (q *Queue[K, E]) Add(k K, e E) {
	if q.Keeps() && !q.add(k, e) {
		return
	}
	q.Ring()
}

// add reports whether the entry, or what it was merged to, waits.
func (q *Queue[K, E]) add(k K, e E) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	old, ok := q.pending[k]
	if !ok {
		q.places++
		old.no = q.places
		q.order = append(q.order, place[K]{k, old.no})
	} else {
		var keep bool
		if e, keep = q.merge(old.entry, e); !keep {
			delete(q.pending, k)
			q.tidy()
			return false
		}
	}
	q.pending[k] = placed[E]{e, old.no}
	return true
}

// tidy takes the places that were left behind out of the order when they are most of it. The caller
// holds q.mu.
func (q *Queue[K, E]) tidy() {
	if len(q.order) > 2*len(q.pending)+16 {
		q.order = slices.DeleteFunc(q.order, func(p place[K]) bool {
			return q.pending[p.of].no != p.no
		})
	}
}

// Ring wakes the reader without an entry.
func (q *Queue[K, E]) Ring() { bell.Ring(q.wake) }

// Woken returns a channel that delivers after each [Queue.Ring], to one reader.
func (q *Queue[K, E]) Woken() <-chan struct{} { return q.wake }

// Take takes the oldest entry. It reports false if none waits.
func (q *Queue[K, E]) Take() (e E, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.order) > 0 {
		p := q.order[0]
		q.order = q.order[1:]
		if have := q.pending[p.of]; have.no == p.no {
			delete(q.pending, p.of)
			return have.entry, true
		}
	}
	return e, false
}

// Next takes the oldest entry. It waits for one, and reports false when one of the contexts has
// ended.
func (q *Queue[K, E]) Next(ctx, also context.Context) (e E, ok bool) {
	for ctx.Err() == nil && also.Err() == nil {
		if e, ok = q.Take(); ok {
			return e, true
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		case <-also.Done():
		}
	}
	return e, false
}
