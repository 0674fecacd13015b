package kvregistry

import (
	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/kvregistry/internal/claim"
)

// What is told of a registration.
const (
	lineRegistered   = "kvregistry: registered"
	lineAgain        = "kvregistry: registered again"
	lineUnregistered = "kvregistry: unregistered"
	lineDraining     = "kvregistry: draining"
	lineStatus       = "kvregistry: status changed"
)

var linesOf = map[claim.News]string{
	claim.Registered: lineRegistered, claim.Again: lineAgain, claim.Ended: lineUnregistered,
	claim.Changed: lineStatus,
}

// lineOfChange is a line, and the status that it tells of.
type lineOfChange struct {
	line   string
	status Status
}

// tellNews logs what changed about registrations, a line for all to which the same happened.
func (w *owned) tellNews(list ...*registration) {
	for _, news := range w.news(list) {
		w.r.journal.Say(news.line, len(news.of), news.args()...)
	}
}

// tellNewsLater is tellNews for goroutines that Close waits for.
func (w *owned) tellNewsLater(list []*registration) {
	for _, news := range w.news(list) {
		w.r.journal.SayLater(news.line, len(news.of), news.args()...)
	}
}

// news is one line of some registrations.
type news struct {
	lineOfChange
	of []*registration
}

// news is what changed about registrations since it was last told.
func (w *owned) news(list []*registration) (all []news) {
	at := map[lineOfChange]int{}
	for _, g := range list {
		what, status := w.r.own.News(g, func(s *Service) string { return string(s.Status) })
		if what == claim.Old {
			continue
		}
		l := lineOfChange{line: linesOf[what]}
		if what == claim.Changed && Status(status) == Draining {
			l.line = lineDraining
		} else if what == claim.Changed {
			l.status = Status(status)
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
		one := list[0].First
		return []any{"service", journal.Plain(one.Name), "instance", journal.Plain(one.ID)}
	}
	names := map[string]struct{}{}
	for _, g := range list {
		names[g.First.Name] = struct{}{}
	}
	if len(names) == 1 {
		return []any{"service", journal.Plain(list[0].First.Name), "instances", len(list)}
	}
	return []any{"services", len(names), "instances", len(list)}
}
