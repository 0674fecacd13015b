package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

var figureTrials = flag.Int("figures.trials", 0,
	"how many trials each figure of docs/reliability.md is measured over; 0 measures none")

var leaderAlone = flag.Bool("figures.leader", false,
	"measure from when the stream has a leader again, where its leader was killed")

// TestFigures measures the figures of docs/reliability.md. It fails for none of them, because they
// depend on the machine's load.
//
//	go test ./integration -run TestFigures -figures.trials=30 -timeout=1h -v
func TestFigures(t *testing.T) {
	if *figureTrials == 0 {
		t.Skip("measured only where it is asked for, by -figures.trials")
	}
	for _, f := range []struct {
		what string
		want string
		do   func(t *testing.T, trial int) []time.Duration
	}{
		{"crash: out of all caches, after the TTL of the last heartbeat", "0 to 600ms",
			crashFigure},
		{"restart of 0.1 to 30 s: cache equals bucket, after the connection's return", "1s",
			restartFigure},
		{"stream leader of three killed: next Register acknowledged", "5s", leaderFigure},
		{"connection black-holed, TTL 2 s: connected again", "2s", blackholeFigure},
		{"view's consumer deleted: next registration seen", "2s", consumerFigure},
		{"outage of 5 s, TTL 2 s: the dead gone, after the server's return", "4s", outageFigure},
		{"storm of 100 clients: all caches right, after the server's return", "5s", stormFigure},
	} {
		t.Run(f.what, func(t *testing.T) {
			var all []time.Duration
			for trial := range *figureTrials {
				t.Run(fmt.Sprint(trial),
					func(t *testing.T) { all = append(all, f.do(t, trial)...) })
			}
			slices.Sort(all)
			if len(all) == 0 {
				t.Fatal("nothing was measured")
			}
			at := func(q float64) time.Duration {
				return all[int(math.Ceil(q*float64(len(all))))-1].Round(time.Millisecond)
			}
			t.Logf("FIGURE | %s | %d | %s | %s | %s | %s |", f.what, len(all), f.want, at(0.5),
				at(0.99), at(1))
		})
	}
	t.Run("200 reconnects", reconnectsFigure)
}

// heartbeats records when each lease was last renewed, as the server passes it on.
type heartbeats struct {
	mu   sync.Mutex
	last map[string]time.Time // by the owner's lease key
}

func watchHeartbeats(t *testing.T, s *natstest.Server) *heartbeats {
	t.Helper()
	h := &heartbeats{last: map[string]time.Time{}}
	_, err := s.Connect().Subscribe("$KV.registry_default.lease.>", func(m *nats.Msg) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(m.Data) > 0 {
			h.last[m.Subject] = time.Now()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// earliest returns when the lease that fell silent first was last renewed.
func (h *heartbeats) earliest() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var first time.Time
	for _, at := range h.last {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

func crashFigure(t *testing.T, trial int) []time.Duration {
	s := natstest.Start(t)
	h := watchHeartbeats(t, s)
	observers := []*kvregistry.Registry{open(t, s), open(t, s), open(t, s)}
	p := start(t, plan{URL: s.URL(), Services: []kvService{web("a")}})
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "a")
	}
	// the kill comes at another point of the heartbeat each time
	time.Sleep(ttl + time.Duration(trial)*37*time.Millisecond%ttl)
	p.kill()
	var list []time.Duration
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web")
		list = append(list, time.Since(h.earliest())-ttl)
	}
	return list
}

func restartFigure(t *testing.T, trial int) []time.Duration {
	downs := []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second,
		3 * time.Second, 10 * time.Second, 30 * time.Second}
	s := natstest.Start(t)
	back := make(chan time.Time, 100)
	observer := openOn(t, s.Connect(nats.ReconnectHandler(func(*nats.Conn) { back <- time.Now() })))
	owner := open(t, s)
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	s.Outage(downs[trial%len(downs)])
	returned := <-back
	register(t, owner, web("b"))
	sees(t, observer, 30*time.Second, "web", "a", "b")
	return []time.Duration{time.Since(returned)}
}

