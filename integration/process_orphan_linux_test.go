package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
)

// endWithParent makes the kernel kill the process when this one ends, even if the process is
// frozen.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// launch starts processes from one thread that stays, because the kernel takes the thread for the
// parent.
func launch(cmd *exec.Cmd) error {
	launcher.Do(func() {
		go func() { // lives as long as this process
			runtime.LockOSThread()
			for cmd := range launches {
				launched <- cmd.Start()
			}
		}()
	})
	launching.Lock()
	defer launching.Unlock()
	launches <- cmd
	return <-launched
}

var (
	launcher  sync.Once
	launching sync.Mutex
	launches  = make(chan *exec.Cmd)
	launched  = make(chan error)
)

// A process that a test started ends with the test, even if the test is killed and the process is
// frozen. Seen to fail without endWithParent.
func TestProcessesEndWithTheTest(t *testing.T) {
	const asParent = "KVREGISTRY_TEST_STORE"
	if store := os.Getenv(asParent); store != "" {
		server := spawn(t, "SERVER", nodePlan{Name: "n", Port: natstest.FreePort(t), Store: store})
		server.await("ready", natstest.Soon)
		server.freeze()
		fmt.Println("child", server.cmd.Process.Pid)
		select {} // until it is killed
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), asParent+"="+t.TempDir())
	parent := begin(t, cmd)
	child := parent.await("child", natstest.Soon)
	parent.kill()
	natstest.Eventually(t, natstest.Soon, func() error {
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		// dead, but not yet waited for
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return errors.New("the process lives on")
		}
		return nil
	})
}
