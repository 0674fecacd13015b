package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 9: values of any size that a server takes disturb no look-up: megabytes, and documents
// that are deep, wide or contradictory, in new keys and in the key of a live instance. The next
// registration is seen at once, and nothing of the flood stays in memory. Seen to fail with an
// instance that is removed as soon as its key is overwritten.
func TestFloodOfHostileValues(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.MaxPayload, o.MaxPending = 8<<20, 64<<20 })
	owner, observer := open(t, s), open(t, s)
	register(t, owner, web("a"))
	if err := observer.Observe(kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web", "a")
	kv := bucket(t, s.Connect(), "default")
	lease := leaseOf(owner)
	const mega = 1 << 20
	values := []string{
		strings.Repeat("[", mega), strings.Repeat(`{"a":`, mega/5), strings.Repeat("\x00", mega),
		strings.Repeat("\xff", mega), strings.Repeat(`"`, mega),
		recordOf("x", lease, `,"tags":[`+strings.Repeat(`"t",`, mega)+`"t"]`),
		recordOf("x", lease, `,"metadata":{"k":"`+strings.Repeat("x", mega)+`"}`),
		recordOf("x", lease, `,"unknown":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)),
		recordOf("x", lease, `,"weight":1e400`), recordOf("x", lease,
			`,"weight":`+strings.Repeat("9", 10_000)),
		recordOf("x", lease, strings.Repeat(`,"id":"y"`, 1000)),
		recordOf("x", lease, strings.Repeat(`,"name":"api"`, 1000)),
		strings.Repeat(" ", 60<<10) + recordOf("x", "", ""),
		"{" + strings.Repeat(`"lease":"L",`, 4000) + `"format":1}`,
	}
	before := heap()
	stop := answering(t, observer)
	for i, value := range values {
		rev, err := kv.PutString(t.Context(), "svc.web.a", value)
		must(t, err)
		natstest.Eventually(t, natstest.Soon, func() error {
			if own := owner.RegisteredServices(); own[0].Revision < rev {
				return fmt.Errorf("the owner has not written again: it is at %d, and %d was "+
					"written over it", own[0].Revision, rev)
			}
			return nil
		})
		for _, key := range []string{fmt.Sprintf("svc.web.f-%d", i), fmt.Sprintf("svc.f-%d.x", i),
			"lease." + fmt.Sprint(i)} {
			_, err := kv.PutString(t.Context(), key, value)
			must(t, err)
		}
	}
	register(t, owner, kvregistry.Service{Name: "next", ID: "b", Address: "h:1"})
	sees(t, observer, natstest.Soon, "next", "b")
	stop()
	s.Down() // its memory is part of this process
	natstest.Eventually(t, natstest.Soon, func() error {
		if grown := heap() - before; grown > 32<<20 {
			return fmt.Errorf("the process grew by %d MB", grown>>20)
		}
		return nil
	})
	if n := observer.Health().Skipped; n < uint64(len(values)) {
		t.Errorf("%d skipped", n)
	}
	s.Up() // needed by the registries' Close
}

// Invariant 9: an observer that keeps 1,000 instances of a service with 100,000 (20,000 with the
// race detector) goes on answering, and keeps the instance that it had before. A newcomer reads
// them too. When instances go, others that did not fit are found. Seen to fail with an observer
// without a bound, and with one that does not ask again for instances that did not fit.
func TestHundredThousandKeys(t *testing.T) {
	t.Parallel()
	const kept = 1_000
	many := 100_000
	if raced || !natstest.IsLong() {
		many = 20_000
	}
	s := natstest.Start(t)
	nc := s.Connect()
	owner := open(t, s, kvregistry.TTL(time.Minute)) // all instances have its lease
	observer := openOn(t, nc, kvregistry.MaxInstances(kept))
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	lease := leaseOf(owner)
	write := func(msg func(i int) (subject, value string)) {
		t.Helper()
		publish(t, s.Connect(), many, msg)
	}
	looks := make(chan struct{})
	go func() { // ends with the test's context
		defer close(looks)
		for t.Context().Err() == nil {
			if list, err := observer.GetServices(t.Context(), "web"); t.Context().Err() == nil &&
				(err != nil ||
					!slices.ContainsFunc(list,
						func(s kvregistry.Service) bool { return s.ID == "a" })) {
				t.Errorf("%d instances, without a: %v", len(list), err)
				return
			}
			time.Sleep(time.Millisecond) // between two look-ups
		}
	}()
	write(func(i int) (string, string) {
		id := fmt.Sprintf("f-%06d", i)
		return "svc.web." + id, recordOf(id, lease, "")
	})
	holds := func(r *kvregistry.Registry, want int) error {
		snap, err := r.Snapshot("web")
		if err == nil && snap.Len() != want {
			err = fmt.Errorf("%d instances, want %d", snap.Len(), want)
		}
		return err
	}
	natstest.Eventually(t, 2*natstest.Soon, func() error { return holds(observer, kept) })
	newcomer := openOn(t, nc)
	natstest.Eventually(t, time.Minute,
		func() error { return holds(newcomer, min(many+1, kvregistry.DefaultMaxInstances)) })
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		if n := observer.Health().Skipped; n < uint64(many-kept) {
			return fmt.Errorf("%d skipped", n)
		}
		return nil
	})
	kv := bucket(t, nc, "default")
	for i := range kept / 2 { // unregisters some of the kept instances
		if err := kv.Purge(t.Context(), fmt.Sprintf("svc.web.f-%06d", i)); err != nil {
			t.Fatal(err)
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if holds(observer, kept) == nil {
			return errors.New("the list has not changed")
		}
		return nil
	})
	if err := nc.ForceReconnect(); err != nil { // a new snapshot brings others
		t.Fatal(err)
	}
	natstest.Eventually(t, 2*natstest.Soon, func() error { return holds(observer, kept) })
}

// answering looks up "web" again and again until stop is called, and reports each answer that is
// not the one live instance.
func answering(t *testing.T, r *kvregistry.Registry) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		for ctx.Err() == nil {
			one, err := r.GetService("web")
			if ctx.Err() == nil && (err != nil || one.ID != "a" || one.URL != web("a").URL) {
				t.Errorf("a look-up gave %q %q, %v", one.ID, one.URL, err)
				return
			}
			time.Sleep(time.Millisecond) // between two look-ups
		}
	}()
	return func() { cancel(); <-done }
}
