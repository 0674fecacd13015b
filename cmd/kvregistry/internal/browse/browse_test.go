package browse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// root has the commands of this package.
func root(std cli.Streams) *cobra.Command {
	c := &cobra.Command{Use: "kvregistry"}
	c.AddCommand(List(std), Get(std), Watch(std), Resolve(std), Wait(std), Leases(std))
	return c
}

// called runs a command line on a server, and returns what it printed.
func called(url, line string) (code int, out, err string) {
	var o, e bytes.Buffer
	std := cli.NewStreams(strings.NewReader(""), &o, &e)
	code = cli.Run(root(std), append(strings.Fields(line), "--server", url), std)
	return code, o.String(), e.String()
}

// fleet is a tenant with two services.
func fleet(t *testing.T) (*kvregistrytest.Env, string) {
	t.Helper()
	env := kvregistrytest.New(t)
	for _, s := range []kvregistry.Service{
		{Name: "web", ID: "a", Address: "10.0.0.1:80", Zone: "north", Version: "1.2",
			Tags:      []string{"canary", "x86"},
			Endpoints: map[string]string{"grpc": "10.0.0.1:9000"},
			Metadata:  map[string]string{"rack": "R7"}},
		{Name: "web", ID: "b", Address: "10.0.0.2:80", Zone: "south",
			Status: kvregistry.Warning},
		{Name: "db", ID: "c", URL: "postgres://10.0.0.3/x", Host: "stone"},
	} {
		if _, err := env.Register(s); err != nil {
			t.Fatal(err)
		}
	}
	return env, env.Conn().ConnectedUrl()
}

// Each command that reads prints what is there, and its exit code says whether there is something.
// Seen to fail with filters that let everything through, and with a list that is empty and code 0.
func TestReading(t *testing.T) {
	t.Parallel()
	_, url := fleet(t)
	for _, tc := range []struct {
		line string
		code int
		out  string // the whole output, if it ends with a line feed
		err  string
	}{
		{"ls", 0, "service  instances  passing  warning  critical  draining\n" +
			"db       1          1        0        0         0\n" +
			"web      2          1        1        0         0\n", ""},
		{"ls -o name", 0, "db\nweb\n", ""},
		{"ls -o name --tag canary", 0, "web\n", ""},
		{"ls -o name --tag canary --tag arm", 3, "", "no service in tenant default that the"},
		{"ls -o name --status warning --status critical", 0, "web\n", ""},
		{"ls web -o name", 0, "web/a\nweb/b\n", ""},
		{"ls web -o name --zone south", 0, "web/b\n", ""},
		{"ls web -o name --match r7", 0, "web/a\n", ""},
		{"ls web -o name --match :9000", 0, "web/a\n", ""},
		{"ls web -o name --version 1.2", 0, "web/a\n", ""},
		{"ls -o name --host stone", 0, "db\n", ""},
		{"ls web --status pasing", 2, "", "--status pasing is unknown: use passing, warning"},
		{"ls web", 0, "instance  status   address      version  zone", ""},
		{"ls web -o wide", 0, "grpc=10.0.0.1:9000", ""},
		{"ls nosuch", 3, "", "there is no instance of service nosuch in tenant default"},
		{"ls --tenant nosuch", 3, "", "there is no tenant nosuch: register a service in it"},
		{"ls --tenant a.b", 2, "", "--tenant"},
		{"ls -o xml", 2, "", "--output is xml: use table, wide, json"},
		{"get web/a", 0, "endpoint grpc  10.0.0.1:9000\n", ""},
		{"get web/a", 0, "metadata rack  R7\n", ""},
		{"get web/nosuch", 3, "", "there is no web/nosuch"},
		{"get web -o name", 0, "web/a\nweb/b\n", ""},
		{"get", 2, "", "name the service[/id]"},
		{"resolve web", 0, "10.0.0.1:80\n", ""},
		{"resolve web --status warning", 0, "10.0.0.2:80\n", ""},
		{"resolve db", 0, "postgres://10.0.0.3/x\n", ""},
		{"resolve web --endpoint grpc", 0, "10.0.0.1:9000\n", ""},
		{"resolve web --picker hash --key u", 0, "10.0.0.1:80\n", ""},
		{"resolve web --picker hash", 2, "", "the picker hash needs --key"},
		{"resolve web --picker best", 2, "", "--picker best is unknown"},
		{"resolve nosuch", 3, "", "nosuch"},
		{"wait web -o name", 0, "web/a\n", ""},
		{"wait web -n 2 --status passing --status warning -o name", 0, "web/a\nweb/b\n", ""},
		{"wait web -n 2 --timeout 1s", 3, "", "web"},
		{"wait web -n 0", 2, "", "--number 0 is invalid"},
		{"leases", 0, "lease", ""},
	} {
		code, out, text := called(url, tc.line)
		same := out == tc.out
		if !strings.HasSuffix(tc.out, "\n") || strings.HasPrefix(tc.line, "get web/") {
			same = strings.Contains(out, tc.out)
		}
		if code != tc.code || !same || !strings.Contains(text, tc.err) ||
			tc.err == "" && text != "" {
			t.Errorf("%s: %d\n%s%s, want %d\n%s%s", tc.line, code, out, text, tc.code, tc.out,
				tc.err)
		}
	}
}

