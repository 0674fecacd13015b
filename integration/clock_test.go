package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// Invariant 10: a process whose wall clock jumps by hours, forward and back, more than once in each interval of a
// heartbeat, keeps its lease, is never missing in another's cache, and sees what others do as it would otherwise: who lives stays,
// who dies goes in time. Seen to fail with a view that tells by the wall clock for how long the server was silent.
func TestClockThatJumps(t *testing.T) {
	t.Parallel()
	program := buildJumpy(t)
	s := natstest.Start(t)
	other := start(t, plan{URL: s.URL(), Services: []kvService{web("steady")}})
	observer := open(t, s)
	jumpy := begin(t, exec.Command(program, s.URL(), "jumpy"))
	jumpy.await("ready", 10*time.Second)
	sees(t, observer, time.Second, "web", "jumpy", "steady")
	for end := time.Now().Add(4 * ttl); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // what is lived through
		if got := ids(t, observer, "web"); len(got) != 2 {
			t.Fatalf("another sees %v", got)
		}
	}
	jumps := 0
	for len(jumpy.lines) > 0 {
		switch line := <-jumpy.lines; {
		case strings.HasPrefix(line, "jumped"):
			jumps++
		case !strings.HasPrefix(line, "event registered"):
			t.Errorf("it lost sight of somebody, or its lease: %s", line)
		}
	}
	if jumps < 10 {
		t.Errorf("the clock jumped %d times", jumps)
	}
	other.kill()
	killed := time.Now()
	jumpy.await("event expired steady", ttl+time.Second)
	t.Logf("the other one went %s after its kill; %d jumps before", time.Since(killed).Round(time.Millisecond), jumps)
	sees(t, observer, time.Second, "web", "jumpy")
	_ = jumpy.stdin.Close()
	if healthy := jumpy.await("health", 10*time.Second); healthy != "true 0" {
		t.Errorf("at last its health was %s", healthy)
	}
	sees(t, observer, time.Second, "web")
}

// buildJumpy builds the program with a package time whose wall clock jumps, and everything else as it is.
func buildJumpy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), reads) == 0 {
		t.Fatalf("%s reads the clock in another way than this test knows; find how", original)
	}
	jumping := strings.ReplaceAll(string(text), reads, reads+"\tsec += [...]int64{0, 3600, -86400, 7200}[mono/400_000_000%4]\n")
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	mapping, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(changed, []byte(jumping), 0o600), os.WriteFile(overlay, mapping, 0o600)); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "jumpy")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./jumpy").CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("build: %w\n%s", err, out))
	}
	return program
}
