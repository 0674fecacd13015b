package integration

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// victim is tenant other, with an owner and an observer. Their leases are so long that neither
// writes during the test.
type victim struct {
	t        *testing.T
	js       jetstream.JetStream
	owner    *kvregistry.Registry
	observer *kvregistry.Registry
	events   <-chan kvregistry.Event
	before   []string
}

// isAsItWas checks that the bucket is unchanged, and that the observer is told of nothing before
// the owner registers one more.
func (v *victim) isAsItWas() {
	v.t.Helper()
	if diff := cmp.Diff(v.before, standing(v.t, v.js, "KV_registry_other")); diff != "" {
		v.t.Fatalf("the other tenant was changed:\n%s", diff)
	}
	sees(v.t, v.observer, natstest.Soon, "web", "a")
	register(v.t, v.owner, web("last"))
	select {
	case e := <-v.events:
		if e.Service.ID != "last" {
			v.t.Errorf("the observer was told %+v", e)
		}
	case <-time.After(natstest.Soon):
		v.t.Error("the observer was told nothing")
	}
	if h := v.observer.Health(); h.Err != nil || h.Skipped > 0 || h.Resyncs > 0 {
		v.t.Errorf("%+v", h)
	}
}

// newVictim makes the tenants acme and other, and registers an instance in other.
func newVictim(t *testing.T, g *guarded) *victim {
	t.Helper()
	root := g.as(t, "root")
	must(t, operator.Provision(t.Context(), root, "acme", tenant.Config{}))
	as := func() *kvregistry.Registry {
		nc := g.as(t, "root", nats.CustomInboxPrefix(otherInbox))
		return openOn(t, nc, kvregistry.Tenant("other"), kvregistry.TTL(time.Hour),
			kvregistry.WithoutReaping())
	}
	v := &victim{t: t, owner: as(), observer: as()}
	register(t, v.owner, web("a"))
	sees(t, v.observer, natstest.Soon, "web", "a")
	var err error
	v.events, err = v.observer.Watch(t.Context(), "web")
	must(t, err)
	awaitEvent(t, v.events, "a", kvregistry.Registered)
	v.js, err = jetstream.New(root)
	must(t, err)
	v.before = standing(t, v.js, "KV_registry_other")
	return v
}

// standing returns all that a stream holds: settings, counts, and each message's sequence, headers
// and data. If they can't be read, it returns the reason.
func standing(t *testing.T, js jetstream.JetStream, stream string) []string {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		return []string{err.Error()}
	}
	info := s.CachedInfo()
	list := []string{
		fmt.Sprintf("settings %+v", info.Config),
		fmt.Sprintf("%d messages, the last is %d", info.State.Msgs, info.State.LastSeq),
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil { // for example if the stream is deleted meanwhile
			return []string{err.Error()}
		}
		// The server adds these to what it answers.
		for _, added := range []string{"Nats-Stream", "Nats-Subject", "Nats-Sequence",
			"Nats-Time-Stamp"} {
			m.Header.Del(added)
		}
		list = append(list, fmt.Sprintf("%d %s %v %q", seq, m.Subject, m.Header, m.Data))
	}
	return list
}

// stores writes messages to acme's bucket that would delete everything in another one. It writes as
// a service: the hostile user is one, or works with one.
func stores(t *testing.T, g *guarded) {
	t.Helper()
	nc := g.as(t, string(operator.RoleService))
	for i, header := range []nats.Header{
		// first, because it removes the earlier messages of acme's bucket too
		{"Nats-Rollup": {"all"}},
		{"Nats-Rollup": {"sub"}},
		{"KV-Operation": {"PURGE"}, "Nats-Rollup": {"sub"}},
		{"KV-Operation": {"PURGE"}},
		{"KV-Operation": {"DEL"}},
		{"Nats-TTL": {"3600s"}},
		{"Nats-Marker-Reason": {"MaxAge"}},
	} {
		msg := nats.NewMsg(fmt.Sprint("$KV.registry_acme.svc.web.", i))
		msg.Header = header
		_, err := nc.RequestMsgWithContext(t.Context(), msg)
		must(t, err)
	}
}

// otherKey and the others are subjects of tenant other, and of the account, that a user of tenant
// acme makes the server send messages to.
const (
	otherKey    = "$KV.registry_other.svc.x.y"
	otherPurge  = "$JS.API.STREAM.PURGE.KV_registry_other"
	otherDelete = "$JS.API.STREAM.DELETE.KV_registry_other"
	otherInbox  = "_INBOX_other.b"
)
