package why

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/control"
	"github.com/kvregistry/go/internal/natstest"
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

// place is a tenant on a server.
type place struct {
	*kvregistrytest.Env
	t  *testing.T
	kv jetstream.KeyValue
}

func newPlace(t *testing.T, opts ...kvregistry.Option) *place {
	t.Helper()
	env := kvregistrytest.New(t, opts...)
	js, err := jetstream.New(env.Conn())
	must(t, err)
	kv, err := js.KeyValue(t.Context(), "registry_default")
	must(t, err)
	return &place{env, t, kv}
}

// called runs a command line, and returns what it printed.
func (p *place) called(args ...string) (code int, out, err string) {
	p.t.Helper()
	var o, e bytes.Buffer
	std := cli.NewStreams(strings.NewReader(""), &o, &e)
	root := &cobra.Command{Use: "kvregistry"}
	root.AddCommand(Command(std))
	code = cli.Run(root, append(append([]string{"why"}, args...), "--server", p.URL()), std)
	if strings.ContainsAny(o.String()+e.String(), "\x1b\u202e\x00") {
		p.t.Errorf("%q: %q %q steers the terminal", args, o.String(), e.String())
	}
	return code, o.String(), e.String()
}

// says checks that the command says each of some texts, in this order.
func (p *place) says(what string, texts ...string) {
	p.t.Helper()
	code, out, text := p.called(what)
	rest := out
	for _, want := range texts {
		i := strings.Index(rest, want)
		if i < 0 {
			p.t.Errorf("%s: %q does not come in\n%s%s(exit code %d)", what, want, out, text, code)
			return
		}
		rest = rest[i+len(want):]
	}
	if code != 0 || text != "" {
		p.t.Errorf("%s: %d %q", what, code, text)
	}
}

// asks returns the command's answer for programs.
func (p *place) asks(what string) (a Answer) {
	p.t.Helper()
	code, out, text := p.called(what, "-o", "json")
	var list []Answer
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list) != 1 {
		p.t.Fatalf("%s: %d %s%s %v", what, code, out, text, err)
	}
	return list[0]
}

func (p *place) put(key, value string) {
	p.t.Helper()
	_, err := p.kv.PutString(p.t.Context(), key, value)
	must(p.t, err)
}

// An instance that is registered: whose it is, since when, how it is reached, and whether look-ups
// return it. Seen to fail with the time of the lease in place of the registration's.
func TestWhyRegistered(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, err := p.Register(kvregistry.Service{Name: "web", ID: "a", Address: "10.0.0.1:80",
		Endpoints: map[string]string{"grpc": "10.0.0.1:9000"}})
	must(t, err)
	_, err = p.Open().Register(kvregistry.Service{Name: "web", ID: "b", URL: "http://h:1/x",
		Status: kvregistry.Warning})
	must(t, err)
	host, _ := os.Hostname()
	p.says("web/a", "web/a is registered, and its status is passing.",
		"was last written at "+time.Now().Format("2006-"), "since then, or longer",
		fmt.Sprintf("Its owner is process %d on %s, which started at ", os.Getpid(), host),
		"has a TTL of 15s and was renewed", "reached at 10.0.0.1:80.",
		"endpoint grpc is at 10.0.0.1:9000.", "Look-ups return it.",
		"in the caller's process alone")
	p.says("web/b", "its status is warning.", "reached at http://h:1/x.",
		"do not return it while others pass: 1 do.")
	must(t, p.SetStatus("web", kvregistry.Critical))
	p.says("web/a", "its status is critical.", "do not return it, because it is critical.")
	p.says("web/b", "return it, because no instance of the service passes.")

	a := p.asks("web/a")
	leases, err := p.Leases(t.Context())
	must(t, err)
	entry, err := p.kv.Get(t.Context(), "svc.web.a")
	must(t, err)
	if a.What != "web/a" || a.State != Registered || a.Revision != entry.Revision() ||
		!a.At.Equal(entry.Created()) || a.Instance == nil || a.Instance.Address != "10.0.0.1:80" ||
		a.Owner == nil || !a.Owner.Alive || a.Owner.TTL != "15s" || len(leases) != 2 ||
		a.Owner.Lease != leases[0].ID && a.Owner.Lease != leases[1].ID {
		t.Errorf("%+v, owner %+v", a, a.Owner)
	}
}

