package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// remote takes requests of other processes to drain an instance of this registry. The lease names
// the subject, so a registry without a lease takes none. docs/wire-format.md describes both.
type remote struct {
	r       *Registry
	subject string // empty with WithoutRemoteDrain
	sub     *nats.Subscription

	mu    sync.Mutex // guards drain
	drain map[string]struct{}
}

// WithoutRemoteDrain makes the registry take no requests of other processes. Otherwise a process
// that may send it one, as `kvregistry drain` does, has it drain an instance that it registered.
func WithoutRemoteDrain() Option {
	return func(o *options) error {
		o.aloof = true
		return nil
	}
}

func newRemote(r *Registry) *remote {
	m := &remote{r: r, drain: map[string]struct{}{}}
	if !r.opt.aloof {
		m.subject = wire.ControlSubject(r.bucket.Inbox())
	}
	return m
}

// mostAsked is how many requests may wait. Each is answered within microseconds.
const mostAsked = 1024

// begin subscribes. The keeper calls it before the first lease, so that no lease names a subject at
// which nothing listens.
func (m *remote) begin() {
	if m.subject == "" {
		return
	}
	var err error
	if m.sub, err = m.r.opt.nc.Subscribe(m.subject, m.take); err != nil {
		return // the connection is closed for good, and there will be no lease
	}
	_ = m.sub.SetPendingLimits(mostAsked, -1)
}

// end ends the subscription, after the keeper's end.
func (m *remote) end() {
	if m.sub != nil {
		_ = m.sub.Unsubscribe() // an error says that it is gone
	}
}

// take takes one request. The answers go to an inbox, and to no subject of another kind: otherwise
// a process that may send requests would choose what this one writes to.
func (m *remote) take(msg *nats.Msg) {
	if !wire.IsAnswer(msg.Reply) {
		return
	}
	answer := func(a wire.Answer) { // an error says that nobody is left to tell
		_ = m.r.opt.nc.Publish(msg.Reply, a.Encode())
	}
	fail := func(err error) { answer(wire.Answer{State: wire.Failed, Error: err.Error()}) }
	name, id, err := wire.ReadRequest(msg.Data)
	if err == nil {
		err = m.start(name, id, func() { answer(wire.Answer{State: wire.Draining}) },
			func(err error) {
				if err != nil {
					fail(err)
					return
				}
				answer(wire.Answer{State: wire.Drained})
			})
	}
	if err != nil {
		fail(err)
	}
}

// remoteTime bounds a drain that another process asked for.
const remoteTime = DefaultSettle + 2*writeTime

// start drains an instance in a goroutine of its own. It calls begun before and done after that; or
// neither, and returns why it does not drain.
func (m *remote) start(name, id string, begun func(), done func(error)) error {
	key, err := tenant.ServiceKey(name, id)
	if err != nil {
		return fmt.Errorf("kvregistry: drain: %w", err)
	}
	if m.r.own.Get(key) == nil {
		return fmt.Errorf("kvregistry: drain: %w: %q of service %q", ErrNotRegistered, id, name)
	}
	if !m.enter(key) {
		return fmt.Errorf("kvregistry: drain: %w: %q of service %q", errDraining, id, name)
	}
	// ends with r.closing, and a second later at most; Close waits for a moment
	if !m.r.goUnlessClosed(&m.r.calls, func() {
		defer m.leave(key)
		begun()
		m.r.log.Info("kvregistry: another process asks to drain an instance",
			"service", journal.Plain(name), "instance", journal.Plain(id))
		ctx, cancel := context.WithTimeout(m.r.closing, remoteTime)
		defer cancel()
		done(m.r.Drain(ctx, Only(name, id)))
	}) {
		m.leave(key)
		return fmt.Errorf("kvregistry: drain: %w", ErrClosed)
	}
	return nil
}

var errDraining = errors.New("another request drains it already")

// enter notes that an instance is drained, unless it is already.
func (m *remote) enter(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.drain[key]; there {
		return false
	}
	m.drain[key] = struct{}{}
	return true
}

func (m *remote) leave(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.drain, key)
}
