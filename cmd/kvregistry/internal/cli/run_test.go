package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/internal/natstest"
)

// ran runs a command line of one command, and returns what it printed.
func ran(c *cobra.Command, args ...string) (code int, out, text string) {
	var o, e bytes.Buffer
	std := NewStreams(strings.NewReader(""), &o, &e)
	root := &cobra.Command{Use: "kvregistry"}
	root.AddCommand(c)
	return Run(root, args, std), o.String(), e.String()
}

// An error of a command makes the exit code, and is printed once.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{errors.New("it broke\x1b[0m\nnow"), 1, `kvregistry do: it broke\x1b[0m\nnow` + "\n"},
		{Usagef("say %s", "how"), 2, "kvregistry do: say how; \"kvregistry do -h\" tells more\n"},
		{fmt.Errorf("doing: %w", Nonef("none there")), 3, "kvregistry do: doing: none there\n"},
		{Exit(42), 42, ""},
	} {
		c := &cobra.Command{Use: "do", RunE: func(*cobra.Command, []string) error { return tc.err }}
		if code, out, text := ran(c, "do"); code != tc.code || out != "" || text != tc.text {
			t.Errorf("%v: %d %q %q, want %d %q", tc.err, code, out, text, tc.code, tc.text)
		}
	}
}

// A variable stands for each option that is not given, and for those of a login that of the nats
// command, too. Seen to fail with variables that stand above options.
func TestVariables(t *testing.T) {
	t.Setenv("KVREGISTRY_TENANT", "from-own")
	t.Setenv("NATS_URL", "nats://from-nats:1")
	t.Setenv("NATS_CREDS", "from-nats")
	t.Setenv("KVREGISTRY_CREDS", "from-own")
	t.Setenv("KVREGISTRY_NKEY", "from-own")
	var got Target
	c := &cobra.Command{Use: "do", RunE: func(*cobra.Command, []string) error { return nil }}
	got.Flags(c.Flags())
	if code, _, text := ran(c, "do", "--nkey", "given"); code != 0 {
		t.Fatal(code, text)
	}
	want := Target{Tenant: "from-own", timeout: 10 * time.Second,
		Login: Login{url: "nats://from-nats:1", creds: "from-own", nkey: "given"}}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	t.Setenv("KVREGISTRY_TIMEOUT", "15")
	if code, _, text := ran(c, "do"); code != 2 || !strings.Contains(text,
		"the variable KVREGISTRY_TIMEOUT is 15: give a number with its unit") {
		t.Errorf("%d %s", code, text)
	}
}

// A context of the nats command says how to connect; options stand above it. The selected one is
// taken if neither it nor a server is named. Seen to fail with a context that is not read.
func TestContexts(t *testing.T) {
	s := natstest.Start(t)
	folder := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", folder)
	for _, name := range []string{"NATS_URL", "NATS_CONTEXT"} {
		t.Setenv(name, "")
	}
	contexts := filepath.Join(folder, "nats", "context")
	if err := os.MkdirAll(contexts, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		path := filepath.Join(folder, "nats", file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("context/here.json", fmt.Sprintf(`{"url": %q, "inbox_prefix": "_INBOX_here"}`, s.URL()))
	write("context/away.json", `{"url": "nats://127.0.0.1:1"}`)
	connect := func(args ...string) (*nats.Conn, error) {
		var l Login
		var nc *nats.Conn
		var err error
		c := &cobra.Command{Use: "do", RunE: func(*cobra.Command, []string) error {
			nc, err = l.Connect("do")
			return err
		}}
		l.Flags(c.Flags())
		if code, _, text := ran(c, append([]string{"do"}, args...)...); code != 0 && err == nil {
			t.Fatal(code, text)
		}
		if nc != nil {
			t.Cleanup(nc.Close)
		}
		return nc, err
	}
	if nc, err := connect("--context", "here"); err != nil ||
		!strings.HasPrefix(nc.NewInbox(), "_INBOX_here.") {
		t.Errorf("a context: %v", err)
	}
	if _, err := connect("--context", "away"); !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("a context whose server is away: %v", err)
	}
	if _, err := connect("--context", "away", "--server", s.URL()); err != nil {
		t.Errorf("an option beside a context: %v", err)
	}
	if _, err := connect("--context", "nosuch"); err == nil ||
		!strings.Contains(err.Error(), `unknown context "nosuch"`) {
		t.Errorf("no such context: %v", err)
	}
	write("context.txt", "here\n")
	if nc, err := connect(); err != nil || nc.ConnectedUrl() != s.URL() {
		t.Errorf("the selected context: %v", err)
	}
	write("context.txt", "away\n")
	if nc, err := connect("--server", s.URL()); err != nil || nc.ConnectedUrl() != s.URL() {
		t.Errorf("a server in place of the selected context: %v", err)
	}
}

// Colours come to a terminal alone, and each column stays aligned. Seen to fail with codes of
// different lengths.
func TestColouredTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	std := NewStreams(nil, &out, nil)
	columns := Table[string]{Columns: []Column[string]{
		{Head: "state", Cell: func(s string) string { return s }, Colour: func(string) Colour {
			return Red
		}}, {Head: "b", Cell: func(string) string { return "" }}}}
	if err := columns.write(std.Raw(), true, false, []string{"passing", "x"}); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[39mstate\x1b[39m    b\n\x1b[31mpassing\x1b[39m  -\n\x1b[31mx\x1b[39m        -\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
