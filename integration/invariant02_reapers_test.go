package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// dying is the number of processes that die together with the reapers.
const dying = 1000

// Invariant 2: the registrations of the dead are removed even if reapers die with them: the holder
// of the first slot, the holders of both slots, or every reaper. In the first case that takes a TTL
// and 1.5 s, unless the other holder doubts because the machine is busy. If both slots are lost, a
// stand-by first has to find a free slot. If no process is left, the next newcomer shows none of
// the dead, and purges them after its wait. Seen to fail with one slot, with a stand-by that looks
// only once, and with newcomers that hide nothing.
func TestReapersDieWithACrowd(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		killed, standBy int
	}{
		"the first slot's": {1, 0},
		"both slots'":      {2, 8},
		"all":              {2, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.killed > 1 {
				natstest.Long(t)
			}
			t.Parallel()
			s := natstest.Start(t)
			observer := open(t, s, kvregistry.WithoutReaping())
			must(t, observer.Observe("crowd"))
			var holders []*process
			for i := range tenant.Slots {
				id := fmt.Sprintf("holder-%d", i)
				holders = append(holders,
					start(t, plan{URL: s.URL(), Services: []kvService{web(id)}}))
				inSlot(t, s, i)
			}
			alive := []string{}
			for i := range tt.standBy {
				id := fmt.Sprintf("alive-%d", i)
				register(t, open(t, s), web(id))
				alive = append(alive, id)
			}
			for slot := range tenant.Slots {
				isReady(t, s, slot)
			}
			time.Sleep(2 * ttl) // until the heartbeats of the stand-bys are a proof
			dieTogether(t, s)
			for _, p := range holders[:tt.killed] {
				p.kill()
			}
			killed := time.Now()
			if name == "all" {
				newcomersFindNone(t, s, killed)
				return
			}
			for i := tt.killed; i < tenant.Slots; i++ {
				alive = append(alive, fmt.Sprintf("holder-%d", i))
			}
			left := func() error {
				if n := len(ids(t, observer, "crowd")); n > 0 {
					return fmt.Errorf("%d registrations remain", n)
				}
				return nil
			}
			if tt.killed == 1 {
				inTime(t, s, 1, ttl+1500*time.Millisecond, left)
			}
			natstest.Eventually(t, natstest.Soon, left)
			// the processes that were killed with them, whose leases may end last
			sees(t, observer, natstest.Soon, "web", alive...)
			t.Logf("all were gone %s after the kill", time.Since(killed).Round(time.Millisecond))
		})
	}
}

// newcomersFindNone checks that newcomers see none of the dead after every process died, and that
// the dead are purged.
func newcomersFindNone(t *testing.T, s *natstest.Server, killed time.Time) {
	t.Helper()
	kv := bucket(t, s.Connect(), "default")
	natstest.Eventually(t, natstest.Soon, func() error {
		left, err := kv.ListKeysFiltered(t.Context(), "lease.*")
		must(t, err)
		n := 0
		for range left.Keys() {
			n++
		}
		if n > 0 {
			return fmt.Errorf("%d leases are live", n)
		}
		return nil
	})
	newcomer := open(t, s)
	began := time.Now()
	for _, name := range []string{"crowd", "web"} {
		if _, err := newcomer.GetService(name); !isErr(err, kvregistry.ErrNotFound) {
			t.Errorf("the first look-up of %s gave %v", name, err)
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		return noneLeft(keys(t, s.Connect(), "default", "svc."))
	})
	t.Logf("they were purged %s after the newcomer's start, %s after the kill",
		time.Since(began).Round(time.Millisecond),
		time.Since(killed).Round(time.Millisecond))
}

