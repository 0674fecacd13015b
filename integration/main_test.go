package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// ttl is the lease of the tests: the shortest there is.
const ttl = 2 * time.Second

// TestMain runs the tests, or, where a test asks for it, one process of another kind.
func TestMain(m *testing.M) {
	for role, run := range map[string]func(plan string) int{
		"SERVICE": serviceProcess, "WORKER": workerProcess, "LOCKER": lockerProcess, "SERVER": serverProcess, "CONFIGURED": configuredProcess,
	} {
		if plan := os.Getenv("KVREGISTRY_TEST_" + role); plan != "" {
			os.Exit(run(plan))
		}
	}
	natstest.Parallel(inTier(6, 3))
	if run := flag.Lookup("test.run"); testing.Short() && run.Value.String() == "" {
		_ = run.Value.Set("^(" + strings.Join(short, "|") + ")$")
	}
	natstest.ServersInShort = true
	os.Exit(m.Run())
}

// short are the tests of -short: one for each invariant of docs/design.md, in its order.
var short = []string{
	"TestAcknowledgedRegistrationSurvivesARestart", "TestKilledProcessIsOut", "TestNewestRegistrationWins",
	"TestDeletedConsumerIsMended", "TestUnknownIsNotNotFound", "TestEventsAreTheCachesHistory",
	"TestNothingIsLeftBehind", "TestNoNameReachesAnother", "TestWhateverStandsInTheBucket",
	"TestNoForeignClockIsRead", "TestHeartbeatsReachNoObserver", "TestBusyConnection",
}

// inTier is what a measure is by default, and what it is in the long tier.
func inTier[T any](usual, long T) T {
	if natstest.IsLong() {
		return long
	}
	return usual
}

// plan is what a service process is to do.
type plan struct {
	URL      string
	Tenant   string
	TTL      time.Duration
	Services []kvregistry.Service
	Hold     string // a name to hold exclusively
	Slow     bool   // to come back after an outage, as with nats.go's own settings
	Observe  string // look this one up and print how many there are, again and again
}

// serviceProcess registers what the plan says, and stays until its standard input ends. Then it closes its
// registry, as a graceful stop does.
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
	nc, err := nats.Connect(p.URL, nats.MaxReconnects(-1), nats.ReconnectWait(wait), nats.RetryOnFailedConnect(true))
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	reg, err := kvregistry.New(context.Background(), nc, kvregistry.Tenant(p.Tenant), kvregistry.TTL(p.TTL), quiet(),
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

// spawn runs this test binary as another process until the test ends. It ends by itself when this one does: its standard
// input ends then.
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

// begin runs a program until the test ends. What it prints comes line by line.
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

// complaints pass on what a process prints to its standard error: nothing, but where it panics or the race detector speaks.
type complaints struct{ t testing.TB }

func (c *complaints) Write(text []byte) (int, error) {
	if bytes.Contains(text, []byte("DATA RACE")) || bytes.Contains(text, []byte("panic:")) {
		c.t.Error("a process panicked, or has a data race; see what it printed")
	}
	return os.Stderr.Write(text)
}

// await waits for a line that begins with a word, and returns what follows it.
func (p *process) await(word string, within time.Duration) string {
	p.t.Helper()
	late := time.After(within)
	for {
		select {
		case line, more := <-p.lines:
			if !more {
				p.t.Fatalf("process ended before it said %q", word)
			}
			if rest, ok := strings.CutPrefix(line, word); ok {
				return strings.TrimSpace(rest)
			}
			if strings.HasPrefix(line, "failed") {
				p.t.Fatal(line)
			}
		case <-late:
			p.t.Fatalf("process did not say %q within %s", word, within)
		}
	}
}

// kill ends the process at once, and reaps it; called again, it does nothing.
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
func (p *process) thaw()   { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// quiet keeps the library's log out of the test's output.
func quiet() kvregistry.Option { return kvregistry.Logger(slog.New(slog.DiscardHandler)) }

// open makes a registry on a connection of its own, until the test ends.
func open(t testing.TB, s *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	return openOn(t, s.Connect(), opts...)
}

func openOn(t testing.TB, nc *nats.Conn, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	base := []kvregistry.Option{kvregistry.TTL(ttl), kvregistry.Timeout(natstest.Soon), quiet()}
	r, err := kvregistry.New(t.Context(), nc, append(base, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// web is a service that can be registered.
func web(id string) kvregistry.Service {
	return kvregistry.Service{ID: id, Name: "web", URL: "http://127.0.0.1:8083/" + id}
}

func register(t testing.TB, r *kvregistry.Registry, s kvregistry.Service) func() error {
	t.Helper()
	un, err := registerSoon(t.Context(), r, s)
	if err != nil {
		t.Fatal(err)
	}
	return un
}

// registerSoon is Register for a machine that may take longer than Register waits.
func registerSoon(ctx context.Context, r *kvregistry.Registry, s kvregistry.Service) (func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, natstest.Soon)
	defer cancel()
	return r.RegisterContext(ctx, s)
}

// ids are the ids of a service's instances as a registry shows them, without waiting.
func ids(t testing.TB, r *kvregistry.Registry, name string) []string {
	t.Helper()
	snap, err := r.Snapshot(name)
	if err != nil {
		t.Fatal(err)
	}
	return idsOf(snap)
}

func idsOf(snap *kvregistry.Snapshot) []string {
	list := []string{}
	for s := range snap.All() {
		list = append(list, s.ID)
	}
	return list
}

// sees waits until a registry shows just the given instances, and returns how long that took. The
// first look-up may take as long.
func sees(t testing.TB, r *kvregistry.Registry, within time.Duration, name string, want ...string) time.Duration {
	t.Helper()
	return natstest.Eventually(t, within, func() error {
		snap, err := r.Snapshot(name)
		if isErr(err, kvregistry.ErrUnavailable) && within > 0 {
			return err
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := idsOf(snap); !slices.Equal(got, want) {
			return fmt.Errorf("service %s has %v, want %v", name, got, want)
		}
		return nil
	})
}

// bucket is the tenant's bucket, read and written by hand.
func bucket(t testing.TB, nc *nats.Conn, tenant string) jetstream.KeyValue {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(natstest.Soon))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "registry_"+tenant)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// keys are the keys of a bucket that have a value, under a prefix.
func keys(t testing.TB, nc *nats.Conn, tenant, prefix string) []string {
	t.Helper()
	list := []string{}
	l, err := bucket(t, nc, tenant).ListKeysFiltered(t.Context(), prefix+">")
	if err != nil {
		t.Fatal(err)
	}
	for k := range l.Keys() {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// connected reports whether the process has a connection to the server again.
func (p *process) connected(s *natstest.Server) error {
	if n := s.Server().NumClients(); n < 3 { // this process's two, and that one's
		return fmt.Errorf("%d clients", n)
	}
	return nil
}
