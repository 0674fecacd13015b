package kvregistry

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// An owner may write to a bucket that was made anew before its view has noticed. An earlier owner's registration, seen in the bucket
// before, has a higher revision then, and is no newer one. Seen to fail with written not looking at what was seen: the owner took itself for
// fenced, and its key stayed for as long as its lease did, which chaos found.
func TestWriteThatOutrunsTheView(t *testing.T) {
	other := func(rev uint64) []*sighting {
		return []*sighting{{Change: watcher.Change{Key: "svc.web.a", Op: tenant.Put, Revision: rev}, name: "web", rec: record{Owner: "other"}}}
	}
	for name, seenWhen := range map[string]func(o *owner, g *registration, see func(rev uint64)){
		"seen before the write": func(o *owner, g *registration, see func(uint64)) { see(5000); write(o, g, 2) },
		"seen while it is under way": func(o *owner, g *registration, see func(uint64)) {
			see(4000)
			_, _ = o.writing(g, "L")
			see(5000)
			o.written(g, 2, "L")
		},
		"seen after it": func(o *owner, g *registration, see func(uint64)) { see(4000); write(o, g, 2); see(5000) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwner()
			g := &registration{key: "svc.web.a", name: "web", id: "a", turn: make(chan struct{}, 1)} // its turn is taken
			declare(o, g)
			seenWhen(o, g, func(rev uint64) { o.see("own", other(rev), nil) })
			g.turn <- struct{}{}
			o.judge("own", g)
			o.see("own", other(5001), nil)
			if g.over != nil || g.rev != 2 {
				t.Fatalf("over by %v, at revision %d", g.over, g.rev)
			}
			o.see("own", other(3), &watcher.Snapshot{UpTo: 3, Reset: true})
			if !errors.Is(g.over, ErrFenced) {
				t.Errorf("a newer owner in the new bucket gave %v", g.over)
			}
		})
	}
	t.Run("in the same bucket", func(t *testing.T) {
		o := newOwner()
		g := &registration{key: "svc.web.a", name: "web", id: "a", turn: make(chan struct{}, 1)}
		declare(o, g)
		o.see("own", other(5000), nil)
		_, _ = o.writing(g, "L")
		o.see("own", other(5002), nil)
		o.written(g, 5001, "L")
		g.turn <- struct{}{}
		o.judge("own", g)
		if !errors.Is(g.over, ErrFenced) {
			t.Errorf("a newer owner, seen before the answer came, gave %v", g.over)
		}
	})
}

func declare(o *owner, g *registration) { _, _, _ = o.declare(g, false, new(atomic.Bool)) }

func write(o *owner, g *registration, rev uint64) {
	_, _ = o.writing(g, "L")
	o.written(g, rev, "L")
}

// A snapshot in which a key is gone without a trace says so once: what was written since is not outdated by it again and again. Seen to fail with a
// sighting that is kept: the key was written 2,000 times a second until the view saw one of them.
func TestKeyGoneWithoutATraceIsWrittenOnce(t *testing.T) {
	o := newOwner()
	g := &registration{key: "svc.web.a", name: "web", id: "a", turn: make(chan struct{}, 1)}
	declare(o, g)
	write(o, g, 5)
	o.see("own", []*sighting{{Change: watcher.Change{Key: g.key, Op: tenant.Purge}, name: "web"}}, &watcher.Snapshot{UpTo: 6})
	writes := 0
	for range 5 {
		g.turn <- struct{}{}
		o.judge("own", g)
		<-g.turn
		if g.dirty {
			writes++
			write(o, g, uint64(7+writes))
		}
	}
	if writes != 1 {
		t.Errorf("written %d times", writes)
	}
}

// A registration that the view lacks is written again, whatever hid it from the owner: here a wrong belief that the view is
// of the bucket before. Seen to fail without the audit, and with one that does not mark what it found.
func TestMissingRegistrationIsFound(t *testing.T) {
	nc := natstest.Start(t).Connect()
	r, err := New(t.Context(), nc, TTL(2*time.Second), Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Register(Service{Name: "web", ID: "a", Address: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	if err := r.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	r.own.mu.Lock()
	r.own.outrun = true
	r.own.mu.Unlock()
	if _, err := r.bucket.Write(t.Context(), tenant.Write{Key: "svc.web.a", Op: tenant.Purge}); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		_, found, err := r.bucket.Get(t.Context(), "svc.web.a")
		if err == nil && !found {
			err = errors.New("it is not written again")
		}
		return err
	})
}

// A change that did not get its turn is made when the one before is done, be that one refused. Seen to fail with a change that is made at once.
func TestChangeThatIsLeft(t *testing.T) {
	o := newOwner()
	g := &registration{key: "svc.web.a", name: "web", id: "a", turn: make(chan struct{}, 1), service: Service{Status: Passing}}
	declare(o, g)
	write(o, g, 1)
	set := func(change func(*Service)) func(Service) (Service, error) {
		return func(s Service) (Service, error) { change(&s); return s, nil }
	}
	revert, err := o.alter(g, set(func(s *Service) { s.Version = "too large" }))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.leave(g, set(func(s *Service) { s.Status = Critical })); err != nil {
		t.Fatal(err)
	}
	_, _ = o.writing(g, "L")
	o.failed(g)
	revert()
	o.catchUp(g)
	if g.service.Version != "" || g.service.Status != Critical || !g.dirty {
		t.Errorf("%+v is declared, dirty %v", g.service, g.dirty)
	}
}

// A deletion that the server refuses for good is no success when it is asked for again. Seen to fail with one that is held for done.
func TestDeletionThatIsRefused(t *testing.T) {
	o := newOwner()
	g := &registration{key: "svc.web.a", name: "web", id: "a", turn: make(chan struct{}, 1)}
	declare(o, g)
	o.refused(g, tenant.ErrPermission)
	if done, err := o.ending(claim{registration: g}); !done || !errors.Is(err, tenant.ErrPermission) {
		t.Errorf("done %v: %v", done, err)
	}
}

// A name that is first looked up while everything is observed already is known not to be there. Seen to fail with a service that waits for a
// snapshot: the look-up gave ErrUnavailable.
func TestNameBesideEverything(t *testing.T) {
	c := newCache(slog.New(slog.DiscardHandler), bounds{instances: 10, services: 10, record: DefaultMaxRecord})
	c.view = watcher.New(nil, watcher.Config{Apply: func([]watcher.Change, *watcher.Snapshot) {}})
	c.observe(Everything)
	c.synced[Everything] = struct{}{}
	if svc := c.observe("web"); svc.snap.Load() == nil {
		t.Error("no snapshot")
	}
}
