package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// terminal is a terminal of tmux, of a server of its own.
type terminal struct {
	t      *testing.T
	socket string
}

// openTerminal runs a program of the tests in a terminal until the test ends. What the terminal
// shows then is "ended with" and the exit code.
func openTerminal(t *testing.T, variable string, args ...string) terminal {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("there is no tmux")
	}
	dir, err := os.MkdirTemp("", "tmux") // short, because it is part of a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	term := terminal{t, dir + "/s"}
	t.Cleanup(func() { _ = term.command("kill-server").Run() })
	term.run(append([]string{"-f", os.DevNull, "new-session", "-d", "-x", "100", "-y", "16",
		"-e", asProgram + "=1", "-e", variable, "sh", "-c", `"$@"; echo ended with $?; read x`,
		"sh", os.Args[0]}, args...)...)
	return term
}

func (t terminal) command(args ...string) *exec.Cmd {
	return exec.Command("tmux", append([]string{"-u", "-S", t.socket}, args...)...)
}

func (t terminal) run(args ...string) string {
	t.t.Helper()
	out, err := t.command(args...).CombinedOutput()
	if err != nil {
		t.t.Fatalf("tmux %q: %v: %s", args, err, out)
	}
	return string(out)
}

// shows waits until a line of the terminal has all these words.
func (t terminal) shows(words ...string) {
	t.t.Helper()
	natstest.Eventually(t.t, natstest.Soon, func() error {
		screen := t.run("capture-pane", "-p")
		for line := range strings.Lines(screen) {
			missing := false
			for _, word := range words {
				missing = missing || !strings.Contains(line, word)
			}
			if !missing {
				return nil
			}
		}
		return fmt.Errorf("no line has %q:\n%s", words, screen)
	})
}

// colour matches a code that sets a colour.
var colour = regexp.MustCompile(`\x1b\[[0-9;]*3[0-7]m`)

// "top" on a real terminal shows what is registered and what changes, takes keys, follows the size
// of the terminal, and leaves the terminal as it was. NO_COLOR takes the colours away. Seen to fail
// without the alternate screen.
func TestTop(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t, kvregistry.Logger(slog.New(slog.DiscardHandler)))
	for _, id := range []string{"a", "b"} {
		one := kvregistry.Service{Name: "web", ID: id, Address: id + ":1"}
		if _, err := env.Register(one); err != nil {
			t.Fatal(err)
		}
	}
	for _, variable := range []string{"NO_COLOR=", "NO_COLOR=1"} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			term := openTerminal(t, variable, "top", "--server", env.URL())
			term.shows("web", "2", "● 2")
			term.shows("✓ current")
			if got := colour.MatchString(term.run("capture-pane", "-p", "-e")); got != (variable ==
				"NO_COLOR=") {
				t.Errorf("colours: %v, with %s", got, variable)
			}
			term.run("resize-window", "-x", "60", "-y", "12")
			term.run("send-keys", "Enter")
			term.shows("a ", "● passing", "a:1")
			natstest.Eventually(t, natstest.Soon, func() error {
				lines := strings.Split(term.run("capture-pane", "-p"), "\n")
				if len(lines) < 12 || !strings.HasPrefix(lines[11], "Esc back") {
					return errors.New("the last line does not name the keys")
				}
				return nil
			})
			term.run("send-keys", "q")
			term.shows("ended with 0")
			if screen := term.run("capture-pane", "-p"); strings.Contains(screen, "passing") {
				t.Errorf("the terminal still shows\n%s", screen)
			}
		})
	}
}

// "top" without a terminal, or of a tenant that is not there, says so.
func TestTopOfNothing(t *testing.T) {
	t.Parallel()
	if code, out, told := called("top"); code != 2 || out != "" ||
		!strings.Contains(told, "no terminal") {
		t.Errorf("%d %q %q", code, out, told)
	}
	s := natstest.Start(t)
	term := openTerminal(t, "NO_COLOR=", "top", "--server", s.URL(), "--tenant", "nosuch")
	term.shows("there is no tenant nosuch")
	term.shows("ended with 3")
}

// A user with the role observer, as "tenant config" prints it, may run "top". Seen to fail with its
// inbox left out.
func TestTopAsObserver(t *testing.T) {
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))
	runs := startConfigured(t, "--listen", address)
	if code, out, told := called(runs["admin"]...); code != 0 {
		t.Fatal(code, out, told)
	}
	login := slices.Concat([]string{"top"}, runs["observer"][1:])
	openTerminal(t, "NO_COLOR=", login...).shows("0 services", "0 leases")
}
