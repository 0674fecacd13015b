package page

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
	"github.com/kvregistry/go/tenant"
)

// The changes that are kept say what was and why, and not what was there at the start. Seen to fail
// with a start that is kept as changes.
func TestChanges(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	_, err := env.Register(kvregistry.Service{Name: "web", ID: "there", Address: "h:1"})
	must(t, err)
	s := serveEnv(t, env, Config{})
	read(t, s.URL+"/api/health", func(w struct {
		Age *float64 `json:"age_seconds"`
	}) error {
		if w.Age == nil {
			return errors.New("it has read nothing")
		}
		return nil
	})
	other := env.Open()
	_, err = other.Register(kvregistry.Service{Name: "web", ID: "new", Address: "h:2",
		Metadata: map[string]string{"k": strings.Repeat("v", 60_000)}})
	must(t, err)
	var last []event
	await := func(kind kvregistry.Kind) {
		t.Helper()
		read(t, s.URL+"/api/changes", func(list []event) error {
			if last = list; len(list) == 0 || list[0].Kind != kind {
				return fmt.Errorf("the changes are %v, want %s", list, kind)
			}
			return nil
		})
	}
	await(kvregistry.Registered)
	must(t, other.SetStatus("web", kvregistry.Draining))
	await(kvregistry.Updated)
	if was := last[0].Was; len(was) != 1 || was[0] != (field{"status", "passing", "draining"}) {
		t.Errorf("it changed %v", was)
	}
	env.Kill("new")
	await(kvregistry.Expired)
	if len(last) != 3 || last[2].Instance != "new" || last[0].Number != 3 {
		t.Errorf("the changes are %v", last)
	}
	if !strings.Contains(last[0].Cause, "lease ended") {
		t.Errorf("the cause is %q", last[0].Cause)
	}
	must(t, env.Unregister("web"))
	await(kvregistry.Unregistered)
	read(t, s.URL+"/api/changes?after=3", func(list []event) error {
		if len(list) != 1 {
			t.Errorf("after the third: %v", list)
		}
		return nil
	})
	answer, _ := get(t, s.URL+"/api/changes?after=x")
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("after=x: %s", answer.Status)
	}
}

// Of many changes the last ones are kept, without a gap.
func TestKeptChanges(t *testing.T) {
	t.Parallel()
	p := &past{}
	for i := range 2*keptChanges + 7 {
		p.add(&kvregistry.Event{Kind: kvregistry.Registered,
			Service: kvregistry.Service{Name: "web", ID: fmt.Sprint(i)}})
	}
	list := p.after(0)
	if len(list) != keptChanges || list[0].Number != 2*keptChanges+7 ||
		list[keptChanges-1].Number != keptChanges+8 {
		t.Errorf("%d changes from %d to %d", len(list), list[0].Number, list[len(list)-1].Number)
	}
	for i, e := range list {
		if e.Instance != fmt.Sprint(e.Number-1) || e.Number != list[0].Number-uint64(i) {
			t.Errorf("change %d is of %s", e.Number, e.Instance)
		}
	}
}

// The stream cuts what is long, and the instance itself has all of it, except secrets. Seen to
// fail with a stream that sends the whole record, and with url.Redacted.
func TestInstance(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	long := strings.Repeat("é", 20_000)
	_, err := env.Register(kvregistry.Service{Name: "wéb", ID: "a/b c", Address: "h:1",
		URL: "https://user:secret@h/x", Metadata: map[string]string{"long": long},
		Endpoints: map[string]string{"admin": "http://root:secret@h:1/",
			"token": "https://secret@h", "query": "https://h/?key=secret"}})
	must(t, err)
	s := serveEnv(t, env, Config{})
	l := listen(t, s.URL)
	l.agrees(env.Registry)
	one := l.model["wéb"]["a/b c"]
	if n := len(one.Metadata["long"]); !one.Cut || n > longestText+len("…") {
		t.Errorf("the stream has %d bytes, cut: %t", n, one.Cut)
	}
	_, body := get(t, s.URL+"/api/instance?service=w%C3%A9b&id=a%2Fb%20c")
	var whole instance
	must(t, json.Unmarshal([]byte(body), &whole))
	if whole.Metadata["long"] != long || whole.Owner == "" || whole.Lease == "" {
		t.Errorf("the instance is %.300s", body)
	}
	for _, text := range append(slices.Collect(maps.Values(one.Endpoints)), body, one.URL) {
		if strings.Contains(text, "secret") {
			t.Errorf("the password is shown: %.300s", text)
		}
	}
	if answer, _ := get(t, s.URL+"/api/instance?service=web&id=x"); answer.StatusCode != 404 {
		t.Errorf("an instance that is not there: %s", answer.Status)
	}
}

