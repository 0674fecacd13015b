package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
)

// Concurrent UpdateFunc calls lose no change, are one write each, and no write if nothing changes.
// Seen to fail if the function gets what was declared at the time of the call, and not at its turn.
func TestUpdateFuncLosesNothing(t *testing.T) {
	s := natstest.Start(t)
	r := newRegistry(t, s)
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"},
		Service{ID: "b", Name: "web", Address: "h:2"})
	add := func(s *Service) {
		n, _ := strconv.Atoi(s.Metadata["n"])
		s.Metadata = map[string]string{"n": fmt.Sprint(n + 1)}
		s.Name, s.ID = "other", "c" // the function may not change it
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := r.UpdateFunc(t.Context(), "web", "a", add); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	natstest.Eventually(t, natstest.Soon, func() error {
		list, err := r.GetServices(t.Context(), "web")
		if err != nil || len(list) != 2 || list[0].Metadata["n"] != "80" ||
			list[1].Metadata != nil {
			return fmt.Errorf("%v, %v", list, err)
		}
		return nil
	})
	list := r.RegisteredServices()
	if err := r.UpdateFunc(t.Context(), "web", "", func(*Service) {}); err != nil {
		t.Fatal(err)
	}
	if err := r.SetStatus("web", Passing); err != nil {
		t.Fatal(err)
	}
	for i, s := range r.RegisteredServices() {
		if s.Revision != list[i].Revision {
			t.Errorf("%s was written, though nothing changed", s.ID)
		}
	}
	if err := r.UpdateFunc(t.Context(), "web", "",
		func(s *Service) { s.Version = "2" }); err != nil {
		t.Fatal(err)
	}
	for i, s := range r.RegisteredServices() {
		if s.Version != "2" || s.Revision == list[i].Revision {
			t.Errorf("%s was not changed", s.ID)
		}
	}
	for name, err := range map[string]error{
		"no such id":      r.UpdateFunc(t.Context(), "web", "z", add),
		"no such service": r.UpdateFunc(t.Context(), "api", "", add),
		"no name":         r.UpdateFunc(t.Context(), "", "", add),
	} {
		if !errors.Is(err, ErrNotRegistered) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]func(*Service){
		"nil":    nil,
		"weight": func(s *Service) { s.Weight = -1 },
	} {
		if err := r.UpdateFunc(t.Context(), "web", "a", f); !errors.Is(err, ErrInvalidService) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An update without a status keeps the current one, which checks or a drain have set. A draining
// instance is not called again. Seen to fail if a missing status becomes passing.
func TestUpdateKeepsTheStatus(t *testing.T) {
	r := newRegistry(t, natstest.Start(t))
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
	for _, tc := range []struct{ set, says, want Status }{{Draining, "", Draining},
		{Critical, "", Critical}, {Draining, Passing, Passing}, {Passing, Warning, Warning}} {
		if err := r.SetStatus("web", tc.set); err != nil {
			t.Fatal(err)
		}
		if err := r.Update(Service{Name: "web", Address: "h:2", Status: tc.says}); err != nil {
			t.Fatal(err)
		}
		if list := r.RegisteredServices(); len(list) != 1 || list[0].Status != tc.want ||
			list[0].Address != "h:2" {
			t.Errorf("%+v: %+v", tc, list)
		}
	}
}

func BenchmarkUpdateFuncUnchanged(b *testing.B) {
	r := newRegistry(b, natstest.Start(b))
	mustRegister(b, r, Service{ID: "a", Name: "web", Address: "h:1", Tags: []string{"a"},
		Metadata: map[string]string{"k": "v"}})
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := r.UpdateFunc(ctx, "web", "a",
			func(s *Service) { s.Status = Passing }); err != nil {
			b.Fatal(err)
		}
	}
}
