package kvregistry

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/kvregistry/go/internal/backoff"
)

// A line of one kind may come lineBurst times at once, and then once in lineTime. What comes
// beyond that is told together, once in lineTime.
const (
	lineBurst = 20
	lineTime  = time.Second
)

// journal logs changes of state, a line each. Many of one kind share a line.
type journal struct {
	log   *slog.Logger
	pause func() // ends after lineTime, or when the registry is closed
	later func(func()) bool

	backlog *backlog

	mu    sync.Mutex // guards kinds
	kinds map[string]*lineKind
}

// lineKind is what is known of lines with one text.
type lineKind struct {
	free float64 // how many may come now
	at   time.Time
	held int // changes that are to be told together
}

// say logs a line of n changes, or holds them for the next line of its kind.
func (j *journal) say(line string, n int, args ...any) {
	j.mu.Lock()
	k, now := j.kinds[line], time.Now()
	if k == nil {
		k = &lineKind{free: lineBurst, at: now}
		j.kinds[line] = k
	}
	k.free = min(lineBurst, k.free+now.Sub(k.at).Seconds()/lineTime.Seconds())
	k.at = now
	hold := k.free < 1
	first := hold && k.held == 0
	if hold {
		k.held += n
	} else {
		k.free--
	}
	j.mu.Unlock()
	switch {
	case first:
		j.later(func() { j.tellHeld(line, k) })
	case !hold:
		j.log.Info(line, args...)
	}
}

// tellHeld logs what was held, after a while.
func (j *journal) tellHeld(line string, k *lineKind) {
	j.pause()
	j.mu.Lock()
	n := k.held
	k.held, k.free, k.at = 0, 0, time.Now()
	j.mu.Unlock()
	j.log.Info(line, "times", n)
}

// newJournal makes the registry's.
func (r *Registry) newJournal() *journal {
	return &journal{
		log: r.opt.logger, kinds: map[string]*lineKind{},
		pause: func() { _ = backoff.Sleep(r.closing, lineTime) },
		later: func(f func()) bool { return r.goUnlessClosed(&r.calls, f) }, backlog: r.backlog,
	}
}

// sayLater is say for goroutines that Close waits for: a log handler may call Close.
func (j *journal) sayLater(line string, n int, args ...any) {
	j.backlog.add(func() { j.say(line, n, args...) })
}

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
		r.journal.say(news.line, len(news.of), news.args()...)
	}
}

// tellNewsLater is tellNews for goroutines that Close waits for.
func (r *Registry) tellNewsLater(list []*registration) {
	for _, news := range r.own.news(list) {
		r.journal.sayLater(news.line, len(news.of), news.args()...)
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
		return []any{"service", plain(list[0].name), "instance", plain(list[0].id)}
	}
	names := map[string]struct{}{}
	for _, g := range list {
		names[g.name] = struct{}{}
	}
	if len(names) == 1 {
		return []any{"service", plain(list[0].name), "instances", len(list)}
	}
	return []any{"services", len(names), "instances", len(list)}
}
