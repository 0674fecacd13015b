package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 10, honest clocks: the library reads no time that another machine wrote. The timestamp
// of a message or an entry is the server's clock, which must not be compared with this machine's.
// The stream's creation time is compared for equality with itself alone. A lease's age for people
// to read is the difference of two times of the server. Seen to fail with an age computed from a
// message's timestamp, and with the age of the stream.
func TestNoForeignClockIsRead(t *testing.T) {
	// A stream's creation time is its origin. knows of package watcher compares it for equality.
	allowed := map[string]bool{"info.Created": true, "leader.Created": true,
		"meta.Timestamp": true, "info.TimeStamp": true} // of Message.Time and State.Now: see below
	ages := map[string]int{}
	eachFile(t, func(pkg string, file *ast.File) {
		equal := map[ast.Expr]bool{} // expressions that are compared for equality alone
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.SelectorExpr); ok &&
					(f.Sel.Name == "Equal" || f.Sel.Name == "IsZero" || f.Sel.Name == "knows") {
					equal[f.X] = true
					for _, arg := range call.Args {
						equal[arg] = true
					}
				}
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := sel.X.(*ast.Ident)
			if x != nil && (x.Name == "state" && sel.Sel.Name == "Now" ||
				x.Name == "m" && sel.Sel.Name == "Time") {
				ages[pkg]++
			}
			if (sel.Sel.Name == "Timestamp" || sel.Sel.Name == "Created" ||
				sel.Sel.Name == "TimeStamp" || sel.Sel.Name == "LastTime" ||
				sel.Sel.Name == "FirstTime") &&
				!equal[sel] && (x == nil || !allowed[x.Name+"."+sel.Sel.Name]) {
				t.Errorf("%s reads a time of the server: %s", pkg, sel.Sel.Name)
			}
			if sel.Sel.Name == "created" && !equal[sel] {
				t.Errorf("%s does more with a stream's creation time than to compare it for "+
					"equality", pkg)
			}
			return true
		})
	})
	if ages["lease"] != 2 || len(ages) != 1 {
		t.Errorf("ages by the server's clock are computed elsewhere than in lease.List: %v", ages)
	}
}

// Invariant 10: a process whose wall clock jumps by hours, several times between two heartbeats,
// keeps its lease and stays in another's cache. It goes on seeing live instances, and sees dead
// ones removed in time. Seen to fail with a view that measures the server's silence by the wall
// clock.
func TestClockThatJumps(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	program := buildJumpy(t)
	s := natstest.Start(t)
	other := start(t, plan{URL: s.URL(), Services: []kvService{web("steady")}})
	observer := open(t, s)
	jumpy := begin(t, exec.Command(program, s.URL(), "jumpy"))
	jumpy.await("ready", natstest.Soon)
	sees(t, observer, natstest.Soon, "web", "jumpy", "steady")
	// the time that is watched
	for end := time.Now().Add(4 * ttl); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if got := ids(t, observer, "web"); len(got) != 2 {
			t.Fatalf("another process sees %v", got)
		}
	}
	jumps := 0
	for len(jumpy.lines) > 0 {
		switch line := <-jumpy.lines; {
		case strings.HasPrefix(line, "jumped"):
			jumps++
		case !strings.HasPrefix(line, "event registered"):
			t.Errorf("it missed an instance or lost its lease: %s", line)
		}
	}
	if jumps < 3 {
		t.Errorf("the clock jumped %d times", jumps)
	}
	other.kill()
	killed := time.Now()
	jumpy.await("event expired steady", removal)
	t.Logf("the other one was removed %s after its kill, after %d jumps",
		time.Since(killed).Round(time.Millisecond), jumps)
	sees(t, observer, natstest.Soon, "web", "jumpy")
	_ = jumpy.stdin.Close()
	if healthy := jumpy.await("health", natstest.Soon); healthy != "true 0" {
		t.Errorf("its last health was %s", healthy)
	}
	sees(t, observer, natstest.Soon, "web")
}

// Invariant 10: if the server's clock jumps forward by a minute or an hour, or back by an hour, no
// live instance leaves a cache. A process that dies as the clock jumps back is removed too, one TTL
// later than usual. A process that dies later is removed in time. Seen to fail with a reaper that
// trusts markers that come too early, and with one that leaves leases that do not end.
func TestServerClockThatJumps(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	program := buildWithClock(t, "./testdata/clockserver", "\tsec += Jump\n",
		"\n// Jump is by how much the clock is off.\nvar Jump int64\n")
	srv := begin(t, exec.Command(program, t.TempDir()))
	url := srv.await("ready", 30*time.Second)
	var gone atomic.Int64
	observer := openOn(t, natstest.Connect(t, url), kvregistry.OnEvent(func(e kvregistry.Event) {
		if e.Kind == kvregistry.Expired {
			gone.Add(1)
		}
	}))
	for _, id := range []string{"a", "b", "c"} {
		register(t, openOn(t, natstest.Connect(t, url)), web(id))
	}
	dies := start(t, plan{URL: url, Services: []kvService{web("dies")}})
	late := start(t, plan{URL: url, Services: []kvService{web("late")}})
	all := []string{"a", "b", "c", "dies", "late"}
	sees(t, observer, natstest.Soon, "web", all...)
	time.Sleep(2 * ttl) // wait until reapers may purge
	jump := func(d time.Duration) {
		srv.tell(strconv.Itoa(int(d / time.Second)))
		srv.await("jumped", natstest.Soon)
	}
	for _, d := range []time.Duration{time.Minute, time.Hour} {
		jump(d)
		// the time that is watched
		for end := time.Now().Add(4 * ttl); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if got := ids(t, observer, "web"); len(got) != len(all) {
				t.Fatalf("after a jump by %s the service has %v", d, got)
			}
		}
	}
	dies.kill()
	jump(-time.Hour)
	began := time.Now()
	sees(t, observer, natstest.Soon, "web", "a", "b", "c", "late")
	t.Logf("after a jump back, the dead instance was removed in %s",
		time.Since(began).Round(time.Millisecond))
	time.Sleep(2 * ttl)
	late.kill()
	sees(t, observer, removal, "web", "a", "b", "c")
	natstest.Eventually(t, natstest.Soon, func() error { // the callback comes after the look-up
		if n := gone.Load(); n != 2 {
			return fmt.Errorf("%d instances expired, two died", n)
		}
		return nil
	})
}

// buildJumpy builds the program with a package time whose wall clock jumps, and that is otherwise
// unchanged.
func buildJumpy(t *testing.T) string {
	t.Helper()
	return buildWithClock(t, "./jumpy",
		"\tsec += [...]int64{0, 3600, -86400, 7200}[mono/310_000_000%4]\n", "")
}

// buildWithClock builds a program with a changed package time: it has a text added after each
// reading of the clock, and another at its end.
func buildWithClock(t *testing.T, program, after, end string) string {
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
	jumping := strings.ReplaceAll(string(text), reads, reads+after) + end
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	mapping, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(changed, []byte(jumping), 0o600),
		os.WriteFile(overlay, mapping, 0o600)); err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(dir, filepath.Base(program))
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", built,
		program).CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("build: %w\n%s", err, out))
	}
	return built
}
