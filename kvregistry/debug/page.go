package debug

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kvregistry/go/internal/shown"
	"github.com/kvregistry/go/kvregistry"
)

// most is how many entries a list of the page has.
const most = 1000

// page is what the handler shows.
type page struct {
	Health         kvregistry.Health `json:"health"`
	Observed       []observed        `json:"observed"`
	ObservedMore   int               `json:"observed_more"`
	Registered     []registered      `json:"registered"`
	RegisteredMore int               `json:"registered_more"`
	Events         []event           `json:"events"` // null if none are kept
	EventsSeen     uint64            `json:"events_seen"`
}

// observed is a service whose instances are in memory, or [kvregistry.Everything].
type observed struct {
	Name      string   `json:"name"`
	Instances int      `json:"instances"`
	Revision  uint64   `json:"revision"`
	Age       *float64 `json:"age_seconds"` // null if it was not read
	Stale     bool     `json:"stale"`
	Error     string   `json:"error"` // why it is not known
}

// registered is an instance that this process has registered.
type registered struct {
	Service   string            `json:"service"`
	Instance  string            `json:"instance"`
	Status    kvregistry.Status `json:"status"`
	Version   string            `json:"version"`
	Zone      string            `json:"zone"`
	Address   string            `json:"address"`
	URL       string            `json:"url"`
	Endpoints map[string]string `json:"endpoints"`
	Revision  uint64            `json:"revision"` // 0 if it was not written yet
}

func (h *handler) page() *page {
	p := &page{Health: h.reg.Health()}
	p.Observed = h.observed()
	p.ObservedMore = max(0, len(p.Observed)-most)
	p.Observed = p.Observed[:len(p.Observed)-p.ObservedMore]
	own := h.reg.RegisteredServices()
	p.RegisteredMore = max(0, len(own)-most)
	p.Registered = make([]registered, len(own)-p.RegisteredMore)
	for i := range p.Registered {
		p.Registered[i] = registeredOf(&own[i])
	}
	if h.events != nil {
		p.Events, p.EventsSeen = h.events.list()
	}
	return p
}

// observed returns what the registry observes: each name that it was asked for, and if that is
// [kvregistry.Everything], each service that there is.
func (h *handler) observed() []observed {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // what is not in memory is not waited for, and not watched
	names := h.reg.ObservedServices()
	list := make([]observed, 0, len(names))
	for _, name := range names {
		if name == kvregistry.Everything {
			continue
		}
		s, err := h.reg.SnapshotContext(ctx, name)
		if err != nil {
			list = append(list, unknown(name, err))
			continue
		}
		list = append(list, observedOf(s))
	}
	if !slices.Contains(names, kvregistry.Everything) {
		return list
	}
	all, err := h.reg.CatalogContext(ctx)
	if err != nil {
		return append(list, unknown(kvregistry.Everything, err))
	}
	at := len(list)
	list = append(list, observed{Name: kvregistry.Everything, Revision: all.Revision(),
		Age: seconds(all.Age()), Stale: all.Stale()})
	for s := range all.All() {
		list[at].Instances += s.Len()
		if _, named := slices.BinarySearch(names, s.Name()); !named {
			list = append(list, observedOf(s))
		}
	}
	return list
}

func observedOf(s *kvregistry.Snapshot) observed {
	return observed{Name: short(s.Name()), Instances: s.Len(), Revision: s.Revision(),
		Age: seconds(s.Age()), Stale: s.Stale()}
}

// unknown is a name of which nothing is in memory.
func unknown(name string, err error) observed {
	why := short(err.Error())
	if errors.Is(err, context.Canceled) { // the handler does not wait
		why = "not read yet"
	}
	return observed{Name: short(name), Error: why}
}

func seconds(d time.Duration) *float64 {
	s := d.Seconds()
	return &s
}

func registeredOf(s *kvregistry.Service) registered {
	endpoints := make(map[string]string, len(s.Endpoints))
	for name, at := range s.Endpoints {
		endpoints[short(name)] = short(shown.Redact(at))
	}
	return registered{
		Service: short(s.Name), Instance: short(s.ID), Status: s.Status, Version: short(s.Version),
		Zone: short(s.Zone), Address: short(s.Address), URL: short(shown.Redact(s.URL)),
		Endpoints: endpoints, Revision: s.Revision,
	}
}

// json writes the page as JSON.
func (p *page) json() ([]byte, error) {
	body, err := json.MarshalIndent(p, "", "  ")
	return append(shown.Printable(body), '\n'), err
}

// text writes the page as plain text.
func (p *page) text() ([]byte, error) {
	health, err := json.MarshalIndent(p.Health, "", "  ")
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	w := tabwriter.NewWriter(&body, 0, 0, 2, ' ', 0)
	head := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	row := func(cells ...string) { _, _ = fmt.Fprintln(w, "  "+strings.Join(cells, "\t")) }

	head("Health\n%s", shown.Printable(health))
	head("\nObserved: %d", len(p.Observed)+p.ObservedMore)
	for _, o := range p.Observed {
		row(o.cells()...)
	}
	more(row, p.ObservedMore)
	head("\nRegistered by this process: %d", len(p.Registered)+p.RegisteredMore)
	for _, r := range p.Registered {
		row(r.cells()...)
	}
	more(row, p.RegisteredMore)
	head("\nHeld exclusively, or waited for: %d", len(p.Health.Holds))
	for _, h := range p.Health.Holds {
		row(quote(short(h.Name)), fmt.Sprint("token ", h.Token), "since "+stamp(h.Since))
	}
	if p.Events == nil {
		head("\nEvents are not kept: see debug.WithEvents")
	} else {
		head("\nEvents: the last %d of %d", len(p.Events), p.EventsSeen)
	}
	for _, e := range p.Events {
		row(e.cells()...)
	}
	_ = w.Flush() // it writes to memory
	return body.Bytes(), nil
}

// more says how many entries of a list are left out.
func more(row func(...string), n int) {
	if n > 0 {
		row(fmt.Sprintf("and %d more", n))
	}
}

func (o *observed) cells() []string {
	if o.Age == nil {
		return []string{quote(o.Name), quote(o.Error)}
	}
	cells := []string{quote(o.Name), fmt.Sprint("instances ", o.Instances),
		fmt.Sprint("revision ", o.Revision), fmt.Sprintf("age %.3fs", *o.Age)}
	if o.Stale {
		cells = append(cells, "stale")
	}
	return cells
}

func (r *registered) cells() []string {
	cells := []string{quote(r.Service), quote(r.Instance), string(r.Status),
		fmt.Sprint("revision ", r.Revision)}
	for _, part := range []struct{ name, text string }{
		{"version", r.Version}, {"zone", r.Zone}, {"address", r.Address}, {"url", r.URL},
	} {
		if part.text != "" {
			cells = append(cells, part.name+" "+quote(part.text))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Endpoints)) {
		cells = append(cells, "endpoint "+quote(name)+" "+quote(r.Endpoints[name]))
	}
	return cells
}

func (e *event) cells() []string {
	cells := []string{stamp(e.At), string(e.Kind), quote(e.Service), quote(e.Instance),
		quote(string(e.Status)), fmt.Sprint("revision ", e.Revision)}
	if e.Error != "" {
		cells = append(cells, quote(e.Error))
	}
	return cells
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }
