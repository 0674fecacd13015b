package pick

import (
	"math/rand/v2"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/balance"
)

// RoundRobin picks one instance after the other. A goroutine's successive calls go through them in
// turn, unless another one takes its turns in between; all goroutines' calls together are spread
// evenly, to within 32 calls. It is what a Lookup without a picker does.
func RoundRobin() kvregistry.Picker {
	return kvregistry.Picker{Prepare: balance.InTurn[kvregistry.Candidate]}
}

// Random picks any instance, each as likely as the others.
func Random() kvregistry.Picker {
	return kvregistry.Picker{
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			n := len(list)
			return func(kvregistry.Request) int { return rand.IntN(n) }
		}}
}

// LeastInFlight draws two instances and picks the one that has fewer calls of this Lookup in flight
// (the power of two choices). It takes calls from a slow instance without sending all of them to
// the one that was just found idle.
func LeastInFlight() kvregistry.Picker {
	return kvregistry.Picker{
		Prepare: func(list []*kvregistry.Candidate) func(kvregistry.Request) int {
			n := len(list)
			if n == 1 {
				return func(kvregistry.Request) int { return 0 }
			}
			return func(kvregistry.Request) int {
				i, j := rand.IntN(n), rand.IntN(n-1)
				if j >= i {
					j++ // another one
				}
				if list[j].InFlight() < list[i].InFlight() {
					return j
				}
				return i
			}
		}}
}

// prepare has a picker within another prepare its part of the instances.
func prepare(p kvregistry.Picker, list []*kvregistry.Candidate) func(kvregistry.Request) int {
	if p.Prepare == nil {
		p = RoundRobin()
	}
	return p.Prepare(list)
}
