package pick

import (
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/turn"
)

// Weighted picks each instance in proportion to its [kvregistry.Service] Weight, and smoothly: a
// heavy instance's picks are not in a row but spread between those of the others. An instance of
// weight 0 is not picked, unless no instance has a weight: then all are alike.
//
// A pick looks at as many instances as the greatest weight is to the mean one, on average.
func Weighted() kvregistry.Picker {
	return kvregistry.Picker{
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			var places, weights []uint64 // of the instances that are picked
			most := uint64(1)
			for i, w := range weightsOf(list) {
				if w > 0 {
					places, weights = append(places, uint64(i)), append(weights, w)
					most = max(most, w)
				}
			}
			t, n := turn.New(), uint64(len(places))
			return func(kvregistry.Request) int {
				// Turns go through the instances round by round. An instance of weight w is picked
				// in w of most rounds. These are spread evenly: they are the rounds in which w
				// times the round, modulo most, starts again. Neighbours begin at different ends.
				for {
					turn := uint64(t.Next())
					i, round := turn%n, turn/n
					if (weights[i]*round+i*(most/2))%most >= most-weights[i] {
						return int(places[i])
					}
				}
			}
		}}
}

// largest is the largest weight that is reckoned with: times a turn's number it fits into 64 bits.
const largest = 1 << 31

// weightsOf returns the instances' weights: 1 each if none has one.
func weightsOf(list []*kvregistry.Candidate) []uint64 {
	weights := make([]uint64, len(list))
	most := uint64(0)
	for i, c := range list {
		weights[i] = uint64(max(c.Service.Weight, 0))
		most = max(most, weights[i])
	}
	for i, w := range weights {
		switch {
		case most == 0:
			weights[i] = 1
		case most > largest && w > 0:
			weights[i] = max(1, w/(most/largest+1))
		}
	}
	return weights
}
