package bridge

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/kvregistry"
)

// told is what plain processes are told of: the instances of the tenant that are at one place, mostly one. After a crash there may be two for a while.
type told struct {
	of    map[string]kvregistry.Service // by id
	last  message                       // what is said; its name is empty where nothing is
	next  time.Time                     // when it is said again
	soon  int                           // how many times more it is said after one sign of life rather than an interval
	again time.Time                     // when it was last said because plain processes had forgotten it
}

// instance names a registration of the tenant.
type instance struct{ name, id string }

// How often something is said again soon. Plain processes hear of one who comes and of one who goes in two subscriptions, in any order; and after a restart of
// their server they are back a few seconds later than the bridge.
const (
	afterChange = 2
	afterPause  = 5
)

// change takes a change in the tenant.
func (b *Bridge) change(e kvregistry.Event) {
	s, of := e.Service, instance{e.Service.Name, e.Service.ID}
	gone := e.Kind == kvregistry.Unregistered || e.Kind == kvregistry.Expired
	prefix, carried := s.Metadata[Origin]
	if carried && !gone && prefix == b.opt.prefix && len(b.heard.of[s.Name]) == 0 { // a bridge has heard it that was there before
		b.ask(s.Name)
	}
	if !carried && !gone && !sayable(s.Name) {
		b.skip("a service of the tenant whose name can be no subject", s.Name)
		carried = true
	}
	at := placeOf(s.Name, s.Address, s.URL, s.Host)
	was, known := b.where[of]
	if known && (gone || carried || was != at) {
		delete(b.where, of)
		t := b.told.at(was)
		delete(t.of, of.id)
		b.say(was, t)
	}
	if gone || carried {
		return
	}
	t := b.told.at(at)
	if t == nil {
		t = &told{of: map[string]kvregistry.Service{}}
		b.told.add(at, t)
		b.supersede(at)
	}
	t.of[of.id], b.where[of] = s, at
	b.say(at, t)
}

// supersede ends what was heard at the place of an instance of the tenant: it is of the same process, or of one that is dead. One that is heard again is
// registered when the tenant's goes.
func (b *Bridge) supersede(at place) {
	h := b.heard.at(at)
	if h == nil {
		if len(b.heard.of[at.name]) == 0 {
			b.ask(at.name) // a bridge that has just begun knows of nobody
		}
		return
	}
	h.gone = true
	b.settle(at, h)
	if h.said.Address != at.address && b.leads { // plain processes would take it for another one. Who shares its place there is heard again
		b.publish(unregister, at.name, h.said.encode())
		b.ask(at.name)
	}
}

// newest is the instance that is said: of those that may be called, the one that was written last. Plain processes call whatever they hear of.
func (t *told) newest() (newest kvregistry.Service, ok bool) {
	for _, s := range t.of {
		if (s.Status == kvregistry.Passing || s.Status == kvregistry.Warning) && (!ok || s.Revision > newest.Revision) {
			newest, ok = s, true
		}
	}
	return newest, ok
}

// say tells of a change at a place.
func (b *Bridge) say(at place, t *told) {
	if len(t.of) == 0 {
		b.told.remove(at)
	}
	if s, ok := t.newest(); ok {
		t.last, t.soon = said(s), afterChange
		b.repeatOne(t, time.Now())
	} else if last := t.last; last.Name != "" {
		t.last = message{}
		b.sayEnd(at, last)
	}
	if h := b.heard.at(at); len(t.of) == 0 && h != nil {
		b.settle(at, h)
	}
}

// sayEnd tells of the end of what was said of a place, unless a plain process has the same: plain processes would forget that one. Who does not lead remembers it for a
// while, for the one that leads may be dead.
func (b *Bridge) sayEnd(at place, last message) {
	switch {
	case !b.alone(at):
	case b.leads:
		b.publish(unregister, at.name, last.encode())
		b.ask(at.name)
		b.sayAgainAt(at)
	default:
		b.ended[at] = ended{last, time.Now()}
	}
}

// ended is what was said of a place last, and when that ended.
type ended struct {
	last message
	at   time.Time
}

// alone reports whether no plain process has an instance at a place, or none that counts beside the tenant's.
func (b *Bridge) alone(at place) bool {
	h := b.heard.at(at)
	return h == nil || h.gone || b.told.at(at) != nil
}

// repeat says what is to be said again by now.
func (b *Bridge) repeat(now time.Time) {
	if !b.leads {
		return
	}
	for _, t := range b.told.all() {
		if t.last.Name != "" && !now.Before(t.next) {
			b.repeatOne(t, now)
		}
	}
}

// repeatOne says an instance, and when it is said again: in an interval, less up to a tenth, so that not all are said at once.
func (b *Bridge) repeatOne(t *told, now time.Time) {
	if t.next = now.Add(b.opt.interval - rand.N(b.opt.interval/10)); t.soon > 0 {
		t.soon--
		t.next = now.Add(b.opt.signs())
	}
	if b.leads {
		b.tell(t, now)
	}
}

// tell publishes what is said of a place, now and for one interval.
func (b *Bridge) tell(t *told, now time.Time) {
	m := t.last
	m.Times = &times{Registered: now.UnixMilli(), Duration: b.opt.interval.Milliseconds()}
	b.publish(register, m.Name, m.encode())
}

// sayAgain says an instance that plain processes have forgotten, and once more in a moment: at most as often as a sign of life is given.
func (b *Bridge) sayAgain(t *told, now time.Time) {
	if t.last.Name == "" {
		return
	}
	t.soon = afterChange
	if now.Sub(t.again) < b.opt.signs() {
		t.next = t.again.Add(b.opt.signs())
		return
	}
	t.again = now
	b.repeatOne(t, now)
}

// sayAgainAt says again what there is at an address, whatever the host: plain processes have just forgotten it.
func (b *Bridge) sayAgainAt(end place) {
	for at, t := range b.told.named(end.name) {
		if at.address == end.address {
			b.sayAgain(t, time.Now())
		}
	}
}

// The time after which a question for a name is answered: a moment, so that one answer serves all who ask at once; and, by a bridge that stands by, within the
// 100 ms that a plain process waits, where the one that leads gave no answer.
const (
	answerSoon  = 5 * time.Millisecond
	answerStead = 40 * time.Millisecond
)

// hearPing takes a question for what there is of a name.
func (b *Bridge) hearPing(name string) {
	if _, due := b.owing[name]; due || len(b.told.of[name]) == 0 {
		return
	}
	b.owing[name] = struct{}{}
	wait := answerSoon
	if !b.leads {
		wait = answerStead
	}
	b.wg.Go(func() {
		if backoff.Sleep(b.ctx, wait) == nil {
			b.do(func() { b.answer(name) })
		}
	})
}

// answer says what there is of a name, unless another bridge did.
func (b *Bridge) answer(name string) {
	if _, due := b.owing[name]; !due {
		return
	}
	delete(b.owing, name)
	now := time.Now()
	for _, t := range b.told.named(name) {
		if t.last.Name != "" {
			b.tell(t, now)
		}
	}
}

// parse takes a subject apart.
func (b *Bridge) parse(subject string) (verb, name string) {
	verb, name, _ = strings.Cut(strings.TrimPrefix(subject, b.opt.prefix+"."), ".")
	return verb, name
}
