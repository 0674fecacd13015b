package kvregistry

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"
)

// turns deals out turns, to many goroutines at once. Each takes them from one of a few stripes, which it finds by where its stack is: a counter that all of them shared
// would go from core to core with each call. The turns of a stripe are even, and so are those of all together but for one each.
type turns [1 << stripeBits]stripe

const stripeBits = 5

// stripe has a cache line of its own, or two where they are fetched in pairs.
type stripe struct {
	n atomic.Uint32
	_ [124]byte
}

func newTurns() *turns {
	t := new(turns)
	for i := range t {
		t[i].n.Store(rand.Uint32()) // they don't begin with the same instance
	}
	return t
}

// next is the caller's turn.
func (t *turns) next() uint32 {
	var here byte
	where := uint64(uintptr(unsafe.Pointer(&here))) >> 11 // the smallest stack has 2 KiB
	return t[where*0x9E3779B97F4A7C15>>(64-stripeBits)].n.Add(1)
}

// turn is the caller's turn among a service's instances.
func (s *service) turn() uint32 {
	if t := s.turns.Load(); t != nil {
		return t.next()
	}
	s.turns.CompareAndSwap(nil, newTurns())
	return s.turns.Load().next()
}
