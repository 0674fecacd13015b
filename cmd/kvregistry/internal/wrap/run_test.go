//go:build linux

package wrap

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A program is registered as its options say, gets the signals of its wrapper, and SIGTERM when it
// has been marked draining for the settle time. Then it is gone, and its exit code is the
// wrapper's. Seen to fail with a SIGTERM that is passed on at once, and without the draining.
func TestRun(t *testing.T) {
	t.Parallel()
	w, addr, file := newWorld(t), at(t), filepath.Join(t.TempDir(), "go")
	const settle = 300 * time.Millisecond
	p := w.run(append([]string{"--address", addr, "--version", "1.2", "--zone", "north",
		"--tag", "a,b", "--meta", "k=v", "--endpoint", "metrics=127.0.0.1:9", "--weight", "3",
		"--settle", settle.String()}, program(addr, file)...)...)
	got := w.shows(kvregistry.Passing)
	want := kvregistry.Service{Name: "web", ID: "x", Address: addr, Version: "1.2", Zone: "north",
		Tags: []string{"a", "b"}, Metadata: map[string]string{"k": "v"}, Weight: 3,
		Endpoints: map[string]string{"metrics": "127.0.0.1:9"}, Status: kvregistry.Passing}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(kvregistry.Service{}, "Host", "Network",
		"Revision", "Owner", "Lease")); diff != "" {
		t.Error(diff)
	}
	p.says(" of x,")
	p.signal(syscall.SIGHUP)
	p.says("program got hangup")
	p.signal(syscall.SIGTERM)
	nanos, err := strconv.ParseInt(p.says("program got terminated")[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	w.shows(kvregistry.Draining)
	mark, err := w.last("x")
	if err != nil || !strings.Contains(string(mark.Data), "draining") {
		t.Fatalf("%v, %v", mark, err)
	}
	if after := time.Unix(0, nanos).Sub(mark.Time); after < settle {
		t.Errorf("SIGTERM came %s after the mark, want %s", after, settle)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p.ends(5)
	w.shows("")
}

// A program that ends is deregistered at once, and its exit code is the wrapper's. Seen to fail
// with an end that leaves the registration to the lease.
func TestProgramEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		signal syscall.Signal
		code   int
	}{"by itself": {syscall.SIGTERM, 5}, "by a kill": {syscall.SIGKILL, 137}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, addr := newWorld(t), at(t)
			p := w.run(append([]string{"--address", addr}, program(addr)...)...)
			w.shows(kvregistry.Passing)
			if err := syscall.Kill(p.number("pid "), end.signal); err != nil {
				t.Fatal(err)
			}
			p.ends(end.code)
			w.shows("")
		})
	}
}

// A program whose instance another process takes over ends at once, with no settle time. The other
// one's registration stays. Seen to fail without fence, and with a drain.
func TestRunIsFenced(t *testing.T) {
	t.Parallel()
	w, one, two := newWorld(t), at(t), at(t)
	long := []string{"--settle", "10m", "--grace", "1h", "--address"}
	p := w.run(append(append(long, one), program(one)...)...)
	w.shows(kvregistry.Passing)
	p.says("pid ")
	w.run(append(append(long, two), program(two)...)...)
	p.says("program got terminated")
	p.ends(1)
	p.says("kvregistry run: another process has registered web/x")
	if s := w.shows(kvregistry.Passing); s.Address != two {
		t.Errorf("%+v", s)
	}
}

// A wrapper that is killed takes its program along, and the registration runs out. Seen to fail
// with a program that outlives its wrapper.
func TestWrapperIsKilled(t *testing.T) {
	t.Parallel()
	w, addr := newWorld(t), at(t)
	p := w.run(append([]string{"--address", addr, "--ttl", "2s"}, program(addr)...)...)
	w.shows(kvregistry.Passing)
	pid := p.number("pid ")
	p.signal(syscall.SIGKILL)
	gone(t, pid)
	w.shows("")
}

