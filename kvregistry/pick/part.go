package pick

import (
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/turn"
)

// part is some of a list's instances, with what the picker within made of them.
type part struct {
	places []int // in the whole list
	list   []*kvregistry.Candidate
	pick   func(kvregistry.Request) int // nil before prepare
}

func (p *part) add(place int, c *kvregistry.Candidate) {
	p.places, p.list = append(p.places, place), append(p.list, c)
}

// prepare has the picker within prepare the part, which may be empty: it is not asked then.
func (p *part) prepare(within kvregistry.Picker) {
	if len(p.list) > 0 {
		p.pick = prepare(within, p.list)
	}
}

func (p *part) one(req kvregistry.Request) int {
	req.Depth++
	return p.places[p.pick(req)]
}

// whole is a share of all calls.
const whole = 1 << 32

// throw says which part a call is for, by a number below whole. It is evenly spread: over a key's
// hash for calls that have one, so that a key stays in its part, and another number at each depth;
// over the turns for the others. The golden ratio's multiples are spread more evenly than what is
// drawn at random.
func throw(t *turn.Turns, req kvregistry.Request) uint64 {
	if req.Key != "" {
		return mix(hash(req.Key)+uint64(req.Depth)) >> 32
	}
	return uint64(t.Next() * 0x9E3779B9)
}
