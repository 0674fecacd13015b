package integration

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// site is a hub and a leaf node, each with a JetStream domain of its own, and the link between
// them. The tenant is "acme".
type site struct {
	t         *testing.T
	hub, leaf *natstest.Server
	remote    *server.RemoteLeafOpts // of the leaf
	link      *link
}

// newSite starts both servers. It makes the tenant's bucket in the hub, and its mirror in the
// leaf's domain.
func newSite(t *testing.T, change ...func(leaf *server.Options)) *site {
	t.Helper()
	port := natstest.FreePort(t)
	s := &site{t: t}
	s.hub = natstest.Start(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "hub", "hub"
		o.LeafNode = server.LeafNodeOpts{Host: "127.0.0.1", Port: port, NoAdvertise: true}
	})
	s.link = newLink(t, fmt.Sprintf("127.0.0.1:%d", port))
	remote, err := url.Parse("nats-leaf://" + s.link.proxy.Listen)
	must(t, err)
	s.remote = &server.RemoteLeafOpts{URLs: []*url.URL{remote}}
	s.leaf = natstest.Start(t, func(o *server.Options) {
		o.ServerName, o.JetStreamDomain = "leaf", "leaf"
		o.LeafNode = server.LeafNodeOpts{Remotes: []*server.RemoteLeafOpts{s.remote},
			ReconnectInterval: 50 * time.Millisecond}
		for _, f := range change {
			f(o)
		}
	})
	s.joined()
	must(t, operator.Provision(t.Context(), s.hub.Connect(), "acme", tenant.Config{}))
	s.mirror()
	return s
}

// joined waits until the leaf node is connected to the hub.
func (s *site) joined() {
	s.t.Helper()
	natstest.Eventually(s.t, natstest.Soon, func() error {
		if n := s.leaf.Server().NumLeafNodes(); n != 1 || s.hub.Server().NumLeafNodes() != 1 {
			return fmt.Errorf("the leaf node has %d connections", n)
		}
		return nil
	})
}

// mirror makes the mirror, and waits until the mirror hears of the hub.
func (s *site) mirror() {
	s.t.Helper()
	must(s.t, operator.MakeMirror(s.t.Context(), s.leaf.Connect(), "acme", "hub"))
	s.hears()
}

// hears waits until the mirror hears of the hub.
func (s *site) hears() {
	s.t.Helper()
	js, err := jetstream.New(s.leaf.Connect())
	must(s.t, err)
	natstest.Eventually(s.t, natstest.Soon, func() error {
		stream, err := js.Stream(s.t.Context(), "KV_registry_acme")
		if err == nil && (stream.CachedInfo().Mirror.Active < 0 ||
			stream.CachedInfo().Mirror.Active > time.Second) {
			err = errors.New("the mirror has not heard of the hub")
		}
		return err
	})
}

func acme(t *testing.T, s *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	return open(t, s, append(opts, kvregistry.Tenant("acme"), kvregistry.Timeout(natstest.Soon))...)
}

// consumers returns how many view consumers of the tenant a server's own JetStream has.
func (s *site) consumers(of *natstest.Server) int {
	s.t.Helper()
	names := natstest.Consumers(s.t, of.Connect(), "KV_registry_acme")
	return len(slices.DeleteFunc(names, func(name string) bool { return name[:5] != "view-" }))
}

// read returns an error unless near views read the mirror, and far views the hub's bucket.
func (s *site) read(near, far int) error {
	if n, f := s.consumers(s.leaf), s.consumers(s.hub); n != near || f != far {
		return fmt.Errorf("%d views read the mirror, and %d the hub's bucket", n, f)
	}
	return nil
}

// fresh waits until a registry says that its view is current.
func fresh(t *testing.T, r *kvregistry.Registry, within time.Duration) {
	t.Helper()
	natstest.Eventually(t, within, func() error {
		if h := r.Health(); !h.OK() {
			return fmt.Errorf("%+v", h)
		}
		return nil
	})
}

// Each side of a leaf node sees the registrations, changes and ends of the other, graceful or not.
// The mirror serves the look-ups at the leaf. Even the first ones show what was acknowledged
// before. Seen to fail with writes to the bucket's own subject, which a leaf node's connection does
// not take, and with views that read the hub.
func TestLeafAndHubSeeEachOther(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	atHub, atLeaf := acme(t, s.hub), acme(t, s.leaf)
	endHub := register(t, atHub, web("hub"))
	sees(t, atLeaf, 0, "web", "hub") // the first look-up is current
	endLeaf := register(t, atLeaf, web("leaf"))
	sees(t, atHub, natstest.Soon, "web", "hub", "leaf")
	sees(t, atLeaf, natstest.Soon, "web", "hub", "leaf")
	natstest.Eventually(t, time.Minute, func() error { return s.read(1, 1) })
	must(t, atLeaf.SetStatus("web", kvregistry.Warning))
	natstest.Eventually(t, natstest.Soon, func() error {
		for _, r := range []*kvregistry.Registry{atHub, atLeaf} {
			if list, err := r.GetServices(t.Context(), "web",
				kvregistry.WithStatus(kvregistry.Warning)); err != nil || len(list) != 1 {
				return fmt.Errorf("%v, %v", list, err)
			}
		}
		return nil
	})
	must(t, endHub())
	sees(t, atLeaf, natstest.Soon, "web", "leaf")
	if names, err := atLeaf.ServiceNames(); err != nil || !slices.Equal(names, []string{"web"}) {
		t.Errorf("the services are %v, %v", names, err)
	}
	must(t, endLeaf())
	sees(t, atHub, natstest.Soon, "web")
	sees(t, atLeaf, natstest.Soon, "web")
	fresh(t, atLeaf, natstest.Soon)
}

