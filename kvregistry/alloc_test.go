package kvregistry_test

import (
	"fmt"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A cached look-up allocates nothing in GetService and Snapshot, and one slice in GetServices, with a filter too. The
// race detector changes no count here.
func TestLookupsDoNotAllocate(t *testing.T) {
	reg, err := kvregistry.New(t.Context(), natstest.Start(t).Connect())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Close() }()
	for i := range 10 {
		if _, err := reg.Register(kvregistry.Service{Name: "web", ID: fmt.Sprint(i), Address: "h:1", Zone: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	if snap, err := reg.Snapshot("web"); err != nil || snap.Len() != 10 {
		t.Fatal(snap, err)
	}
	ctx, zone := t.Context(), kvregistry.InZone("a")
	for name, c := range map[string]struct {
		most float64
		look func() error
	}{
		"GetService":               {0, func() error { _, err := reg.GetService("web"); return err }},
		"Snapshot":                 {0, func() error { _, err := reg.Snapshot("web"); return err }},
		"GetServices":              {1, func() error { _, err := reg.GetServices(ctx, "web"); return err }},
		"GetServices and a filter": {1, func() error { _, err := reg.GetServices(ctx, "web", zone); return err }},
	} {
		var err error
		if n := testing.AllocsPerRun(1000, func() { err = c.look() }); n > c.most || err != nil {
			t.Errorf("%s allocates %v times, %v, want %v", name, n, err, c.most)
		}
	}
}
