//go:build linux

package wrap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// role is set in the environment of a process that is to be something else than the tests.
const role = "WRAP_TEST_ROLE"

// TestMain runs the tests, or what a test asks for.
func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "command":
		std := cli.NewStreams(os.Stdin, os.Stdout, os.Stderr)
		root := &cobra.Command{Use: "kvregistry"}
		root.AddCommand(Run(std), Register(std), Lock(std))
		os.Exit(cli.Run(root, os.Args[1:], std))
	case "web":
		web(os.Args[1], os.Args[2:])
	default:
		natstest.Parallel(8)
		os.Exit(m.Run())
	}
}

// web is a program that knows nothing of the registry. It listens at an address, and says what it
// gets. At SIGTERM it ends with 5, when the file "go" is there if a file is given, and never if
// that is "-".
func web(at string, hold []string) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
	fmt.Printf("pid %d of %s, notify %q, token %s\n", os.Getpid(),
		os.Getenv("KVREGISTRY_INSTANCE"), os.Getenv("NOTIFY_SOCKET"), os.Getenv("KVREGISTRY_TOKEN"))
	if at != "" {
		go func() { panic(http.ListenAndServe(at, nil)) }()
	}
	for sig := range signals {
		fmt.Println("program got", sig, time.Now().UnixNano())
		if sig != syscall.SIGTERM || len(hold) > 0 && hold[0] == "-" {
			continue
		}
		for len(hold) > 0 {
			if _, err := os.Stat(hold[0]); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		os.Exit(5)
	}
}

// program is the command line of web.
func program(at string, more ...string) []string {
	return append([]string{"--", "env", role + "=web", os.Args[0], at}, more...)
}

// process is a process of a test.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   natstest.Log
	ended chan struct{}
}

// start runs a command of the package until the test ends.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return begun(t, exec.Command(os.Args[0], args...), env)
}

// begun starts a command of the package by a command line.
func begun(t *testing.T, cmd *exec.Cmd, env []string) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), role+"=command"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.WaitDelay = time.Second
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

// says waits until the output has a line with a text, and returns what follows in it.
func (p *process) says(text string) (rest []string) {
	p.t.Helper()
	natstest.Eventually(p.t, natstest.Soon, func() error {
		for line := range strings.Lines(p.out.String()) {
			if _, after, ok := strings.Cut(line, text); ok {
				rest = strings.Fields(after)
				return nil
			}
		}
		return fmt.Errorf("no %q in:\n%s", text, p.out.String())
	})
	return rest
}

// number waits for a line, and returns the first number that follows in it.
func (p *process) number(text string) int {
	p.t.Helper()
	n, err := strconv.Atoi(p.says(text)[0])
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits until the process has ended, and checks its exit code.
func (p *process) ends(code int) {
	p.t.Helper()
	natstest.Eventually(p.t, natstest.Soon, func() error {
		select {
		case <-p.ended:
			return nil
		default:
			return fmt.Errorf("the process has not ended:\n%s", p.out.String())
		}
	})
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d:\n%s", got, code, p.out.String())
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !strings.Contains(string(text), ") Z ") {
			return fmt.Errorf("process %d lives", pid)
		}
		return nil
	})
}

// world is a server, and an observer of its tenant.
type world struct {
	*natstest.Server
	t   *testing.T
	see *kvregistry.Registry
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := natstest.Start(t)
	see, err := kvregistry.New(t.Context(), s.Connect(), kvregistry.TTL(2*time.Second),
		kvregistry.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = see.Close() })
	if err := see.Observe("web"); err != nil {
		t.Fatal(err)
	}
	return &world{s, t, see}
}

// last is what the bucket has of an instance of the service web.
func (w *world) last(id string) (*jetstream.RawStreamMsg, error) {
	return natstest.Stream(w.t, w.Connect(), "KV_registry_default").GetLastMsgForSubject(
		w.t.Context(), "$KV.registry_default.svc.web."+id)
}

// run runs "kvregistry run" for the service web, whose instance is x, with a TTL that no test
// waits for.
func (w *world) run(args ...string) *process {
	w.t.Helper()
	return start(w.t, nil, append([]string{"run", "--server", w.URL(), "--name", "web", "--id", "x",
		"--ttl", "1m"}, args...)...)
}

// at is an address that nothing listens at.
func at(t *testing.T) string {
	return fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))
}

// shows waits until the observer shows the instance with a status, or, for an empty one, that it is
// gone.
func (w *world) shows(status kvregistry.Status) (s kvregistry.Service) {
	w.t.Helper()
	natstest.Eventually(w.t, natstest.Soon, func() error {
		list, err := w.see.GetServices(w.t.Context(), "web", kvregistry.WithStatus(
			kvregistry.Passing, kvregistry.Warning, kvregistry.Critical, kvregistry.Draining))
		switch {
		case errors.Is(err, kvregistry.ErrNotFound) && status == "":
			return nil
		case err != nil:
			return err
		case list[0].Status != status:
			return fmt.Errorf("%+v", list)
		}
		s = list[0]
		return nil
	})
	return s
}
