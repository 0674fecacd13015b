package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// readers is the number of readers of a service's changes.
func (r *Registry) readers(name string) int {
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	return len(r.cache.readers[name])
}

// A loop over events begins with the instances that are there. It leaves no goroutine behind,
// however it ends.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s), newRegistry(t, s)
	if _, err := owner.Register(Service{Name: "web", ID: "a", Address: "a:1"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // for each loop again
		for e, err := range reg.Events(t.Context(), "web") {
			if err != nil || e.Kind != Registered || e.Service.ID != "a" {
				t.Fatalf("%+v, %v", e, err)
			}
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var kinds []Kind
	for e, err := range reg.Events(ctx, "web") {
		if err != nil {
			if !errors.Is(err, context.Canceled) || e.Kind != "" {
				t.Errorf("ended with %+v, %v", e, err)
			}
			break
		}
		switch kinds = append(kinds, e.Kind); e.Kind {
		case Registered:
			if err := owner.Unregister("web"); err != nil {
				t.Fatal(err)
			}
		case Unregistered:
			cancel()
		}
	}
	if got := fmt.Sprint(kinds); got != "[registered unregistered]" {
		t.Error(got)
	}
	if n := reg.readers("web"); n != 0 {
		t.Errorf("%d readers are left", n)
	}
	for _, err := range reg.Events(t.Context(), "") {
		if !errors.Is(err, ErrInvalidService) {
			t.Errorf("no name: %v", err)
		}
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range reg.Events(t.Context(), "web") {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

// A loop over snapshots begins with the first, even if it is empty. It gives the newest after each
// change, and ends with the registry. Seen to fail, by a wait without end, if a first snapshot
// without an instance wakes no reader.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s), newRegistry(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), natstest.Soon)
	defer cancel()
	var seen []int
	for snap, err := range reg.Snapshots(ctx, "web") {
		if err != nil {
			if !errors.Is(err, ErrClosed) || snap != nil {
				t.Errorf("ended with %v", err)
			}
			break
		}
		n := snap.Len()
		switch seen = append(seen, n); {
		case n == 0 && len(seen) == 1:
			if _, err := owner.Register(Service{Name: "web", ID: "a", Address: "a:1"}); err != nil {
				t.Fatal(err)
			}
		case n == 1 && len(seen) == 2:
			for _, id := range []string{"b", "c", "d"} { // while this reader does not read
				if _, err := owner.Register(Service{Name: "web", ID: id,
					Address: "a:1"}); err != nil {
					t.Fatal(err)
				}
			}
			natstest.Eventually(t, natstest.Soon, func() error {
				if now, err := reg.Snapshot("web"); err != nil || now.Len() != 4 {
					return errors.Join(errors.New("not there yet"), err)
				}
				return nil
			})
		case n == 4:
			if err := reg.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := fmt.Sprint(seen); got != "[0 1 4]" {
		t.Errorf("saw %s instances", got)
	}
	for _, err := range reg.Snapshots(ctx, Everything) {
		if !errors.Is(err, ErrInvalidService) {
			t.Errorf("of everything: %v", err)
		}
	}
}

// WaitFor waits until the filters pass so many instances. Its error says how many there were, or
// that this is not known. Seen to fail if Snapshots yields nothing after ctx has ended.
func TestWaitFor(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, reg := newRegistry(t, s), newRegistry(t, s)
	got := make(chan error, 1)
	go func() { // it ends when the three are there
		list, err := reg.WaitFor(t.Context(), "web", 3, WithTag("new"))
		if err == nil && len(list) != 3 {
			err = fmt.Errorf("%d instances", len(list))
		}
		got <- err
	}()
	for i := range 4 {
		select {
		case err := <-got:
			t.Fatalf("it waited for %d only: %v", i, err)
		default:
		}
		one := Service{Name: "web", ID: fmt.Sprint(i), Address: "a:1", Tags: []string{"new"}}
		if i == 1 {
			one.Status = Critical
		}
		if _, err := owner.Register(one); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(natstest.Soon):
		t.Error("it waits although all are there")
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := reg.WaitFor(ctx, "web", 5)
	if !errors.Is(err, ErrNotFound) || !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), `"web", 3 are there`) {
		t.Error(err)
	}
	list, err := reg.WaitFor(ctx, "web", 3) // ctx has ended, and the instances are there
	if err != nil || len(list) != 3 {
		t.Errorf("%d are there: %v", len(list), err)
	}
	if _, err := reg.WaitFor(ctx, "web", 4); !errors.Is(err, ErrNotFound) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := away(t).WaitFor(ctx, "web", 1); !errors.Is(err, ErrUnavailable) ||
		errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for name, n := range map[string]int{"web": 0, "*": 1, "": 1} {
		if _, err := reg.WaitFor(t.Context(), name, n); !errors.Is(err, ErrInvalidService) {
			t.Errorf("%d of %q: %v", n, name, err)
		}
	}
}