func leaderFigure(t *testing.T, _ int) []time.Duration {
	f := newFleet(t, 3)
	nc := f.connect()
	observer := openOn(t, nc, kvregistry.TTL(arenaTTL(3)))
	live := start(t, plan{URL: "nats://" + f.nodes[0].address() + ",nats://" +
		f.nodes[1].address() + ",nats://" + f.nodes[2].address(), TTL: arenaTTL(3),
		Services: []kvService{web("live")}})
	sees(t, observer, natstest.Soon, "web", "live")
	f.awaitReplicas("KV_registry_default")
	var leader *node
	natstest.Eventually(t, natstest.Soon, func() error {
		if leader = f.leader("KV_registry_default"); leader == nil {
			return errors.New("the stream has no leader")
		}
		return nil
	})
	leader.kill()
	began := time.Now()
	led := make(chan time.Time, 1)
	go func() { // ends when there is a leader again
		f.awaitLeader("KV_registry_default")
		led <- time.Now()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := observer.RegisterContext(ctx, web("next")); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for time.Since(began) < 3*arenaTTL(3) {
		if got := ids(t, observer, "web"); !contains(got, "live") {
			t.Errorf("the live instance is gone %s after the leader was killed", time.Since(began))
			break
		}
		time.Sleep(10 * time.Millisecond) // between two checks
	}
	_ = live
	if *leaderAlone {
		return []time.Duration{began.Add(took).Sub(<-led)}
	}
	return []time.Duration{took}
}

func blackholeFigure(t *testing.T, trial int) []time.Duration {
	s := natstest.Start(t)
	address := strings.TrimPrefix(s.URL(), "nats://")
	first, second := newLink(t, address), newLink(t, address)
	back := make(chan time.Time, 100)
	nc := natstest.Connect(t, first.URL()+","+second.URL(), nats.DontRandomize(),
		nats.Timeout(time.Second), nats.IgnoreDiscoveredServers(),
		nats.ReconnectHandler(func(*nats.Conn) { back <- time.Now() }))
	r := openOn(t, nc, kvregistry.ForceReconnect())
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	time.Sleep(time.Duration(trial) * 41 * time.Millisecond % ttl)
	ways := [][]direction{{up, down}, {up}, {down}}[trial%3]
	first.blackhole(ways...)
	began := time.Now()
	select {
	case at := <-back:
		return []time.Duration{at.Sub(began)}
	case <-time.After(30 * time.Second):
		t.Error("the dead connection is not noticed within 30 s")
		return nil
	}
}

func consumerFigure(t *testing.T, trial int) []time.Duration {
	s := natstest.Start(t)
	owner, observer := open(t, s, kvregistry.WithoutReaping()),
		open(t, s, kvregistry.WithoutReaping())
	sees(t, observer, natstest.Soon, "web")
	time.Sleep(time.Duration(trial) * 29 * time.Millisecond)
	deleteViews(t, s.Connect())
	register(t, owner, web("a"))
	return []time.Duration{sees(t, observer, natstest.Soon, "web", "a")}
}

func outageFigure(t *testing.T, _ int) []time.Duration {
	s := natstest.Start(t)
	observer := open(t, s)
	start(t, plan{URL: s.URL(), Services: []kvService{web("live")}})
	dies := start(t, plan{URL: s.URL(), Services: []kvService{web("dies")}})
	sees(t, observer, natstest.Soon, "web", "dies", "live")
	s.Down()
	dies.kill()
	time.Sleep(2*ttl + ttl/2) // the outage lasts so long
	s.Up()
	back := time.Now()
	natstest.Eventually(t, 2*natstest.Soon, func() error {
		got := ids(t, observer, "web")
		if !contains(got, "live") {
			t.Error("the live instance is gone")
		}
		if contains(got, "dies") {
			return errors.New("the dead instance stays")
		}
		return nil
	})
	return []time.Duration{time.Since(back)}
}

func stormFigure(t *testing.T, _ int) []time.Duration {
	took, most := storm(t, 100)
	t.Logf("%d sessions of one view at most", most)
	return []time.Duration{took}
}

// reconnectsFigure logs what 200 reconnects leave behind.
func reconnectsFigure(t *testing.T) {
	s := natstest.Start(t)
	plain, nc := s.Connect(), s.Connect()
	r := openOn(t, nc)
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	measure := func() string {
		natstest.Eventually(t, natstest.Soon, func() error {
			if n := len(views(natstest.Consumers(t, plain, "KV_registry_default"))); n != 1 {
				return fmt.Errorf("%d consumers", n)
			}
			return nil
		})
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return fmt.Sprintf("%d consumers, %d goroutines, heap of %d KiB, the server's included",
			len(natstest.Consumers(t, plain, "KV_registry_default")), len(goroutines()),
			m.HeapAlloc>>10)
	}
	reconnect := func(times int) {
		for range times {
			before := nc.Stats().Reconnects
			if err := nc.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, natstest.Soon, func() error {
				if nc.Stats().Reconnects == before {
					return errors.New("the connection is not back")
				}
				return nil
			})
			sees(t, r, natstest.Soon, "web", "a")
		}
	}
	reconnect(10)
	time.Sleep(2 * ttl) // wait until what the first reconnects left has ended
	before := measure()
	reconnect(200)
	time.Sleep(2 * ttl)
	t.Logf("FIGURE before: %s; after 200 reconnects: %s", before, measure())
}
