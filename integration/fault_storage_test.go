package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 4: in a full bucket, Register fails with ErrStorageFull, and existing registrations
// stay.
func TestFullBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	r := open(t, s, kvregistry.MaxBytes(64<<10))
	register(t, r, web("a"))
	big := web("big")
	big.Metadata = map[string]string{"k": strings.Repeat("x", 50<<10)}
	register(t, r, big)
	more := big
	more.ID = "more"
	if _, err := r.Register(more); !isErr(err, kvregistry.ErrStorageFull) {
		t.Errorf("a full bucket gave %v", err)
	}
	sees(t, r, natstest.Soon, "web", "a", "big")
	if got := r.RegisteredServices(); len(got) != 2 {
		t.Errorf("the refused registration is listed: %v", got)
	}
}

// Invariants 2 and 5: in a bucket that is kept full, heartbeats still replace each other, and
// tombstones are smaller than what they replace. Live instances stay, dead ones are removed, and
// new ones are refused with the reason.
func TestFullBucketKeepsTheLiving(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s, kvregistry.MaxBytes(64<<10))
	start(t, plan{URL: s.URL(), Services: []kvService{web("live")}})
	dies := start(t, plan{URL: s.URL(), Services: []kvService{web("dies")}})
	sees(t, observer, natstest.Soon, "web", "dies", "live")
	isReady(t, s, 0)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	flood, stop := context.WithCancel(t.Context())
	defer stop()
	var refused atomic.Int64
	var wg sync.WaitGroup
	// ends with flood; fills all room, even that of a lease that has ended
	wg.Go(func() {
		for i := 0; flood.Err() == nil; i++ {
			for _, size := range []int{8 << 10, 256, 1} {
				ack, err := js.PublishMsgAsync(
					&nats.Msg{Subject: fmt.Sprintf("$KV.registry_default.junk.%d.%d", size, i),
						Data: make([]byte, size)})
				if err != nil {
					continue
				}
				select {
				case <-ack.Ok():
				case err := <-ack.Err():
					if strings.Contains(err.Error(), "maximum bytes") {
						refused.Add(1)
					}
				}
			}
		}
	})
	natstest.Eventually(t, natstest.Soon, func() error {
		if refused.Load() < 300 {
			return errors.New("the bucket is not full")
		}
		return nil
	})
	dies.kill()
	look := func(d time.Duration, until func([]string) bool) bool {
		// between two checks
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
			got := ids(t, observer, "web")
			if !contains(got, "live") {
				t.Fatal("the live instance is gone")
			}
			if until(got) {
				return true
			}
		}
		return false
	}
	killed := time.Now()
	if !look(natstest.Soon, func(got []string) bool { return len(got) == 1 }) {
		t.Error("the dead instance stays")
	}
	t.Logf("the dead instance was gone %s after the kill",
		time.Since(killed).Round(time.Millisecond))
	if _, err := observer.Register(web("new")); !isErr(err, kvregistry.ErrStorageFull) {
		t.Errorf("a new registration gave %v, want ErrStorageFull", err)
	}
	look(2*ttl, func([]string) bool { return false })
	stop()
	wg.Wait()
	stream, err := js.Stream(t.Context(), "KV_registry_default")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(),
		jetstream.WithPurgeSubject("$KV.registry_default.junk.>")); err != nil {
		t.Fatal(err)
	}
	register(t, observer, web("new"))
	sees(t, observer, natstest.Soon, "web", "live", "new")
}
