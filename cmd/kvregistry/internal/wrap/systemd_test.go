//go:build linux

package wrap

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// manager is systemd's end of a unit's socket.
type manager struct {
	t    *testing.T
	mu   sync.Mutex // guards list
	list []string   // what was told, a line each
}

// listen makes a socket, and returns what systemd puts into a unit's environment.
func listen(t *testing.T) (m *manager, env []string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "") // a test's own directory may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m = &manager{t: t}
	go func() { // ends with the socket
		for buf := make([]byte, 4<<10); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.list = append(m.list, strings.Split(string(buf[:n]), "\n")...)
			m.mu.Unlock()
		}
	}()
	return m, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=40000"}
}

// count returns how many lines were told that begin with a text.
func (m *manager) count(text string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.list {
		if strings.HasPrefix(line, text) {
			n++
		}
	}
	return n
}

// hears waits until a line was told more than n times.
func (m *manager) hears(text string, n int) {
	m.t.Helper()
	natstest.Eventually(m.t, natstest.Soon, func() error {
		if m.count(text) <= n {
			m.mu.Lock()
			defer m.mu.Unlock()
			return fmt.Errorf("no %s in %q", text, slices.Compact(slices.Clone(m.list)))
		}
		return nil
	})
}

// A unit is ready when its program is registered, gives signs of life while its check passes, and
// says that it stops. Its program is told nothing of systemd. Seen to fail with READY before the
// registration, with signs of life whatever the check says, and with the whole environment.
func TestSystemd(t *testing.T) {
	t.Parallel()
	w, addr, dir := newWorld(t), at(t), t.TempDir()
	file, ran := filepath.Join(dir, "broken"), filepath.Join(dir, "ran")
	m, env := listen(t)
	w.Down()
	p := start(t, env, append([]string{"run", "--server", w.URL(), "--name", "web", "--id", "x",
		"--address", addr, "--check", "exec:echo >> " + ran + "; test ! -e " + file,
		"--check-interval", "20ms", "--settle", "1ms"}, program(addr)...)...)
	if rest := p.says("notify "); rest[0] != `"",` {
		t.Errorf("the program has NOTIFY_SOCKET=%s", rest[0])
	}
	m.hears("STATUS=not registered as web/x yet; NATS is away", 0)
	m.hears("EXTEND_TIMEOUT_USEC=", 0)
	if m.count("READY=1") != 0 || m.count("WATCHDOG=1") != 0 {
		t.Error("ready before NATS was reached")
	}
	w.Up()
	m.hears("READY=1", 0)
	w.shows(kvregistry.Passing)
	m.hears("WATCHDOG=1", 3)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.hears("STATUS=registered as web/x, critical", 0)
	before := m.count("WATCHDOG=1")
	w.shows(kvregistry.Critical)
	// For the time of 20 checks a sign of life would be due about every 20 ms.
	first := runsIn(t, ran)
	natstest.Eventually(t, natstest.Soon, func() error {
		if n := runsIn(t, ran) - first; n < 20 {
			return fmt.Errorf("%d checks", n)
		}
		return nil
	})
	if n := m.count("WATCHDOG=1"); n > before {
		t.Errorf("%d signs of life while the check failed", n-before)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	m.hears("WATCHDOG=1", before)
	p.signal(syscall.SIGTERM)
	m.hears("STOPPING=1", 0)
	p.ends(5)
}

// runsIn is how many lines a check has written to a file.
func runsIn(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}
