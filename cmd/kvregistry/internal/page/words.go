package page

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// The states of the health.
const (
	good    = "ok"
	doubt   = "doubt" // it works, and something needs a look
	trouble = "trouble"
)

// words is the registry's health as people read it.
type words struct {
	State    string            `json:"state"`
	Headline string            `json:"headline"`
	Age      *float64          `json:"age_seconds"` // of what is shown; null if it was not read
	Facts    []fact            `json:"facts"`
	Turns    []turn            `json:"turns"`
	Change   uint64            `json:"change"` // the number of the newest change
	Health   kvregistry.Health `json:"health"`
}

// fact is one thing that is known of the health.
type fact struct {
	State string `json:"state"`
	Text  string `json:"text"`
}

// health answers with the registry's health.
func (h *handler) health(w http.ResponseWriter, _ *http.Request) { reply(w, h.words()) }

func (h *handler) words() *words {
	health := h.reg.Health()
	w := &words{Health: health, Turns: h.past.turned(), Change: h.past.newest(),
		State: good, Headline: "Live", Facts: factsOf(&health)}
	if health.Age >= 0 {
		age := health.Age.Seconds()
		w.Age = &age
	}
	for _, f := range w.Facts {
		if f.State == trouble || f.State == doubt && w.State == good {
			w.State = f.State
		}
	}
	switch {
	case !health.Connected:
		w.Headline = "NATS is away"
	case health.Age < 0:
		w.Headline = "Not read yet"
	case !health.Current():
		w.Headline = "Not confirmed"
	case w.State != good:
		w.Headline = "Needs a look"
	}
	return w
}

// why says in one line why the health is not right.
func why(h *kvregistry.Health) string {
	for _, f := range factsOf(h) {
		if f.State == trouble {
			return f.Text
		}
	}
	return "something is not right"
}

// factsOf says in sentences what a registry knows of itself, and nothing else.
func factsOf(h *kvregistry.Health) (list []fact) {
	add := func(state, format string, args ...any) {
		list = append(list, fact{state, fmt.Sprintf(format, args...)})
	}
	connection(h, add)
	removals(h, add)
	if h.Full {
		add(trouble, "Some instances are left out: they do not fit into the memory that they may "+
			"take.")
	}
	if h.Skipped > 0 {
		add(doubt, "Left out: %s that could not be read, or had no room.",
			count(h.Skipped, "record", "records"))
	}
	if h.Resyncs > 0 {
		var causes []string
		for _, cause := range slices.Sorted(maps.Keys(h.Sessions)) {
			causes = append(causes, fmt.Sprintf("%s %d", cause, h.Sessions[cause]))
		}
		add(good, "The view was read again %s: %s.", count(h.Resyncs, "time", "times"),
			strings.Join(causes, ", "))
	}
	return list
}

// connection says how what is shown stands.
func connection(h *kvregistry.Health, add func(state, format string, args ...any)) {
	switch {
	case !h.Connected && h.Age >= 0:
		add(trouble, "NATS is away: %v. The page shows what was known %s ago, and goes on when "+
			"NATS is back.", h.Err, span(h.Age))
	case !h.Connected:
		add(trouble, "NATS is away: %v. Nothing was read yet.", h.Err)
	case h.Age < 0 && h.Err != nil:
		add(trouble, "Nothing was read yet: %v.", h.Err)
	case h.Age < 0:
		add(trouble, "Nothing was read yet.")
	case !h.Current():
		add(trouble, "NATS is connected, but the server last confirmed %s ago that this view is "+
			"current.", span(h.Age))
	default:
		add(good, "The view is current: the server confirmed it %s ago.", span(h.Age))
	}
	if len(h.Stale) > 0 {
		add(doubt, "What is shown is of an earlier run: it comes from the snapshot file.")
	}
	if h.Connected && h.Err != nil && h.Age >= 0 && h.Unreaped == 0 {
		add(trouble, "%v.", h.Err)
	}
	if h.Lease == kvregistry.LeaseGone {
		add(trouble, "This process has no lease, and asks for one.")
	}
}

// removals says what is known of what dead processes left.
func removals(h *kvregistry.Health, add func(state, format string, args ...any)) {
	switch {
	case h.Unreaped > 0:
		add(trouble, "Nobody removes what dead processes left: %s ended two TTLs ago or earlier, "+
			"and the registrations are still there. Run kvregistry reaper, or a process with the "+
			"role service.", count(uint64(h.Unreaped), "lease", "leases"))
	case h.Reaps && h.Ended > 0:
		add(doubt, "%s ended, and the registrations are still there: this process removes them "+
			"now, or holds them back for a TTL because the server was away.",
			count(uint64(h.Ended), "lease", "leases"))
	case h.Reaps:
		add(good, "This process holds a reaper slot. Nothing waits for its removal.")
	default:
		add(good, "Other processes remove what dead processes left. As far as this process knows, "+
			"nothing waits for its removal.")
	}
	if h.Reaped > 0 {
		add(good, "This process removed %s of dead processes.",
			count(h.Reaped, "registration", "registrations"))
	}
}

func count(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// span is a duration as people say it.
func span(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
