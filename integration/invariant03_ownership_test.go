package integration

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 3, ownership: the newest registration of an id wins. The earlier owner is told and
// changes nothing from then on. Seen to fail with a judge that never fences, and with later writes
// that are not compare-and-swap.
func TestNewestRegistrationWins(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	fenced := make(chan kvregistry.Service, 1)
	first := open(t, s, kvregistry.OnFenced(func(s kvregistry.Service) { fenced <- s }))
	observer := open(t, s)
	un := register(t, first, web("one"))
	sees(t, observer, natstest.Soon, "web", "one")

	second := start(t, plan{URL: s.URL(),
		Services: []kvregistry.Service{{ID: "one", Name: "web", Address: "second:1"}}})
	select {
	case s := <-fenced:
		if s.ID != "one" {
			t.Errorf("it was told of %q", s.ID)
		}
	case <-time.After(natstest.Soon):
		t.Fatal("the first owner was not told")
	}
	if got := first.RegisteredServices(); len(got) != 0 {
		t.Errorf("the first owner still lists %v", got)
	}
	if err := un(); !isErr(err, kvregistry.ErrFenced) {
		t.Errorf("its unregister gave %v, want ErrFenced", err)
	}
	if err := first.SetStatus("web",
		kvregistry.Draining); !isErr(err, kvregistry.ErrNotRegistered) {
		t.Errorf("its SetStatus gave %v, want ErrNotRegistered", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	end := time.Now().Add(2 * ttl)
	for time.Now().Before(end) {
		one, err := observer.GetService("web")
		if err != nil || one.Address != "second:1" {
			natstest.Eventually(t, natstest.Soon,
				func() error { return wantAddress(observer, "second:1") })
		}
		time.Sleep(10 * time.Millisecond) // checks that something does not happen
	}
	_ = second
}

// Invariant 3: an owner with more registrations than one consumer has filters is told of each newer
// registration. It sees its next keys by the consumer that it has. Seen to fail if such keys are
// not watched.
func TestOwnerOfManyIsTold(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	fenced := make(chan kvregistry.Service, 1)
	// Once a TTL an owner compares its writes with its view. With this TTL that is too late to help
	// here.
	first := open(t, s, kvregistry.TTL(time.Minute),
		kvregistry.OnFenced(func(s kvregistry.Service) { fenced <- s }))
	var many []kvregistry.Service
	for i := range 300 {
		many = append(many, web(fmt.Sprint(i)))
	}
	if _, err := first.RegisterAll(t.Context(), many...); err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // by the last one, the consumer for many keys exists
		id := fmt.Sprint("late-", i)
		register(t, first, web(id))
		register(t, open(t, s), web(id))
		select {
		case s := <-fenced:
			if s.ID != id {
				t.Fatalf("it was told of %q, want %q", s.ID, id)
			}
		case <-time.After(natstest.Soon):
			t.Fatalf("the owner of %s was not told", id)
		}
	}
}

// Invariant 3: an owner that was frozen, and so was not told that it is fenced, changes nothing
// when it goes on.
func TestFrozenOwnerIsFenced(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	first := start(t, plan{URL: s.URL(), Services: []kvregistry.Service{web("one")}})
	sees(t, observer, natstest.Soon, "web", "one")
	first.freeze()
	second := open(t, s)
	register(t, second, kvregistry.Service{ID: "one", Name: "web", Address: "second:1"})
	first.thaw()
	first.await("fenced", natstest.Soon)
	_ = first.stdin.Close()
	first.await("closed", natstest.Soon)
	natstest.Eventually(t, natstest.Soon, func() error { return wantAddress(observer, "second:1") })
}

// Invariant 3: an earlier owner changes nothing, even before its view has shown it the newer
// registration. Seen to fail with later writes or deletes that are not compare-and-swap, and with
// refused ones that are repeated on top of the value that refused them.
func TestEarlierOwnerChangesNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	first, second := open(t, s), open(t, s)
	kv := bucket(t, s.Connect(), "default")
	for i := range 60 {
		id := fmt.Sprint(i)
		unregister := register(t, first, web(id))
		register(t, second, kvService{ID: id, Name: "web", Address: "second:1"})
		if i%2 == 0 {
			if err := first.Update(kvService{ID: id, Name: "web",
				Address: "first:2"}); !isErr(err, kvregistry.ErrFenced) &&
				!isErr(err, kvregistry.ErrNotRegistered) {
				t.Errorf("%s: the earlier owner's Update gave %v", id, err)
			}
		} else if err := unregister(); !isErr(err, kvregistry.ErrFenced) {
			t.Errorf("%s: the earlier owner's unregister gave %v", id, err)
		}
		if e, err := kv.Get(t.Context(), "svc.web."+id); err != nil ||
			!strings.Contains(string(e.Value()), "second:1") {
			t.Fatalf("%s: the newer registration is gone: %v", id, err)
		}
	}
}

