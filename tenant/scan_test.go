package tenant

import (
	"fmt"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// While an entry is looked at, the others wait at the server: a scan takes no more memory than flow control lets be under way. Seen to fail with a scan by
// the watcher of nats.go, which took all of them.
func TestScanKeepsNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	b, err := New(nc, "test", Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	const many, size = 40, 1 << 19
	for i := range many {
		if _, err := b.Write(t.Context(), Write{Key: fmt.Sprintf("svc.web.%d", i), Value: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	before, seen := nc.Stats().InBytes, 0
	err = b.Scan(t.Context(), AllServices, true, func(Entry) {
		if seen++; seen > 1 {
			return
		}
		came := nc.Stats().InBytes - before
		for last := came + 1; came != last; last, came = came, nc.Stats().InBytes-before {
			time.Sleep(200 * time.Millisecond) // until nothing more comes
		}
		if came > many*size/4 {
			t.Errorf("%d bytes came while the first of %d entries of %d was looked at", came, many, size)
		}
	})
	if err != nil || seen != many {
		t.Errorf("saw %d of %d: %v", seen, many, err)
	}
}
