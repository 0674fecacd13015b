package kvregistry

import (
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/kvregistry/go/internal/journal"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// smallCache returns a cache with small bounds that observes everything, and a function that shows
// it a change of an instance.
func smallCache(t *testing.T) (c *cache, see func(service string, id int, op tenant.Op)) {
	t.Helper()
	c = newCache(slog.New(slog.DiscardHandler), bounds{instances: 3, services: 2})
	c.view = watcher.New(nil, watcher.Config{Apply: func([]watcher.Change, *watcher.Snapshot) {}})
	c.observe(Everything)
	c.synced[Everything] = struct{}{}
	rev := uint64(0)
	return c, func(service string, id int, op tenant.Op) {
		rev++
		s := Service{Name: service, ID: fmt.Sprint(id), Address: "a:1"}
		value, err := encode(record{Format: wire.Format, Lease: "L", Owner: "O"}, s,
			DefaultMaxRecord)
		if err != nil {
			t.Fatal(err)
		}
		key, err := tenant.ServiceKey(service, s.ID)
		if err != nil {
			t.Fatal(err)
		}
		c.apply([]*sighting{sight(watcher.Change{Key: key, Value: value, Revision: rev, Op: op},
			DefaultMaxRecord)}, nil)
	}
}

// Other processes can't make a registry's memory grow beyond its bounds. What exceeds a bound is
// skipped and counted, and changes of known instances are still taken. Seen to fail without
// overflows, and if services are added without a bound.
func TestMemoryIsBounded(t *testing.T) {
	c, see := smallCache(t)
	instances := func(service string) int {
		if svc := c.find(service); svc != nil {
			return svc.snap.Load().Len()
		}
		return -1
	}
	for id := range 5 {
		see("a", id, tenant.Put)
	}
	if n := instances("a"); n != 3 || c.skipped.Load() != 2 {
		t.Errorf("%d instances, %d skipped", n, c.skipped.Load())
	}
	see("a", 1, tenant.Put) // a known instance changes
	see("a", 0, tenant.Delete)
	see("a", 4, tenant.Put) // there is room again
	if n := instances("a"); n != 3 || c.skipped.Load() != 2 {
		t.Errorf("%d instances, %d skipped after one went", n, c.skipped.Load())
	}
	for i := range 5 {
		see(fmt.Sprintf("s%d", i), 0, tenant.Put)
	}
	if n := len(*c.services.Load()); n != 2 || c.skipped.Load() != 6 {
		t.Errorf("%d services, %d skipped", n, c.skipped.Load())
	}
	c.observe("asked")
	see("asked", 0, tenant.Put)
	if n := instances("asked"); n != 1 {
		t.Errorf("%d instances of a service that was asked for", n)
	}
}

// A record that is longer than the bound is not read, whether its value is there or left out. Seen
// to fail without a look at its length.
func TestLongRecordIsNotRead(t *testing.T) {
	value := `{"format":1,"lease":"L","instance":{"id":"a","name":"web","address":"a:1"}` +
		strings.Repeat(" ", DefaultMaxRecord) + "}"
	ch := watcher.Change{Key: "svc.web.a", Value: []byte(value), Revision: 1}
	if err := sight(ch, DefaultMaxRecord).err; err != errLong {
		t.Errorf("%v", err)
	}
	if err := sight(watcher.Change{Key: "svc.web.a", Long: 1 << 20, Revision: 1},
		DefaultMaxRecord).err; err != errLong {
		t.Errorf("left out: %v", err)
	}
	if s := sight(ch, len(value)); s.err != nil || s.rec.Lease != "L" {
		t.Errorf("with longer ones allowed: %v", s.err)
	}
}

// Values that overwrite an instance faster than its owner repairs it are not kept meanwhile. Seen
// to fail if doubts keep what they saw: 100 records of 60 KB took 12 MB.
func TestDoubtKeepsNoValue(t *testing.T) {
	c, see := smallCache(t)
	see("a", 0, tenant.Put)
	before := heap()
	for i := range 100 {
		value := fmt.Appendf(nil,
			`{"format":2,"lease":"L","instance":{"id":"0","name":"a","version":%q}}`,
			strings.Repeat("x", 60_000))
		c.apply([]*sighting{sight(watcher.Change{Key: "svc.a.0", Value: value,
			Revision: uint64(10 + i)}, DefaultMaxRecord)}, nil)
	}
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("the process grew by %d MB", grown>>20)
	}
	if n := c.skipped.Load(); n != 100 {
		t.Errorf("%d skipped", n)
	}
}

// heap returns the number of bytes in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A name in an error can't send control characters to the terminal. Seen to fail with names that
// are not quoted.
func TestNamesAreQuoted(t *testing.T) {
	if got := journal.Plain("svc.web.é"); got != "svc.web.é" {
		t.Errorf("a name that can be printed is logged as %s", got)
	}
	name := "\x1b[2J\r\n\u202e"
	s := Service{Name: name, ID: name, Status: "\x1b"}
	_, missing := newRegistry(t, natstest.Start(t)).GetService(name)
	for what, err := range map[string]error{
		"fenced": named(&registration{First: s}, ErrFenced), "invalid": s.check(),
		"not found": missing, "name": checkName(name + "\xff"),
	} {
		if err == nil || strings.ContainsAny(err.Error(), "\x1b\r\n\u202e") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
