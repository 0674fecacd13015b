package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kvregistry/go/kvregistry/internal/balance"
)

// bare returns a Lookup without a server. The test sets its instances.
type bare struct {
	*Lookup
	t        testing.TB
	revision uint64
	known    map[string]*Service
}

func newBare(t testing.TB, parts ...Part) *bare {
	t.Helper()
	l := &Lookup{o: &observer{}, svc: &service{name: "web"}}
	if err := l.join(parts); err != nil {
		t.Fatal(err)
	}
	return &bare{Lookup: l, t: t, known: map[string]*Service{}}
}

// are sets the instances.
func (b *bare) are(ids ...string) {
	b.revision++
	list := noInstances
	for _, id := range ids {
		if b.known[id] == nil {
			b.known[id] = &Service{ID: id, Name: "web", Status: Passing}
		}
		list = list.With(b.revision, b.known[id])
	}
	list.Seal(b.revision)
	b.svc.snap.Store(newSnapshot("web", list, version{revision: b.revision}))
}

func (b *bare) pick(not ...string) (id string, done func(error)) {
	b.t.Helper()
	s, done, err := b.PickWith(b.t.Context(), Request{Not: not})
	if err != nil || done == nil {
		b.t.Fatalf("picked %q: %v", s.ID, err)
	}
	return s.ID, done
}

// picked returns the instances that some successful calls are given.
func (b *bare) picked() (ids []string) {
	for range 100 {
		id, done := b.pick()
		done(nil)
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// fail ends calls of one instance with an error.
func (b *bare) fail(id string, times int, err error) {
	b.t.Helper()
	for range times {
		b.call(id)(err)
	}
}

// call makes calls until one is given to an instance. The others succeed.
func (b *bare) call(id string) (done func(error)) {
	b.t.Helper()
	for range 1000 {
		one, done := b.pick()
		if one == id {
			return done
		}
		done(nil)
	}
	b.t.Fatalf("%q gets no call: %+v", id, b.Health())
	return nil
}

func (b *bare) gives(want ...string) {
	b.t.Helper()
	if got := b.picked(); !slices.Equal(got, want) {
		b.t.Errorf("picked %q, want %q; %+v", got, want, b.Health())
	}
}

var errCall = errors.New("connection refused")

// An instance whose calls fail is set aside. When its time is over, one call tries it. Seen to fail
// with a probe that any call may make, with one whose success does not count, and with a wait that
// does not grow.
func TestFailingInstanceIsSetAsideAndTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, Outcome{Failures: 3, Aside: 4 * time.Second, Longest: 16 * time.Second})
		b.are("a", "b", "c")
		b.fail("b", 2, errCall)
		b.fail("b", 1, nil) // not three in a row
		b.fail("b", 2, errCall)
		b.gives("a", "b", "c")

		b.fail("b", 3, errCall)
		for _, wait := range []time.Duration{4, 8, 16, 16} {
			wait *= time.Second
			time.Sleep(wait * 3 / 4)
			b.gives("a", "c")
			h := b.Health().Instances[1]
			if until := time.Until(h.Until); !h.Aside || until < 0 || until > wait/4 {
				t.Errorf("set aside for another %s after three quarters of %s: %+v", until, wait, h)
			}
			time.Sleep(wait / 4)
			probe := b.call("b")
			b.gives("a", "c") // while the probe is under way
			probe(errCall)
		}
		b.gives("a", "c")
		time.Sleep(16 * time.Second)
		probe := b.call("b")
		probe(nil)
		b.gives("a", "b", "c")

		// it was good for longer than it had been set aside, so its failures are forgotten
		time.Sleep(17 * time.Second)
		b.fail("b", 3, errCall)
		time.Sleep(4 * time.Second)
		b.call("b")(nil)
		b.gives("a", "b", "c")
	})
}

// If a probe's call is cancelled, the next call tries the instance. A probe that does not end
// delays the next one only for as long as the instance was set aside. Seen to fail without each of
// the two.
func TestProbeThatTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, Outcome{Failures: 1, Aside: 4 * time.Second})
		b.are("a", "b", "c")
		b.fail("b", 1, errCall)
		time.Sleep(4 * time.Second)
		b.call("b")(fmt.Errorf("get: %w", context.Canceled))
		lost := b.call("b")
		b.gives("a", "c")
		time.Sleep(4 * time.Second)
		b.call("b")(nil)
		b.gives("a", "b", "c")
		lost(errCall) // it comes too late to count
		b.gives("a", "b", "c")
		if h := b.Health().Instances[1]; h.InFlight != 0 {
			t.Errorf("%d calls in flight", h.InFlight)
		}
	})
}

