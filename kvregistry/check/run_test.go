package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

const tick = 5 * time.Millisecond

func newRegistry(t testing.TB, s *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	opts = append([]kvregistry.Option{kvregistry.Logger(slog.New(slog.DiscardHandler))}, opts...)
	r, err := kvregistry.New(t.Context(), s.Connect(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func register(t testing.TB, r *kvregistry.Registry, id string, status kvregistry.Status) {
	t.Helper()
	s := kvregistry.Service{ID: id, Name: "web", Address: "h:1", Status: status}
	if _, err := r.Register(s); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, r *kvregistry.Registry, checks ...Check) *Runner {
	t.Helper()
	c, err := Run(r, "web", checks...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// shows waits until a registry shows the given statuses of the service's instances, in order of
// their ids.
func shows(t testing.TB, r *kvregistry.Registry, want ...kvregistry.Status) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		snap, err := r.Snapshot("web")
		if err != nil {
			return err
		}
		var got []kvregistry.Status
		for s := range snap.All() {
			got = append(got, s.Status)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("%v, want %v", got, want)
		}
		return nil
	})
}

// flag is a check that passes while the flag is not down.
type flag struct {
	down atomic.Bool
	runs atomic.Int64
}

func (f *flag) check(opts ...Option) Check {
	return Of(func(context.Context) error {
		f.runs.Add(1)
		if f.down.Load() {
			return errors.New("down")
		}
		return nil
	}, append([]Option{Every(tick), Rise(2), Fall(2)}, opts...)...)
}

// again waits for n more runs.
func (f *flag) again(t testing.TB, n int64) {
	t.Helper()
	until := f.runs.Load() + n
	natstest.Eventually(t, natstest.Soon, func() error {
		if n := f.runs.Load(); n < until {
			return fmt.Errorf("%d runs of %d", n, until)
		}
		return nil
	})
}

// written counts the writes of registrations that were seen in the bucket, and has the last one's
// revision.
type written struct{ n, last atomic.Int64 }

// upTo waits until all writes up to that of a registry's registration are seen.
func (w *written) upTo(t testing.TB, r *kvregistry.Registry) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		if last, want := w.last.Load(), r.RegisteredServices()[0].Revision; last < int64(want) {
			return fmt.Errorf("saw revision %d of %d", last, want)
		}
		return nil
	})
}

// writes counts the writes of registrations in the bucket.
func writes(t testing.TB, s *natstest.Server) *written {
	t.Helper()
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "registry_default")
	if err != nil {
		t.Fatal(err)
	}
	w, err := kv.Watch(t.Context(), "svc.>", jetstream.UpdatesOnly())
	if err != nil {
		t.Fatal(err)
	}
	n := new(written)
	go func() { // ends with the watch, which ends with the test
		for e := range w.Updates() {
			if e != nil {
				n.n.Add(1)
				n.last.Store(int64(e.Revision()))
			}
		}
	}()
	t.Cleanup(func() { _ = w.Stop() })
	return n
}

// The worst of several checks is the status. Each change of it is one write that observers see at
// once, and what changes nothing is not written. Seen to fail with the best of the checks in place
// of the worst, and with a status that is written after each result.
func TestWorstOfChecksIsTheStatus(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	register(t, owner, "a", kvregistry.Passing)
	shows(t, observer, kvregistry.Passing)
	n := writes(t, s)
	var hard, soft flag
	c := run(t, owner, hard.check(Named("hard")), soft.check(Named("soft"), OnlyWarns()))
	if status, err := c.Wait(t.Context()); err != nil || status != kvregistry.Passing {
		t.Fatal(status, err)
	}
	for i, step := range []struct {
		hard, soft bool
		want       kvregistry.Status
	}{
		{false, true, kvregistry.Warning}, {true, true, kvregistry.Critical},
		{true, false, kvregistry.Critical},
		{false, false, kvregistry.Passing}, {true, false, kvregistry.Critical},
		{false, true, kvregistry.Warning},
	} {
		hard.down.Store(step.hard)
		soft.down.Store(step.soft)
		hard.again(t, 4)
		soft.again(t, 4)
		shows(t, observer, step.want)
		list := c.Results()
		if list[0].Name != "hard" || (list[0].Err != nil) != step.hard ||
			(list[1].Status == kvregistry.Warning) != step.soft {
			t.Errorf("step %d: results %+v", i, list)
		}
	}
	n.upTo(t, owner)
	// The last step changes two flags, one after the other, so another status may come between.
	before := n.n.Load()
	if before < 5 || before > 6 {
		t.Errorf("%d writes for 5 changes", before)
	}
	hard.again(t, 20)
	n.upTo(t, owner)
	if got := n.n.Load(); got != before {
		t.Errorf("%d writes while nothing changed", got-before)
	}
}