// A program that does not end is killed: after the grace time, or at the second SIGTERM. Seen to
// fail without each.
func TestStubbornProgram(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		grace string
		twice bool
	}{"after the grace time": {"1s", false}, "at the second signal": {"10m", true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, addr := newWorld(t), at(t)
			p := w.run(append([]string{"--address", addr, "--settle", "100ms", "--grace", tc.grace},
				program(addr, "-")...)...)
			w.shows(kvregistry.Passing)
			p.signal(syscall.SIGTERM)
			if p.says("program got terminated"); tc.twice {
				p.signal(syscall.SIGTERM)
			}
			p.ends(137)
			w.shows("")
		})
	}
}

// A program that is not ready in time is ended. Seen to fail with an instance that is registered
// at once.
func TestNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.run(append([]string{"--address", at(t), "--start-timeout", "300ms"}, program("")...)...)
	p.says("the program was not ready within 300ms")
	p.ends(1)
	if mark, err := w.last("x"); !errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("it was registered: %v, %v", mark, err)
	}
	address := at(t)
	p = w.run(append([]string{"--address", address}, program("")...)...)
	p.says("the program is not ready, so it is not registered yet")
	p.says("dial tcp " + address) // what is waited for
	p.signal(syscall.SIGTERM)
}

// A program that can't be started gives the exit codes of a shell. Seen to fail with one code.
func TestNoProgram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for program, code := range map[string]int{"/no/such": 127, "no-such-program": 127, "/": 126} {
		p := w.run("--port", "1", "--", program)
		p.ends(code)
		p.says("can't start the program")
	}
}

// While NATS is away a program starts, and is registered when NATS is back. Later it ends like
// others: SIGTERM reaches it, and the wrapper returns its exit code. Seen to fail without
// RetryOnFailedConnect, and without the timer in finish.
func TestRunWithoutNATS(t *testing.T) {
	t.Parallel()
	w, addr := newWorld(t), at(t)
	w.Down()
	p := w.run(append([]string{"--address", addr, "--settle", "100ms", "--grace", "4s"},
		program(addr)...)...)
	pid := p.number("pid ")
	w.Up()
	w.shows(kvregistry.Passing)
	w.Down()
	p.signal(syscall.SIGTERM)
	p.says("program got terminated")
	p.ends(5)
	gone(t, pid)
}

// A stop before NATS was ever reached does not wait for it. Seen to fail with a drain of what was
// never registered.
func TestStopBeforeNATS(t *testing.T) {
	t.Parallel()
	w, addr := newWorld(t), at(t)
	w.Down()
	p := w.run(append([]string{"--address", addr, "--settle", "5m", "--grace", "1h"},
		program(addr)...)...)
	p.says("pid ")
	p.signal(syscall.SIGTERM)
	p.ends(5)
}

// A login that the server refuses ends the program, and is told without the password. Seen to fail
// with follow that does not look at the error.
func TestRefusedLogin(t *testing.T) {
	t.Parallel()
	conf := natstest.Configured(t, "authorization: {users: [{user: web, password: right}]}")
	s := natstest.Start(t, func(o *server.Options) { o.Users = conf.Users })
	u, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	addr := at(t)
	p := start(t, nil, append([]string{"run", "--server", "nats://web:SECRET@" + u.Host, "--name",
		"web", "--address", addr}, program(addr)...)...)
	p.ends(1)
	if why := strings.Join(p.says("kvregistry run: "), " "); !strings.Contains(why,
		"Authorization Violation") || strings.Contains(p.out.String(), "SECRET") {
		t.Error(p.out.String())
	}
}

// The checks set the status. Seen to fail with a registration without them.
func TestChecks(t *testing.T) {
	t.Parallel()
	for kind, broken := range map[string]bool{"exec": true, "http": false, "tcp": false} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w, addr, file := newWorld(t), at(t), filepath.Join(t.TempDir(), "broken")
			check := map[string]string{
				"exec": fmt.Sprintf("exec:if [ -e %s ]; then echo is broken; exit 1; fi", file),
				"http": "http://" + addr + "/", // web has no page
				"tcp":  "tcp:" + addr,
			}[kind]
			p := w.run(append([]string{"--address", addr, "--check", check, "--check-interval",
				"20ms", "--start-timeout", "1s"}, program(addr)...)...)
			if kind == "http" {
				p.says("status 404")
				p.ends(1)
				return
			}
			w.shows(kvregistry.Passing)
			if !broken {
				return
			}
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			w.shows(kvregistry.Critical)
			p.says("is broken")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			w.shows(kvregistry.Passing)
		})
	}
}
