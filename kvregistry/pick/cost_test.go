package pick_test

import (
	"testing"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/pick"
)

type picker struct {
	name string
	part kvregistry.Part
	req  kvregistry.Request
}

// pickers returns every picker, each with a call's request.
func pickers() []picker {
	none, key := kvregistry.Request{}, kvregistry.Request{Key: "user-4711"}
	return []picker{
		{"default", kvregistry.Outcome{}, none},
		{"RoundRobin", pick.RoundRobin(), none},
		{"Random", pick.Random(), none},
		{"Weighted", pick.Weighted(), none},
		{"LeastInFlight", pick.LeastInFlight(), none},
		{"Hash", pick.Hash(), key},
		{"Sticky", pick.Sticky(pick.LeastInFlight()), key},
		{"Zone", pick.Zone("a", pick.RoundRobin()), none},
		{"Zone,LeastInFlight", pick.Zone("a", pick.LeastInFlight()), none},
		{"Tiers", pick.Tiers(pick.ByMetadata("tier"), pick.RoundRobin()), none},
		{"Canary", pick.Canary(5, kvregistry.InZone("b"), pick.RoundRobin()), none},
	}
}

// inUse are ten instances, in three zones, of different weights.
func inUse() []*kvregistry.Candidate {
	return weighted(inZones("aabbbccccc"), 1, 2, 3, 4, 5, 1, 2, 3, 4, 5)
}

// A pick and its end allocate nothing, with filters and with any picker. Seen to fail with a done
// that is created for each call.
func TestPicksAllocateNothing(t *testing.T) {
	reg, ctx := registry(t, inUse()), t.Context()
	for _, p := range pickers() {
		t.Run(p.name, func(t *testing.T) {
			l := prepared(t, reg, 10, kvregistry.Where(func(s kvregistry.Service) bool {
				return s.ID < "09"
			}), p.part)
			call := func() {
				_, done, err := l.PickWith(ctx, p.req)
				if err != nil {
					t.Error(err)
					return
				}
				done(nil)
			}
			call()
			if got := testing.AllocsPerRun(20_000, call); got != 0 {
				t.Errorf("%v allocations", got)
			}
		})
	}
}
