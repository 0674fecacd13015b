package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/kvregistry"
)

// ErrNoHeaders says that the plain processes' server is older than 2.2 or has headers turned off. A
// bridge could not tell its own messages from theirs.
var ErrNoHeaders = errors.New("the server of the plain processes has no message headers")

// Bridge joins one tenant with the plain processes of one prefix. Any number of goroutines may call
// its methods.
type Bridge struct {
	opt    options
	id     string
	nc     *nats.Conn // to the bucket
	reg    *kvregistry.Registry
	sub    *nats.Subscription
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	writes sync.WaitGroup // of registrations, which Close does not cut short
	closed atomic.Bool

	msgs  chan *nats.Msg
	calls chan func()   // runs in the loop's goroutine
	gate  chan struct{} // has a token for each write that is under way
	alive atomic.Int64  // when the plain processes' server last answered: nanoseconds after began

	// Only the loop uses the fields below.
	began      time.Time
	ticked     time.Time
	reconnects uint64
	deaf       bool // the plain processes' server does not answer
	role
	heard table[heard]
	told  table[told]
	where map[instance]place // of each instance in told
	ended map[place]ended    // that other bridges were to tell, lately
	asked map[string]question
	owing map[string]struct{} // names for which a question is to be answered in a moment
	budget
	faults
}

// atOnce is how many writes of a bridge are under way at the same time.
const atOnce = 64

// The messages that wait to be read. Messages beyond that are lost, as they are for a plain
// process.
const (
	waitingMessages = 1 << 17
	waitingBytes    = 64 << 20
)

// New starts a bridge on a connection to the server that has the tenant's bucket. The caller keeps
// the connection. New returns when the bucket was checked. Errors are those of [kvregistry.New],
// and [ErrNoHeaders].
//
// For the first two and a half signs of life, up to 2.5 s, the bridge listens for other bridges. It
// registers what it hears after that.
func New(ctx context.Context, nc *nats.Conn, opts ...Option) (*Bridge, error) {
	o, err := newOptions(nc, opts)
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	if o.plain != nil && o.plain.IsConnected() && !o.plain.HeadersSupported() {
		return nil, fmt.Errorf("bridge: %w; use nats-server 2.2 or newer", ErrNoHeaders)
	}
	reg, err := kvregistry.New(ctx, nc, append([]kvregistry.Option{kvregistry.Tenant(o.tenant),
		kvregistry.TTL(o.ttl), kvregistry.Logger(o.logger)}, o.registry...)...)
	if err != nil {
		return nil, fmt.Errorf("bridge: %w", err)
	}
	// The registry's logger has the tenant already.
	o.logger = o.logger.With("tenant", o.tenant, "prefix", o.prefix)
	now := time.Now()
	b := &Bridge{
		opt: o, id: rand.Text(), nc: nc, reg: reg, msgs: make(chan *nats.Msg),
		calls: make(chan func()), gate: make(chan struct{}, atOnce),
		began: now, ticked: now, reconnects: o.plain.Stats().Reconnects, role: newRole(now, &o),
		budget: newBudget(o.most, now),
		where:  map[instance]place{}, ended: map[place]ended{}, asked: map[string]question{},
		owing: map[string]struct{}{},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if err := b.start(); err != nil {
		b.cancel()
		_ = reg.Close()
		return nil, fmt.Errorf("bridge: %w", err)
	}
	return b, nil
}

// start listens on both sides. One subscription has all of the prefix, so that the messages of one
// process stay in order.
func (b *Bridge) start() (err error) {
	b.sub, err = b.opt.plain.Subscribe(b.opt.prefix+".>", func(m *nats.Msg) {
		select {
		case b.msgs <- m:
		case <-b.ctx.Done():
		}
	})
	if err != nil {
		return fmt.Errorf("listen to the plain processes: %w", err)
	}
	_ = b.sub.SetPendingLimits(waitingMessages, waitingBytes)
	events, err := b.reg.Watch(b.ctx, kvregistry.Everything)
	if err != nil {
		return err
	}
	b.wg.Go(b.listen) // these end with b.ctx; Close waits
	b.wg.Go(func() { b.run(events) })
	return nil
}

// Close ends the bridge and leaves all registrations as they are: another bridge, or the next one,
// continues. Without another bridge, what was heard leaves the tenant after a TTL, and plain
// processes forget the tenant's instances after one and a half intervals. Close waits for up to 5
// s. A second call does nothing.
func (b *Bridge) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return b.CloseContext(ctx)
}