// The hub sends a change to the mirror once, and not to each observer that reads the mirror. Seen
// to fail with views that read the hub.
func TestMirrorSparesTheHub(t *testing.T) {
	t.Parallel()
	const observers, changes = 20, 200
	s := newSite(t)
	owner := acme(t, s.hub)
	register(t, owner, web("a"))
	perChange := func() float64 { // messages that the hub sends
		t.Helper()
		varz, err := s.hub.Server().Varz(nil)
		must(t, err)
		before := varz.OutMsgs
		for i := range changes {
			must(t, owner.SetStatus("web", []kvregistry.Status{kvregistry.Warning,
				kvregistry.Passing}[i%2]))
		}
		varz, err = s.hub.Server().Varz(nil)
		must(t, err)
		return float64(varz.OutMsgs-before) / changes
	}
	observe := func(at *natstest.Server) {
		for range observers {
			sees(t, acme(t, at), 0, "web", "a")
		}
	}
	observe(s.leaf)
	byMirror := perChange()
	observe(s.hub)
	direct := perChange() - byMirror
	t.Logf("a change is %.1f messages from the hub with %d observers at the leaf, and %.1f more "+
		"with as many at the hub", byMirror, observers, direct)
	// the answer, the owner's view, the mirror, and messages that are not of the change
	if byMirror > observers/2 {
		t.Errorf("%.1f messages from the hub for a change, and %.1f more for %d observers of its "+
			"own", byMirror, direct, observers)
	}
}

// A first look-up at the leaf shows what the hub acknowledged before, even if the mirror does not
// have it yet and has just heard of the hub. Seen to fail if a mirror is not waited for ("lags"
// false for it).
func TestFirstLookUpAtALeafIsCurrent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	atHub := acme(t, s.hub)
	s.stopMirror()
	atLeaf := acme(t, s.leaf)
	s.hears()
	register(t, atHub, web("a"))
	sees(t, atLeaf, 0, "web", "a")
}

// A killed process at the leaf or the hub leaves all caches, with a reaper at the leaf only,
// because that reaper follows the hub's bucket. Seen to fail with a reaper that follows its own
// JetStream's bucket.
func TestKilledAtALeaf(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	atHub, atLeaf := acme(t, s.hub, kvregistry.WithoutReaping()), acme(t, s.leaf)
	register(t, atHub, web("lives"))
	fromLeaf := start(t, plan{URL: s.leaf.URL(), Tenant: "acme",
		Services: []kvService{web("leaf")}})
	fromHub := start(t, plan{URL: s.hub.URL(), Tenant: "acme", Services: []kvService{web("hub")}})
	for _, r := range []*kvregistry.Registry{atHub, atLeaf} {
		sees(t, r, natstest.Soon, "web", "hub", "leaf", "lives")
	}
	natstest.Eventually(t, natstest.Soon, func() error { // a newcomer waits
		names := natstest.Consumers(t, s.hub.Connect(), "KV_registry_acme")
		if !slices.ContainsFunc(names,
			func(name string) bool { return strings.HasPrefix(name, "reaper-") }) {
			return errors.New("no reaper serves")
		}
		return nil
	})
	fromHub.kill()
	fromLeaf.kill()
	for _, r := range []*kvregistry.Registry{atHub, atLeaf} {
		took := sees(t, r, natstest.Soon, "web", "lives")
		t.Logf("the kill was seen %s later", took.Round(time.Millisecond))
	}
}

// A user of the leaf node has there the permissions that its role has in the hub, for the subjects
// of both domains. Seen to fail without the subjects of the hub.
func TestRolesAtALeaf(t *testing.T) {
	t.Parallel()
	access := map[string]operator.Access{}
	s := newSite(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "root", Password: "p"}}
		o.NoAuthUser = "root"
		for _, role := range []operator.Role{operator.RoleService, operator.RoleObserver,
			operator.RoleAdmin} {
			a, err := operator.Permissions("acme", role)
			must(t, err)
			a, err = a.AtLeaf("hub")
			must(t, err)
			access[string(role)] = a
			o.Users = append(o.Users, &server.User{Username: string(role), Password: "p",
				Permissions: &server.Permissions{
					Publish:   &server.SubjectPermission{Allow: a.Publish},
					Subscribe: &server.SubjectPermission{Allow: a.Subscribe()},
				}})
		}
	})
	as := func(role operator.Role) *nats.Conn {
		return s.leaf.Connect(nats.UserInfo(string(role), "p"),
			nats.CustomInboxPrefix(access[string(role)].Inbox))
	}
	must(t, operator.MakeMirror(t.Context(), as(operator.RoleAdmin), "acme", "hub"))
	service := openOn(t, as(operator.RoleService), kvregistry.Tenant("acme"))
	observer := openOn(t, as(operator.RoleObserver), kvregistry.Tenant("acme"),
		kvregistry.Timeout(natstest.Soon))
	register(t, service, web("a"))
	sees(t, observer, 0, "web", "a")
	fresh(t, observer, natstest.Soon)
	natstest.Eventually(t, time.Minute, func() error {
		if n := s.consumers(s.leaf); n != 2 {
			return fmt.Errorf("%d views read the mirror", n)
		}
		return nil
	})
	if _, err := observer.Register(web("b")); !errors.Is(err, kvregistry.ErrPermission) {
		t.Errorf("an observer registered: %v", err)
	}
	killed := start(t, plan{URL: s.hub.URL(), Tenant: "acme", Services: []kvService{web("dies")}})
	sees(t, observer, natstest.Soon, "web", "a", "dies")
	killed.kill() // the service at the leaf reaps it
	sees(t, observer, natstest.Soon, "web", "a")
}
