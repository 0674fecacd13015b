package kvregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// A ready process stays ready through an outage longer than a TTL, whatever is looked up meanwhile.
// OK is false meanwhile. Seen to fail with Ready that is OK, and if looked-up names count among
// those that are needed.
func TestReadyThroughAnOutage(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := newRegistry(t, s, Timeout(50*time.Millisecond))
	mustRegister(t, r, Service{Name: "web", ID: "a", Address: "h:1"})
	if err := r.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if h := r.Health(); !h.Ready() {
		t.Fatalf("at first: %+v", h)
	}
	s.Down()
	natstest.Eventually(t, natstest.Soon, func() error {
		_, err := r.GetService("other")
		h := r.Health()
		if !h.Ready() {
			t.Fatalf("in the outage: %+v", h)
		}
		if h.OK() || h.Err == nil || h.Lease != LeaseGone || len(h.Unread) != 1 || err == nil {
			return fmt.Errorf("the outage is not in Health: %+v", h)
		}
		return nil
	})
	if err := r.Observe("third"); err != nil {
		t.Fatal(err)
	}
	if h := r.Health(); h.Ready() {
		t.Errorf("an observed name that was never read: %+v", h)
	}
	s.Up()
	natstest.Eventually(t, natstest.Soon, func() error {
		if h := r.Health(); !h.Ready() || !h.OK() {
			return fmt.Errorf("after it: %+v", h)
		}
		return nil
	})
}

// A process that starts before NATS is not ready until it has reached the bucket and read what it
// observes or looked up, and says why. It is not ready on a closed connection. Seen to fail with an
// Err that is nil before the first connection, without the names that were looked up, and with
// Ready that looks at names alone.
func TestReadyAtTheStart(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*Registry) error{
		"observed":  func(r *Registry) error { return r.Observe("web") },
		"looked up": func(r *Registry) error { _, _ = r.GetService("web"); return nil },
		"nothing":   func(*Registry) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			s.Down()
			r, err := New(t.Context(), s.Connect(nats.RetryOnFailedConnect(true)), discard(),
				Timeout(50*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			if err := begin(r); err != nil {
				t.Fatal(err)
			}
			if h := r.Health(); h.Ready() || h.OK() || h.Connected || h.Err == nil || h.Age != -1 {
				t.Errorf("before NATS is there: %+v", h)
			}
			s.Up()
			natstest.Eventually(t, natstest.Soon, func() error {
				if h := r.Health(); !h.Ready() || !h.OK() {
					return fmt.Errorf("when it is there: %+v", h)
				}
				return nil
			})
			r.opt.nc.Close()
			if h := r.Health(); h.Ready() || !errors.Is(h.Err, ErrConnectionClosed) {
				t.Errorf("on a closed connection: %+v", h)
			}
		})
	}
}

// A process is not ready while the server refuses its registrations, until it gives them up. Seen
// to fail without Refused.
func TestReadyWithARefusedRegistration(t *testing.T) {
	t.Parallel()
	u := newUsers(t)
	s := natstest.Start(t, u.configure(t))
	u.makeBucket(t, s)
	r := u.open(t, s, "registrar")
	if _, err := r.Register(Service{Name: "api", ID: "a", Address: "h:1"}); !errors.Is(err,
		ErrPermission) {
		t.Fatalf("Register gave %v", err)
	}
	mustRegister(t, r, Service{Name: "web", ID: "a", Address: "h:1"})
	h := r.Health()
	if h.Ready() || h.OK() || !errors.Is(h.Refused, ErrPermission) ||
		!errors.Is(h.Err, ErrPermission) || !strings.Contains(h.Err.Error(), "api") {
		t.Errorf("Health is %+v", h)
	}
	if err := r.Unregister("api"); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("Unregister gave %v", err)
	}
	if h := r.Health(); !h.Ready() || h.Err != nil {
		t.Errorf("when it was given up: %+v", h)
	}
}

// The members of Health's JSON stay as they are, with an error as its text and an age in seconds.
// Seen to fail without MarshalJSON: "Err" was {}.
func TestHealthAsJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		health Health
		want   string
	}{
		{Health{Age: -1}, `{"ok":false,"ready":true,"connected":false,"error":"",` +
			`"age_seconds":null,"observed":[],"unread":[],"stale":[],` +
			`"resyncs":0,"lease":"none","renewed":null,"unwritten":0,"refused":"","holds":[],` +
			`"reaps":false,"ended":0,"unreaped":0,"reaped":0,"skipped":0,"memory_bytes":0,` +
			`"full":false,"sessions":{},"merged":0,"round_trip_seconds":0,"missed":0,"losses":0,` +
			`"fenced":0}`},
		{Health{
			Connected: true, Err: fmt.Errorf("view: %w", context.DeadlineExceeded),
			Age: 1500 * time.Millisecond, Observed: []string{"a", "b"},
			Unread: []string{"b"}, Stale: []string{"b"}, Resyncs: 1, Lease: LeaseHeld, Renewed: at,
			Unwritten: 2, Refused: ErrStorageFull,
			Holds: []HoldHealth{{Name: "leader", Token: 7, Since: at, Ahead: 2}}, Reaps: true,
			Ended:    3,
			Unreaped: 6, Reaped: 4, Skipped: 5, Memory: 7, Full: true,
			Sessions: map[string]uint64{"silent": 1}, Merged: 8, RoundTrip: 2 * time.Millisecond,
			Missed: 9, Losses: 10, Fenced: 11,
		}, `{"ok":false,"ready":false,"connected":true,"error":"view: context deadline exceeded",` +
			`"age_seconds":1.5,"observed":["a","b"],"unread":["b"],"stale":["b"],` +
			`"resyncs":1,"lease":"held","renewed":"2026-01-02T03:04:05Z","unwritten":2,` +
			`"refused":"no storage left","holds":[{"name":"leader","token":7,` +
			`"since":"2026-01-02T03:04:05Z","ahead":2}],` +
			`"reaps":true,"ended":3,"unreaped":6,"reaped":4,"skipped":5,"memory_bytes":7,` +
			`"full":true,"sessions":{"silent":1},"merged":8,"round_trip_seconds":0.002,` +
			`"missed":9,"losses":10,"fenced":11}`},
	} {
		for _, value := range []any{c.health, &c.health} {
			if data, err := json.Marshal(value); err != nil || string(data) != c.want {
				t.Errorf("%v:\n%s, want\n%s", err, data, c.want)
			}
		}
	}
}

// An event as JSON has its error as text. Seen to fail without MarshalJSON.
func TestEventAsJSON(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(Event{Kind: Fenced, Service: Service{Name: "web", ID: "a"},
		Err: ErrFenced})
	if text := string(data); err != nil || !strings.Contains(text, `"kind":"fenced"`) ||
		!strings.Contains(text, `"error":"`+ErrFenced.Error()+`"`) {
		t.Errorf("%s, %v", text, err)
	}
}
