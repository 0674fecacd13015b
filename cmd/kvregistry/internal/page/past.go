package page

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

const (
	keptChanges = 500
	keptTurns   = 20
)

// past is what happened since the page's server runs: the last changes, and when the registry's
// health turned.
type past struct {
	mu    sync.Mutex // guards what follows
	last  [keptChanges]event
	count uint64 // of all changes
	turns []turn
}

// event is a change that is kept. Its texts are short.
type event struct {
	Number   uint64          `json:"number"` // from 1 on
	At       time.Time       `json:"at"`     // when it was seen, by this process's clock
	Kind     kvregistry.Kind `json:"kind"`
	Service  string          `json:"service"`
	Instance string          `json:"instance"`
	Revision uint64          `json:"revision"`
	Cause    string          `json:"cause"`
	Was      []field         `json:"was,omitempty"` // what an update changed
	Status   string          `json:"status"`
	Address  string          `json:"address"`
}

// field is a field of an instance before and after a change.
type field struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// turn is a moment at which the registry's health turned.
type turn struct {
	At  time.Time `json:"at"`
	OK  bool      `json:"ok"`
	Why string    `json:"why"` // empty if it is right
}

// follow keeps the past of a registry until the registry is closed.
func follow(reg *kvregistry.Registry) *past {
	p := &past{}
	go func() { // ends with the registry
		ctx := context.Background()
		known := &start{}
		for first, err := range reg.Catalogs(ctx) {
			if err != nil {
				return
			}
			known.at, known.all = time.Now(), first
			break
		}
		for e, err := range reg.Events(ctx, kvregistry.Everything) {
			if err != nil {
				return
			}
			if !known.has(&e) {
				p.add(&e)
			}
		}
	}()
	_, _ = reg.OnHealth(p.turn) // a closed registry has no turns
	return p
}

// start is what was there before the first change. [kvregistry.Registry.Events] begins with it.
type start struct {
	all *kvregistry.Catalog
	at  time.Time
}

// startTime is for how long the first events may come.
const startTime = time.Minute

// has reports whether an event tells of what was there at the start.
func (s *start) has(e *kvregistry.Event) bool {
	if s.all == nil || e.Kind != kvregistry.Registered || e.Before != nil {
		return false
	}
	if time.Since(s.at) > startTime {
		s.all = nil // it is not kept in memory for ever
		return false
	}
	one, ok := find(s.all.Snapshot(e.Service.Name), e.Service.ID)
	return ok && one.Revision == e.Service.Revision && one.Lease == e.Service.Lease
}

// add keeps a change.
func (p *past) add(e *kvregistry.Event) {
	s := short(&e.Service)
	one := event{
		At: time.Now(), Kind: e.Kind, Service: e.Service.Name, Instance: e.Service.ID,
		Revision: e.Revision, Status: string(s.Status), Address: strings.Clone(placeOf(s)),
		Cause: causeOf(e), Was: differences(e.Before, &e.Service),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	one.Number = p.count
	p.last[p.count%keptChanges] = one
}

// placeOf is the address of an instance, or its URL.
func placeOf(s *instance) string {
	if s.Address != "" {
		return s.Address
	}
	return s.URL
}

// causeOf says why an event happened, as far as the event tells.
func causeOf(e *kvregistry.Event) string {
	switch e.Kind {
	case kvregistry.Registered:
		return "its owner registered it"
	case kvregistry.Unregistered:
		return "its owner deregistered it, or an operator did"
	case kvregistry.Expired:
		return "its owner's lease ended: the process died or was cut off"
	case kvregistry.Updated:
		if e.Before == nil || e.Before.Owner == e.Service.Owner {
			return "its owner changed it"
		}
		return "another owner took it over"
	}
	return string(e.Kind)
}

// differences lists the fields that differ between two states of an instance.
func differences(before, after *kvregistry.Service) (list []field) {
	if before == nil {
		return nil
	}
	was, is := fields(short(before)), fields(short(after))
	names := slices.Concat(slices.Collect(maps.Keys(was)), slices.Collect(maps.Keys(is)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if was[name] != is[name] && len(list) < mostTexts {
			list = append(list, field{name, was[name], is[name]})
		}
	}
	return list
}

// fields are the fields of an instance that can change, as texts.
func fields(s *instance) map[string]string {
	list := map[string]string{
		"address": s.Address, "host": s.Host, "owner": s.Owner, "status": string(s.Status),
		"tags": strings.Join(s.Tags, " "), "url": s.URL, "version": s.Version,
		"weight": strconv.Itoa(s.Weight), "zone": s.Zone,
	}
	for name, value := range s.Metadata {
		list["metadata "+name] = value
	}
	for name, value := range s.Endpoints {
		list["endpoint "+name] = value
	}
	return list
}

// newest is the number of the newest change, and 0 if there is none.
func (p *past) newest() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// after lists the changes that are kept and come after one, the newest first.
func (p *past) after(number uint64) (list []event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list = []event{}
	for n := p.count; n > number && n > 0 && n+keptChanges > p.count; n-- {
		list = append(list, p.last[n%keptChanges])
	}
	return list
}

// turn keeps a turn of the registry's health.
func (p *past) turn(h kvregistry.Health) {
	one := turn{At: time.Now(), OK: h.OK()}
	if !one.OK {
		one.Why = why(&h)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.turns); n > 0 && p.turns[n-1].OK == one.OK && p.turns[n-1].Why == one.Why {
		return
	}
	p.turns = append(p.turns, one)
	if len(p.turns) > keptTurns {
		p.turns = slices.Delete(p.turns, 0, 1)
	}
}

// turned lists the turns, the newest first.
func (p *past) turned() []turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.Clone(p.turns)
	slices.Reverse(list)
	return list
}

// changes answers with the changes after the one of the query.
func (h *handler) changes(w http.ResponseWriter, r *http.Request) {
	from := r.URL.Query().Get("after")
	after, err := strconv.ParseUint(from, 10, 64)
	if err != nil && from != "" {
		fail(w, http.StatusBadRequest, fmt.Sprintf("after=%.40q is no number", from))
		return
	}
	reply(w, h.past.after(after))
}