// A call that did not fail by the instance's fault sets no instance aside. Such calls are
// cancelled, have an error of the caller, or are made where outcomes don't count. A cancelled call
// is no success either. Seen to fail with errors that all count.
func TestWhatIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := errors.New("no such page")
		b := newBare(t, Outcome{Failures: 2, Failed: func(err error) bool { return err != own }})
		b.are("a", "b", "c")
		b.fail("a", 10, context.Canceled)
		b.fail("b", 10, own)
		b.gives("a", "b", "c")
		b.fail("c", 1, errCall)
		b.call("c")(context.Canceled)
		b.fail("c", 1, context.DeadlineExceeded)
		b.gives("a", "b")

		b = newBare(t, Outcome{Failures: -1})
		b.are("a", "b", "c")
		b.fail("c", 100, errCall)
		b.gives("a", "b", "c")
	})
}

// No more instances than the share are set aside, and never all of them, however calls end and
// instances come and go. A pick gives an instance that is there. An instance that is set aside is
// given to one caller, when its time is over. Seen to fail with a share that may be all, without a
// correction after instances went, and with a probe that any call may make.
func TestNeverAllAreSetAside(t *testing.T) {
	for seed := range uint64(50) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { neverAll(t, rand.New(rand.NewPCG(seed, 9))) })
		})
	}
}

func neverAll(t *testing.T, r *rand.Rand) {
	share := []float64{0.1, 0.5, 0.9, 1}[r.IntN(4)]
	b := newBare(t, Outcome{Failures: 1 + r.IntN(3), Aside: time.Second, Longest: 8 * time.Second,
		Share: share})
	var ids []string
	come := func() {
		ids = nil
		for i, most := 0, r.IntN(12); i < most; i++ {
			if r.IntN(3) > 0 {
				ids = append(ids, fmt.Sprintf("%02d", i))
			}
		}
		b.are(ids...)
	}
	come()
	down := r.Float64() // that share of the calls fails
	var calls []func(error)
	for range 2000 {
		switch n := r.IntN(100); {
		case n < 2:
			come()
		case n < 4:
			down = r.Float64() * 1.5
		case n < 10:
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		case n < 60 && len(calls) > 0:
			i := r.IntN(len(calls))
			calls[i]([]error{nil, errCall, context.Canceled}[ending(r, down)])
			calls = slices.Delete(calls, i, i+1)
		case len(ids) > 0:
			calls = append(calls, b.pickRight(ids))
		}
		h, aside := b.Health(), 0
		for _, i := range h.Instances {
			if i.Aside {
				aside++
			}
		}
		if len(h.Instances) != len(ids) || aside > int(share*float64(len(ids))) || aside > 0 &&
			aside >= len(ids) {
			t.Fatalf("%d of %d instances are set aside, share %v", aside, len(ids), share)
		}
	}
}

func ending(r *rand.Rand, down float64) int {
	switch {
	case r.IntN(10) == 0:
		return 2
	case r.Float64() < down:
		return 1
	}
	return 0
}

// pickRight picks an instance, and checks that it may be picked.
func (b *bare) pickRight(ids []string) (done func(error)) {
	b.t.Helper()
	before := b.Health()
	id, done := b.pick()
	i, known := slices.BinarySearch(ids, id)
	if !known {
		b.t.Fatalf("picked %q, which is not there", id)
	}
	if h := before.Instances[i]; h.Aside {
		if time.Until(h.Until) > 0 {
			b.t.Fatalf("picked %q, which is set aside", id)
		}
		if h := b.Health().Instances[i]; h.Aside && time.Until(h.Until) <= 0 {
			b.t.Fatalf("picked %q as a probe, and another may do so", id)
		}
	}
	return done
}

// Instances whose probe is never made, as those of a standby tier, leave their place to others.
// Seen to fail if they keep it.
func TestWhoIsNotTriedMakesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := 0
		b := newBare(t, Outcome{Failures: 1, Aside: time.Second, Share: 0.5},
			Picker{Prepare: func(list []*Candidate) func(Request) int {
				return func(Request) int { return first % len(list) }
			}})
		b.are("a", "b")
		first = 1
		b.fail("b", 1, errCall)
		time.Sleep(time.Second)
		first = 0 // b is never picked again
		b.fail("a", 1, errCall)
		b.gives("b")
	})
}

// A retry is given another instance, if there is one. Seen to fail if the refused instances are not
// checked.
func TestNotThese(t *testing.T) {
	b := newBare(t)
	b.are("a", "b", "c")
	for range 100 {
		if id, done := b.pick("a", "c"); id != "b" {
			t.Fatalf("picked %q, which the request refuses", id)
		} else {
			done(nil)
		}
	}
	if id, _ := b.pick("a", "b", "c"); id == "" {
		t.Error("picked none, although it is the only one left")
	}
}

// A look-up is prepared again when its instances change. It is not prepared for each call, or when
// others change. Seen to fail without the comparison.
func TestPreparedOnce(t *testing.T) {
	times := 0
	b := newBare(t, Where(func(s Service) bool { return s.ID != "other" }),
		Picker{Prepare: func(list []*Candidate) func(Request) int {
			times++
			return balance.InTurn(list)
		}})
	for _, tc := range []struct {
		ids  []string
		want int
	}{{[]string{"a", "b"}, 1}, {[]string{"a", "b", "other"}, 1}, {[]string{"a", "b"}, 1},
		{[]string{"a"}, 2}} {
		b.are(tc.ids...)
		if b.picked(); times != tc.want {
			t.Errorf("with %q the list was prepared %d times, want %d", tc.ids, times, tc.want)
		}
	}
}