// A check that alternates, and never passes or fails often enough in a row, has nothing written.
// Seen to fail with a verdict that follows each result.
func TestFlappingIsDamped(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	register(t, owner, "a", kvregistry.Passing)
	n := writes(t, s)
	var runs atomic.Int64
	c := run(t, owner, Of(func(context.Context) error {
		if runs.Add(1)%3 != 1 { // two failures of three
			return errors.New("down")
		}
		return nil
	}, Every(tick), Fall(3)))
	if _, err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if runs.Load() < 60 {
			return errors.New("not 60 runs")
		}
		return nil
	})
	if n := n.n.Load(); n != 0 {
		t.Errorf("%d writes", n)
	}
}

// Draining that was set by hand stays, whatever the checks find, and however close to their write
// it was set. Checks replace any other status. Seen to fail with checks that set the status
// whatever it is, and with checks that look at it before they set it and not at the same time.
func TestDrainingWinsOverChecks(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	var f flag
	run(t, owner, f.check(Rise(1), Fall(1), Every(time.Millisecond)))
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wg.Go(func() {
		for ; ctx.Err() == nil; f.down.Store(!f.down.Load()) {
			time.Sleep(time.Millisecond) // the load itself: statuses that change all the time
		}
	})
	for i := range 40 {
		register(t, owner, "a", kvregistry.Passing)
		f.again(t, 2)
		if err := owner.SetStatus("web", kvregistry.Draining); err != nil {
			t.Fatal(err)
		}
		shows(t, observer, kvregistry.Draining)
		f.again(t, 6)
		shows(t, observer, kvregistry.Draining)
		if list := owner.RegisteredServices(); list[0].Status != kvregistry.Draining {
			t.Fatalf("round %d: %s after it was set to draining", i, list[0].Status)
		}
		if err := owner.Unregister("web"); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wg.Wait()
	f.down.Store(false)
	register(t, owner, "a", kvregistry.Critical)
	shows(t, observer, kvregistry.Passing)
	if err := owner.SetStatus("web", kvregistry.Warning); err != nil {
		t.Fatal(err)
	}
	shows(t, observer, kvregistry.Passing)
}

// A check that hangs or panics delays no other, and counts as failed. Seen to fail with checks that
// run one after the other.
func TestHangingCheckHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	register(t, owner, "a", kvregistry.Passing)
	stuck := make(chan struct{})
	defer close(stuck)
	var f flag
	c := run(t, owner,
		Of(func(context.Context) error { <-stuck; return nil }, Every(tick),
			Timeout(tick), OnlyWarns()),
		Of(func(context.Context) error { panic("oops") }, Every(tick), OnlyWarns()),
		f.check())
	shows(t, owner, kvregistry.Warning)
	f.down.Store(true)
	shows(t, owner, kvregistry.Critical)
	f.again(t, 10)
	for i, r := range c.Results() {
		if r.Err == nil {
			t.Errorf("check %d passed", i)
		}
	}
	stopped := make(chan struct{})
	go func() { c.Stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(natstest.Soon):
		t.Error("Stop waits for a check that hangs")
	}
}

// Instances of one name in one process can have checks of their own. Seen to fail with the id left
// out.
func TestChecksOfOneInstance(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	register(t, owner, "a", kvregistry.Passing)
	register(t, owner, "b", kvregistry.Passing)
	var f flag
	f.down.Store(true)
	c, err := RunInstance(owner, "web", "b", f.check())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	shows(t, owner, kvregistry.Passing, kvregistry.Critical)
	f.again(t, 5)
	shows(t, owner, kvregistry.Passing, kvregistry.Critical)
}

