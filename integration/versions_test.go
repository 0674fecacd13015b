package integration

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// previous is the last commit whose reapers share the queue "reaper" and the key "sweep".
const previous = "a4367c0"

// Invariants 2, 5 and 6 hold for a tenant whose processes are of two versions. During an upgrade
// and a rollback, and through an outage longer than the TTL, the dead leave every cache and the
// living stay in each. Each process that ends is one event. Seen to fail with a reaper of the newer
// version that never doubts, and with one that purges nothing.
func TestVersionsSideBySide(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	oldPeer, newPeer := buildPrevious(t), buildPeer(t, "..")
	t.Run("upgrade", func(t *testing.T) {
		t.Parallel()
		replaceVersion(t, oldPeer, newPeer)
	})
	t.Run("rollback", func(t *testing.T) {
		t.Parallel()
		replaceVersion(t, newPeer, oldPeer)
	})
}

// replaceVersion starts processes of one version, adds those of another, and stops the first ones.
// Meanwhile it kills processes of each and restarts the server.
func replaceVersion(t *testing.T, from, to string) {
	m := &mix{t: t, server: natstest.Start(t), gone: map[string]kvregistry.Kind{}}
	defer m.conclude()
	const slow = "-wait=2s" // like nats.DefaultReconnectWait, and later than the reapers
	from1, from2, from3 := m.join(from, "from-1"), m.join(from, "from-2"),
		m.join(from, "from-3", slow)
	to1, to2, to3 := m.join(to, "to-1"), m.join(to, "to-2"), m.join(to, "to-3", slow)
	m.gather()
	m.keep(3 * ttl)

	m.kill(from1)
	m.lose("a process of the first version")
	m.kill(to1)
	m.lose("a process of the second version")

	// each is a newcomer among both versions
	from4, to4 := m.join(from, "from-4"), m.join(to, "to-4")
	m.gather()
	m.server.Outage(100 * time.Millisecond)
	m.keep(3 * ttl)

	m.server.Down()
	m.kill(from4, to4)
	m.endure(2*ttl + ttl/2)
	m.server.Up()
	m.lose("one of each that died in an outage")
	m.keep(3 * ttl)

	m.stop(from2, from3)
	m.lose("the first version")
	m.kill(to2)
	m.lose("a process of the second version, alone,")
	m.keep(3 * ttl)
	m.stop(to3)
}

// buildPrevious builds the peer with the previous version of the library. It skips the test if git
// does not have that version.
func buildPrevious(t *testing.T) string {
	t.Helper()
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	var archive []byte
	if err == nil {
		git := exec.Command("git", "archive", "--format=zip", previous)
		git.Dir = strings.TrimSpace(string(root))
		archive, err = git.Output()
	}
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		t.Skipf("the previous version, commit %s, can't be had from git here: %v", previous, err)
	}
	files, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	must(t, err)
	source := t.TempDir()
	must(t, os.CopyFS(source, files))
	must(t, os.CopyFS(filepath.Join(source, peerFolder), os.DirFS("testdata/peer")))
	return buildPeer(t, source)
}

// peerFolder is the folder of the peer's program in the module.
const peerFolder = "integration/testdata/peer"

// buildPeer builds the peer with the library in a folder, and with the race detector if this test
// has it.
func buildPeer(t *testing.T, source string) string {
	t.Helper()
	began := time.Now()
	program := filepath.Join(t.TempDir(), "peer")
	args := []string{"build", "-buildvcs=false", "-o", program}
	if raced {
		args = append(args, "-race")
	}
	build := exec.CommandContext(t.Context(), "go", append(args, "./"+peerFolder)...)
	build.Dir = source
	build.Env = append(os.Environ(), "GOWORK=off")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	t.Logf("built the peer with %s in %s", source, time.Since(began).Round(time.Millisecond))
	return program
}
