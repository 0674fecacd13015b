package operations

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/kvregistry/go/internal/natstest"
)

// where is how a program asks a terminal for the cursor's place, and here what the terminal says.
const (
	where = "\x1b[6n"
	here  = "\x1b[1;1R"
)

// confirm is run on a terminal, and answers what the command asks with yes. The command changes the
// stream of a key-value bucket only if somebody confirms it.
func (l login) confirm(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(build(t), append([]string{"--server", l.url, "--user", l.user, "--password",
		"p"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "NO_COLOR=1")
	terminal, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	var said natstest.Log
	repeat := time.NewTicker(300 * time.Millisecond) // the command may read an answer as a place
	defer repeat.Stop()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-repeat.C:
				if said.Count("Really operate") > 0 {
					_, _ = terminal.WriteString("y\r")
				}
			}
		}
	}()
	late := time.AfterFunc(natstest.Soon, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	asked := 0
	part := make([]byte, 4096)
	for {
		n, err := terminal.Read(part)
		_, _ = said.Write(part[:n])
		for ; asked < said.Count(where); asked++ {
			_, _ = terminal.WriteString(here)
		}
		if err != nil { // the command has ended
			break
		}
	}
	_ = cmd.Wait() // its code tells
	return said.String(), cmd.ProcessState.ExitCode()
}