// Leases and exclusive names of other processes are shown. Seen to fail with lines that are not
// ordered by token.
func TestLeasesAndHolds(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	first, err := env.Exclusive(t.Context(), "leader/of all")
	must(t, err)
	defer first.Close()
	_, err = env.RegisterAll(t.Context(), kvregistry.Service{Name: "web", ID: "1", Address: "h:1"},
		kvregistry.Service{Name: "mail", ID: "1", Address: "h:2"})
	must(t, err)
	b, err := tenant.New(env.Conn(), kvregistry.DefaultTenant, tenant.Config{})
	must(t, err)
	s := serveEnv(t, env, Config{Holds: ReadHolds(b)})
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan struct{})
	go func() { // ends with ctx
		defer close(waits)
		_, _ = env.Open().Exclusive(ctx, "leader/of all")
	}()
	defer func() { cancel(); <-waits }()
	read(t, s.URL+"/api/holds", func(list []Hold) error {
		if len(list) != 2 || list[0].Place != 1 || list[1].Place != 2 ||
			list[0].Token != first.Token() || list[1].Name != "leader/of all" {
			return fmt.Errorf("the holds are %v, want token %d first", list, first.Token())
		}
		return nil
	})
	read(t, s.URL+"/api/leases", func(w struct{ Leases []lease }) error {
		kept := 0
		for _, l := range w.Leases {
			if l.TTL != 15 || l.Host == "" || l.PID == 0 || l.Age > l.TTL {
				return fmt.Errorf("a lease is %v", l)
			}
			kept += l.Registrations
		}
		if len(w.Leases) != 2 || kept != 2 {
			return fmt.Errorf("the leases are %v", w.Leases)
		}
		return nil
	})
}

// The health is told in words, and the words are those of the registry's health alone.
func TestWords(t *testing.T) {
	t.Parallel()
	now := kvregistry.Health{Connected: true, Age: time.Second}
	for _, c := range []struct {
		name, state, want string
		set               func(*kvregistry.Health)
	}{
		{"fine", good, "the server confirmed it 1.0 s ago", func(*kvregistry.Health) {}},
		{"away", trouble, "NATS is away: down. The page shows what was known 20 s ago",
			func(h *kvregistry.Health) {
				h.Connected, h.Err, h.Age = false, errors.New("down"), 20*time.Second
			}},
		{"nobody reaps", trouble, "Nobody removes what dead processes left: 3 leases",
			func(h *kvregistry.Health) { h.Unreaped = 3 }},
		{"held back", doubt, "1 lease ended, and the registrations are still there",
			func(h *kvregistry.Health) { h.Reaps, h.Ended = true, 1 }},
		{"skipped", doubt, "2 records that could not be read", func(h *kvregistry.Health) {
			h.Skipped = 2
		}},
		{"again", good, "was read again 3 times: reconnected 2, silent 1",
			func(h *kvregistry.Health) {
				h.Resyncs, h.Sessions = 3, map[string]uint64{"silent": 1, "reconnected": 2}
			}},
		{"full", trouble, "Some instances are left out", func(h *kvregistry.Health) {
			h.Full = true
		}},
	} {
		h := now
		c.set(&h)
		found := false
		for _, f := range factsOf(&h) {
			found = found || f.State == c.state && strings.Contains(f.Text, c.want)
		}
		if !found {
			t.Errorf("%s: %v, want %s %q", c.name, factsOf(&h), c.state, c.want)
		}
	}
}

// While NATS is away the page says so and goes on, and the outage is kept. Seen to fail without
// OnHealth.
func TestOutage(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	_, err := env.Register(kvregistry.Service{Name: "web", ID: "1", Address: "h:1"})
	must(t, err)
	s := serveEnv(t, env, Config{})
	l := listen(t, s.URL)
	l.agrees(env.Registry)
	says := func(headline string, ok bool) {
		t.Helper()
		read(t, s.URL+"/api/health", func(w struct {
			Headline string
			Turns    []turn
		}) error {
			if w.Headline != headline || len(w.Turns) == 0 || w.Turns[0].OK != ok ||
				!ok && !strings.Contains(w.Turns[0].Why, "NATS is away") {
				return fmt.Errorf("it says %q, want %q; turns %v", w.Headline, headline, w.Turns)
			}
			return nil
		})
	}
	says("Live", true)
	env.StopServer()
	says("NATS is away", false)
	env.StartServer()
	says("Live", true)
	must(t, env.SetStatus("web", kvregistry.Warning))
	l.agrees(env.Registry)
}

// The command serves the page, the metrics and a readiness check until it is stopped.
func TestCommand(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	out, said := &natstest.Log{}, &natstest.Log{}
	c := Command(cli.NewStreams(&bytes.Buffer{}, out, said))
	c.SetArgs([]string{"--server", env.URL(), "--listen", "127.0.0.1:0"})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.ExecuteContext(ctx) }() // ends with ctx
	var url string
	natstest.Eventually(t, natstest.Soon, func() error {
		_, at, ok := strings.Cut(out.String(), "http://")
		if !ok {
			return fmt.Errorf("it says %s %s", out, said)
		}
		url = "http://" + strings.TrimSpace(at)
		return nil
	})
	listen(t, strings.TrimSuffix(url, "/")).until("synced")
	for path, want := range map[string]string{"": "<title>kvregistry</title>", "healthz": "ready",
		"metrics": "kvregistry_services 0"} {
		answer, body := get(t, url+path)
		if answer.StatusCode != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("/%s: %s %s", path, answer.Status, body)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if strings.Contains(said.String(), "warning") {
		t.Errorf("it said %s", said)
	}
}

// An address that other machines reach is warned of.
func TestLoopback(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]bool{
		"127.0.0.1:8550": true, "[::1]:8550": true, "localhost:0": true, "127.1.2.3:1": true,
		":8550": false, "0.0.0.0:8550": false, "[::]:1": false, "192.0.2.1:1": false, "h:1": false,
	} {
		if loopbackName(listen) != want {
			t.Errorf("%s: %t", listen, !want)
		}
		host, _, err := net.SplitHostPort(listen)
		must(t, err)
		if ip := net.ParseIP(host); ip != nil && onLoopback(&net.TCPAddr{IP: ip}) != want {
			t.Errorf("%s: %t", listen, !want)
		}
	}
}
