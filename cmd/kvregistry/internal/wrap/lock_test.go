//go:build linux

package wrap

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
)

// lock runs "kvregistry lock" for the name job.
func (w *world) lock(args ...string) *process {
	w.t.Helper()
	return start(w.t, nil, append([]string{"lock", "job", "--server", w.URL()}, args...)...)
}

// stand waits until so many stand in lines, a holder included.
func (w *world) stand(n int) {
	w.t.Helper()
	js, err := jetstream.New(w.Connect())
	if err != nil {
		w.t.Fatal(err)
	}
	kv, err := js.KeyValue(w.t.Context(), "registry_default")
	if err != nil {
		w.t.Fatal(err)
	}
	natstest.Eventually(w.t, natstest.Soon, func() error {
		list, err := kv.ListKeysFiltered(w.t.Context(), "lock.>")
		if err != nil {
			return err
		}
		var keys []string
		for key := range list.Keys() {
			keys = append(keys, key)
		}
		if len(keys) != n {
			return fmt.Errorf("%q", keys)
		}
		return nil
	})
}

// token is the fencing token that a program got.
func (p *process) token() uint64 {
	p.t.Helper()
	n, err := strconv.ParseUint(p.says(", token ")[0], 10, 64)
	if err != nil || n == 0 {
		p.t.Fatalf("token %d, %v", n, err)
	}
	return n
}

// The second wrapper runs its program when the first one's has ended, with a higher token. One that
// does not wait exits with 3. Seen to fail without the hold, and with watch that does not look at
// Ahead.
func TestLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.lock(program("")...)
	one := first.token()
	w.lock("--try", "--", "echo", "ran").ends(3)
	short := w.lock("--wait", "100ms", "--", "echo", "ran")
	short.ends(3)
	if out := short.out.String(); !strings.Contains(out, "another process holds job") ||
		strings.Contains(out, "\nran") {
		t.Error(out)
	}
	second := w.lock(program("")...)
	w.stand(2)
	if strings.Contains(second.out.String(), "token ") {
		t.Error("the second program runs beside the first")
	}
	first.signal(syscall.SIGTERM)
	first.ends(5)
	if two := second.token(); two <= one {
		t.Errorf("token %d after %d", two, one)
	}
	w.lock("--try", "--", "true").ends(3)
	second.signal(syscall.SIGTERM)
	second.ends(5)
	w.lock("--try", "--", "sh", "-c", "exit 9").ends(9)
	quiet := w.lock("--try", "--", "true")
	quiet.ends(0)
	if out := quiet.out.String(); out != "" {
		t.Errorf("a lock that went well says %s", out)
	}
}

// A wait that is longer than the server's time to answer ends with 3, too. Seen to fail with a
// timer of that wait which starts before the registry is opened.
func TestLockWaitsLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.lock(program("")...).token()
	p := w.lock("--wait", (answerTime + time.Second).String(), "--", "echo", "ran")
	p.ends(3)
	p.says("another process holds job, 1 in line")
}

// A signal ends the wait for a name. Seen to fail with giveUp that does nothing.
func TestLockGivesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.lock(program("")...)
	first.token()
	second := w.lock(program("")...)
	w.stand(2)
	second.signal(syscall.SIGINT)
	second.ends(130)
	if strings.Contains(second.out.String(), "pid ") {
		t.Error(second.out.String())
	}
}

// While NATS is away a wrapper that does not wait says that it does not know. Seen to fail with a
// wait for the server.
func TestTryWithoutNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Down()
	p := w.lock("--try", "--", "true")
	p.ends(1)
	p.says("NATS did not say within 5s")
}

// A wrapper that is frozen for longer than its TTL has lost the name to another. It ends its
// program when it goes on. Seen to fail with follow that does not look at the hold.
func TestLockIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	frozen := w.lock(append([]string{"--ttl", "2s"}, program("")...)...)
	one := frozen.token()
	frozen.signal(syscall.SIGSTOP)
	if two := w.lock(append([]string{"--ttl", "2s"}, program("")...)...).token(); two <= one {
		t.Errorf("token %d after %d", two, one)
	}
	if strings.Contains(frozen.out.String(), "program got") {
		t.Error("the frozen wrapper's program got a signal")
	}
	frozen.signal(syscall.SIGCONT)
	frozen.says("program got terminated")
	frozen.ends(5)
}

// A program that ends well after the name was lost did not do it alone: the wrapper exits with 1.
// One that does not end is killed. Seen to fail with the program's code, and without the grace.
func TestProgramOfALostLock(t *testing.T) {
	t.Parallel()
	for script, code := range map[string]int{
		"trap 'exit 0' TERM": 1, "trap '' TERM": 137,
	} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.lock("--ttl", "2s", "--grace", "1s", "--", "sh", "-c",
				script+"; echo runs; while :; do sleep 0.1; done")
			p.says("runs")
			w.Down()
			p.ends(code)
			p.says("is lost")
		})
	}
}
