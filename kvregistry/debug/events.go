package debug

import (
	"sync"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// Kept is how many events an [Events] keeps.
const Kept = 100

// Events keeps the last events that its Add was given, [Kept] at most. It keeps no more of an event
// than the page shows: some hundred bytes. The zero value is empty and ready for use. Any number of
// goroutines may call its methods.
type Events struct {
	mu    sync.Mutex // guards what follows
	last  [Kept]event
	count uint64 // of all that were added
}

// event is what is kept of an event. Its texts are short.
type event struct {
	At       time.Time         `json:"at"` // when it was added, by this process's clock
	Kind     kvregistry.Kind   `json:"kind"`
	Service  string            `json:"service"`
	Instance string            `json:"instance"`
	Status   kvregistry.Status `json:"status"`
	Revision uint64            `json:"revision"`
	Error    string            `json:"error"`
}

// Add adds an event. Give it to [kvregistry.OnEvent], which calls it with each change of an
// observed service and with what happens to this process's own registrations. It makes the registry
// observe nothing.
func (l *Events) Add(e kvregistry.Event) {
	one := event{
		At: time.Now(), Kind: e.Kind, Service: short(e.Service.Name), Instance: short(e.Service.ID),
		Status: kvregistry.Status(short(string(e.Service.Status))), Revision: e.Revision,
	}
	if e.Err != nil {
		one.Error = short(e.Err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[l.count%Kept] = one
	l.count++
}

// list returns the events that are kept, the newest first, and how many were added.
func (l *Events) list() (events []event, count uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events = make([]event, min(l.count, Kept))
	for i := range events {
		events[i] = l.last[(l.count-1-uint64(i))%Kept]
	}
	return events, l.count
}
