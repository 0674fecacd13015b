package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// plan is the task of a service process.
type plan struct {
	URL      string
	Tenant   string
	TTL      time.Duration
	Services []kvregistry.Service
	Hold     string // a name to hold exclusively
	Slow     bool   // reconnect slowly after an outage, as with nats.go's defaults
	Observe  string // look this one up and print how many there are, again and again
}

// serviceProcess registers the plan's services, and stays until its standard input ends. Then it
// closes its registry, as a graceful stop does.
func serviceProcess(text string) int {
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	wait := 50 * time.Millisecond
	if p.Slow {
		wait = nats.DefaultReconnectWait
	}
	nc, err := nats.Connect(p.URL, nats.MaxReconnects(-1), nats.ReconnectWait(wait),
		nats.RetryOnFailedConnect(true))
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	reg, err := kvregistry.New(context.Background(), nc, kvregistry.Tenant(p.Tenant),
		kvregistry.TTL(p.TTL), quiet(),
		kvregistry.OnFenced(func(s kvregistry.Service) { fmt.Println("fenced", s.ID) }),
		kvregistry.OnLeaseLost(func(error) { fmt.Println("lost") }))
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	for _, s := range p.Services {
		if _, err := registerSoon(context.Background(), reg, s); err != nil {
			fmt.Println("failed", err)
			return 1
		}
	}
	if p.Hold != "" {
		if _, err := reg.Exclusive(context.Background(), p.Hold); err != nil {
			fmt.Println("failed", err)
			return 1
		}
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := reg.Close(); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	fmt.Println("closed", time.Now().UnixNano())
	return 0
}

// process is a process that a test started: a service, a worker or a server.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string
}

// await waits for a line that begins with a word, and returns the rest of the line.
func (p *process) await(word string, within time.Duration) string {
	p.t.Helper()
	late := time.After(within)
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				p.t.Fatalf("the process ended before it printed %q", word)
			}
			if rest, ok := strings.CutPrefix(line, word); ok {
				return strings.TrimSpace(rest)
			}
			if strings.HasPrefix(line, "failed") {
				p.t.Fatal(line)
			}
		case <-late:
			p.t.Fatalf("the process did not print %q within %s", word, within)
		}
	}
}

// kill ends the process at once, and waits for its end. A second call does nothing.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for range p.lines {
		// The pipe is read to its end before Wait closes it.
	}
	_ = p.cmd.Wait()
}

// tell sends the process a command.
func (p *process) tell(command string) { _, _ = io.WriteString(p.stdin, command+"\n") }

func (p *process) freeze() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

func (p *process) thaw() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// connected returns an error unless the process is connected to the server again.
func (p *process) connected(s *natstest.Server) error {
	if n := s.Server().NumClients(); n < 3 { // two of this process and one of that process
		return fmt.Errorf("%d clients", n)
	}
	return nil
}

// start runs a service process until the test ends, and returns when it has registered everything.
func start(t *testing.T, p plan) *process {
	t.Helper()
	if p.Tenant == "" {
		p.Tenant = kvregistry.DefaultTenant
	}
	if p.TTL == 0 {
		p.TTL = ttl
	}
	pr := spawn(t, "SERVICE", p)
	pr.await("ready", 30*time.Second)
	return pr
}

// spawn runs this test binary as another process until the test ends. The process ends by itself
// when this one does, because its standard input ends.
func spawn(t testing.TB, role string, plan any) *process {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KVREGISTRY_TEST_"+role+"="+string(text))
	return begin(t, cmd)
}

// begin runs a program until the test ends. Its output comes line by line.
func begin(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.Stderr = &complaints{t}
	endWithParent(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := launch(cmd); err != nil {
		t.Fatal(err)
	}
	pr := &process{t: t, cmd: cmd, stdin: stdin, lines: make(chan string, 1000)}
	go func() { // ends with the process
		defer close(pr.lines)
		sc := bufio.NewScanner(stdout)
		for sc.Buffer(nil, 16<<20); sc.Scan(); {
			pr.lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		pr.thaw()
		pr.kill()
	})
	return pr
}

// complaints passes on what a process prints to its standard error, and fails the test after a
// panic or a data race.
type complaints struct{ t testing.TB }

func (c *complaints) Write(text []byte) (int, error) {
	if bytes.Contains(text, []byte("DATA RACE")) || bytes.Contains(text, []byte("panic:")) {
		c.t.Error("a process panicked or has a data race; see its output")
	}
	return os.Stderr.Write(text)
}