// Reading makes no tenant. Seen to fail with an Open that does not look first.
func TestReadingMakesNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"ls", "get web", "resolve web", "leases", "watch",
		"wait web --timeout 1s"} {
		if code, _, text := called(s.URL(), line); code != cli.ExitNone {
			t.Errorf("%s: %d %s", line, code, text)
		}
	}
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		t.Errorf("%s was made", name)
	}
	if names.Err() != nil {
		t.Error(names.Err())
	}
}

// Programs read the JSON of an instance, with the process that registered it.
func TestInstanceAsJSON(t *testing.T) {
	t.Parallel()
	env, url := fleet(t)
	code, out, text := called(url, "get web/a -o json")
	var got []instance
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || len(got) != 1 {
		t.Fatal(code, out, text, err)
	}
	snap, err := env.Snapshot("web")
	if err != nil {
		t.Fatal(err)
	}
	want := snap.At(0)
	if i := got[0]; i.ID != "a" || i.Revision != want.Revision || i.Owner != want.Owner ||
		i.Lease != want.Lease || i.Process == nil || i.Process.PID == 0 ||
		i.Process.TTL != "15s" || i.Endpoints["grpc"] == "" {
		t.Errorf("%s", out)
	}
	if _, out, _ := called(url, "ls web -o jsonl"); strings.Count(out, "\n") != 2 {
		t.Errorf("%s", out)
	}
}

// A service that says hostile things controls no terminal.
func TestHostileInstance(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	const hostile = "x\x1b[31m\u202e\nforged/b  passing"
	if _, err := env.Register(kvregistry.Service{Name: "web", ID: "a", Address: "h:80",
		Version: hostile, Zone: hostile, Tags: []string{hostile},
		Metadata: map[string]string{hostile: hostile}}); err != nil {
		t.Fatal(err)
	}
	url := env.Conn().ConnectedUrl()
	for _, line := range []string{"ls", "ls web", "ls web -o wide", "get web", "get web -o json",
		"ls web -o jsonl", "resolve web"} {
		code, out, text := called(url, line)
		if code != 0 || strings.ContainsAny(out, "\x1b\u202e") ||
			strings.Contains(out, "\nforged") {
			t.Errorf("%s: %d %q %s", line, code, out, text)
		}
	}
}

