package operations

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// folder is where the programs that tests run are built.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "operations"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// build builds the nats command, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	if err := built(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "nats")
}

var built = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", filepath.Join(folder, "nats"),
		"github.com/nats-io/natscli/nats").CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
})

// login is how a command logs in.
type login struct{ url, user string }

// run runs the nats command, and returns what it prints and its exit code.
func (l login) run(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(build(t), append([]string{"--server", l.url, "--user", l.user, "--password",
		"p"}, args...)...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "NO_COLOR=1")
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}