// A call that is ended twice does not make an instance's count of calls negative. Such an instance
// would always be picked. Seen to fail without the check.
func TestToldTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBare(t, Outcome{Failures: 1, Aside: time.Second})
		b.are("a", "b")
		done := b.call("a")
		done(nil)
		done(nil)
		b.fail("b", 1, errCall)
		time.Sleep(time.Second)
		probed := b.call("b")
		probed(nil)
		probed(nil)
		for _, h := range b.Health().Instances {
			if h.InFlight != 0 || h.Aside {
				t.Errorf("%+v", h)
			}
		}
	})
}

// What is known of an instance stays through an update of it. It goes with the instance, or with
// its address. Seen to fail if calls are counted from 0 again, and if the URL or the Address is not
// compared.
func TestKnownAsLongAsItIsThere(t *testing.T) {
	b := newBare(t, Outcome{Failures: 1, Aside: time.Hour})
	b.are("a", "b", "c")
	b.call("b")(errCall)
	busy := b.call("c")
	delete(b.known, "b")
	delete(b.known, "c")
	b.are("0", "a", "b", "c", "d")
	b.gives("0", "a", "c", "d")
	if h := b.Health().Instances[3]; h.InFlight != 1 {
		t.Errorf("%+v, want one call in flight", h)
	}
	busy(nil)
	b.are("a")
	b.gives("a")
	b.are("a", "b")
	b.gives("a", "b")
	for _, elsewhere := range []*Service{{URL: "http://10.0.0.2/"},
		{URL: "http://10.0.0.2/", Address: "10.0.0.2:80"}} {
		b.call("b")(errCall)
		b.gives("a")
		elsewhere.ID, elsewhere.Name, elsewhere.Status = "b", "web", Passing
		b.known["b"] = elsewhere
		b.are("a", "b")
		b.gives("a", "b")
	}
}

// Health has instances that were picked before the service was read, too. Seen to fail if it reads
// only the view's.
func TestHealthBeforeTheServiceWasRead(t *testing.T) {
	b := newBare(t)
	b.are("a", "b")
	b.pick()
	b.svc.snap.Store(nil)
	if h := b.Health(); len(h.Instances) != 2 {
		t.Errorf("%+v, want two instances", h)
	}
}

// A million picks of several goroutines are even, through all the parts of a look-up. Seen to fail
// if each call starts the turns again.
func TestPicksAreEven(t *testing.T) {
	b := newBare(t)
	all := []string{"a", "b", "c", "d", "e", "f", "g"}
	b.are(all...)
	var mu sync.Mutex
	var wg sync.WaitGroup
	sum := map[string]int{}
	const goroutines, each = 8, 125_000
	for range goroutines {
		wg.Go(func() {
			own := map[string]int{}
			for range each {
				s, done, _ := b.Pick(t.Context())
				done(nil)
				own[s.ID]++
			}
			mu.Lock()
			defer mu.Unlock()
			for id, n := range own {
				sum[id] += n
			}
		})
	}
	wg.Wait()
	for _, id := range all {
		if share := goroutines * each / len(all); sum[id] < share*99/100 ||
			sum[id] > share*101/100 {
			t.Errorf("%q was picked %d times, want %d to within 1 %%", id, sum[id], share)
		}
	}
}

// Any number of goroutines pick while instances come, go, fail and are set aside. At the end no
// call is counted. Seen to fail, with the race detector, without the lock around Health's reading.
func TestPicksAtOnce(t *testing.T) {
	b := newBare(t, Outcome{Failures: 2, Aside: time.Microsecond, Longest: time.Millisecond})
	all := []string{"a", "b", "c", "d", "e"}
	b.are(all...)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				_, done, err := b.Pick(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if i%7 == 0 {
					b.Health()
				}
				if (i+g)%3 == 0 {
					done(errCall)
				} else {
					done(nil)
				}
			}
		})
	}
	for i := range 200 {
		b.are(all[i%3:]...)
	}
	wg.Wait()
	for _, h := range b.Health().Instances {
		if h.InFlight != 0 {
			t.Errorf("%d calls of %q in flight", h.InFlight, h.ID)
		}
	}
}

func TestBadParts(t *testing.T) {
	for name, parts := range map[string][]Part{
		"nil":               {nil},
		"two pickers":       {Picker{}, Picker{}},
		"two outcomes":      {Outcome{}, Outcome{}},
		"a bad picker":      {Picker{Err: errors.New("no")}},
		"negative time":     {Outcome{Aside: -1}},
		"longest too short": {Outcome{Aside: time.Minute, Longest: time.Second}},
		"share above 1":     {Outcome{Share: 1.5}},
	} {
		if err := new(Lookup).join(parts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
