package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// reloading is a nats-server with a configuration file, in a process of its own. The server reads
// the file again while it serves clients, which has data races of its own (nats-server issue 8499).
type reloading struct {
	t    testing.TB
	proc *process
	file string
	base string // the beginning of the configuration
	url  string
}

func (s *reloading) write(users string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(s.base+users), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// reload makes the server use another configuration of its users.
func (s *reloading) reload(users string) {
	s.t.Helper()
	s.write(users)
	s.proc.tell("reload")
	s.proc.await("done", natstest.Soon)
}

// kick ends a connection, as "nats server request kick" does.
func (s *reloading) kick(nc *nats.Conn) {
	s.t.Helper()
	id, err := nc.GetClientID()
	if err != nil {
		s.t.Fatal(err)
	}
	s.proc.tell(fmt.Sprint("kick ", id))
	s.proc.await("done", natstest.Soon)
}

// Connect connects to the server until the test ends.
func (s *reloading) Connect(opts ...nats.Option) *nats.Conn {
	s.t.Helper()
	return natstest.Connect(s.t, s.url, opts...)
}

// startReloading runs the server until the test ends, with the given users.
func startReloading(t testing.TB, users string) *reloading {
	t.Helper()
	dir := t.TempDir()
	address := fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))
	s := &reloading{t: t, file: filepath.Join(dir, "nats.conf"), url: "nats://" + address,
		base: fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\n", address,
			filepath.Join(dir, "store"))}
	s.write(users)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KVREGISTRY_TEST_CONFIGURED="+s.file,
		"GORACE=exitcode=0 log_path='"+filepath.Join(dir, "races")+"'")
	s.proc = begin(t, cmd)
	s.proc.await("ready", natstest.Soon)
	return s
}

// configuredProcess runs a nats-server with a configuration file until its standard input ends.
func configuredProcess(file string) int {
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	opts.NoLog, opts.NoSigs = true, true
	return runServer(opts, func(srv *server.Server, told *bufio.Scanner) {
		for told.Scan() {
			if err := obey(srv, told.Text()); err != nil {
				fmt.Println("failed", err)
				continue
			}
			fmt.Println("done")
		}
	})
}

func obey(srv *server.Server, told string) error {
	switch command, rest, _ := strings.Cut(told, " "); command {
	case "reload":
		return srv.Reload()
	case "kick":
		id, _ := strconv.ParseUint(rest, 10, 64)
		return srv.DisconnectClientByID(id)
	}
	return nil
}