// An instance that is gone: how and when it went. Seen to fail with a delete that is taken for a
// purge, and with a removal by hand that is taken for a reaper's.
func TestWhyGone(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	owner := p.Open()
	for _, id := range []string{"unregistered", "deleted", "purged"} {
		_, err := owner.Register(kvregistry.Service{Name: id, ID: "a", Address: "h:1"})
		must(t, err)
	}
	_, err := p.Open().Register(kvregistry.Service{Name: "reaped", ID: "a", Address: "h:1"})
	must(t, err)
	must(t, owner.Unregister("unregistered"))
	p.Kill("a")
	must(t, p.kv.Delete(t.Context(), "svc.deleted.byhand")) // as the nats command does
	must(t, p.kv.Purge(t.Context(), "svc.purged.byhand"))
	today := time.Now().Format("2006-")
	p.says("unregistered/a", "unregistered/a was unregistered by its owner at "+today)
	p.says("reaped/a", "reaped/a was reaped at "+today, "because its lease had ended",
		"does not tell which process", "The tenant's reapers are now: ")
	p.says("deleted/byhand", "was removed at "+today, "by hand: the registry's own delete has")
	p.says("purged/byhand", "was removed at "+today, "by hand: the registry's own purge has")
	for what, want := range map[string]State{"unregistered/a": Unregistered, "reaped/a": Reaped,
		"purged/byhand": Removed} {
		if a := p.asks(what); a.State != want || a.At.IsZero() || len(a.Facts) == 0 {
			t.Errorf("%+v, want %s", a, want)
		}
	}
	for what, want := range map[string]string{"nosuch/a": "nothing is known of nosuch/a",
		"lock/nosuch": "nothing is known of lock/nosuch"} {
		if code, out, text := p.called(what); code != cli.ExitNone || out != "" ||
			!strings.Contains(text, want) {
			t.Errorf("%s: %d %q %q", what, code, out, text)
		}
	}
	for _, what := range []string{"web", "/a", "web/", "*/a", "lock/"} {
		if code, _, text := p.called(what); code != cli.ExitUsage {
			t.Errorf("%s: %d %q", what, code, text)
		}
	}
}

