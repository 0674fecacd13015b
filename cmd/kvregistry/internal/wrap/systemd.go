package wrap

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// systemd is what systemd is told of this process, if it asked for that.
type systemd struct {
	watchdog time.Duration // it expects a sign of life as often; 0 if it does not
	status   string        // that it was told last
}

func newSystemd() (*systemd, error) {
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("systemd's watchdog: %w", err)
	}
	return &systemd{watchdog: watchdog}, nil
}

// tell tells systemd a state, and the status of the unit that "systemctl status" shows.
func (s *systemd) tell(state, status string) {
	if state == "" && status == s.status {
		return
	}
	s.status = status
	// A manager that does not listen any more changes nothing for the program.
	_, _ = daemon.SdNotify(false, strings.TrimPrefix(state+"\nSTATUS="+status, "\n"))
}

// alive is systemd's sign of life.
func (s *systemd) alive() { _, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) }

// starting asks systemd for more time to start: the end of that is this process's to find.
const starting = "EXTEND_TIMEOUT_USEC=30000000"

// environ is what a program gets of this process's environment, and some variables more. This
// process answers systemd, so the program does not.
func environ(more ...string) []string {
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "WATCHDOG_PID"
	}), more...)
}
