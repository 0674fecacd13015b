package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// asProgram is set in the environment of a process that is to run the program and not its tests.
const asProgram = "KVREGISTRY_TEST_AS_PROGRAM"

// TestMain runs the tests, or the program if a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is the program in a process of its own.
type program struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err natstest.Log
	ended    chan struct{}
}

// start runs the program until the test ends. Its temporary files go to a directory of the test.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(os.Args[0], args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+t.TempDir())
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// says waits until the program's output has a text.
func (p *program) says(text string, within time.Duration) {
	p.t.Helper()
	natstest.Eventually(p.t, within, func() error {
		if strings.Contains(p.out.String(), text) {
			return nil
		}
		select {
		case <-p.ended:
			p.t.Fatalf("the program ended and did not say %q:\n%s%s", text,
				p.out.String(), p.err.String())
		default:
		}
		return fmt.Errorf("no %q in:\n%s%s", text, p.out.String(), p.err.String())
	})
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// code waits until the program has ended, and returns its exit code.
func (p *program) code(within time.Duration) int {
	p.t.Helper()
	natstest.Eventually(p.t, within, func() error {
		select {
		case <-p.ended:
			return nil
		default:
			return errors.New("the program has not ended")
		}
	})
	return p.cmd.ProcessState.ExitCode()
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args     string
		code     int
		out, err string // what is printed; "" is nothing
	}{
		{"", 0, "Usage:", ""},
		{"help", 0, "serve ", ""},
		{"--help", 0, "demo ", ""},
		{"serve -h", 0, "--port port", ""},
		{"demo --help", 0, "--ttl duration", ""},
		{"help tenant create", 0, "--max-bytes bytes", ""},
		{"help sevre", 2, "", `there is no command "sevre"`},
		{"tenant", 0, "permissions", ""},
		{"--version", 0, "kvregistry version ", ""},
		{"completion bash", 0, "complete -o default", ""},
		{"sevre", 2, "", `there is no subcommand "sevre"; did you mean serve?`},
		{"serve now", 2, "", `unknown argument "now"`},
		{"serve --prot 1", 2, "", "there is no option --prot"},
		{"serve --port 70000", 2, "", "--port 70000 is no port; use 1 to 65535"},
		{"serve --store=", 2, "", "--store is empty"},
		{"serve --host=", 2, "", "--host is empty"},
		{"demo now", 2, "", `unknown argument "now"`},
		{"demo --ttl 1s", 2, "", "--ttl 1s is invalid: use whole seconds from 2s"},
		{"demo --ttl 2500ms", 2, "", "--ttl 2.5s is invalid: use whole seconds"},
		{"demo --nats nats://127.0.0.1:1", 1, "", "can't connect to NATS"},
		{"bridge -h", 0, "--prefix prefix", ""},
		{"bridge now", 2, "", `unknown argument "now"`},
		{"bridge --server nats://127.0.0.1:1", 1, "", "can't connect to NATS"},
	} {
		t.Run(test.args, func(t *testing.T) {
			p := start(t, strings.Fields(test.args)...)
			if code := p.code(natstest.Soon); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			said(t, "standard output", p.out.String(), test.out)
			said(t, "standard error", p.err.String(), test.err)
		})
	}
}

// A command's output goes to terminals and logs that others read. It holds nothing of a password,
// wherever its URL was typed. Seen to fail with dial returning nats.Connect's error, and with a
// printable that passes everything on.
func TestCommandHidesPasswords(t *testing.T) {
	t.Parallel()
	const noURL, hidden = "the URL does not parse; write it as nats://user:password@host:4222",
		"not printed: it may hold a password"
	for _, tc := range []struct {
		want string
		args []string
	}{
		{noURL, []string{"tenant", "list", "--server", "nats://user:SECRET@h:port/%zz"}},
		{noURL, []string{"tenant", "list", "--server", "nats://user:SEC RET@h:4222"}},
		{noURL, []string{"tenant", "list", "--server", "nats://user:SEC/RET@h:4222"}},
		{noURL, []string{"tenant", "list", "--server", "nats://user:SEC#RET@h:4222"}},
		{noURL, []string{"tenant", "list", "--server", "nats://user:SEC%RET@h:4222"}},
		{noURL, []string{"tenant", "list", "--server", "nats://user:SEC,RET@h:4222"}},
		{noURL, []string{"tenant", "create", "acme", "--server", "user:SEC/RET@h:4222"}},
		{noURL, []string{"tenant", "delete", "acme", "--yes", "--server", "nats://SECRET%zz@h"}},
		{noURL, []string{"demo", "--nats", "nats://user:SEC/RET@h:4222"}},
		{noURL, []string{"demo", "--nats", "nats://user:SEC RET@h:4222"}},
		{"invalid port", []string{"tenant", "list", "--server", "nats://127.0.0.1:777777/RET@h"}},
		{"no servers", []string{"tenant", "list", "--server", "nats://user:SECRET@127.0.0.1:1"}},
		{hidden, []string{"nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "create", "nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "list", "nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "list", "--server", "nats://user:SEC", "RET", "777777@h"}},
		{hidden, []string{"tenant", "list", "---server=nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "list", "--nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "create", "acme", "--replicas", "nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "delete", "acme", "--yes=nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "permissions", "acme", "--role", "nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "permissions", "acme", "--format", "nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "account", "acme", "user: web, password: SECRET"}},
		{hidden, []string{"tenant", "list", "--nkey", "nats://user:SECRET@h"}},
		{hidden, []string{"tenant", "list", "--tlsca", "nats://user:SECRET@h"}},
		{hidden, []string{"demo", "nats://user:SECRET@h"}},
		{noURL, []string{"bridge", "--server", "nats://user:SEC/RET@h:4222"}},
		{hidden, []string{"bridge", "--interval", "nats://user:SECRET@h"}},
	} {
		code, out, err := called(tc.args...)
		if code == 0 || !strings.Contains(err, tc.want) {
			t.Errorf("%q: %d %q, want %q", tc.args, code, err, tc.want)
		}
		for _, piece := range []string{"SE", "RE", "zz", "777777"} {
			if strings.Contains(out+err, piece) {
				t.Errorf("%q: %q%q, with %q in it", tc.args, out, err, piece)
			}
		}
	}
}

// said checks that a stream has a text, or is empty if the text is.
func said(t *testing.T, stream, got, want string) {
	t.Helper()
	if want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("%s is %q, want %q in it", stream, got, want)
	}
}
