package line

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/lease"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// A ticket's place follows from what the view saw, in any order of the lines. A waiter is woken
// when its ticket is seen, when it may be the first, and when it is over, and at no other change: a
// thousand waiters in one process would look a thousand times at each change. Seen to fail with
// places for bytes that are no ticket, with a waiter that is not woken when it is the first, and if
// each change wakes all of a process's tickets.
func TestStanding(t *testing.T) {
	ls := newLines(nil, nil)
	own, err := ls.enter("a", "lock.a.OWN", nil)
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, rev uint64) watcher.Change {
		return watcher.Change{Key: key, Revision: rev, Value: []byte(`{"format":1,"lease":"L"}`)}
	}
	bytes := func(key string, rev uint64, value string) watcher.Change {
		return watcher.Change{Key: key, Revision: rev, Value: []byte(value)}
	}
	gone := func(key string) watcher.Change { return watcher.Change{Key: key, Op: tenant.Purge} }
	for i, step := range []struct {
		change watcher.Change
		place  uint64
		ahead  int
		told   bool
	}{
		{put("lock.a.X", 5), 0, 0, false},
		{put("lock.b.Z", 6), 0, 0, false},
		// a newer format's
		{bytes("lock.a.Y", 7, `{"format":2,"lease":"L","owner":7}`), 0, 0, false},
		{bytes("lock.a.T", 2, `{"format":2,"lease":7}`), 0, 0, false}, // no lease would ever end it
		{bytes("lock.a.V", 4, "by hand"), 0, 0, false},
		{bytes("lock.a.U", 3, `{"format":1}`), 0, 0, false},
		{put("lock.a.OWN", 8), 8, 2, true},
		{put("lock.a.W", 9), 8, 2, false},
		{gone("lock.b.Z"), 8, 2, false},
		{gone("lock.a.Y"), 8, 1, false},
		{put("lock.a.X", 10), 8, 0, true}, // written again: it is last
		{gone("lock.a.X"), 8, 0, true},
	} {
		ls.apply([]watcher.Change{step.change}, nil)
		if s := ls.standing(own); s.place != step.place || s.ahead != step.ahead || s.over != nil ||
			!s.from.IsZero() {
			t.Fatalf("step %d: %+v", i, s)
		}
		if told := len(own.moved) == 1; told != step.told {
			t.Fatalf("step %d: the waiters were woken: %v", i, told)
		} else if told {
			<-own.moved
		}
	}
	ls.apply([]watcher.Change{gone("lock.a.W"), gone("lock.a.OWN")}, nil)
	if s := ls.standing(own); s.over != errGone || len(ls.places) != 0 || len(own.moved) != 1 {
		t.Errorf("%+v; %v", s, ls.places)
	}
}

// A ticket is over if another process wrote it, or if its bucket was recreated. After that nobody
// holds a name for a TTL.
func TestStandingThatIsLost(t *testing.T) {
	for name, see := range map[string]func(ls *Lines){
		"overwritten": func(ls *Lines) {
			_ = ls.apply([]watcher.Change{{Key: "lock.a.OWN", Revision: 9}}, nil)
		},
		"made anew": func(ls *Lines) { _ = ls.apply(nil, &watcher.Snapshot{Reset: true}) },
	} {
		ls := newLines(nil, nil)
		own, err := ls.enter("a", "lock.a.OWN", nil)
		if err != nil {
			t.Fatal(err)
		}
		ls.apply([]watcher.Change{{Key: "lock.a.OWN", Revision: 8}}, &watcher.Snapshot{})
		if s := ls.standing(own); s.over != nil {
			t.Fatalf("%s: %+v", name, s)
		}
		see(ls)
		s := ls.standing(own)
		if s.over != errGone || s.from.IsZero() != (name == "overwritten") ||
			time.Until(s.from) > time.Minute {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// newLines returns lines that write to a bucket.
func newLines(b *tenant.Bucket, k *lease.Keeper) *Lines {
	return New(b, k, Config{
		Owner: "ME", TTL: time.Minute, Check: time.Second,
		Journal: journal.New(slog.New(slog.DiscardHandler)),
		Closed:  errors.New("closed"), Pending: errors.New("pending"),
	})
}

// A waiter with a refused lease does not get the hold, even if its ticket is the first and the
// lease's time is not over. Reapers may have removed the ticket, and the next waiter may hold the
// name. Seen to fail with a turn that depends on the lease's time alone.
func TestTurnUnderALostLease(t *testing.T) {
	s := natstest.Start(t)
	b, err := tenant.New(s.Connect(), "default", tenant.Config{})
	if err == nil {
		err = b.Ensure(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := lease.NewKeeper(b, lease.KeeperConfig{
		TTL: 20 * time.Second, Granted: func() {}, Lost: func(error) {},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ls := newLines(b, keeper)
	defer ls.Stop()
	defer func() { _ = keeper.Close(context.Background(), false) }()
	filter, err := tenant.LockFilter("job")
	if err == nil {
		err = ls.watch(t.Context(), filter)
	}
	var own *ticket
	if err == nil {
		own, err = ls.takeTicket(t.Context(), "job", filter)
	}
	if err == nil {
		err = ls.write(t.Context(), own)
	}
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if ls.standing(own).place == 0 {
			return errors.New("the ticket is not seen")
		}
		return nil
	})
	if _, err := b.Write(t.Context(), tenant.Write{Key: tenant.LeaseKey(own.lease.ID),
		Op: tenant.Purge}); err != nil {
		t.Fatal(err)
	}
	keeper.Check()
	<-own.lease.Done()
	if err := ls.awaitTurn(t.Context(), own); !errors.Is(err, errGone) {
		t.Errorf("its turn: %v, at the place %+v", err, ls.standing(own))
	}
	ls.remove(own)
}
