package figures

import (
	"context"
	"strings"

	"github.com/kvregistry/go/kvregistry"
)

// Bounds of what has a series of its own.
const (
	MostServices = 1000 // the others are counted together, with an empty name
	MostHolds    = 100
	MostAside    = 1000
)

// Source is what the figures are read of. Any number of goroutines may call Read.
type Source struct {
	reg     *kvregistry.Registry
	tenant  bool
	lookups []lookup
}

type lookup struct {
	service string
	*kvregistry.Lookup
}

// Option adds figures to a [Source].
type Option func(*Source)

// WithInstances adds the figures of the whole tenant.
func WithInstances() Option { return func(s *Source) { s.tenant = true } }

// WithLookup adds a figure for each instance of a look-up.
func WithLookup(service string, l *kvregistry.Lookup) Option {
	return func(s *Source) { s.lookups = append(s.lookups, lookup{label(service), l}) }
}

// New returns the source of a registry's figures.
func New(reg *kvregistry.Registry, opts ...Option) *Source {
	s := &Source{reg: reg}
	for _, opt := range opts {
		opt(s)
	}
	if s.tenant {
		_ = reg.Observe(kvregistry.Everything) // a closed registry has no figures of its tenant
	}
	return s
}

// State is what a registry knows at one moment.
type State struct {
	Health     kvregistry.Health
	Registered int

	tenant *tally         // nil if it is not asked for, or was not read yet
	aside  map[place]bool // by instance, of the look-ups
}

// tally is what the whole tenant has.
type tally struct {
	services, leases int
	instances        map[string]map[kvregistry.Status]int // by service
}

type place struct{ service, id string }

// Read reads memory: it asks no server and waits for nothing.
func (s *Source) Read() *State {
	state := &State{Health: s.reg.Health(), Registered: len(s.reg.RegisteredServices())}
	if s.tenant {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // what is not in memory is not waited for
		if all, err := s.reg.CatalogContext(ctx); err == nil {
			state.tenant = tallyOf(all)
		}
	}
	state.aside = s.aside()
	return state
}

func tallyOf(all *kvregistry.Catalog) *tally {
	t := &tally{services: all.Len(), instances: map[string]map[kvregistry.Status]int{}}
	leases := map[string]struct{}{}
	for snap := range all.All() {
		name := label(snap.Name())
		if _, known := t.instances[name]; !known && len(t.instances) >= MostServices {
			name = "" // no service has this name
		}
		by := t.instances[name]
		if by == nil {
			by = map[kvregistry.Status]int{}
			t.instances[name] = by
		}
		for one := range snap.All() {
			by[one.Status]++
			leases[one.Lease] = struct{}{}
		}
	}
	t.leases = len(leases)
	return t
}

// aside reads the look-ups. An instance that one of them sets aside counts as such.
func (s *Source) aside() map[place]bool {
	list := map[place]bool{}
	for _, l := range s.lookups {
		for _, one := range l.Health().Instances {
			at := place{l.service, label(one.ID)}
			if _, known := list[at]; known || len(list) < MostAside {
				list[at] = list[at] || one.Aside
			}
		}
	}
	return list
}

// label returns a text as a label's value, which has to be UTF-8.
func label(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
