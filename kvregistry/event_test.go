package kvregistry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ev returns an event about an instance of web. The revision tells one event from another.
func ev(kind Kind, id string, revision uint64) Event {
	return Event{Kind: kind, Service: Service{Name: "web", ID: id, Revision: revision}}
}

// drain takes all events of a queue, and does not wait for more.
func drain(t *testing.T, q *queue) (list []Event) {
	t.Helper()
	for {
		e, ok := q.Take()
		if !ok {
			return list
		}
		list = append(list, e)
	}
}

func TestQueueCoalesces(t *testing.T) {
	fenced := Event{Kind: Fenced, Service: Service{Name: "web", ID: "a"}, Err: ErrFenced}
	lost := Event{Kind: LeaseLost, Err: ErrLeaseLost}
	for name, tc := range map[string]struct{ add, want []Event }{
		"nothing": {},
		"one": {[]Event{ev(Registered, "a", 1)},
			[]Event{ev(Registered, "a", 1)}},
		"registered, updated": {[]Event{ev(Registered, "a", 1), ev(Updated, "a", 2)},
			[]Event{ev(Registered, "a", 2)}},
		"registered, expired": {[]Event{ev(Registered, "a", 1), ev(Expired, "a", 1)},
			nil},
		"registered, unregistered": {[]Event{ev(Registered, "a", 1),
			ev(Unregistered, "a", 1)}, nil},
		"registered, updated, expired": {[]Event{ev(Registered, "a", 1), ev(Updated, "a", 2),
			ev(Expired, "a", 2)}, nil},
		"registered, expired, registered": {[]Event{ev(Registered, "a", 1), ev(Expired, "a", 1),
			ev(Registered, "a", 3)}, []Event{ev(Registered, "a", 3)}},
		"updated, updated": {[]Event{ev(Updated, "a", 2), ev(Updated, "a", 3)},
			[]Event{ev(Updated, "a", 3)}},
		"updated, expired": {[]Event{ev(Updated, "a", 2), ev(Expired, "a", 2)},
			[]Event{ev(Expired, "a", 2)}},
		"updated, unregistered": {[]Event{ev(Updated, "a", 2),
			ev(Unregistered, "a", 2)}, []Event{ev(Unregistered, "a", 2)}},
		"expired, registered": {[]Event{ev(Expired, "a", 1), ev(Registered, "a", 3)},
			[]Event{ev(Updated, "a", 3)}},
		"unregistered, registered": {[]Event{ev(Unregistered, "a", 1),
			ev(Registered, "a", 3)}, []Event{ev(Updated, "a", 3)}},
		"expired, registered, updated": {[]Event{ev(Expired, "a", 1), ev(Registered, "a", 3),
			ev(Updated, "a", 4)}, []Event{ev(Updated, "a", 4)}},
		"expired, registered, unregistered": {[]Event{ev(Expired, "a", 1), ev(Registered, "a", 3),
			ev(Unregistered, "a", 3)}, []Event{ev(Unregistered, "a", 3)}},
		"order of the oldest": {
			[]Event{ev(Updated, "a", 1), ev(Updated, "b", 2), ev(Updated, "c", 3),
				ev(Updated, "a", 4)},
			[]Event{ev(Updated, "a", 4), ev(Updated, "b", 2), ev(Updated, "c", 3)},
		},
		"order after one is dropped": {
			[]Event{ev(Registered, "a", 1), ev(Registered, "b", 2), ev(Registered, "c", 3),
				ev(Expired, "b", 2), ev(Registered, "b", 4)},
			[]Event{ev(Registered, "a", 1), ev(Registered, "c", 3), ev(Registered, "b", 4)},
		},
		"one id of two services": {
			[]Event{ev(Registered, "a", 1),
				{Kind: Expired, Service: Service{Name: "api", ID: "a"}}},
			[]Event{ev(Registered, "a", 1),
				{Kind: Expired, Service: Service{Name: "api", ID: "a"}}},
		},
		"its own fence stays": {
			[]Event{ev(Registered, "a", 1), fenced, ev(Updated, "a", 2)},
			[]Event{ev(Registered, "a", 2), fenced},
		},
		"a dropped instance leaves its fence": {
			[]Event{ev(Registered, "a", 1), fenced, ev(Expired, "a", 1)},
			[]Event{fenced},
		},
		"leases lost": {[]Event{lost, ev(Expired, "a", 1), lost},
			[]Event{lost, ev(Expired, "a", 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(new(atomic.Uint64))
			for _, e := range tc.add {
				add(q, e)
			}
			if diff := cmp.Diff(tc.want, drain(t, q), cmpopts.EquateErrors()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestQueueForgetsWhatWasTaken checks that only events that the reader has not taken are coalesced.
func TestQueueForgetsWhatWasTaken(t *testing.T) {
	q := newQueue(new(atomic.Uint64))
	var got []Event
	for _, e := range []Event{ev(Registered, "a", 1), ev(Expired, "a", 1), ev(Registered, "a", 2),
		ev(Updated, "a", 3)} {
		add(q, e)
		got = append(got, drain(t, q)...)
	}
	want := []Event{ev(Registered, "a", 1), ev(Expired, "a", 1), ev(Registered, "a", 2),
		ev(Updated, "a", 3)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestQueueTellsTheTruth plays every sequence of up to six changes of one instance. The reader
// takes events at every possible point. At the end it knows what is there. It is never told that an
// unknown instance went, or that a known one is new. What an event says was before is what the
// reader knew. Seen to fail if a merged event keeps what was before the later change.
func TestQueueTellsTheTruth(t *testing.T) {
	const length = 6
	for takes := range 1 << length {
		for changes := range 1 << length {
			q := newQueue(new(atomic.Uint64))
			there, known := false, false
			var revision, seen uint64
			var was *Service // before the change
			put := func(kind Kind) {
				e := ev(kind, "a", revision)
				e.Before, was = was, &e.Service
				if kind == Expired {
					was = nil
				}
				add(q, e)
			}
			for i := range length {
				revision++
				switch bit := changes>>i&1 == 1; {
				case !there:
					put(Registered)
					there = true
				case bit:
					put(Updated)
				default:
					put(Expired)
					there = false
				}
				if takes>>i&1 == 0 && i < length-1 {
					continue
				}
				for _, e := range drain(t, q) {
					if gone := e.gone(); gone && !known || e.Kind == Registered && known ||
						e.Kind == Updated && !known {
						t.Fatalf("changes %06b, takes %06b: %s of an instance whose being there "+
							"is %v to the reader", changes, takes, e.Kind, known)
					}
					if known != (e.Before != nil) || known && e.Before.Revision != seen {
						t.Fatalf("changes %06b, takes %06b: before the event was %+v, the reader "+
							"knows %v at %d", changes, takes, e.Before, known, seen)
					}
					known, seen = !e.gone(), e.Service.Revision
				}
				if known != there || known && seen != revision {
					t.Fatalf("changes %06b, takes %06b: the reader knows %v at %d, and it is %v "+
						"at %d", changes, takes, known, seen, there, revision)
				}
			}
		}
	}
}

func TestQueueNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(new(atomic.Uint64))
		var got Event
		var ok bool
		var wg sync.WaitGroup
		wg.Go(func() { got, ok = q.Next(t.Context(), t.Context()) })
		synctest.Wait()
		add(q, ev(Registered, "a", 1))
		wg.Wait()
		if diff := cmp.Diff(ev(Registered, "a", 1), got); diff != "" || !ok {
			t.Errorf("ok %v (-want +got):\n%s", ok, diff)
		}
	})
}

// TestQueueNextEnds checks that next ends with either of its contexts, also if events are waiting.
func TestQueueNextEnds(t *testing.T) {
	for name, which := range map[string]int{"the reader's": 0, "the registry's": 1} {
		for _, waiting := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(new(atomic.Uint64))
				ctx := []context.Context{t.Context(), t.Context()}
				short, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				ctx[which] = short
				if waiting {
					add(q, ev(Registered, "a", 1))
					cancel()
				}
				if e, ok := q.Next(ctx[0], ctx[1]); ok {
					t.Errorf("%s context ended, events waiting %v: next returned %v", name, waiting,
						e)
				}
				if err := short.Err(); err == nil || errors.Is(err, context.Canceled) != waiting {
					t.Errorf("next returned while its context was %v", err)
				}
			})
		}
	}
}
