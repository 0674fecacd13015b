package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// heard is an instance of a plain process.
type heard struct {
	said    message // as it was last heard
	service kvregistry.Service
	lasts   time.Duration // how long it stays without being heard
	due     time.Time     // when that ends
	asked   bool          // it seems to have ended, and was asked whether it is still there
	gone    bool          // it unregistered or fell silent
	fresh   bool          // not settled since it was heard, or this bridge began to lead
	refused bool          // it cannot be registered as it is
	busy    bool          // a write is under way
	held    func() error  // takes its registration back; nil if this bridge has none
}

// hear records an instance that a plain process has. Its time begins now, because the time in the
// message is of another machine's clock.
func (b *Bridge) hear(name string, data []byte) {
	m, ok := decode(name, data)
	if !ok {
		b.skip("a message that does not register its subject's service", name)
		return
	}
	now, at := time.Now(), m.place()
	h := b.heard.at(at)
	if h == nil || !h.said.same(m) {
		if h == nil && b.heard.n >= b.opt.most || !b.take(now) {
			b.drop(name)
		} else {
			h = b.accept(at, h, m)
		}
	}
	if h == nil {
		return
	}
	h.lasts = m.lasts()
	h.due, h.asked, h.gone, h.fresh = now.Add(h.lasts), false, false, true
	b.settle(at, h)
}

// accept takes the message of an instance that is new, or that has changed.
func (b *Bridge) accept(at place, h *heard, m message) *heard {
	if h == nil {
		h = &heard{}
		b.heard.add(at, h)
	}
	h.said, h.service, h.refused = m, m.service(b.opt.prefix), false
	return h
}

// hearEnd records what a plain process unregisters. Without address and URL these are all instances
// without an address, which are one to a plain process. At an address that each host has, without a
// host, these are the instances of all hosts.
func (b *Bridge) hearEnd(name string, data []byte) {
	m, ok := decode(name, data)
	if !ok {
		b.skip("a message that does not unregister its subject's service", name)
		return
	}
	end, ended := m.place(), 0
	for at, h := range b.heard.named(name) {
		if at.address == end.address && (at.host == end.host || end.host == "") ||
			m.Address == "" && m.URL == "" && h.said.Address == "" {
			h.gone = true
			b.settle(at, h)
			ended++
		}
	}
	if ended > 1 { // it was one of them
		b.ask(name)
	}
	b.sayAgainAt(end)
}

// settle makes the tenant match what was heard of an instance. The bridge that leads registers it,
// and the bridge that has registered it takes it back. An instance that its own process has
// registered in the tenant is not registered again.
func (b *Bridge) settle(at place, h *heard) {
	wanted := !h.gone && b.told.at(at) == nil
	switch {
	case h.busy:
	case wanted && h.fresh && b.leads && !h.refused:
		h.fresh = false
		b.write(at, h, b.register)
	case !wanted && h.held != nil:
		b.write(at, h, b.withdraw)
	case h.gone:
		b.heard.remove(at)
	}
}

// write changes an instance's registration in the background, and then settles what changed
// meanwhile. change gets the service to register, and the function that takes the present
// registration back; it returns the function for afterwards.
func (b *Bridge) write(at place, h *heard,
	change func(context.Context, kvregistry.Service, func() error) (func() error, error)) {
	h.busy = true
	s, held := h.service, h.held
	b.writes.Go(func() { // ends with the write, or with b.ctx before it
		select {
		case b.gate <- struct{}{}:
			defer func() { <-b.gate }()
		case <-b.ctx.Done():
			return
		}
		if b.ctx.Err() != nil {
			return
		}
		// a registration that Close cancelled would be taken back
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), writeTime)
		defer cancel()
		held, err := change(ctx, s, held)
		b.do(func() {
			h.busy, h.held = false, held
			if err != nil { // it is tried again when it is heard again, unless that cannot help
				h.refused = errors.Is(err, kvregistry.ErrInvalidService)
				b.skip(err.Error(), at.name)
			}
			b.settle(at, h)
		})
	})
}

// register makes this bridge have an instance registered as it was heard. If another bridge took
// the registration over, this one takes it over again, because it leads.
func (b *Bridge) register(ctx context.Context, s kvregistry.Service,
	held func() error) (_ func() error, err error) {
	err = kvregistry.ErrNotRegistered
	if held != nil {
		err = b.reg.UpdateContext(ctx, s)
	}
	if errors.Is(err, kvregistry.ErrNotRegistered) || errors.Is(err, kvregistry.ErrFenced) {
		held, err = b.reg.RegisterContext(ctx, s)
	}
	if errors.Is(err, kvregistry.ErrPending) { // it is written as soon as the server answers
		err = nil
	}
	return held, err
}

// withdraw takes this bridge's registration of an instance back. A registration that another bridge
// has taken over stays. If the server does not answer, the registration ends when it does.
func (b *Bridge) withdraw(_ context.Context, _ kvregistry.Service,
	held func() error) (func() error, error) {
	_ = held()
	return nil, nil
}

// writeTime bounds one write.
const writeTime = 5 * time.Second

// bury ends the instances that fell silent, and do not answer between two signs of life either,
// because a message can get lost.
func (b *Bridge) bury(now time.Time) {
	for at, h := range b.heard.all() {
		switch {
		case h.gone || now.Before(h.due):
		case !h.asked:
			h.asked, h.due = true, now.Add(b.opt.signs())
			b.ask(at.name)
		default:
			h.gone = true
			b.settle(at, h)
		}
	}
}

// takeOver makes this bridge register everything that is heard, and say everything that is to be
// told.
func (b *Bridge) takeOver(now time.Time) {
	for at, h := range b.heard.all() {
		h.fresh = true
		b.settle(at, h)
	}
	for at, e := range b.ended {
		if t := b.told.at(at); (t == nil || t.last.Name == "") && b.alone(at) {
			b.publish(unregister, at.name, e.last.encode())
		}
	}
	clear(b.ended)
	for _, t := range b.told.all() {
		t.next, t.soon = now, afterPause
	}
	b.repeat(now)
}

// ask makes the plain processes say what they have of a name, now and once more after a sign of
// life, because they may hear of an end and of what is still there in any order. If they were asked
// a moment ago, they are asked only the second time.
func (b *Bridge) ask(name string) {
	if q, asked := b.asked[name]; asked {
		b.asked[name] = question{q.at, true}
	} else if sayable(name) {
		b.asked[name] = question{time.Now(), true}
		b.publish(ping, name, nil)
	}
}

// question is when a name was asked for, and whether it is to be asked for again.
type question struct {
	at    time.Time
	again bool
}

// forget removes what is remembered for a moment.
func (b *Bridge) forget(now time.Time) {
	for name, q := range b.asked {
		switch {
		case now.Sub(q.at) < b.opt.signs():
		case q.again:
			b.asked[name] = question{at: now}
			b.publish(ping, name, nil)
		default:
			delete(b.asked, name)
		}
	}
	for at, e := range b.ended {
		if now.Sub(e.at) > 2*b.opt.patience() {
			delete(b.ended, at)
		}
	}
}
