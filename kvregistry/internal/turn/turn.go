// Package turn deals out turns to many goroutines at once.
package turn

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"
)

// Turns deals out turns, to many goroutines at once. Each takes them from one of a few stripes, which it finds by where its stack is: a counter that all of them shared
// would go from core to core with each call. The turns of a stripe are even, and so are those of all together but for one each.
type Turns [1 << stripeBits]stripe

const stripeBits = 5

// stripe has a cache line of its own, or two where they are fetched in pairs.
type stripe struct {
	n atomic.Uint32
	_ [124]byte
}

// New makes turns that begin anywhere: those of several callers don't begin with the same instance.
func New() *Turns {
	t := new(Turns)
	for i := range t {
		t[i].n.Store(rand.Uint32())
	}
	return t
}

// Next is the caller's turn.
func (t *Turns) Next() uint32 {
	var here byte
	where := uint64(uintptr(unsafe.Pointer(&here))) >> 11 // the smallest stack has 2 KiB
	return t[where*0x9E3779B97F4A7C15>>(64-stripeBits)].n.Add(1)
}
