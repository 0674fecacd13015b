package pick

import (
	"slices"
	"strings"
	"sync"

	"github.com/kvregistry/go/kvregistry"
)

// StickyKeys is how many keys a [Sticky] picker knows at least. Beyond it, those that were not
// asked for the longest are forgotten.
const StickyKeys = 100_000

// Sticky picks the same instance for the same [kvregistry.Request] Key as long as that is there and
// not set aside; first picks one for a key that comes for the first time, or whose instance is
// gone. Other than with [Hash] no key moves when an instance comes, and each process has its own
// choice. A retry that refuses the key's instance is given another one, and the key stays. Calls
// without a key are of one key, the empty one.
//
// Look-ups of one service that are given the same value share its keys.
func Sticky(first kvregistry.Picker) kvregistry.Picker {
	b := &bonds{young: map[bond]string{}}
	return kvregistry.Picker{Err: first.Err,
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			places := make(map[string]int, len(list)) // by id
			for i, c := range list {
				places[c.Service.ID] = i
			}
			pick, service := prepare(first, list), list[0].Service.Name
			return func(req kvregistry.Request) int {
				of := bond{service, req.Key}
				b.mu.Lock()
				defer b.mu.Unlock()
				id := b.find(of)
				if i, ok := places[id]; ok {
					return i
				}
				i := pick(req)
				if !slices.Contains(req.Not, id) {
					b.bind(of, list[i].Service.ID)
				}
				return i
			}
		}}
}

// bond is what sticks to an instance.
type bond struct{ service, key string }

// bonds are the ids of the instances that keys stick to, in two generations: when the young one is
// full it becomes the old one, and the old one is forgotten.
type bonds struct {
	mu         sync.Mutex // guards what follows
	young, old map[bond]string
}

// find is the id that a key is bound to, or empty. The caller holds b.mu.
func (b *bonds) find(of bond) string {
	if id, ok := b.young[of]; ok {
		return id
	}
	id, ok := b.old[of]
	if ok {
		b.bind(of, id)
	}
	return id
}

// bind binds a key. The caller holds b.mu.
func (b *bonds) bind(of bond, id string) {
	if _, known := b.young[of]; !known {
		if len(b.young) >= StickyKeys {
			b.young, b.old = map[bond]string{}, b.young
		}
		of.key = strings.Clone(of.key) // it may be part of something large
	}
	b.young[of] = id
}