// Tables and text show no secret of a URL; JSON and "resolve", which programs read, have the URL
// whole. Seen to fail with each of the places that showed the URL as it is.
func TestSecretsOfURLs(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	const token, query = "https://SECRET@h/x", "https://h/?key=SECRET"
	if _, err := env.Register(kvregistry.Service{Name: "web", ID: "a", URL: token,
		Endpoints: map[string]string{"admin": query}}); err != nil {
		t.Fatal(err)
	}
	url := env.Conn().ConnectedUrl()
	for line, whole := range map[string]bool{"ls web": false, "ls web -o wide": false,
		"get web": false, "wait web": false, "ls web -o jsonl": true, "get web -o json": true,
		"resolve web": true} {
		code, out, text := called(url, line)
		if code != 0 || strings.Contains(out, "SECRET") != whole ||
			strings.Contains(out, "xxxxx@h/x") == whole {
			t.Errorf("%s: %d %s%s", line, code, out, text)
		}
	}
	b := start(t, url, "watch web")
	b.says(t, "registered    web/a  https://xxxxx@h/x  passing")
	if err := env.Update(kvregistry.Service{Name: "web", ID: "a", URL: "https://SECRET2@h/x",
		Endpoints: map[string]string{"admin": query + "2"}}); err != nil {
		t.Fatal(err)
	}
	b.says(t, "(url: https://xxxxx@h/x → https://xxxxx@h/x, endpoints: "+
		"admin=https://h/?xxxxx → admin=https://h/?xxxxx)")
	if text := b.out.String(); strings.Contains(text, "SECRET") {
		t.Errorf("the watch shows a secret:\n%s", text)
	}
}

// background is a command that runs until the test ends.
type background struct {
	out, err natstest.Log
	code     chan int
}

func start(t *testing.T, url, line string, more ...string) *background {
	t.Helper()
	return startUntil(t.Context(), t, url, line, more...)
}

// startUntil starts a command that runs until ctx ends, which is derived from the test's.
func startUntil(ctx context.Context, t *testing.T, url, line string, more ...string) *background {
	t.Helper()
	b := &background{code: make(chan int, 1)}
	std := cli.NewStreams(strings.NewReader(""), &b.out, &b.err)
	c := root(std)
	c.SetContext(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		b.code <- cli.Run(c, append(append(strings.Fields(line), more...), "--server", url), std)
	})
	t.Cleanup(running.Wait) // after the test's context has ended
	return b
}

// says waits until the output has texts, in this order.
func (b *background) says(t *testing.T, texts ...string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		rest := b.out.String()
		for _, text := range texts {
			_, after, ok := strings.Cut(rest, text)
			if !ok {
				return fmt.Errorf("no %q, or not in order, in:\n%s%s", text, b.out.String(),
					b.err.String())
			}
			rest = after
		}
		return nil
	})
}

// A watch prints what is there, and then each change with what it changed. It lives through an
// outage of the server. Seen to fail with a connection that gives up.
func TestWatching(t *testing.T) {
	t.Parallel()
	env, url := fleet(t)
	b := start(t, url, "watch web")
	b.says(t, "registered", "web/a  10.0.0.1:80  passing", "registered", "web/b")
	if err := env.SetStatus("web", kvregistry.Critical); err != nil {
		t.Fatal(err)
	}
	b.says(t, "updated       web/b  10.0.0.2:80  critical  (status: warning → critical)")
	env.StopServer()
	env.StartServer()
	if err := env.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	b.says(t, "unregistered  web/")
	if text := b.out.String(); strings.Contains(text, "db/") {
		t.Errorf("another service:\n%s", text)
	}
}