// Invariant 3: an owner writes its key again if the key is deleted or overwritten by hand. Look-ups
// miss the instance only until then. Seen to fail with a judge that leaves a vanished key alone.
func TestOwnerMendsItsKey(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	// Once a TTL an owner compares its writes with its view. With this TTL that is too late to help
	// here.
	owner, observer := open(t, s, kvregistry.TTL(time.Minute)), open(t, s)
	register(t, owner, web("one"))
	sees(t, observer, natstest.Soon, "web", "one")
	kv := bucket(t, s.Connect(), "default")
	mend := map[string]func() error{
		"delete": func() error { return kv.Delete(t.Context(), "svc.web.one") },
		"purge":  func() error { return kv.Purge(t.Context(), "svc.web.one") },
		"garbage": func() error {
			_, err := kv.Put(t.Context(), "svc.web.one",
				[]byte("no registration"))
			return err
		},
	}
	for name, harm := range mend {
		if err := harm(); err != nil {
			t.Fatal(name, err)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			e, err := kv.Get(t.Context(), "svc.web.one")
			if err != nil {
				return err
			}
			if string(e.Value()) == "no registration" {
				return errStill
			}
			return nil
		})
		sees(t, observer, natstest.Soon, "web", "one")
	}
	if err := owner.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web")
}

// A second registration of an id in the same process takes over without a gap, like one from
// another process.
func TestRegisterAgainInOneProcess(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	old := register(t, r, web("one"))
	next := register(t, r, kvregistry.Service{ID: "one", Name: "web", Address: "again:1"})
	if err := old(); !isErr(err, kvregistry.ErrFenced) {
		t.Errorf("the replaced one's unregister gave %v, want ErrFenced", err)
	}
	if err := wantAddress(r, "again:1"); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := next(); err != nil {
			t.Errorf("unregister must be idempotent: %v", err)
		}
	}
	sees(t, r, natstest.Soon, "web")
}

// Invariant 3: the newest registration wins even if its record is too long for the earlier owner to
// show, as while MaxRecord is being changed. Seen to fail with a long value that is always treated
// as damage: the earlier owner overwrote it.
func TestNewestRegistrationWinsIfLong(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	fenced := make(chan kvregistry.Service, 2)
	first := open(t, s, kvregistry.OnFenced(func(s kvregistry.Service) { fenced <- s }))
	second := open(t, s, kvregistry.MaxRecord(1<<20),
		kvregistry.OnFenced(func(kvregistry.Service) { t.Error("the newest was fenced") }))
	register(t, first, web("one"))
	long := kvregistry.Service{ID: "one", Name: "web", Address: "second:1",
		Metadata: map[string]string{"k": strings.Repeat("x", 100<<10)}}
	register(t, second, long)
	select {
	case <-fenced:
	case <-time.After(natstest.Soon):
		t.Fatal("the first owner was not told")
	}
	if err := wantAddress(second, "second:1"); err != nil {
		t.Error(err)
	}
	kv := bucket(t, s.Connect(), "default")
	// a long damaged value
	if _, err := kv.Put(t.Context(), "svc.web.one",
		[]byte(strings.Repeat("x", 900<<10))); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		e, err := kv.Get(t.Context(), "svc.web.one")
		if err == nil && !strings.Contains(string(e.Value()), "second:1") {
			err = fmt.Errorf("%d bytes that are no registration", len(e.Value()))
		}
		return err
	})
}