// The last status that could not be written is written when the server is back, and checks go on
// after it. Seen to fail with a runner that ends while a write is pending.
func TestStatusWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s, kvregistry.TTL(time.Minute)), newRegistry(t, s)
	register(t, owner, "a", kvregistry.Passing)
	shows(t, observer, kvregistry.Passing)
	var f flag
	run(t, owner, f.check())
	f.again(t, 2)
	s.Down()
	for began := time.Now(); time.Since(began) < 2*writeTime; { // so that writes are pending
		f.down.Store(!f.down.Load())
		f.again(t, 5)
	}
	f.down.Store(true)
	f.again(t, 5)
	s.Up()
	shows(t, observer, kvregistry.Critical)
	f.down.Store(false)
	shows(t, observer, kvregistry.Passing)
}

// Until each check has run, the status is not passing; a check that fails makes it critical at
// once. Wait returns the first status, also after a Stop. Seen to fail with a check that has not
// run taken for one that passes, and with a Wait that returns either the status or an error after
// Stop.
func TestBeforeTheFirstResults(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	register(t, owner, "a", kvregistry.Critical)
	var f flag
	let := make(chan struct{})
	c := run(t, owner, f.check(), Of(func(ctx context.Context) error {
		select {
		case <-let:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, Every(time.Minute), Timeout(time.Minute)))
	f.again(t, 10)
	shows(t, owner, kvregistry.Critical)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting gave %v", err)
	}
	close(let)
	if status, err := c.Wait(t.Context()); err != nil || status != kvregistry.Passing {
		t.Errorf("%s, %v", status, err)
	}
	shows(t, owner, kvregistry.Passing)
	c.Stop()
	for range 20 {
		if status, err := c.Wait(t.Context()); err != nil || status != kvregistry.Passing {
			t.Fatalf("after Stop: %s, %v", status, err)
		}
	}
	never := run(t, owner, Of(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
	never.Stop()
	if _, err := never.Wait(t.Context()); !errors.Is(err, kvregistry.ErrClosed) {
		t.Errorf("after Stop: %v", err)
	}
}

// A runner ends with its registry. Seen to fail with ErrClosed ignored.
func TestRunnerEndsWithTheRegistry(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	var f flag
	c := run(t, owner, f.check())
	f.again(t, 1)
	if err := owner.Close(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if c.ctx.Err() == nil {
			return errors.New("it still runs")
		}
		return nil
	})
}

// An invalid check is an error that names the check, and nothing runs.
func TestBadChecks(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	ok := func(context.Context) error { return nil }
	var beat Heartbeat
	for name, c := range map[string]Check{
		"zero": {}, "nil": Of(nil), "nil option": Of(ok, nil), "Every": Of(ok, Every(0)),
		"Timeout": Of(ok, Timeout(-1)), "Rise": Of(ok, Rise(0)), "Fall": Of(ok, Fall(-1)),
		"Within": beat.Within(0), "TCP": TCP("nowhere"), "HTTP": HTTP("localhost:80/x"),
		"URL": HTTP("http://me:SECRET@a b/"),
	} {
		_, err := Run(owner, "web", Of(ok), c)
		if !errors.Is(err, kvregistry.ErrInvalidOption) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]func() (*Runner, error){
		"no registry": func() (*Runner, error) { return Run(nil, "web", Of(ok)) },
		"no name":     func() (*Runner, error) { return Run(owner, "", Of(ok)) },
		"no check":    func() (*Runner, error) { return Run(owner, "web") },
		"every name":  func() (*Runner, error) { return Run(owner, kvregistry.Everything, Of(ok)) },
	} {
		if _, err := f(); !errors.Is(err, kvregistry.ErrInvalidOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// BenchmarkResultThatChangesNothing measures the cost of a result that changes nothing, except the
// look at the registration, which is kvregistry's BenchmarkUpdateFuncUnchanged.
func BenchmarkResultThatChangesNothing(b *testing.B) {
	owner := newRegistry(b, natstest.Start(b))
	register(b, owner, "a", kvregistry.Passing)
	r, err := Run(owner, "web", Of(func(context.Context) error { return nil }, Every(time.Hour)))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Stop()
	b.ReportAllocs()
	for b.Loop() {
		r.take(0, nil, 0)
	}
}
