package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// demoTime bounds one run of the demo.
const demoTime = 4 * natstest.Soon

func TestDemo(t *testing.T) {
	t.Parallel()
	p := start(t, "demo", "--ttl", "2s")
	if code := p.code(demoTime); code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, p.out.String(), p.err.String())
	}
	said(t, "standard error", p.err.String(), "")
	lines(t, p,
		`server +127\.0\.0\.1:\d+, tenant demo-\w+, TTL 2s`,
		`came +httptest-1 \(pid \d+, http://127\.0\.0\.1:\d+/\), \S+ ms after it began to register`,
		`came +httptest-2 `,
		`came +httptest-3 `,
		`calls +each of the three was called at least 20 times`,
		`SIGKILL +to httptest-1`,
		`went +httptest-1 \(expired\), \S+ ms after the kill, promised within 3000 ms; `+
			`\d+ calls to it failed until then`,
		`SIGTERM +to httptest-2`,
		`went +httptest-2 \(unregistered\), \S+ ms after it began to unregister, `+
			`promised within 100 ms; 0 calls`,
		`ended +httptest-2, 0 calls to it failed`,
		`came +httptest-4 `,
		`called +httptest-4, \S+ ms after it came`,
		`stopped +the server`,
		`started +httptest-5 .*can't register yet`,
		`outage +look-ups give 2 services; the server confirmed them last \S+ ms ago`,
		`started +the server on its data`,
		`back +the client's connection; it looked up [1-9]\d* times meanwhile`,
		`came +httptest-5 \(pid \d+\), \S+ ms after the client's connection was back`,
		`called +httptest-5, `,
		`calm +for a TTL and a second, 0 services went by mistake`,
		`look-ups +[1-9]\d* by the client, 0 of them wrong`,
		`calls +httptest-1 +\d+, [1-9]\d* failed, .*: connection refused.*; as expected`,
		`calls +httptest-2 +[1-9]\d*, 0 failed`,
		`calls +httptest-3 +[1-9]\d*, 0 failed`,
		`calls +httptest-4 +[1-9]\d*, 0 failed`,
		`calls +httptest-5 +[1-9]\d*, 0 failed`,
		`kept +all \d+ promises`,
	)
	leftNothing(t, p)
}

// lines checks that these lines come in the program's output, in order.
func lines(t *testing.T, p *program, patterns ...string) {
	t.Helper()
	rest := p.out.String()
	for _, pattern := range patterns {
		at := regexp.MustCompile(`(?m)^ *\d+\.\d{3} s +` + pattern).FindStringIndex(rest)
		if at == nil {
			t.Fatalf("no line %q, or not at its place, in:\n%s", pattern, p.out.String())
		}
		rest = rest[at[1]:]
	}
}

// leftNothing checks that a demo that has ended left neither files nor services behind.
func leftNothing(t *testing.T, p *program) {
	t.Helper()
	for _, entry := range p.cmd.Env {
		if dir, ok := strings.CutPrefix(entry, "TMPDIR="); ok {
			if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	}
	servicesEnd(t, p, 0)
}

// servicesEnd waits until none of the services that the demo named can be called any more.
func servicesEnd(t *testing.T, p *program, within time.Duration) {
	t.Helper()
	addresses := regexp.MustCompile(`http://([^/]+)/`).FindAllStringSubmatch(p.out.String(), -1)
	if len(addresses) < 3 {
		t.Fatalf("the demo named %d services:\n%s", len(addresses), p.out.String())
	}
	for _, address := range addresses {
		natstest.Eventually(t, within, func() error {
			conn, err := net.Dial("tcp", address[1])
			if err != nil {
				return nil
			}
			return errors.Join(fmt.Errorf("%s is still served", address[1]), conn.Close())
		})
	}
}

// On a server that is not its own the demo leaves nothing behind, and prints nothing of how it logs
// in. Seen to fail with a line that has nc.ConnectedUrlRedacted.
func TestDemoOnAnExistingServer(t *testing.T) {
	t.Parallel()
	_, url := startServing(t, t.TempDir())
	p := start(t, "demo", "--ttl", "2s", "--verbose", "--nats", strings.Replace(url,
		"//", "//SECRET@", 1))
	if code := p.code(demoTime); code != 0 {
		t.Fatalf("exit code %d:\n%s%s", code, p.out.String(), p.err.String())
	}
	if said := p.out.String() + p.err.String(); strings.Contains(said, "SECRET") {
		t.Errorf("it prints the token:\n%s", said)
	}
	lines(t, p, `called +httptest-4`, `skipped +the restart of the server`,
		`kept +all \d+ promises`)
	leftNothing(t, p)
	names := jetStream(t, url).StreamNames(t.Context())
	for name := range names.Name() {
		t.Errorf("left stream %s behind", name)
	}
	if names.Err() != nil {
		t.Error(names.Err())
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			p := start(t, "demo")
			p.says("SIGKILL", natstest.Soon)
			p.signal(s)
			if code := p.code(natstest.Soon); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			said(t, "standard error", p.err.String(), "interrupted")
			leftNothing(t, p)
		})
	}
}

// The services do not outlive a demo that is killed.
func TestDemoKilled(t *testing.T) {
	t.Parallel()
	p := start(t, "demo")
	p.says("SIGKILL", natstest.Soon)
	p.signal(os.Kill)
	servicesEnd(t, p, natstest.Soon)
}

// A broken promise is named, and the demo fails: here a service dies that the demo did not kill.
func TestDemoBrokenPromise(t *testing.T) {
	t.Parallel()
	p := start(t, "demo", "--ttl", "2s")
	p.says("SIGKILL", natstest.Soon)
	match := regexp.MustCompile(`httptest-3 \(pid (\d+)`).FindStringSubmatch(p.out.String())
	if match == nil {
		t.Fatalf("no pid of httptest-3 in:\n%s", p.out.String())
	}
	pid, _ := strconv.Atoi(match[1])
	service, err := os.FindProcess(pid)
	if err == nil {
		err = service.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	if code := p.code(demoTime); code != 1 {
		t.Errorf("exit code %d, want 1:\n%s", code, p.out.String())
	}
	lines(t, p, `BROKEN +httptest-3 went from look-ups \(expired\)`,
		`BROKEN +a call to httptest-3 failed`)
	said(t, "standard error", p.err.String(), "httptest-3 went from look-ups (expired)")
	leftNothing(t, p)
}
