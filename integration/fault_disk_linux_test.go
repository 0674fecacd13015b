package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariants 1, 2, 4 and 5: if its file system is full, nats-server acknowledges no write until it
// is restarted with room, but goes on serving reads. No live instance leaves a cache meanwhile or
// afterwards, and Register returns ErrPending. When the server is back, the dead are removed and
// pending writes are done.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	s := natstest.Start(t, func(o *server.Options) { o.StoreDir = filepath.Join(dir, "store") })
	observer := open(t, s)
	start(t, plan{URL: s.URL(), Services: []kvService{web("live")}})
	dies := start(t, plan{URL: s.URL(), Services: []kvService{web("dies")}})
	sees(t, observer, natstest.Soon, "web", "dies", "live")
	junk := filepath.Join(dir, "junk")
	fill(t, junk)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := js.Publish(ctx, "$KV.registry_default.junk",
			make([]byte, 3000)); !isErr(err, context.DeadlineExceeded) {
			return fmt.Errorf("a write gave %v", err)
		}
		return nil
	})
	dies.kill()
	// the time that is watched
	for end := time.Now().Add(2 * ttl); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got := ids(t, observer, "web"); !contains(got, "live") {
			t.Fatalf("while the disk is full, look-ups give %v", got)
		}
	}
	_, err = observer.Register(web("owed"))
	h := observer.Health()
	t.Logf("lease %s, %d unwritten; Register gave: %v", h.Lease, h.Unwritten, err)
	if !isErr(err, kvregistry.ErrPending) || h.OK() || h.Lease != kvregistry.LeaseGone ||
		h.Unwritten != 1 {
		t.Errorf("Register gave %v, want ErrPending; health is %+v", err, h)
	}
	if err := os.Remove(junk); err != nil {
		t.Fatal(err)
	}
	s.Outage(100 * time.Millisecond)
	back := time.Now()
	for got := []string(nil); len(got) != 2 || got[1] != "owed"; got = ids(t, observer, "web") {
		if got != nil && !contains(got, "live") {
			t.Fatalf("after the server's return, look-ups give %v", got)
		}
		if time.Since(back) > natstest.Soon {
			t.Fatalf("%s after the server's return, look-ups give %v", time.Since(back), got)
		}
		time.Sleep(time.Millisecond) // between two checks
	}
	t.Logf("all was right %s after the server's return", time.Since(back).Round(time.Millisecond))
}

// smallDisk mounts a file system of 16 MiB that ends with the test, or with this process, because
// only an open directory refers to it. Only root can mount one.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a small file system can't be had, which takes root: %v", err)
	}
	open, err := os.Open(dir)
	if err := errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Close() })
	return fmt.Sprintf("/proc/self/fd/%d", open.Fd())
}

// fill writes to a file until there is no room left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; size /= 2 {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}
