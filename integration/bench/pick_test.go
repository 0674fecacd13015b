package bench

import (
	"testing"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/pick"
)

// BenchmarkPick measures a prepared look-up's pick among ten instances, and its end. Its floor is
// GetService, which counts no calls in flight.
func BenchmarkPick(b *testing.B) {
	reg, ctx := observer(b), b.Context()
	for _, p := range []struct {
		name string
		pick kvregistry.Picker
		key  string
	}{
		{"default", kvregistry.Picker{}, ""},
		{"RoundRobin", pick.RoundRobin(), ""},
		{"Random", pick.Random(), ""},
		{"Weighted", pick.Weighted(), ""},
		{"LeastInFlight", pick.LeastInFlight(), ""},
		{"Hash", pick.Hash(), "user-4711"},
		{"Sticky", pick.Sticky(pick.LeastInFlight()), "user-4711"},
		{"Zone", pick.Zone("a", pick.RoundRobin()), ""},
		{"Tiers", pick.Tiers(pick.ByMetadata("tier"), pick.RoundRobin()), ""},
		{"Canary", pick.Canary(5, kvregistry.WithMetadata("k", "w"), pick.RoundRobin()), ""},
	} {
		look, err := reg.Lookup("web", p.pick)
		try(b, err)
		req := kvregistry.Request{Key: p.key}
		b.Run("picker="+p.name, func(b *testing.B) {
			both(b, "this", func() {
				s, done, _ := look.PickWith(ctx, req)
				done(nil)
				sink(s)
			})
			both(b, "floor", func() {
				s, _ := reg.GetService("web")
				sink(s)
			})
		})
	}
}
