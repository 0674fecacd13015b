//go:build linux

package wrap

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Programs that are no Go are registered while they serve. A shell's program ends with the shell.
// Seen to fail with a Stop of the shell alone.
func TestForeignPrograms(t *testing.T) {
	t.Parallel()
	if exec.Command("python3", "-c", "import http.server").Run() != nil {
		t.Skip("there is no python3 here")
	}
	const server = "python3 -m http.server --bind 127.0.0.1 "
	for name, line := range map[string]string{
		"python":  "exec " + server,
		"a shell": "trap 'exit 0' HUP; " + server,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, addr := newWorld(t), at(t)
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			p := w.run("--address", addr, "--check", "http://"+addr+"/", "--settle", "10ms", "--",
				"sh", "-c", line+port)
			w.shows(kvregistry.Passing)
			p.signal(syscall.SIGTERM)
			p.ends(143)
			w.shows("")
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal("the server goes on: ", err)
			}
			_ = l.Close()
		})
	}
}

// In a container the wrapper is process 1. It reaps what its program leaves, and its checks have
// their results nevertheless. Seen to fail without parentOfAll.
func TestProcess1(t *testing.T) {
	t.Parallel()
	namespace := []string{"--pid", "--fork", "--mount-proc", "--kill-child"}
	if exec.Command("unshare", append(namespace, "true")...).Run() != nil {
		t.Skip("no PID namespace can be made here")
	}
	w := newWorld(t)
	const leaves = "i=0; while [ $i -lt 20 ]; do (sh -c 'sleep 0.1' &); i=$((i+1)); done; " +
		"trap 'exit 6' TERM; echo left; while :; do sleep 0.1; done"
	p := begun(t, exec.Command("unshare", append(namespace, os.Args[0], "run", "--server", w.URL(),
		"--name", "web", "--id", "x", "--port", "80", "--settle", "10ms", "--check",
		"exec:test $PPID = 1", "--check-interval", "20ms", "--", "sh", "-c", leaves)...), nil)
	p.says("left")
	w.shows(kvregistry.Passing)
	first := 0
	natstest.Eventually(t, natstest.Soon, func() error {
		out, err := exec.Command("ps", "-o", "pid=", "--ppid", strconv.Itoa(p.cmd.Process.Pid)).
			Output()
		if err == nil {
			_, err = fmt.Sscan(string(out), &first)
		}
		return err
	})
	natstest.Eventually(t, natstest.Soon, func() error {
		out, err := exec.Command("ps", "-o", "stat=,args=", "--ppid", strconv.Itoa(first)).Output()
		if err != nil || strings.Contains(string(out), "defunct") {
			return fmt.Errorf("%q, %v", out, err)
		}
		return nil
	})
	if err := syscall.Kill(first, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.ends(6)
	w.shows("")
}

// page is docs/run.md.
func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../../docs/run.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The unit in docs/run.md is one that systemd takes, and its command line runs. Seen to fail with
// Type=notfy, and with an option --chek.
func TestUnitOfThePage(t *testing.T) {
	t.Parallel()
	_, unit, _ := strings.Cut(page(t), "```ini\n")
	unit, _, _ = strings.Cut(unit, "```")
	_, line, _ := strings.Cut(unit, "ExecStart=")
	line, _, _ = strings.Cut(line, "\n")
	if _, err := exec.LookPath("systemd-analyze"); err == nil {
		unit = strings.Replace(unit, "/usr/local/bin/kvregistry", os.Args[0], 1)
		unit = strings.Replace(unit, "/usr/bin/python3", "/bin/true", 1)
		path := filepath.Join(t.TempDir(), "web.service")
		if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput()
		if err != nil || strings.Contains(string(out), "web.service:") {
			t.Errorf("%v: %s", err, out)
		}
	}
	runs(t, strings.Fields(line)[1:])
}

// The entry point in docs/run.md runs. Seen to fail with an option --graze.
func TestEntryPointOfThePage(t *testing.T) {
	t.Parallel()
	var args []string
	for _, word := range []string{"ENTRYPOINT ", "CMD "} {
		_, line, _ := strings.Cut(page(t), "\n"+word)
		line, _, _ = strings.Cut(line, "\n")
		var list []string
		if err := json.Unmarshal([]byte(line), &list); err != nil {
			t.Fatal(err)
		}
		args = append(args, list...)
	}
	runs(t, args[1:])
}

// runs runs a command line of docs/run.md, with another port than 8083.
func runs(t *testing.T, args []string) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3 here")
	}
	w, port := newWorld(t), strconv.Itoa(natstest.FreePort(t))
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "8083", port)
		if args[i] == "/usr/bin/python3" {
			args[i] = "python3"
		}
	}
	p := start(t, []string{"NATS_URL=" + w.URL(), "KVREGISTRY_SETTLE=10ms"}, args...)
	w.shows(kvregistry.Passing)
	p.signal(syscall.SIGTERM)
	p.ends(143)
	w.shows("")
}

// The options can be set by variables. Seen to fail with another prefix in cli.Variable.
func TestVariables(t *testing.T) {
	t.Parallel()
	w, addr := newWorld(t), at(t)
	start(t, []string{"NATS_URL=" + w.URL(), "KVREGISTRY_NAME=web", "KVREGISTRY_ID=x",
		"KVREGISTRY_ADDRESS=" + addr, "KVREGISTRY_CHECK=exec:true", "KVREGISTRY_TAG=a,b",
		"KVREGISTRY_META=k=v"}, "run", "--", "sleep", "60")
	if s := w.shows(kvregistry.Passing); len(s.Tags) != 2 || s.Metadata["k"] != "v" {
		t.Errorf("%+v", s)
	}
	p := start(t, []string{"KVREGISTRY_PORT=tcp://10.0.0.1:80"}, "run", "--name", "web", "--",
		"true")
	p.ends(2)
	p.says("KVREGISTRY_PORT")
}