// An instance whose owner is dead, and a value that is no registration. Seen to fail without the
// look at the lease.
func TestWhyDead(t *testing.T) {
	t.Parallel()
	p := newPlace(t, kvregistry.WithoutReaping())
	for _, id := range []string{"never", "ended"} {
		p.put("svc.web."+id, fmt.Sprintf(`{"format":1,"lease":"L%s","owner":"O","instance":`+
			`{"id":%q,"name":"web","address":"h:1"}}`, id, id))
	}
	_, err := p.kv.Create(t.Context(), tenant.LeaseKey("Lran"), nil, jetstream.KeyTTL(time.Second))
	must(t, err)
	p.put("svc.web.ran", `{"format":1,"lease":"Lran","instance":{"id":"ran","name":"web"}}`)
	p.put("lease.Lended", "{}")
	must(t, p.kv.Purge(t.Context(), "lease.Lended"))
	p.put("svc.web.junk", "\x00")
	p.put("svc.web.newer", `{"format":9,"lease":"Lnever"}`)
	p.put("svc.web.wrong", `{"format":1,"lease":"Lnever","instance":{"id":"x","name":"web"}}`)
	p.says("web/never", "is registered, but its owner is dead.",
		"Its lease Lnever is not in the bucket: it ended more than 10 minutes ago",
		"A reaper removes the registration", "No process reaps in this tenant now.")
	p.says("web/ended", "Its lease Lended was given back by its process, or ended by a reaper")
	natstest.Eventually(t, natstest.Soon, func() error {
		_, out, _ := p.called("web/ran")
		if !strings.Contains(out, "Its lease Lran ran out at ") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	p.says("web/junk", "whose value is no registration", "kvregistry deregister does")
	p.says("web/newer", "is registered in format 9, and this program reads 1: update it.")
	p.says("web/wrong", "web/wrong is registered, but its owner is dead.")
	if a := p.asks("web/never"); a.State != Dead || a.Owner == nil || a.Owner.Alive {
		t.Errorf("%+v", a)
	}
	b, err := tenant.New(p.Conn(), "default", tenant.Config{})
	must(t, err)
	must(t, control.Deregister(t.Context(), b, "web", "never", false))
	host, _ := os.Hostname()
	p.says("web/never", "was removed at ", fmt.Sprintf(
		"by kvregistry deregister: process %d on %s.", os.Getpid(), host))
}

// A name: who holds it, who waits, and what is known when nobody does. Seen to fail with places in
// the order of their keys.
func TestWhyLock(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	h, err := p.Exclusive(t.Context(), "jobs")
	must(t, err)
	waits := p.Open(kvregistry.TTL(20 * time.Second))
	got := make(chan error, 1)
	go func() { // ends when the name is released
		_, err := waits.Exclusive(t.Context(), "jobs")
		got <- err
	}()
	natstest.Eventually(t, natstest.Soon, func() error {
		if a := p.asks("lock/jobs"); len(a.Waiting) == 0 {
			return fmt.Errorf("%+v", a)
		}
		return nil
	})
	p.says("lock/jobs", fmt.Sprintf("lock/jobs is held by process %d on ", os.Getpid()),
		fmt.Sprintf("with the fencing token %d.", h.Token()), "stood in line since ",
		"The holder is process", "has a TTL of 15s", "Waits, in place 1: process", "since ")
	a := p.asks("lock/jobs")
	if a.State != Held || a.Revision != h.Token() || a.Owner == nil || a.Owner.TTL != "15s" ||
		len(a.Waiting) != 1 || a.Waiting[0].TTL != "20s" || !a.Waiting[0].Alive {
		t.Errorf("%+v", a)
	}
	must(t, h.Close())
	must(t, <-got)
	p.says("lock/jobs", "lock/jobs is held by", "has a TTL of 20s", "No other process waits")
	must(t, waits.Close())
	p.says("lock/jobs", "No process holds lock/jobs.", "The last place in its line ended at ")

	p.put("lock.old.a", `{"format":1,"lease":"LGONE","owner":"O"}`)
	p.put("lock.old.b", "junk")
	p.says("lock/old", "held by the registry O", "Its lease LGONE is not in the bucket",
		"has stopped to hold the name", "1 keys of its line have a value that is no place")
}

// The sentences show no secret of a URL. Seen to fail with sentences that have the URL as it is.
func TestWhySecretsOfURLs(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, err := p.Register(kvregistry.Service{Name: "web", ID: "a", URL: "https://SECRET@h/x",
		Endpoints: map[string]string{"admin": "https://h/?key=SECRET"}})
	must(t, err)
	p.says("web/a", "It is reached at https://xxxxx@h/x.",
		"Its endpoint admin is at https://h/?xxxxx.")
	if _, out, _ := p.called("web/a"); strings.Contains(out, "SECRET") {
		t.Errorf("%s", out)
	}
}

// Hostile texts are printed as text: called checks the output of each. Seen to fail with facts that
// are printed as they are.
func TestWhyHostile(t *testing.T) {
	t.Parallel()
	p := newPlace(t, kvregistry.WithoutReaping())
	const hostile = `x\u001b[31m\u202e\nforged is registered`
	p.put("lease.L", `{"format":1,"owner":"`+hostile+`","host":"`+hostile+`","pid":7,"ttl":"15s"}`)
	p.put("svc.web.a", `{"format":1,"lease":"L","owner":"`+hostile+`","instance":{"id":"a",`+
		`"name":"web","address":"`+hostile+`","url":"`+hostile+`","endpoints":{"`+hostile+`":"`+
		hostile+`"}}}`)
	p.put("lock.web.a", `{"format":1,"lease":"L","owner":"`+hostile+`"}`)
	p.put("svc.web.b", "x")
	_, err := p.kv.Create(t.Context(), "svc.web.c", []byte("x"))
	must(t, err)
	for _, what := range []string{"web/a", "web/b", "web/c", "lock/web"} {
		for _, args := range [][]string{{what}, {what, "-o", "json"}, {what, "-o", "jsonl"},
			{what, "-o", "name"}} {
			code, out, text := p.called(args...)
			if code != 0 || strings.Contains(out, "\nforged") {
				t.Errorf("%q: %d %q %q", args, code, out, text)
			}
		}
	}
}
