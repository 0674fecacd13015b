package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// dying is how many processes die together with those that reap.
const dying = 1000

// Invariant 2: everything leaves that died with the process that holds the first slot, with those that
// hold both, or with every reaper. The first is within a TTL and 1.5 s, unless the machine is so busy
// that the other holder doubts. If both slots are lost, one of those that stand by has to find a slot free
// first. If nobody is left, the next to come shows none of the dead, and purges them after its wait. Seen
// to fail with one slot, with a stand-by that never looks again, and with newcomers that hide nothing.
func TestReapersDieWithACrowd(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		killed, standBy int
		within          time.Duration
	}{
		"the first slot's": {1, 0, ttl + 1500*time.Millisecond},
		"both slots'":      {2, 8, 5 * ttl},
		"all":              {2, 0, 0},
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
				holders = append(holders, start(t, plan{URL: s.URL(), Services: []kvService{web(id)}}))
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
			time.Sleep(2 * ttl) // until the heartbeats of those that stand by prove something
			dieTogether(t, s)
			for _, p := range holders[:tt.killed] {
				p.kill()
			}
			killed := time.Now()
			if tt.within == 0 {
				newcomersFindNone(t, s, killed)
				return
			}
			for i := tt.killed; i < tenant.Slots; i++ {
				alive = append(alive, fmt.Sprintf("holder-%d", i))
			}
			doubted := false // on a busy machine a holder may doubt, and then waits once more
			natstest.Eventually(t, tt.within+doubtTime, func() error {
				doubted = doubted || tt.killed == 1 && !ready(t, s, 1)
				n := len(ids(t, observer, "crowd"))
				if n > 0 && !doubted && time.Since(killed) > tt.within {
					t.Fatalf("%d are left after %s, and no reaper doubts", n, tt.within)
				}
				if n > 0 {
					return fmt.Errorf("%d are left", n)
				}
				return nil
			})
			sees(t, observer, tt.within+doubtTime, "web", alive...) // those killed with them, whose leases may end last
			t.Logf("all gone %s after the kill", time.Since(killed).Round(time.Millisecond))
		})
	}
}

// newcomersFindNone holds that who comes after everybody died sees none of them, and that they are
// purged.
func newcomersFindNone(t *testing.T, s *natstest.Server, killed time.Time) {
	t.Helper()
	kv := bucket(t, s.Connect(), "default")
	natstest.Eventually(t, 3*ttl, func() error {
		left, err := kv.ListKeysFiltered(t.Context(), "lease.*")
		must(t, err)
		n := 0
		for range left.Keys() {
			n++
		}
		if n > 0 {
			return fmt.Errorf("%d leases live", n)
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
	natstest.Eventually(t, 3*time.Second+1500*time.Millisecond, func() error {
		return noneLeft(keys(t, s.Connect(), "default", "svc."))
	})
	t.Logf("purged %s after the newcomer came, %s after the kill", time.Since(began).Round(time.Millisecond),
		time.Since(killed).Round(time.Millisecond))
}

// doubtTime is a reaper's wait after an outage, and some.
const doubtTime = 4 * time.Second

// isReady waits until the holder of a slot purges what is dead.
func isReady(t *testing.T, s *natstest.Server, slot int) {
	t.Helper()
	natstest.Eventually(t, 20*time.Second, func() error {
		if !ready(t, s, slot) {
			return fmt.Errorf("the holder of slot %d is not ready", slot)
		}
		return nil
	})
}

// ready reports whether the holder of a slot says that it purges what is dead.
func ready(t *testing.T, s *natstest.Server, slot int) bool {
	t.Helper()
	b, err := tenant.New(s.Connect(), "default", tenant.Config{})
	must(t, err)
	defer b.Conn().Close()
	e, found, err := b.Get(t.Context(), tenant.SlotKey(slot))
	must(t, err)
	var v struct{ Ready int }
	return found && json.Unmarshal(e.Value, &v) == nil && v.Ready == 1
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
		value := fmt.Appendf(nil, `{"format":1,"lease":%q,"owner":"x","instance":{"id":%q,"name":"crowd","address":"a:1"}}`, id, id)
		leases = append(leases, tenant.Write{Key: tenant.LeaseKey(id), Value: []byte("{}"), TTL: ttl})
		registrations = append(registrations, tenant.Write{Key: key, Value: value})
	}
	for _, ws := range [][]tenant.Write{leases, registrations} {
		_, errs := b.WriteAll(t.Context(), ws)
		must(t, errors.Join(errs...))
	}
}