// dieTogether writes the leases and the registrations of a crowd that sends no heartbeat.
func dieTogether(t *testing.T, s *natstest.Server) {
	t.Helper()
	b, err := tenant.New(s.Connect(), "default", tenant.Config{})
	must(t, err)
	var leases, registrations []tenant.Write
	for i := range dying {
		id := fmt.Sprintf("DEAD%d", i)
		key, err := tenant.ServiceKey("crowd", id)
		must(t, err)
		value := fmt.Appendf(nil,
			`{"format":1,"lease":%q,"owner":"x"`+
				`,"instance":{"id":%q,"name":"crowd","address":"a:1"}}`, id, id)
		leases = append(leases, tenant.Write{Key: tenant.LeaseKey(id), Value: []byte("{}"),
			TTL: ttl})
		registrations = append(registrations, tenant.Write{Key: key, Value: value})
	}
	for _, ws := range [][]tenant.Write{leases, registrations} {
		natstest.Eventually(t, 2*natstest.Soon, func() error { // the server's disk may hang
			_, errs := b.WriteAll(t.Context(), ws)
			return errors.Join(errs...)
		})
	}
}

// Invariant 2: if the holder of the first slot is frozen, the holder of the second one purges the
// dead. When the first one is thawed, it removes no live instance. Seen to fail with one slot.
func TestFrozenReaper(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	holder := start(t, plan{URL: s.URL()})
	inSlot(t, s, 0)
	observer := open(t, s)
	inSlot(t, s, 1)
	register(t, observer, web("alive"))
	p := start(t, plan{URL: s.URL(), Services: []kvService{web("a")}})
	sees(t, observer, natstest.Soon, "web", "a", "alive")
	isReady(t, s, 1)
	holder.freeze()
	p.kill()
	killed := time.Now()
	inTime(t, s, 1, ttl+1500*time.Millisecond, func() error {
		if got := ids(t, observer, "web"); !slices.Equal(got, []string{"alive"}) {
			return fmt.Errorf("the service has %v", got)
		}
		return nil
	})
	t.Logf("it was out %s after the kill", time.Since(killed).Round(time.Millisecond))
	holder.thaw()
	// the time that is watched
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := ids(t, observer, "web"); len(got) != 1 {
			t.Fatalf("the service has %v", got)
		}
	}
}

// inSlot waits until a process holds a reaper slot.
func inSlot(t *testing.T, s *natstest.Server, slot int) {
	t.Helper()
	kv := bucket(t, s.Connect(), "default")
	natstest.Eventually(t, natstest.Soon, func() error {
		_, err := kv.Get(t.Context(), tenant.SlotKey(slot))
		return err
	})
}

// inTime waits until a check holds. It fails the test unless that is within a time from now, or the
// holder of the slot was in doubt meanwhile, as on a busy machine.
func inTime(t *testing.T, s *natstest.Server, slot int, within time.Duration, check func() error) {
	t.Helper()
	began, late, doubted := time.Now(), natstest.Late(), false
	natstest.Eventually(t, within+natstest.Soon, func() error {
		doubted = doubted || !ready(t, s, slot)
		err := check()
		if took := time.Since(began) - (natstest.Late() - late); err != nil && !doubted &&
			took > within {
			t.Fatalf("after %s, and without a doubt of the reaper: %v", took, err)
		}
		return err
	})
}

// isReady waits until the holder of a slot is ready to purge the dead.
func isReady(t *testing.T, s *natstest.Server, slot int) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		if !ready(t, s, slot) {
			return fmt.Errorf("the holder of slot %d is not ready", slot)
		}
		return nil
	})
}

// ready reports whether the holder of a slot says that it purges the dead.
func ready(t *testing.T, s *natstest.Server, slot int) bool {
	t.Helper()
	b, err := tenant.New(s.Connect(), "default", tenant.Config{})
	must(t, err)
	defer b.Conn().Close()
	// a slow server may not answer in time
	e, found, err := b.Get(t.Context(), tenant.SlotKey(slot))
	var v struct{ Ready int }
	return err == nil && found && json.Unmarshal(e.Value, &v) == nil && v.Ready == 1
}
