package doctor

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// call runs the command.
func call(args ...string) (code int, out, text string) {
	var o, e bytes.Buffer
	std := cli.NewStreams(nil, &o, &e)
	root := &cobra.Command{Use: "kvregistry"}
	root.AddCommand(Command(std))
	code = cli.Run(root, append([]string{"doctor", "--tenant", name, "--watch", "100ms"}, args...),
		std)
	return code, o.String(), e.String()
}

// The command's exit code says whether something is wrong, and a hint is not. Its JSON is the
// report. What the bucket holds does not steer the terminal. Seen to fail with an exit code for
// hints, with a report that is printed as it is, and with a frame that refuses the password in
// --system-server.
func TestCommand(t *testing.T) {
	t.Parallel()
	s := start(t)
	const nobody = "nats://127.0.0.1:1"
	login, sys := s.Connect(nats.UserInfo("root", "p")), filepath.Join(t.TempDir(), "sys.json")
	must(t, os.WriteFile(sys, []byte(`{"url":"`+s.URL()+`","user":"sys","password":"p"}`), 0o600))
	at := []string{"--server", s.URL(), "--user", "root", "--password", "p"}
	with := func(args ...string) []string { return append(args, at...) }
	provision(t, login, tenant.Config{})
	reaping(t, process(t, login))
	for option, value := range map[string]string{"--system-context": sys,
		"--system-server": strings.Replace(s.URL(), "://", "://sys:p@", 1)} {
		code, out, text := call(with(option, value)...)
		if code != cli.ExitOK || !strings.Contains(out, "0 errors, 0 warnings, 1 hint") ||
			!strings.Contains(out, "\nhint: sync-interval\n  seen  ") || text != "" {
			t.Errorf("a hint, with %s: exit code %d: %s%s", option, code, out, text)
		}
	}
	code, out, _ := call(at...)
	if code != cli.ExitOK || !strings.Contains(out, ": nothing is wrong; ") ||
		!strings.Contains(out, "\nnot checked, because no connection of the system account was "+
			"given: server-versions, ") {
		t.Errorf("nothing: exit code %d: %s", code, out)
	}
	put(t, login, "svc.web.\x1b[31m", "junk", 0)
	code, out, _ = call(at...)
	if code != cli.ExitFailure || !strings.Contains(out, "\nerror: unreadable\n") ||
		!strings.Contains(out, `svc.web.\x1b[31m`) {
		t.Errorf("an error: exit code %d: %s", code, out)
	}
	var r Report
	code, out, _ = call(with("-o", "json")...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != cli.ExitFailure ||
		r.has("unreadable", Error, "svc.web.\x1b[31m") != nil || len(r.Passed) == 0 ||
		len(r.NotChecked) == 0 {
		t.Errorf("JSON: exit code %d, %v: %s", code, err, out)
	}
	for want, args := range map[int][]string{
		cli.ExitUsage:   with("-o", "yaml"),
		cli.ExitFailure: {"--server", nobody},
	} {
		if code, out, text := call(args...); code != want || out != "" || text == "" {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, text)
		}
	}
	if code, _, text := call(with("--role", "king")...); code != cli.ExitUsage ||
		!strings.Contains(text, `role "king"; use one of`) {
		t.Errorf("a role: exit code %d: %s", code, text)
	}
}

// While the server is away, nothing passes. Seen to fail if checks without facts count as passed.
func TestNothingPassesWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, func(o *server.Options) { o.JetStream = false })
	r := examine(t, s.Connect(), Config{})
	for _, name := range r.Passed {
		switch name {
		case "server-version", "permissions", "round-trip", "credentials", "certificate":
		default:
			t.Errorf("%s passed without JetStream", name)
		}
	}
}

// A connection of another account than the system's is said to be none, and nothing passes for it.
func TestConnectionOfAnotherAccount(t *testing.T) {
	t.Parallel()
	s := start(t)
	r := examine(t, login(s), Config{System: login(s)})
	n := 0
	for _, u := range r.NotChecked {
		if u.Because == errNotSystem.Error() {
			n++
		}
	}
	if n != len(noSystem) {
		t.Errorf("%d checks: %+v", n, r.NotChecked)
	}
}

// docs/doctor.md has a row for each check of the table, in order. Seen to fail with a check that is
// new.
func TestPageHasEachCheck(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../../docs/doctor.md")
	must(t, err)
	var rows strings.Builder
	for _, c := range checks {
		rows.WriteString("| `" + c.name + "` | " + c.about + " |\n")
	}
	if !strings.Contains(string(text), rows.String()) {
		t.Errorf("docs/doctor.md must have these rows:\n%s", rows.String())
	}
}