// Invariant 3: a newer owner may write its JSON in another way than this library. Its record is
// read, shown and not overwritten. Seen to fail with encoding/json, which could read none of these
// records.
func TestNewerOwnerThatWritesOtherJSON(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	fenced := make(chan kvregistry.Service, 1)
	owner := open(t, s, kvregistry.OnFenced(func(s kvregistry.Service) { fenced <- s }))
	other, observer := open(t, s), open(t, s)
	register(t, other, web("of the other"))
	kv := bucket(t, s.Connect(), kvregistry.DefaultTenant)
	for what, edit := range map[string][2]string{
		"a format with a fraction":    {`"format":1`, `"format":1.0`},
		"a format with an exponent":   {`"format":1`, `"format":10e-1`},
		"a weight with a fraction":    {`"name"`, `"weight":2.0,"name"`},
		"a negative weight":           {`"name"`, `"weight":-1,"name"`},
		"a signature that is none":    {`"owner"`, `"signature":"*","owner"`},
		"a signature of another type": {`"owner"`, `"signature":[7],"signer":7,"owner"`},
		"a status in capitals":        {`"name"`, `"Status":5,"name"`},
		"a lease in capitals":         {`"owner"`, `"Lease":"OTHER.x","LEASE":7,"owner"`},
		"an instance in capitals":     {`"owner"`, `"INSTANCE":[],"owner"`},
		"a member twice":              {`"format"`, `"instance":7,"lease":7,"format"`},
		"null": {`"name"`,
			`"zone":null,"tags":[null],"metadata":{"a":null},"name"`},
	} {
		id := strings.ReplaceAll(what, " ", "-")
		register(t, owner, web(id))
		value := strings.Replace(recordOf(id, leaseOf(other), ""), edit[0], edit[1], 1)
		rev, err := kv.PutString(t.Context(), "svc.web."+id, value)
		must(t, err)
		select {
		case <-fenced:
		case <-time.After(natstest.Soon):
			t.Errorf("%s: the owner was not told", what)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			list, err := observer.GetServices(t.Context(), "web")
			for _, one := range list {
				if one.ID == id && one.Address == "evil:1" {
					return nil
				}
			}
			return fmt.Errorf("%s: the newer record is not shown: %v", what, err)
		})
		if e, err := kv.Get(t.Context(), "svc.web."+id); err != nil || e.Revision() != rev {
			t.Errorf("%s: the newer record was overwritten: %v", what, err)
		}
	}
}

// A refused change does not undo another change that is made at the same time. Seen to fail with
// changes that are made before their turn: SetStatus returned nil, and the status was not set.
func TestRefusedChangeTakesNoOtherWithIt(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s)
	register(t, r, web("a"))
	observer := open(t, s)
	limitValues(t, s, 4<<10)
	for i := range 50 {
		large, status := web("a"), []kvregistry.Status{kvregistry.Critical, kvregistry.Warning}[i%2]
		large.Metadata = map[string]string{"large": strings.Repeat("x", 8<<10)}
		var wg sync.WaitGroup
		var tooLarge, set error
		calls := []func(){func() { tooLarge = r.Update(large) }, func() {
			set = r.SetStatus("web", status)
		}}
		for k := range calls { // either may be the first
			wg.Go(calls[(i/2+k)%2])
		}
		wg.Wait()
		if tooLarge == nil || isErr(tooLarge, kvregistry.ErrPending) || set != nil {
			t.Fatalf("too large: %v, set: %v", tooLarge, set)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if snap, err := observer.Snapshot("web"); err != nil || snap.Len() != 1 ||
				slices.Collect(snap.All())[0].Status != status {
				return fmt.Errorf("round %d: the bucket does not say %s: %v", i, status, err)
			}
			return nil
		})
	}
}

// A status that makes a record too large is refused, and nothing changes. Seen to fail without the
// check of a status: SetStatus returned nil.
func TestStatusThatDoesNotFit(t *testing.T) {
	t.Parallel()
	r := open(t, natstest.Start(t))
	full := web("a")
	un := register(t, r, full)
	for n := 64 << 10; ; n-- { // finds the longest record that fits
		full.Metadata = map[string]string{"long": strings.Repeat("x", n)}
		err := r.Update(full)
		if err == nil {
			break
		}
		if !isErr(err, kvregistry.ErrInvalidService) {
			t.Fatal(err)
		}
	}
	// one letter longer than "passing"
	if err := r.SetStatus("web", kvregistry.Critical); !isErr(err, kvregistry.ErrInvalidService) {
		t.Errorf("SetStatus gave %v, want ErrInvalidService", err)
	}
	if got := r.RegisteredServices(); len(got) != 1 || got[0].Status != kvregistry.Passing {
		t.Error("the status was changed")
	}
	if err := un(); err != nil {
		t.Error(err)
	}
}

// limitValues sets the maximum size of the values in the default tenant's bucket.
func limitValues(t *testing.T, s *natstest.Server, most int32) {
	t.Helper()
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgSize = most
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}
