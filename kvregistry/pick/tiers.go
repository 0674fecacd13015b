package pick

import (
	"errors"
	"math"
	"strconv"

	"github.com/kvregistry/go/kvregistry"
)

// Tiers picks from the instances of the lowest tier that has any, by the picker within: 0 before 1
// before 2. The others stand by until each of the lower tiers' instances is gone, set aside, or not
// passing.
func Tiers(tier func(kvregistry.Service) int, within kvregistry.Picker) kvregistry.Picker {
	if tier == nil {
		return kvregistry.Picker{Err: errors.New("Tiers: the function that tells an instance's " +
			"tier is nil; use ByMetadata")}
	}
	return kvregistry.Picker{Err: within.Err,
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			var first part
			lowest := math.MaxInt
			for i, c := range list {
				of := tier(*c.Service)
				if of < lowest {
					first, lowest = part{}, of
				}
				if of == lowest {
					first.add(i, c)
				}
			}
			first.prepare(within)
			return first.one
		}}
}

// ByMetadata is for [Tiers]: an instance's tier is the whole number that its metadata has at the
// key. Those without one come last.
func ByMetadata(key string) func(kvregistry.Service) int {
	return func(s kvregistry.Service) int {
		tier, err := strconv.Atoi(s.Metadata[key])
		if err != nil {
			return math.MaxInt
		}
		return tier
	}
}
