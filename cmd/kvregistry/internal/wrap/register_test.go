//go:build linux

package wrap

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kvregistry/go/kvregistry"
)

// An instance is registered for as long as the command runs, with the status of its checks. Seen to
// fail with an instance that passes before it was checked, and without the deregistration.
func TestRegister(t *testing.T) {
	t.Parallel()
	w, file := newWorld(t), filepath.Join(t.TempDir(), "up")
	p := start(t, nil, "register", "web", "--id", "x", "--server", w.URL(), "--address", at(t),
		"--ttl", "1m", "--check-timeout", "1h",
		"--check", "exec:until [ -e "+file+" ]; do sleep 0.05; done")
	p.says("registered web/x")
	w.shows(kvregistry.Critical) // the check has no result yet
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.shows(kvregistry.Passing)
	p.signal(syscall.SIGTERM)
	p.ends(0)
	w.shows("")
}

// A command whose instance another process takes over ends. Seen to fail without OnFenced.
func TestRegisterIsFenced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	args := []string{"register", "web", "--id", "x", "--server", w.URL(), "--port", "80"}
	p := start(t, nil, args...)
	p.says("registered web/x")
	start(t, nil, args...).says("registered web/x")
	p.ends(1)
	p.says("another process has registered web/x")
}

// A command that NATS does not answer waits, and ends with a signal. Seen to fail without
// RetryOnFailedConnect.
func TestRegisterWithoutNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Down()
	args := []string{"register", "web", "--id", "x", "--server", w.URL(), "--url",
		"http://127.0.0.1:80"}
	p, stopped := start(t, nil, args...), start(t, nil, args...)
	stopped.says("NATS is away")
	stopped.signal(syscall.SIGTERM)
	stopped.ends(0)
	w.Up()
	p.says("registered web/x")
	w.shows(kvregistry.Passing)
}

// Wrong command lines are refused before anything is started.
func TestUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"name the program", []string{"run", "--name", "web", "--port", "1"}},
		{"--name is empty", []string{"run", "--port", "1", "--", "true"}},
		{"say where the instance is called", []string{"run", "--name", "web", "--", "true"}},
		{"exclude each other", []string{"run", "--name", "w", "--port", "1", "--address", "h:1",
			"--", "true"}},
		{"no host:port", []string{"run", "--name", "w", "--address", "h", "--", "true"}},
		{"must be shorter than --grace", []string{"run", "--name", "w", "--port", "1", "--settle",
			"9s", "--grace", "9s", "--", "true"}},
		{"of no kind", []string{"run", "--name", "w", "--port", "1", "--check", "ping", "--",
			"true"}},
		{"no check grpc", []string{"run", "--name", "w", "--port", "1", "--check", "grpc:h:1", "--",
			"true"}},
		{"tcp:host:port or exec", []string{"run", "--name", "w", "--port", "1", "--check", "tcp:x",
			"--", "true"}},
		{"name=value", []string{"register", "w", "--port", "1", "--meta", "a=b,c"}},
		{"too short", []string{"register", "w", "--port", "1", "--check-interval", "1us"}},
		{"--url has no", []string{"run", "--name", "w", "--url", "x", "--", "true"}},
		{"invalid", []string{"register", "w", "--port", "1", "--ttl", "1s"}},
		{"after the name and --", []string{"lock", "job", "true"}},
		{"must not be negative", []string{"lock", "job", "--wait", "-1s", "--", "true"}},
	} {
		p := start(t, nil, append(tc.args[:1:1], append([]string{"--server", "nats://127.0.0.1:1"},
			tc.args[1:]...)...)...)
		p.ends(2)
		p.says(tc.want)
	}
}
