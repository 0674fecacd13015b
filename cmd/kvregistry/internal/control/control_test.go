package control

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
	"github.com/kvregistry/go/tenant"
)

// TestMain keeps what the machine says of NATS away from the tests.
func TestMain(m *testing.M) {
	for _, name := range []string{"NATS_URL", "NATS_CONTEXT", "NATS_CREDS", "NATS_USER"} {
		_ = os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// called runs a command line on a server, and returns what it printed.
func called(url string, args ...string) (code int, out, err string) {
	var o, e bytes.Buffer
	std := cli.NewStreams(strings.NewReader(""), &o, &e)
	root := &cobra.Command{Use: "kvregistry"}
	root.AddCommand(DrainCommand(std), DeregisterCommand(std))
	code = cli.Run(root, append(args, "--server", url), std)
	return code, o.String(), e.String()
}

// place is a tenant in which no process reaps, so that what is dead stays.
type place struct {
	*kvregistrytest.Env
	t   *testing.T
	url string
	kv  jetstream.KeyValue
}

func newPlace(t *testing.T) *place {
	t.Helper()
	env := kvregistrytest.New(t, kvregistry.WithoutReaping())
	js, err := jetstream.New(env.Conn())
	must(t, err)
	kv, err := js.KeyValue(t.Context(), "registry_default")
	must(t, err)
	return &place{env, t, env.URL(), kv}
}

// put writes a key by hand.
func (p *place) put(key, value string) uint64 {
	p.t.Helper()
	rev, err := p.kv.PutString(p.t.Context(), key, value)
	must(p.t, err)
	return rev
}

// dead writes the registration of an instance by a lease that is not there.
func (p *place) dead(id, lease string) {
	p.t.Helper()
	p.put("svc.web."+id, fmt.Sprintf(`{"format":1,"lease":%q,"owner":"O","instance":{"id":%q,`+
		`"name":"web","address":"h:1"}}`, lease, id))
}

// lease writes a lease by hand, which does not end.
func (p *place) lease(id, value string) {
	p.t.Helper()
	p.put(tenant.LeaseKey(id), value)
}

// sees waits until the service "web" has exactly some instances.
func (p *place) sees(want ...string) {
	p.t.Helper()
	natstest.Eventually(p.t, natstest.Soon, func() error {
		snap, err := p.SnapshotContext(p.t.Context(), "web")
		if err != nil {
			return err
		}
		var got []string
		for s := range snap.All() {
			got = append(got, s.ID)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("web has %q, want %q", got, want)
		}
		return nil
	})
}

// "drain" has the owner of an instance drain it. Seen to fail with a command that does not wait for
// the second answer, and with an id that is printed as it is.
func TestDrainCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	owner := p.Open(kvregistry.WithoutReaping())
	ids := map[string]string{"a": "a", "b/c d": "b/c d", "c\x1b[2J\nforged": `c\x1b[2J\nforged`}
	for id := range ids {
		_, err := owner.Register(kvregistry.Service{Name: "web", ID: id, Address: "h:1"})
		must(t, err)
	}
	for id, printed := range ids {
		code, out, text := called(p.url, "drain", "web/"+id)
		if code != 0 || out != "drained web/"+printed+"\n" || text != "" {
			t.Errorf("%s: %d %q %q", id, code, out, text)
		}
		for _, s := range owner.RegisteredServices() {
			if s.ID == id {
				t.Errorf("%s is still registered", id)
			}
		}
	}
	p.sees()
}

// "drain" says what is wrong if it can't have an instance drained, and does no harm. Seen to fail
// with a control subject that is not checked, which purges the bucket.
func TestDrainCommandFails(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	mute := p.Open(kvregistry.WithoutReaping(), kvregistry.WithoutRemoteDrain())
	_, err := mute.Register(kvregistry.Service{Name: "web", ID: "mute", Address: "h:1"})
	must(t, err)
	for id, control := range map[string]string{
		"older": "", "ended": "_INBOX.none.control", "frozen": "_INBOX.frozen.control",
		"hostile": "$JS.API.STREAM.PURGE.KV_registry_default", "fails": "_INBOX.fails.control",
	} {
		p.dead(id, "L"+id)
		p.lease("L"+id, fmt.Sprintf(
			`{"format":1,"owner":"O","host":"n\u001b[2J\u202e1","pid":7,"control":%q}`, control))
	}
	p.dead("dead", "LDEAD")
	frozen, err := p.Conn().SubscribeSync("_INBOX.frozen.control")
	must(t, err)
	_, err = p.Conn().Subscribe("_INBOX.fails.control", func(m *nats.Msg) {
		_ = m.Respond([]byte("junk"))
		_ = m.Respond(wire.Answer{State: wire.Failed, Error: "oops\x1b[31m\nforged"}.Encode())
	})
	must(t, err)
	for _, tc := range []struct {
		what string
		code int
		err  string
	}{
		{"web/nosuch", 3, "there is no web/nosuch in tenant default"},
		{"nosuch/a", 3, "there is no nosuch/a"},
		{"web", 2, "name it as service/id"},
		{"web/", 2, "name it as service/id"},
		{"*/a", 2, "stands for all services"},
		{"web/dead", 1, "its owner is dead: a reaper removes"},
		{"web/mute", 1, "takes no requests: process"},
		{"web/older", 1, "takes no requests: process 7 on n"},
		{"web/hostile", 1, "takes no requests"},
		{"web/ended", 1, "its owner does not answer: process 7"},
		{"web/frozen", 1, "its owner does not answer within 2s"},
		{"web/fails", 1, "could not drain it: " +
			`process 7 on n\x1b[2J\u202e1 says: oops\x1b[31m\nforged`},
	} {
		code, out, text := called(p.url, "drain", tc.what)
		if code != tc.code || out != "" || !strings.Contains(text, tc.err) ||
			strings.ContainsAny(text, "\x1b\u202e") || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: %d %q %q, want %d %q", tc.what, code, out, text, tc.code, tc.err)
		}
	}
	if n, _, err := frozen.Pending(); err != nil || n != 1 {
		t.Errorf("the frozen owner was asked %d times, %v", n, err)
	}
	p.sees("dead", "ended", "fails", "frozen", "hostile", "mute", "older")
}

