package pick

import (
	"strings"
	"sync"

	"github.com/kvregistry/go/kvregistry"
)

// StickyKeys is how many keys a [Sticky] picker knows at least. Beyond it, those that were not asked for the longest are forgotten.
const StickyKeys = 100_000

// Sticky picks the same instance for the same [kvregistry.Request] Key as long as that is there and not set aside; first picks one for a key that comes for the first
// time, or whose instance is gone. Other than with [Hash] no key moves when an instance comes, and each process has its own choice. Calls without a key are of one key,
// the empty one.
//
// Look-ups that are given the same value share its keys.
func Sticky(first kvregistry.Picker) kvregistry.Picker {
	b := &bonds{young: map[string]string{}}
	return kvregistry.Picker{Err: first.Err, Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
		places := make(map[string]int, len(list)) // by id
		for i, c := range list {
			places[c.Service.ID] = i
		}
		pick := prepare(first, list)
		return func(req kvregistry.Request) int {
			b.mu.Lock()
			defer b.mu.Unlock()
			if i, ok := places[b.find(req.Key)]; ok {
				return i
			}
			i := pick(req)
			b.bind(req.Key, list[i].Service.ID)
			return i
		}
	}}
}

// bonds are the ids of the instances that keys stick to, in two generations: when the young one is full it becomes the old one, and the old one is forgotten.
type bonds struct {
	mu         sync.Mutex // guards what follows
	young, old map[string]string
}

// find is the id that a key is bound to, or empty. The caller holds b.mu.
func (b *bonds) find(key string) string {
	if id, ok := b.young[key]; ok {
		return id
	}
	id, ok := b.old[key]
	if ok {
		b.bind(key, id)
	}
	return id
}

// bind binds a key. The caller holds b.mu.
func (b *bonds) bind(key, id string) {
	if _, known := b.young[key]; !known {
		if len(b.young) >= StickyKeys {
			b.young, b.old = map[string]string{}, b.young
		}
		key = strings.Clone(key) // it may be part of something large
	}
	b.young[key] = id
}
