package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// roster notes when instances come and go in the client's look-ups. No instance of the demo comes
// twice, and none changes its record.
type roster struct {
	reg *kvregistry.Registry

	mu     sync.Mutex // guards what follows
	came   map[string]time.Time
	went   map[string]departure
	wrongs []string // what should not have been seen
}

// departure is the end of an instance in the look-ups.
type departure struct {
	at  time.Time
	why kvregistry.Kind
}

func newRoster(reg *kvregistry.Registry) *roster {
	return &roster{reg: reg, came: map[string]time.Time{}, went: map[string]departure{}}
}

// follow notes events until their channel is closed.
func (r *roster) follow(events <-chan kvregistry.Event) {
	for e := range events {
		r.note(e, time.Now())
	}
}

// note notes one event, and checks that look-ups say the same, because they are what counts.
func (r *roster) note(e kvregistry.Event, at time.Time) {
	listed, err := r.listed(e.Service.ID)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case kvregistry.Registered:
		r.came[e.Service.ID] = at
	case kvregistry.Unregistered, kvregistry.Expired:
		r.went[e.Service.ID] = departure{at, e.Kind}
	default:
		r.wrongs = append(r.wrongs, fmt.Sprintf("an event says that %s was %s, though it did not "+
			"change", e.Service.ID, e.Kind))
		return
	}
	switch {
	case err != nil:
		r.wrongs = append(r.wrongs, fmt.Sprintf("the look-up when %s was %s failed: %v",
			e.Service.ID, e.Kind, err))
	case listed != (e.Kind == kvregistry.Registered):
		r.wrongs = append(r.wrongs, fmt.Sprintf("when %s was %s, the look-up did not say so",
			e.Service.ID, e.Kind))
	}
}

// listed reports whether look-ups give an instance.
func (r *roster) listed(id string) (bool, error) {
	list, err := r.reg.GetServices(context.Background(), demoName)
	if err != nil && !errors.Is(err, kvregistry.ErrNotFound) {
		return false, err
	}
	for _, s := range list {
		if s.ID == id {
			return true, nil
		}
	}
	return false, nil
}

// arrival returns when an instance came, if it did.
func (r *roster) arrival(id string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.came[id]
	return at, ok
}

// departed returns how an instance went, if it did.
func (r *roster) departed(id string) (departure, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.went[id]
	return d, ok
}

// faults returns what should not have been seen.
func (r *roster) faults() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.wrongs...)
}

// poll checks every millisecond whether something has happened, for as long as within, and reports
// whether it did. The error says that ctx ended.
func poll(ctx context.Context, within time.Duration, happened func() bool) (bool, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !happened(); {
		if time.Since(began) > within {
			return false, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, errInterrupted
		}
	}
	return true, nil
}
