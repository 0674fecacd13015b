// Package turn numbers the picks of many goroutines, so that each instance is picked as often.
package turn

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"
)

// Turns deals out turns to any number of goroutines at once. A goroutine takes its turns from one
// of a few stripes, which it finds by the place of its stack. A counter that all goroutines shared
// would go from core to core with each call. The turns of one stripe are even, and those of all
// stripes together differ by one for each stripe at most.
type Turns [1 << stripeBits]stripe

const stripeBits = 5

// stripe has a cache line of its own, or two if the processor fetches them in pairs.
type stripe struct {
	n atomic.Uint32
	_ [124]byte
}

// New makes turns that begin anywhere, so that several callers don't begin with the same instance.
func New() *Turns {
	t := new(Turns)
	for i := range t {
		t[i].n.Store(rand.Uint32())
	}
	return t
}

// Next returns the caller's turn.
func (t *Turns) Next() uint32 {
	var here byte
	where := uint64(uintptr(unsafe.Pointer(&here))) >> 11 // the smallest stack has 2 KiB
	return t[where*0x9E3779B97F4A7C15>>(64-stripeBits)].n.Add(1)
}
