package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 6, order: for each instance the revisions never go back, and each change of the cache
// makes one event. A reader that applies the events to an empty list ends with the cache's content.
// Connections are cut all the time. Seen to fail with a view that passes on everything in a new
// snapshot, and with one that drops the purges of instances that are gone.
func TestEventsAreTheCachesHistory(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	observer := openOn(t, nc)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := observer.Watch(ctx, "web")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	list, last, n := map[string]kvregistry.Service{}, map[string]uint64{}, 0
	var wrong []string
	done := make(chan struct{})
	go func() { // ends when Watch's channel is closed, with ctx
		defer close(done)
		for e := range events {
			mu.Lock()
			n++
			id := e.Service.ID
			_, there := list[id]
			switch {
			case e.Kind == kvregistry.Registered && there, e.Kind != kvregistry.Registered &&
				!there:
				wrong = append(wrong, fmt.Sprintf("event %d: %s of %s, which is there: %v", n,
					e.Kind, id, there))
			case e.Service.Revision < last[id], there && e.Kind == kvregistry.Updated &&
				e.Service.Revision == last[id]:
				wrong = append(wrong, fmt.Sprintf("event %d: %s went from revision %d to %d", n, id,
					last[id], e.Service.Revision))
			}
			last[id] = e.Service.Revision
			if e.Kind == kvregistry.Registered || e.Kind == kvregistry.Updated {
				list[id] = e.Service
			} else {
				delete(list, id)
			}
			mu.Unlock()
		}
	}()
	owner := open(t, s)
	var un [4]func() error
	for i := range 400 {
		k := i % len(un)
		switch {
		case un[k] == nil:
			un[k] = register(t, owner, web(fmt.Sprint(k)))
		case i%3 == 0:
			if err := owner.Update(kvregistry.Service{Name: "web", ID: fmt.Sprint(k),
				Address: fmt.Sprintf("h:1%d", i)}); err != nil {
				t.Fatal(err)
			}
		default:
			if err := un[k](); err != nil {
				t.Fatal(err)
			}
			un[k] = nil
		}
		if i%40 == 39 {
			// it is unregistered while the connection is cut
			gone := register(t, owner, web("gone"))
			if err := nc.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
			if err := gone(); err != nil {
				t.Fatal(err)
			}
		}
	}
	converged := func() error {
		snap, err := observer.Snapshot("web")
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if len(keys(t, s.Connect(), "default", "svc.")) != snap.Len() || len(list) != snap.Len() {
			return fmt.Errorf("cache has %d, events made %d", snap.Len(), len(list))
		}
		for one := range snap.All() {
			if list[one.ID].Address != one.Address {
				return fmt.Errorf("%s: cache says %+v, events %+v", one.ID, one, list[one.ID])
			}
		}
		return nil
	}
	register(t, owner, web("stays"))
	natstest.Eventually(t, natstest.Soon, converged)
	// After one more cut, a new instance is the only difference and must be the only event.
	reconnects := nc.Stats().Reconnects
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if nc.Stats().Reconnects == reconnects {
			return fmt.Errorf("the connection is not back")
		}
		return nil
	})
	register(t, owner, web("last"))
	natstest.Eventually(t, natstest.Soon, converged)
	cancel()
	<-done
	if len(wrong) > 0 {
		t.Errorf("%d wrong events of %d, the first: %s", len(wrong), n, wrong[0])
	}
}

// Invariant 6: a reader that reads nothing delays neither the cache nor other readers. It later
// finds the changes of each instance combined into one. Seen to fail with an unbuffered hand-over
// in the cache.
func TestSlowReaderHoldsUpNobody(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	block := make(chan struct{})
	observer := open(t, s, kvregistry.OnEvent(func(kvregistry.Event) { <-block }))
	slow, err := observer.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	owner := open(t, s)
	register(t, owner, web("a"))
	for i := range 1000 {
		if err := owner.Update(kvregistry.Service{Name: "web", ID: "a",
			Address: fmt.Sprintf("h:1%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error { return wantAddress(observer, "h:1999") })
	close(block)
	n := 0
	for e := range slow {
		if n++; e.Service.Address == "h:1999" {
			break
		}
	}
	if n > 3 {
		t.Errorf("a reader that slept got %d events of one instance", n)
	}
}

// Invariants 4, 6 and 7: an OnEvent function that blocks during 10,000 changes delays no look-up.
// In the end it is told the last state of each instance, with changes coalesced.
func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	block := make(chan struct{})
	var mu sync.Mutex
	told, last := 0, map[string]string{}
	observer := open(t, s, kvregistry.OnEvent(func(e kvregistry.Event) {
		<-block
		mu.Lock()
		defer mu.Unlock()
		told++
		last[e.Service.ID] = e.Service.Metadata["n"]
	}))
	owner := open(t, s)
	const instances, rounds = 20, 500
	sees(t, observer, natstest.Soon, "web")
	var wg sync.WaitGroup
	for i := range instances {
		one := web(fmt.Sprintf("%02d", i))
		wg.Go(func() {
			register(t, owner, one)
			for n := range rounds {
				one.Metadata = map[string]string{"n": fmt.Sprint(n)}
				if err := owner.Update(one); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	natstest.Eventually(t, natstest.Soon, func() error {
		snap, err := observer.Snapshot("web")
		if err != nil {
			return err
		}
		for one := range snap.All() {
			if one.Metadata["n"] != fmt.Sprint(rounds-1) {
				return fmt.Errorf("the cache has %s at change %s", one.ID, one.Metadata["n"])
			}
		}
		return nil
	})
	close(block)
	natstest.Eventually(t, natstest.Soon, func() error {
		mu.Lock()
		defer mu.Unlock()
		for i := range instances {
			if n := last[fmt.Sprintf("%02d", i)]; n != fmt.Sprint(rounds-1) {
				return fmt.Errorf("the last event of %d is of change %s", i, n)
			}
		}
		return nil
	})
	t.Logf("%d events of %d changes", told, instances*rounds)
	if told > instances*10 {
		t.Errorf("%d events for %d instances: nothing was coalesced", told, instances)
	}
}
