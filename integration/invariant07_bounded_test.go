package integration

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 7, bounded: neither many reconnects nor Close leave a consumer or a goroutine behind.
// The test is not parallel, because it counts the process's goroutines. Seen to fail with a view
// that does not delete its earlier consumers, with one that does not wait for its session, and with
// a Close that does not end the view.
func TestNothingIsLeftBehind(t *testing.T) {
	s := natstest.Start(t)
	plain := s.Connect()
	// a connection's first request starts a goroutine of its own
	_, _ = plain.Request("nobody", nil, time.Second)
	idle := len(goroutines())
	nc := s.Connect()
	r := openOn(t, nc)
	register(t, r, web("a"))
	for i := range 30 {
		if err := r.ObserveContext(t.Context(), fmt.Sprintf("s%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	sees(t, r, natstest.Soon, "web", "a")
	settled := func() error {
		if list := views(natstest.Consumers(t, plain, "KV_registry_default")); len(list) != 1 {
			return fmt.Errorf("%d consumers of one view: %v", len(list), list)
		}
		return nil
	}
	natstest.Eventually(t, natstest.Soon, settled)
	working := len(goroutines())
	for range 200 {
		before := nc.Stats().Reconnects
		if err := nc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if nc.Stats().Reconnects == before {
				return fmt.Errorf("the connection is not back")
			}
			return nil
		})
	}
	register(t, r, web("b"))
	sees(t, r, natstest.Soon, "web", "a", "b")
	natstest.Eventually(t, natstest.Soon, settled)
	natstest.Eventually(t, natstest.Soon, func() error { return atMost(working) })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// The server would end a consumer by itself 5 s after its subscription ends.
	natstest.Eventually(t, 4*time.Second,
		func() error {
			return noneLeft(views(natstest.Consumers(t, plain,
				"KV_registry_default")))
		})
	nc.Close()
	natstest.Eventually(t, natstest.Soon, func() error { return atMost(idle) })
}

// goroutines returns the stacks of this process's goroutines, without those of the servers in it.
func goroutines() (stacks []string) {
	buf := make([]byte, 4<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if !strings.Contains(stack, "nats-server") {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

func atMost(most int) error {
	if now := goroutines(); len(now) > most {
		return fmt.Errorf("%d goroutines, were %d:\n%s", len(now), most, strings.Join(now, "\n\n"))
	}
	return nil
}

// Invariant 7: churn does not make the bucket grow: the tombstone of a registration has a TTL. Seen
// to fail with deletes without a TTL.
func TestTombstonesEnd(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	for i := range 10 {
		if err := register(t, r, web(fmt.Sprint(i)))(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if isErr(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if msg.Header.Get("Nats-TTL") == "" {
			t.Errorf("%s has no TTL: its headers are %v", msg.Subject, msg.Header)
		}
	}
}

// Invariant 7: an observer needs one consumer on the server, for any number of services.
func TestOneConsumerPerRegistry(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := open(t, s)
	for i := range 300 {
		register(t, owner, kvregistry.Service{Name: fmt.Sprintf("s%03d", i), ID: "1",
			Address: "127.0.0.1:1"})
	}
	observer := open(t, s, kvregistry.Timeout(20*time.Second))
	for i := range 300 { // more than one consumer may have filters
		if _, err := observer.GetService(fmt.Sprintf("s%03d", i)); err != nil {
			t.Fatal(i, err)
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if list := views(natstest.Consumers(t, s.Connect(),
			"KV_registry_default")); len(list) != 2 {
			return fmt.Errorf("%d consumers of two registries", len(list))
		}
		return nil
	})
	register(t, owner, kvregistry.Service{Name: "s299", ID: "2", Address: "127.0.0.1:1"})
	sees(t, observer, natstest.Soon, "s299", "1", "2")
	if got := observer.ObservedServices(); len(got) != 300 {
		t.Errorf("it observes %d services", len(got))
	}
}

// Invariant 7: an observer that keeps as many instances as it may finds the others with its next
// snapshot, when there is room. It does not say that a service is absent if the service did not
// fit. Seen to fail with a view that passes on each revision once.
func TestInstancesThatDidNotFit(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := open(t, s)
	first := register(t, owner, web("a"))
	nc := s.Connect()
	observer := openOn(t, nc, kvregistry.MaxInstances(1), kvregistry.MaxServices(1))
	if err := observer.Observe(kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web", "a")
	register(t, owner, web("b"))
	register(t, owner, kvregistry.Service{Name: "more", ID: "a", Address: "a:1"})
	natstest.Eventually(t, natstest.Soon, func() error {
		if n := observer.Health().Skipped; n != 2 {
			return fmt.Errorf("%d skipped", n)
		}
		return nil
	})
	if _, err := observer.GetServices(t.Context(), "more"); !isErr(err, kvregistry.ErrUnavailable) {
		t.Errorf("a service that did not fit gave %v", err)
	}
	if err := first(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error { // it has an instance that did not fit
		if _, err := observer.GetServices(t.Context(), "web"); !isErr(err,
			kvregistry.ErrUnavailable) {
			return fmt.Errorf("want ErrUnavailable: %w", err)
		}
		return nil
	})
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web", "b")
}
