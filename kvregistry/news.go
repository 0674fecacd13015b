package kvregistry

import (
	"errors"

	"github.com/kvregistry/go/internal/journal"
)

// What is told of a registration.
const (
	lineRegistered   = "kvregistry: registered"
	lineAgain        = "kvregistry: registered again"
	lineUnregistered = "kvregistry: unregistered"
	lineDraining     = "kvregistry: draining"
	lineStatus       = "kvregistry: status changed"
)

// lineOfChange is a line, and the status that it tells of.
type lineOfChange struct {
	line   string
	status Status
}

// news is what changed about a registration since it was last told; the zero value if nothing
// did. The caller holds owner.mu.
func (g *registration) news() (l lineOfChange) {
	switch {
	case errors.Is(g.over, errEnded):
		if g.said != "" {
			l.line = lineUnregistered
		}
		g.said = ""
	case g.over != nil: // which has a line of its own
		g.said = ""
	case !g.acked || g.dirty || g.ending || g.lease == "":
	case g.said == "":
		l.line = lineRegistered
		g.said, g.saidLease = g.service.Status, g.lease
	case g.said != g.service.Status && g.service.Status == Draining:
		l.line = lineDraining
		g.said = Draining
	case g.said != g.service.Status:
		l = lineOfChange{lineStatus, g.service.Status}
		g.said = g.service.Status
	case g.saidLease != g.lease:
		l.line = lineAgain
		g.saidLease = g.lease
	}
	return l
}

// tellNews logs what changed about registrations, a line for all to which the same happened.
func (r *Registry) tellNews(list ...*registration) {
	for _, news := range r.own.news(list) {
		r.journal.Say(news.line, len(news.of), news.args()...)
	}
}

// tellNewsLater is tellNews for goroutines that Close waits for.
func (r *Registry) tellNewsLater(list []*registration) {
	for _, news := range r.own.news(list) {
		r.journal.SayLater(news.line, len(news.of), news.args()...)
	}
}

// news is one line of some registrations.
type news struct {
	lineOfChange
	of []*registration
}

// news is what changed about registrations since it was last told.
func (o *owner) news(list []*registration) (all []news) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := map[lineOfChange]int{}
	for _, g := range list {
		l := g.news()
		if l.line == "" {
			continue
		}
		i, ok := at[l]
		if !ok {
			i = len(all)
			at[l] = i
			all = append(all, news{lineOfChange: l})
		}
		all[i].of = append(all[i].of, g)
	}
	return all
}

func (n news) args() []any {
	args := subject(n.of)
	if n.status != "" {
		args = append(args, "status", string(n.status))
	}
	return args
}

// subject says in a log line which registrations it is about.
func subject(list []*registration) []any {
	if len(list) == 1 {
		return []any{"service", journal.Plain(list[0].name), "instance", journal.Plain(list[0].id)}
	}
	names := map[string]struct{}{}
	for _, g := range list {
		names[g.name] = struct{}{}
	}
	if len(names) == 1 {
		return []any{"service", journal.Plain(list[0].name), "instances", len(list)}
	}
	return []any{"services", len(names), "instances", len(list)}
}
