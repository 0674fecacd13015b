package pick

import (
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/turn"
)

// Zone picks from the instances of the caller's own zone, by the picker within, as far as these can
// carry it. Each zone is taken to have as many calls to make as any other. One that has its fair
// share of the service's capacity, which is the sum of its instances' weights (their number, if
// none has a weight), keeps all of its calls. One that has less keeps what its capacity is to that
// share; the rest spills over to the zones that have more than theirs, in proportion to what they
// have more. So all calls leave a zone that has no instance, and all instances get as many as their
// weight says, whatever zones they are in. A zone that loses instances spills over by as much.
//
// Where calls spill over, those of one key go to one zone.
func Zone(own string, within kvregistry.Picker) kvregistry.Picker {
	return kvregistry.Picker{Err: within.Err,
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			zones := zonesOf(list, own)
			for _, z := range zones {
				z.prepare(within)
			}
			if len(zones) == 1 {
				return zones[0].one
			}
			turns := turn.New()
			return func(req kvregistry.Request) int {
				n, i := throw(turns, req), 0
				for n >= zones[i].end {
					i++
				}
				return zones[i].one(req)
			}
		}}
}

// zone has the calls whose number is below its end, and not below that of the zone before it.
type zone struct {
	part
	capacity float64
	end      uint64
}

// zonesOf are the zones that have a share of the calls from the own one, and their instances.
func zonesOf(list []*kvregistry.Candidate, own string) []*zone {
	zones := []*zone{{}}
	of := map[string]*zone{own: zones[0]}
	all := 0.0
	for i, weight := range weightsOf(list) {
		z := of[list[i].Service.Zone]
		if z == nil {
			z = new(zone)
			of[list[i].Service.Zone] = z
			zones = append(zones, z)
		}
		z.add(i, list[i])
		z.capacity += float64(weight)
		all += float64(weight)
	}
	return shared(zones, all/float64(len(zones)))
}

// shared gives each zone its share of the calls from the first, and leaves out those that have
// none.
func shared(zones []*zone, fair float64) (some []*zone) {
	spare := 0.0
	for _, z := range zones {
		spare += max(0, z.capacity-fair)
	}
	keeps := min(1, zones[0].capacity/fair)
	sum := 0.0
	for i, z := range zones {
		share := keeps
		if i > 0 {
			share = (1 - keeps) * max(0, z.capacity-fair) / spare
		}
		if share > 0 {
			sum += share
			z.end = uint64(sum * whole)
			some = append(some, z)
		}
	}
	some[len(some)-1].end = whole // and no rounding error less
	return some
}
