package bridge

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/kvregistry"
)

// told is what plain processes are told of one place: the instances of the tenant there, mostly
// one. After a crash there may be two for a while.
type told struct {
	of    map[string]kvregistry.Service // by id
	last  message                       // what is said; its name is empty if nothing is
	next  time.Time                     // when it is said again
	soon  int                           // how many times more it is said after one sign of life
	again time.Time                     // when it was last said because it was forgotten
}

// instance names a registration of the tenant.
type instance struct{ name, id string }

// How often something is said again soon. Plain processes hear of a beginning and of an end in two
// subscriptions, in any order; and after a restart of their server they are back a few seconds
// later than the bridge.
const (
	afterChange = 2
	afterPause  = 5
)

// change records a change in the tenant.
func (b *Bridge) change(e kvregistry.Event) {
	s, of := e.Service, instance{e.Service.Name, e.Service.ID}
	gone := e.Kind == kvregistry.Unregistered || e.Kind == kvregistry.Expired
	prefix, carried := s.Metadata[Origin]
	// An earlier bridge has heard it.
	if carried && !gone && prefix == b.opt.prefix && len(b.heard.of[s.Name]) == 0 {
		b.ask(s.Name)
	}
	if !carried && !gone && !sayable(s.Name) {
		b.skip("a service of the tenant whose name cannot be part of a subject", s.Name)
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

// supersede ends what was heard at the place of an instance of the tenant, because it is of the
// same process, or of a dead one. If it is heard again, it is registered when the tenant's instance
// ends.
func (b *Bridge) supersede(at place) {
	h := b.heard.at(at)
	if h == nil {
		if len(b.heard.of[at.name]) == 0 {
			b.ask(at.name) // a bridge that has just begun knows of none
		}
		return
	}
	h.gone = true
	b.settle(at, h)
	// Plain processes would take it for another one. An instance that shares its place there is
	// heard again.
	if h.said.Address != at.address && b.leads {
		b.publish(unregister, at.name, h.said.encode())
		b.ask(at.name)
	}
}

// newest returns the instance that is said: of those that may be called, the one that was written
// last. Plain processes call every instance that they hear of.
func (t *told) newest() (newest kvregistry.Service, ok bool) {
	for _, s := range t.of {
		if (s.Status == kvregistry.Passing || s.Status == kvregistry.Warning) &&
			(!ok || s.Revision > newest.Revision) {
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

// sayEnd tells the end of what was said of a place, unless a plain process has an instance there,
// which plain processes would forget. A bridge that does not lead remembers the end for a while,
// because the one that leads may be dead.
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

// alone reports whether no plain process has an instance at a place, or none that counts beside the
// tenant's.
func (b *Bridge) alone(at place) bool {
	h := b.heard.at(at)
	return h == nil || h.gone || b.told.at(at) != nil
}

// repeat says again what is due.
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

// repeatOne says an instance, and sets when it is said again: in an interval, less up to a tenth,
// so that not all are said at once.
func (b *Bridge) repeatOne(t *told, now time.Time) {
	if t.next = now.Add(b.opt.interval - rand.N(b.opt.interval/10)); t.soon > 0 {
		t.soon--
		t.next = now.Add(b.opt.signs())
	}
	if b.leads {
		b.tell(t, now)
	}
}

// tell publishes the message of a place, now and for one interval.
func (b *Bridge) tell(t *told, now time.Time) {
	m := t.last
	m.Times = &times{Registered: now.UnixMilli(), Duration: b.opt.interval.Milliseconds()}
	b.publish(register, m.Name, m.encode())
}

// sayAgain says an instance that plain processes have forgotten, and once more in a moment: at most
// once per sign of life.
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

// sayAgainAt says again what there is at an address, whatever the host, because plain processes
// have just forgotten it.
func (b *Bridge) sayAgainAt(end place) {
	for at, t := range b.told.named(end.name) {
		if at.address == end.address {
			b.sayAgain(t, time.Now())
		}
	}
}

// The time after which a question for a name is answered. One answer serves all that ask within a
// moment. A bridge that stands by answers within the 100 ms that a plain process waits, if the one
// that leads gave no answer.
const (
	answerSoon  = 5 * time.Millisecond
	answerStead = 40 * time.Millisecond
)

// hearPing records a question for the instances of a name.
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

// answer says the instances of a name, unless another bridge did.
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

// parse splits a subject.
func (b *Bridge) parse(subject string) (verb, name string) {
	verb, name, _ = strings.Cut(strings.TrimPrefix(subject, b.opt.prefix+"."), ".")
	return verb, name
}
