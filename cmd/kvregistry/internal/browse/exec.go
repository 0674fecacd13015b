package browse

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/supervise"
	"github.com/kvregistry/go/kvregistry"
)

// runFor runs a shell command for a change, and waits for its end. What the command leaves in its
// process group is killed. A command that fails is told of, and does not end the watch.
func runFor(ctx context.Context, std cli.Streams, command string, e kvregistry.Event) error {
	input, err := json.Marshal(e)
	if err != nil {
		return err
	}
	shell, flag := "/bin/sh", "-c"
	if runtime.GOOS == "windows" {
		shell, flag = "cmd", "/C"
	}
	cmd := exec.Command(shell, flag, command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), std.Raw(), std.Err
	s := e.Service
	cmd.Env = append(os.Environ(), "KVREGISTRY_EVENT_KIND="+string(e.Kind),
		"KVREGISTRY_EVENT_SERVICE="+s.Name, "KVREGISTRY_EVENT_ID="+s.ID,
		"KVREGISTRY_EVENT_ADDRESS="+where(s), "KVREGISTRY_EVENT_STATUS="+string(s.Status),
		fmt.Sprint("KVREGISTRY_EVENT_REVISION=", e.Revision))
	cmd.WaitDelay = time.Second // for a process that has left the group with the output
	if err := supervise.Run(ctx, cmd); err != nil && ctx.Err() == nil {
		_, _ = fmt.Fprintf(std.Err, "kvregistry watch: --exec, %s of %s: %v\n", e.Kind,
			cli.Escape(s.Name+"/"+s.ID), err)
	}
	return nil
}