// "deregister" removes what has no living owner, tells who did, and refuses the rest. Seen to fail
// without the look at the lease.
func TestDeregisterCommand(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	owner := p.Open(kvregistry.WithoutReaping())
	_, err := owner.Register(kvregistry.Service{Name: "web", ID: "alive", Address: "h:1"})
	must(t, err)
	p.dead("dead", "LDEAD")
	p.dead("ended", "LENDED")
	p.lease("LENDED", "{}")
	must(t, p.kv.Purge(t.Context(), tenant.LeaseKey("LENDED")))
	p.put("svc.web.junk", "\x00")
	events, err := p.Watch(t.Context(), "web")
	must(t, err)
	next := func() kvregistry.Event {
		select {
		case e := <-events:
			return e
		case <-time.After(natstest.Soon):
			t.Fatal("no event came")
			return kvregistry.Event{}
		}
	}
	for range 3 {
		if e := next(); e.Kind != kvregistry.Registered {
			t.Errorf("%+v", e)
		}
	}
	for _, tc := range []struct {
		what string
		code int
		text string
	}{
		{"web/nosuch", 3, "there is no web/nosuch in tenant default"},
		{"web/dead", 0, "deregistered web/dead"},
		{"web/dead", 3, "there is no web/dead"},
		{"web/ended", 0, "deregistered web/ended"},
		{"web/junk", 0, "deregistered web/junk"},
		{"web/alive", 1, "its owner is alive: process"},
	} {
		code, out, text := called(p.url, "deregister", tc.what)
		if code != tc.code || !strings.Contains(out+text, tc.text) {
			t.Errorf("%s: %d %q %q, want %d %q", tc.what, code, out, text, tc.code, tc.text)
		}
	}
	p.sees("alive")
	for range 2 {
		if e := next(); e.Kind != kvregistry.Expired {
			t.Errorf("%+v", e)
		}
	}
}

// A living owner writes its registration again after a forced removal. Seen to fail with an owner
// that takes the removal for a newer registration.
func TestDeregisterByForce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	owner := p.Open(kvregistry.WithoutReaping())
	_, err := owner.Register(kvregistry.Service{Name: "web", ID: "a", Address: "h:1"})
	must(t, err)
	before, err := p.kv.Get(t.Context(), "svc.web.a")
	must(t, err)
	if code, out, text := called(p.url, "deregister", "web/a", "--force"); code != 0 ||
		out != "deregistered web/a\n" || text != "" {
		t.Errorf("%d %q %q", code, out, text)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		after, err := p.kv.Get(t.Context(), "svc.web.a")
		if err == nil && after.Revision() < before.Revision()+2 {
			err = errors.New("it was not removed")
		}
		return err
	})
	if n := len(owner.RegisteredServices()); n != 1 {
		t.Errorf("the owner has %d registrations", n)
	}
}

// A registration that was written after the look is not removed. Seen to fail with a removal of
// whatever is there.
func TestDeregisterLeavesTheNewer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.dead("a", "LDEAD")
	b, err := tenant.New(p.Conn(), "default", tenant.Config{})
	must(t, err)
	r, err := read(t.Context(), b, "web", "a")
	must(t, err)
	_, err = p.Open(kvregistry.WithoutReaping()).Register(kvregistry.Service{Name: "web", ID: "a",
		Address: "h:2"})
	must(t, err)
	if err := r.remove(t.Context(), b); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
	p.sees("a")
}
