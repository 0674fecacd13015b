// Package pick has pickers for [kvregistry.Registry.Lookup]: they say which instance a call is for.
//
//	look, err := reg.Lookup("httptest", kvregistry.WithTag("v2"),
//		pick.Zone("north", pick.LeastInFlight()))
//
// Simple ones choose from all that the filters let through: [RoundRobin], [Random], [Weighted],
// [LeastInFlight], [Hash], [Sticky]. Others choose a part of these and leave the rest to a picker
// within: [Zone], [Tiers], [Canary]. They may be put into each other.
//
// A picker's value may be given to any number of look-ups, which then share nothing but the keys
// that [Sticky] has. [kvregistry.Registry.Lookup] returns an error
// for an argument that can't be, like a percentage of 200.
package pick
