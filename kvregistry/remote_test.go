package kvregistry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/internal/wire"
)

// asker sends requests to owners, as another process does.
type asker struct {
	t   *testing.T
	nc  *nats.Conn
	sub *nats.Subscription
}

func newAsker(t *testing.T, s *natstest.Server) *asker {
	t.Helper()
	nc := s.Connect()
	sub, err := nc.SubscribeSync(wire.AnswerSubject(nc.NewInbox()))
	if err != nil {
		t.Fatal(err)
	}
	return &asker{t, nc, sub}
}

// ask sends a request.
func (a *asker) ask(subject string, request []byte) {
	a.t.Helper()
	if err := a.nc.PublishRequest(subject, a.sub.Subject, request); err != nil {
		a.t.Fatal(err)
	}
}

// answer is the next answer; "nobody" says that nobody takes requests there.
func (a *asker) answer() wire.Answer {
	a.t.Helper()
	msg, err := a.sub.NextMsg(natstest.Soon)
	if errors.Is(err, nats.ErrNoResponders) {
		return wire.Answer{State: "nobody"}
	}
	if err != nil {
		a.t.Fatal(err)
	}
	got, ok := wire.ReadAnswer(msg.Data)
	if !ok {
		a.t.Fatalf("answered %q", msg.Data)
	}
	return got
}

// controlOf is the subject at which the only owner of a tenant takes requests.
func controlOf(t *testing.T, r *Registry) string {
	t.Helper()
	list, err := r.Leases(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	return list[0].Control
}

// Another process can have an owner drain one of its instances: it answers at once, drains as
// Registry.Drain does, and says when it is done. The instance stays out until the process
// registers it again. Seen to fail without the first answer, and with a drain of the whole service.
func TestRemoteDrain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	owner, observer := newRegistry(t, s, Logger(log.Logger())), newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"},
		Service{ID: "b", Name: "web", Address: "h:2"})
	statuses(t, observer, "web", "a passing", "b passing")
	a := newAsker(t, s)
	a.ask(controlOf(t, observer), wire.DrainRequest("web", "a"))
	if got := a.answer(); got.State != wire.Draining {
		t.Fatalf("first %+v", got)
	}
	statuses(t, observer, "web", "a draining", "b passing")
	if got := a.answer(); got.State != wire.Drained || got.Error != "" {
		t.Fatalf("at last %+v", got)
	}
	statuses(t, observer, "web", "b passing")
	if list := owner.RegisteredServices(); len(list) != 1 || list[0].ID != "b" {
		t.Errorf("the owner has registered %+v", list)
	}
	if err := owner.SetStatus("web", Warning); err != nil { // it does not come back by that
		t.Fatal(err)
	}
	statuses(t, observer, "web", "b warning")
	if n := log.Count("another process asks to drain an instance"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"})
	statuses(t, observer, "web", "a passing", "b warning")
}

// A request that can't be met is answered with an error, and changes nothing. Seen to fail if an
// instance that is not there is drained.
func TestRemoteDrainThatFails(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"})
	control, a := controlOf(t, owner), newAsker(t, s)
	for name, tc := range map[string]struct{ request, want string }{
		"another instance": {string(wire.DrainRequest("web", "b")), "not registered"},
		"another service":  {string(wire.DrainRequest("api", "a")), "not registered"},
		"all services":     {string(wire.DrainRequest("*", "a")), "all services"},
		"a long name": {string(wire.DrainRequest(strings.Repeat("x", 256), "a")),
			"invalid name"},
		"nothing":        {"", "no JSON"},
		"no JSON":        {"\x00\xff", "no JSON"},
		"something else": {`{"stop":true}`, "names no service"},
		"too much":       {strings.Repeat(" ", 1<<16) + "{}", "65538 bytes"},
	} {
		a.ask(control, []byte(tc.request))
		if got := a.answer(); got.State != wire.Failed || !strings.Contains(got.Error, tc.want) {
			t.Errorf("%s: %+v, want %q", name, got, tc.want)
		}
	}
	statuses(t, owner, "web", "a passing")

	// one at a time
	a.ask(control, wire.DrainRequest("web", "a"))
	a.ask(control, wire.DrainRequest("web", "a"))
	var got []wire.State
	for range 3 {
		one := a.answer()
		got = append(got, one.State)
		if one.State == wire.Failed && !strings.Contains(one.Error, errDraining.Error()) {
			t.Errorf("%+v", one)
		}
	}
	slices.Sort(got[:2])
	if !slices.Equal(got, []wire.State{wire.Draining, wire.Failed, wire.Drained}) {
		t.Errorf("two at once: %q", got)
	}
}