// CloseContext is [Bridge.Close] with a context in place of the 5 s.
func (b *Bridge) CloseContext(ctx context.Context) error {
	if b.closed.Swap(true) {
		return nil
	}
	_ = b.sub.Unsubscribe()
	b.cancel()
	b.wg.Wait()
	written := make(chan struct{})
	go func() { // ends with the writes
		defer close(written)
		b.writes.Wait()
	}()
	select {
	case <-written:
	case <-ctx.Done():
	}
	b.sign(true)
	_ = b.opt.plain.FlushWithContext(ctx) // a bridge that does not hear of it notices soon
	err := b.reg.Leave(ctx)
	<-written // Leave ends those that are still under way
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nil
}

// run is the loop. Only the loop knows what was heard and told.
func (b *Bridge) run(events <-chan kvregistry.Event) {
	tick := time.NewTicker(b.opt.signs())
	defer tick.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case m := <-b.msgs:
			b.receive(m)
		case e, ok := <-events:
			if !ok {
				return // with the registry
			}
			b.change(e)
		case f := <-b.calls:
			f()
		case <-tick.C:
			b.tick(time.Now())
		}
	}
}

// do runs f in the loop, and reports whether it ran. It does not run after Close.
func (b *Bridge) do(f func()) bool {
	done := make(chan struct{})
	select {
	case b.calls <- func() { f(); close(done) }:
		<-done
		return true
	case <-b.ctx.Done():
		return false
	}
}

// listen asks the plain processes' server for an answer, again and again. A connection can be dead
// for minutes before NATS notices, and then silence does not mean that plain processes have ended.
func (b *Bridge) listen() {
	for b.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(b.ctx, 2*b.opt.signs())
		if b.opt.plain.FlushWithContext(ctx) == nil {
			b.alive.Store(int64(time.Since(b.began)))
		}
		cancel()
		_ = backoff.Sleep(b.ctx, b.opt.signs()/2)
	}
}

// tick does what is due: it begins again after a pause, gives a sign of life, ends instances that
// are silent, and says what is to be said again.
func (b *Bridge) tick(now time.Time) {
	late := now.Sub(b.ticked) > b.opt.patience()
	b.ticked = now
	if now.Sub(b.began)-time.Duration(b.alive.Load()) > b.opt.patience() {
		b.deaf = true
		b.decide(now)
		return
	}
	reconnects := b.opt.plain.Stats().Reconnects
	if late || b.deaf || reconnects != b.reconnects {
		b.resume(now)
	}
	b.deaf, b.reconnects = false, reconnects
	b.decide(now)
	b.sign(false)
	// Unread messages may be of an instance that seems to be silent.
	if waiting, _, err := b.sub.Pending(); err == nil && waiting < waitingMessages/100 {
		b.bury(now)
	}
	b.repeat(now)
	b.forget(now)
}

// resume begins again after messages may have been lost. It is open which bridge leads, no instance
// counts as silent yet, and everyone is asked.
func (b *Bridge) resume(now time.Time) {
	b.role.listen(now, &b.opt)
	for at, h := range b.heard.all() {
		h.due = now.Add(h.lasts)
		b.ask(at.name)
	}
	for at := range b.told.all() {
		b.ask(at.name)
	}
}

// receive reads one message of the prefix. The subject says what it is.
func (b *Bridge) receive(m *nats.Msg) {
	verb, name := b.parse(m.Subject)
	from := m.Header.Get(mark)
	switch {
	case verb == beat && name == b.opt.tenant:
		b.meet(m.Data)
	case verb == register && from != "" && from != b.id:
		delete(b.owing, name) // another bridge answers
	case from != "":
	case verb == register:
		b.hear(name, m.Data)
	case verb == unregister:
		b.hearEnd(name, m.Data)
	case verb == ping:
		b.hearPing(name)
	}
}
