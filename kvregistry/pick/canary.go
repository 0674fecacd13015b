package pick

import (
	"fmt"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/turn"
)

// Canary gives percent of the calls, from 0 to 100, to the instances that of lets through, and the
// others to the others, each by the picker within. If one of the two has no instance, the other
// one takes all calls. Calls with a [kvregistry.Request] Key are shared out by that: percent of the
// keys go to the canaries, with all of their calls, in every process, and a greater percentage
// takes more keys to these. A canary within a canary has percent of what is left to it.
func Canary(percent float64, of kvregistry.Filter, within kvregistry.Picker) kvregistry.Picker {
	if !(percent >= 0 && percent <= 100) {
		return kvregistry.Picker{Err: fmt.Errorf("Canary(%v, …): the percentage must be from 0 "+
			"to 100", percent)}
	}
	canaries := uint64(percent / 100 * whole)
	return kvregistry.Picker{Err: within.Err,
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			var some, others part
			for i, c := range list {
				if of.Match(*c.Service) {
					some.add(i, c)
				} else {
					others.add(i, c)
				}
			}
			some.prepare(within)
			others.prepare(within)
			switch {
			case some.pick == nil:
				return others.one
			case others.pick == nil:
				return some.one
			}
			turns := turn.New()
			return func(req kvregistry.Request) int {
				if throw(turns, req) < canaries {
					return some.one(req)
				}
				return others.one(req)
			}
		}}
}
