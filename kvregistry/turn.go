package kvregistry

import "github.com/kvregistry/go/kvregistry/internal/turn"

type turns = turn.Turns

// turn is the caller's turn among a service's instances.
func (s *service) turn() uint32 {
	if t := s.turns.Load(); t != nil {
		return t.Next()
	}
	s.turns.CompareAndSwap(nil, turn.New())
	return s.turns.Load().Next()
}
