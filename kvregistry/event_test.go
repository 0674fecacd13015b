package kvregistry

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A reader that comes late finds one event per instance that leads from what it knew to what is, in the order in which
// the instances changed.
func TestQueueCoalesces(t *testing.T) {
	event := func(kind Kind, id string) Event { return Event{Kind: kind, Service: Service{Name: "web", ID: id}} }
	for name, c := range map[string]struct {
		in   []Event
		want []string
	}{
		"came and changed":        {[]Event{event(Registered, "a"), event(Updated, "a")}, []string{"registered a"}},
		"came and went":           {[]Event{event(Registered, "a"), event(Expired, "a")}, nil},
		"came, went, came":        {[]Event{event(Registered, "a"), event(Expired, "a"), event(Registered, "a")}, []string{"registered a"}},
		"changed twice":           {[]Event{event(Updated, "a"), event(Updated, "a")}, []string{"updated a"}},
		"changed and went":        {[]Event{event(Updated, "a"), event(Unregistered, "a")}, []string{"unregistered a"}},
		"went and came":           {[]Event{event(Expired, "a"), event(Registered, "a")}, []string{"updated a"}},
		"several":                 {[]Event{event(Updated, "a"), event(Registered, "b"), event(Updated, "a"), event(Expired, "c")}, []string{"updated a", "registered b", "expired c"}},
		"fenced is not a change":  {[]Event{event(Updated, "a"), event(Fenced, "a")}, []string{"updated a", "fenced a"}},
		"came and went, others":   {[]Event{event(Registered, "a"), event(Updated, "b"), event(Unregistered, "a")}, []string{"updated b"}},
		"went, came, went":        {[]Event{event(Expired, "a"), event(Registered, "a"), event(Unregistered, "a")}, []string{"unregistered a"}},
		"another of that service": {[]Event{event(Registered, "a"), event(Registered, "b")}, []string{"registered a", "registered b"}},
	} {
		q := newQueue()
		for _, e := range c.in {
			q.add(e)
		}
		var got []string
		for len(q.order) > 0 {
			e, _ := q.next(t.Context(), t.Context())
			got = append(got, string(e.Kind)+" "+e.Service.ID)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if len(q.pending) != 0 {
			t.Errorf("%s: %d left behind", name, len(q.pending))
		}
	}
}

func TestQueueEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := newQueue().next(t.Context(), ctx); ok {
		t.Error("an event came out of nothing")
	}
}