// A watch that continues at a revision tells only of what came and went after it. Seen to fail with
// tombstones that are not read, and with all that is there.
func TestWatchingSince(t *testing.T) {
	t.Parallel()
	env, url := fleet(t)
	catalog, err := env.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	since := catalog.Revision()
	if code, _, text := called(url, "watch --since 99999"); code != 1 || !strings.Contains(text,
		"--since 99999 is above the bucket's last revision") {
		t.Errorf("a revision of another bucket: %d %s", code, text)
	}
	if err := env.Unregister("db"); err != nil {
		t.Fatal(err)
	}
	if _, err := env.Register(kvregistry.Service{Name: "new", ID: "n",
		Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	b := start(t, url, fmt.Sprint("watch -o jsonl --since ", since))
	b.says(t, `"kind":"unregistered","service":{"id":"c","name":"db"`, `"id":"n"`)
	if text := b.out.String(); strings.Contains(text, `"web"`) {
		t.Errorf("what was there before:\n%s", text)
	}
}

// A command runs for each change, with the change in its environment and on its standard input. One
// that fails does not end the watch.
func TestWatchingByACommand(t *testing.T) {
	t.Parallel()
	env, url := fleet(t)
	b := start(t, url, "watch web --exec", `e=KVREGISTRY_EVENT; echo "$(printenv ${e}_KIND) `+
		`$(printenv ${e}_SERVICE)/$(printenv ${e}_ID) $(printenv ${e}_ADDRESS) `+
		`$(printenv ${e}_STATUS)" "$(cat)"; exit 7`)
	b.says(t, `registered web/a 10.0.0.1:80 passing {"kind":"registered"`,
		`registered web/b 10.0.0.2:80 warning {`)
	if err := env.Unregister("web"); err != nil {
		t.Fatal(err)
	}
	b.says(t, "unregistered web/")
	natstest.Eventually(t, natstest.Soon, func() error {
		if text := b.err.String(); !strings.Contains(text, "exit code 7") {
			return fmt.Errorf("it says nothing of the failure: %s", text)
		}
		return nil
	})
}

// A command that waits outlasts a server and a tenant that are not there yet. Seen to fail with an
// error at once for each of them.
func TestWaitingForTheTenant(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.Tenant("other"))
	url := env.Conn().ConnectedUrl()
	env.StopServer()
	b := start(t, url, "wait web -o name")
	env.StartServer()
	reg := env.Open(kvregistry.Tenant(kvregistry.DefaultTenant))
	if _, err := reg.Register(kvregistry.Service{Name: "web", ID: "a",
		Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	b.says(t, "web/a\n")
	if code := <-b.code; code != 0 {
		t.Errorf("exit code %d: %s", code, b.err.String())
	}
}

// The list of leases has one per process, with how much it registered.
func TestLeasesOfAFleet(t *testing.T) {
	t.Parallel()
	env, url := fleet(t)
	other := env.Open(kvregistry.TTL(5 * 1e9))
	if _, err := other.Register(kvregistry.Service{Name: "web", ID: "z",
		Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	code, out, text := called(url, "leases -o json")
	var got []leaseRow
	if err := errors.Join(json.Unmarshal([]byte(out), &got)); err != nil || code != 0 {
		t.Fatal(code, out, text, err)
	}
	slices.SortFunc(got, func(a, b leaseRow) int { return a.Registrations - b.Registrations })
	if len(got) != 2 || got[0].Registrations != 1 || got[0].TTL != "5s" ||
		got[1].Registrations != 3 || got[1].PID == 0 || got[1].Started == nil {
		t.Errorf("%s", out)
	}
}

// A shell completes the name of a service, as the options before it say. Seen to fail with a copy
// of the options.
func TestCompletion(t *testing.T) {
	t.Parallel()
	_, url := fleet(t)
	for _, command := range []string{"ls", "get", "watch", "resolve", "wait"} {
		var out, text bytes.Buffer
		std := cli.NewStreams(nil, &out, &text)
		if code := cli.Run(root(std), []string{cobra.ShellCompNoDescRequestCmd, command, "--server",
			url, ""}, std); code != 0 || !strings.HasPrefix(out.String(), "db\nweb\n") {
			t.Errorf("%s: %d %s%s", command, code, out.String(), text.String())
		}
	}
}