// An owner answers to nothing but an inbox: otherwise a request has it write to a subject of the
// sender's choice, such as a key of the bucket. Seen to fail without the check of the reply.
func TestRemoteDrainAnswersInboxesOnly(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner := newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"})
	control, a := controlOf(t, owner), newAsker(t, s)
	heard, err := a.nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	for _, reply := range []string{"$KV.registry_default.svc.web.x", "orders.new", "",
		"$KV.registry_default.svc.web.answer"} {
		if err := a.nc.PublishMsg(&nats.Msg{Subject: control, Reply: reply,
			Data: wire.DrainRequest("web", "a")}); err != nil {
			t.Fatal(err)
		}
	}
	a.ask(control, wire.DrainRequest("web", "none")) // is answered after them
	a.answer()
	for {
		msg, err := heard.NextMsg(natstest.Soon)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := wire.ReadAnswer(msg.Data); ok {
			if msg.Subject != a.sub.Subject {
				t.Errorf("answered at %s", msg.Subject)
			}
			break
		}
	}
	statuses(t, owner, "web", "a passing")
}

// A registry takes requests while it is open and has asked for a lease, unless it is told not to.
// Seen to fail if the subscription is not ended by Close, and with one of each observer.
func TestRemoteDrainIsOffered(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg := newRegistry(t, s)
	if err := reg.ObserveContext(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if reg.remote.sub != nil {
		t.Error("an observer takes requests")
	}
	mustRegister(t, reg, Service{ID: "a", Name: "web", Address: "h:1"})
	control := controlOf(t, reg)
	a := newAsker(t, s)
	a.ask(control, nil)
	if got := a.answer(); got.State != wire.Failed {
		t.Errorf("%+v", got)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		a.ask(control, nil)
		if got := a.answer(); got.State != "nobody" {
			return errors.New("a closed registry answered")
		}
		return nil
	})

	aloof := newRegistry(t, s, WithoutRemoteDrain())
	mustRegister(t, aloof, Service{ID: "a", Name: "web", Address: "h:1"})
	if control := controlOf(t, aloof); control != "" || aloof.remote.sub != nil {
		t.Errorf("WithoutRemoteDrain: %q", control)
	}
}

// A drain that was asked for does not hold Close up, and outlives an answer that nobody hears.
func TestRemoteDrainAndClose(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := newRegistry(t, s), newRegistry(t, s)
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"})
	statuses(t, observer, "web", "a passing")
	a := newAsker(t, s)
	a.ask(controlOf(t, owner), wire.DrainRequest("web", "a"))
	a.answer()
	a.nc.Close()
	statuses(t, observer, "web", "a draining")
	if err := within(t, "Close", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return owner.CloseContext(ctx)
	}); err != nil {
		t.Error(err)
	}
	statuses(t, observer, "web")
}

// A connection's inbox prefix is also that of the subject. Seen to fail with a fixed prefix.
func TestRemoteDrainWithAnInboxPrefix(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, err := New(t.Context(), s.Connect(nats.CustomInboxPrefix("mine.too")), discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Close() })
	mustRegister(t, owner, Service{ID: "a", Name: "web", Address: "h:1"})
	control, a := controlOf(t, owner), newAsker(t, s)
	if !strings.HasPrefix(control, "mine.too.") {
		t.Error(control)
	}
	a.ask(control, nil)
	if got := a.answer(); got.State != wire.Failed {
		t.Errorf("%+v", got)
	}
}
