package integration

import (
	"fmt"
	"math"

	"github.com/anishathalye/porcupine"
)

// lock is one step of a lock with tokens. The lock is taken with a token higher than all before,
// while it is free, or it is released.
type lock struct {
	token uint64
	take  bool
}

type lockState struct{ holder, last uint64 }

var lockModel = porcupine.Model{
	Init: func() any { return lockState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, l := state.(lockState), input.(lock)
		if l.take {
			return s.holder == 0 && l.token > s.last, lockState{l.token, l.token}
		}
		return s.holder == l.token, lockState{0, s.last}
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// lockHistory returns when the name was held. It is taken between the call of Exclusive and its
// return, and released at some time after the holder last believed that it holds the name.
func lockHistory(deeds []deed) (ops []porcupine.Operation) {
	believed, over := map[uint64]int64{}, map[uint64]int64{}
	for _, d := range deeds {
		switch d.What {
		case saidHeld:
			ops = append(ops, porcupine.Operation{Input: lock{d.Token, true}, Call: d.Call,
				Return: d.At})
			believed[d.Token] = max(believed[d.Token], d.Call)
		case saidBelieve:
			believed[d.Token] = max(believed[d.Token], d.At)
		case saidOver:
			over[d.Token] = d.At
		}
	}
	for token, at := range believed {
		end, said := over[token]
		if !said {
			end = math.MaxInt64
		}
		ops = append(ops, porcupine.Operation{Input: lock{token, false}, Call: at, Return: end})
	}
	return ops
}

// counterModel models a counter: each addition reads the value that the one before has left.
var counterModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		return state == input, state.(int) +
			1
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%d++", input) },
}

// counterHistory returns the additions. If a locker was killed during one, the counter knows
// whether it was made.
func counterHistory(deeds []deed, written map[string]bool) (ops []porcupine.Operation) {
	done := map[string]bool{}
	for _, d := range deeds {
		if d.What == saidAdded {
			done[d.ID] = true
			ops = append(ops, porcupine.Operation{Input: d.Read, Call: d.Call, Return: d.At})
		}
	}
	for _, d := range deeds {
		if d.What == saidAdding && written[d.ID] && !done[d.ID] {
			ops = append(ops, porcupine.Operation{Input: d.Read, Call: d.Call,
				Return: math.MaxInt64})
		}
	}
	return ops
}
