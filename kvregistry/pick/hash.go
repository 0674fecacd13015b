package pick

import (
	"fmt"

	"github.com/kvregistry/go/kvregistry"
)

// DefaultBound is how much above the mean [Hash] lets an instance's calls in flight be.
const DefaultBound = 1.25

// Hash picks the instance that [kvregistry.Request] Key belongs to, by rendezvous hashing of the
// key with the instances' ids: the same one in every process. When an instance goes, its keys alone
// move, each to the one that is next for it, and come back with it; when one comes, those alone
// move that are its own.
//
// An instance that has more than [DefaultBound] times the mean number of calls of this Lookup in
// flight is passed over: the key's next instance takes the call. So a few busy keys don't drown
// one. A call without a key is given to the instances in turn. A pick looks at every instance.
func Hash() kvregistry.Picker { return HashBounded(DefaultBound) }

// HashBounded is [Hash] with another bound, 1 or more. The lower it is, the more evenly calls in
// flight are spread, and the more of them miss their key's first instance; math.Inf(1) is no bound.
func HashBounded(bound float64) kvregistry.Picker {
	if !(bound >= 1) {
		return kvregistry.Picker{Err: fmt.Errorf("HashBounded(%v): the bound must be 1 or more, "+
			"as %v", bound, DefaultBound)}
	}
	return kvregistry.Picker{
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			ids := make([]uint64, len(list))
			for i, c := range list {
				ids[i] = hash(c.Service.ID)
			}
			inTurn := prepare(RoundRobin(), list)
			return func(req kvregistry.Request) int {
				if req.Key == "" {
					return inTurn(req)
				}
				key := hash(req.Key)
				first, busy := rendezvous(list, ids, key, false, 0)
				// the call is one of those in flight
				room := bound * float64(busy+1) / float64(len(list))
				if float64(list[first].InFlight()) < room {
					return first
				}
				if next, _ := rendezvous(list, ids, key, true, room); next >= 0 {
					return next
				}
				return first // others took the room just now
			}
		}}
}

// rendezvous returns the instance that scores highest with a key, and how many calls all instances
// have in flight. If bounded is set, only instances count that have fewer calls in flight than
// room. best is -1 if there is none.
func rendezvous(list []*kvregistry.Candidate, ids []uint64, key uint64, bounded bool,
	room float64) (best int, busy int64) {
	best = -1
	var top uint64
	for i, c := range list {
		n := c.InFlight()
		busy += n
		if bounded && float64(n) >= room {
			continue
		}
		if score := mix(key ^ ids[i]); best < 0 || score > top {
			best, top = i, score
		}
	}
	return best, busy
}

// hash is FNV-1a, mixed. It is the same in every process, which hash/maphash is not.
func hash(text string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 0x100000001b3
	}
	return mix(h)
}

// mix has each bit change each other one, as MurmurHash3's end does.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
