package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 5, calm: during an outage longer than the TTL every observer goes on showing each live
// instance, and its view tells how old it is. A process that dies meanwhile is removed afterwards.
// Seen to fail with a reaper that does not wait after a reconnect.
func TestOutageLongerThanTheTTL(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observers := []*kvregistry.Registry{open(t, s), open(t, s)}
	start(t, plan{URL: s.URL(), Services: []kvService{web("a")}})
	// it returns later than the reapers
	start(t, plan{URL: s.URL(), Services: []kvService{web("b")}, Slow: true})
	dies := start(t, plan{URL: s.URL(), Services: []kvService{web("dies")}})
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "a", "b", "dies")
	}
	stop, done := make(chan struct{}), make(chan struct{})
	var missing [][]string
	var oldest time.Duration
	go func() { // ends with stop
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			for _, o := range observers {
				snap, err := o.Snapshot("web")
				if err != nil {
					missing = append(missing, []string{err.Error()})
					continue
				}
				oldest = max(oldest, snap.Age())
				living := 0
				for one := range snap.All() {
					if one.ID == "a" || one.ID == "b" {
						living++
					}
				}
				if living != 2 {
					missing = append(missing, ids(t, o, "web"))
				}
			}
		}
	}()
	s.Down()
	dies.kill()
	time.Sleep(2*ttl + ttl/2) // the outage lasts so long
	s.Up()
	back := time.Now()
	for _, o := range observers {
		sees(t, o, natstest.Soon, "web", "a", "b")
	}
	t.Logf("the dead instance was gone %s after the server's return",
		time.Since(back).Round(time.Millisecond))
	end := time.Now().Add(ttl)
	// the leases from before the outage have ended; live instances must stay
	for time.Now().Before(end) {
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	<-done
	if len(missing) > 0 {
		t.Errorf("%d look-ups missed a live instance, the first gave %v", len(missing), missing[0])
	}
	if oldest < 2*ttl {
		t.Errorf("the oldest view said it was %s old, in an outage of %s", oldest, 2*ttl+ttl/2)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		snap, err := observers[0].Snapshot("web")
		if err == nil && snap.Age() > 2*time.Second {
			err = fmt.Errorf("after the outage the view says it is %s old", snap.Age())
		}
		return err
	})
}

// Invariant 5: Health reports what is wrong while a server is away, and is clean when the server is
// back. A caller that sets MaxStale gets no old answer. Seen to fail without the check of the age,
// and with a lease that counts as held for ever.
func TestHealthThroughAnOutage(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s, kvregistry.MaxStale(2*time.Second), kvregistry.Timeout(300*time.Millisecond))
	if h := r.Health(); !h.OK() || h.Lease != kvregistry.LeaseNone || h.Age != -1 ||
		!h.Renewed.IsZero() {
		t.Errorf("at the start: %+v", h)
	}
	register(t, r, web("a"))
	sees(t, r, natstest.Soon, "web", "a")
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := r.Health(); !h.OK() || h.Lease != kvregistry.LeaseHeld || h.Age < 0 ||
			h.Age > time.Second || len(h.Observed) != 1 {
			return fmt.Errorf("in quiet times: %+v", h)
		}
		return nil
	})
	s.Down()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.RegisterContext(short, web("b")); !isErr(err, kvregistry.ErrPending) {
		t.Errorf("while the server is away, Register gave %v", err)
	}
	_ = r.Observe("other")
	natstest.Eventually(t, natstest.Soon, func() error {
		h := r.Health()
		_, err := r.GetServices(t.Context(), "web")
		if h.OK() || h.Connected || h.Lease != kvregistry.LeaseGone || h.Unwritten != 2 ||
			len(h.Unread) != 1 || !isErr(err, kvregistry.ErrStale) {
			return errors.Join(errors.New("Health does not report the outage"), err)
		}
		return nil
	})
	if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrStale) {
		t.Errorf("GetService on an old view gave %v", err)
	}
	if snap, err := r.Snapshot("web"); err != nil || snap.Age() < 2*time.Second {
		t.Errorf("Snapshot gave %v", err)
	}
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := r.Health(); !h.OK() || h.Lease != kvregistry.LeaseHeld {
			return fmt.Errorf("it is not healthy again: %+v", h)
		}
		_, err := r.GetService("web")
		return err
	})
}

// Invariant 5: a look-up of a service that was never read does not return ErrNotFound. Seen to fail
// with a firstLook that returns an empty snapshot.
func TestUnknownIsNotNotFound(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s, kvregistry.Timeout(200*time.Millisecond))
	sees(t, observer, natstest.Soon, "web")
	s.Down()
	if _, err := observer.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("a service without instances gave %v, want ErrNotFound", err)
	}
	_, err := observer.GetService("never asked for")
	if !isErr(err, kvregistry.ErrUnavailable) || isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("a service that was never read gave %v, want ErrUnavailable", err)
	}
	if _, err := observer.ServiceNames(); !isErr(err, kvregistry.ErrUnavailable) {
		t.Errorf("ServiceNames gave %v, want ErrUnavailable", err)
	}
}

// Invariant 5: if the server is 300 ms away and a new name is looked up every 400 ms, each name is
// found. The view goes on meanwhile. Seen to fail with sessions that end for a new filter while
// they read.
func TestNewNamesFarAway(t *testing.T) {
	t.Parallel()
	const names, every, away = 8, 400 * time.Millisecond, 150 // ms, each way
	s := natstest.Start(t)
	owner := open(t, s)
	for i := range names {
		register(t, owner, kvregistry.Service{Name: fmt.Sprint("s", i), ID: "a", Address: "h:1"})
	}
	register(t, owner, web("a"))
	l := newLink(t, strings.TrimPrefix(s.URL(), "nats://"))
	l.toxic("away-up", "latency", up, fmt.Sprintf(`"latency": %d`, away))
	l.toxic("away-down", "latency", down, fmt.Sprintf(`"latency": %d`, away))
	r := openOn(t, natstest.Connect(t, l.URL()), kvregistry.TTL(kvregistry.DefaultTTL),
		kvregistry.Timeout(20*time.Second))
	sees(t, r, natstest.Soon, "web", "a")
	before := r.Health().Resyncs
	var looks sync.WaitGroup
	for i := range names {
		looks.Go(func() { // ends within Timeout
			if one, err := r.GetService(fmt.Sprint("s", i)); err != nil || one.ID != "a" {
				t.Errorf("name %d: %q, %v", i, one.ID, err)
			}
		})
		time.Sleep(every) // the pace of the look-ups
		snap, err := r.Snapshot("web")
		must(t, err)
		t.Logf("age %s", snap.Age().Round(time.Millisecond))
	}
	looks.Wait()
	if n := r.Health().Resyncs; n != before {
		t.Errorf("there were %d more sessions", n-before)
	}
	register(t, owner, web("b"))
	sees(t, r, natstest.Soon, "web", "a", "b")
}
