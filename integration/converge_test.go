package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 4, convergence: after a restart of the server an observer sees the next registration when
// its connection is back. It does not wait until it notices silence. Seen to fail with a view that is
// not made anew when the connection comes back.
func TestRestartIsOverAtOnce(t *testing.T) {
	t.Parallel()
	for _, down := range []time.Duration{100 * time.Millisecond, time.Second, 6 * time.Second} {
		t.Run(down.String(), func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			long := kvregistry.TTL(time.Minute) // with which 11 s are silence
			back := make(chan time.Time, 1)
			observer := openOn(t, s.Connect(nats.ReconnectHandler(func(*nats.Conn) { back <- time.Now() })), long)
			owner := open(t, s, long)
			register(t, owner, web("a"))
			sees(t, observer, natstest.Soon, "web", "a")
			s.Outage(down)
			returned := <-back
			register(t, owner, web("b"))
			sees(t, observer, 4*time.Second, "web", "a", "b") // silence would be noticed 5 s later at the earliest
			t.Logf("down %s: the next registration was seen %s after the connection's return", down, time.Since(returned).Round(time.Millisecond))
		})
	}
}

// Invariant 4: a view whose consumer was deleted notices, and misses nothing. Seen to fail without the check for
// silence.
func TestDeletedConsumerIsMended(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s, kvregistry.WithoutReaping()), open(t, s, kvregistry.WithoutReaping())
	sees(t, observer, natstest.Soon, "web")
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range natstest.Consumers(t, nc, "KV_registry_default") {
		if err := js.DeleteConsumer(t.Context(), "KV_registry_default", name); err != nil {
			t.Fatal(err)
		}
	}
	register(t, owner, web("a"))
	took := sees(t, observer, natstest.Soon, "web", "a")
	t.Logf("mended after %s", took.Round(time.Millisecond))
}

// Invariant 4: dead processes are removed also after the reapers' consumers were deleted. Seen to
// fail with a follower that does not notice silence.
func TestDeletedReaperConsumers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	p := start(t, plan{URL: s.URL(), Services: []kvService{web("a")}})
	sees(t, observer, natstest.Soon, "web", "a")
	nc := s.Connect()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		deleted := errors.New("no reaper follows the bucket")
		for _, name := range natstest.Consumers(t, nc, "KV_registry_default") {
			if strings.HasPrefix(name, "reaper-") {
				deleted = js.DeleteConsumer(t.Context(), "KV_registry_default", name)
			}
		}
		return deleted
	})
	p.kill()
	sees(t, observer, removal, "web")
}

// Invariant 4: a bucket that was deleted is made anew, and filled again by the living; caches follow. Seen to fail
// without the view's check that the stream is the same one.
func TestDeletedBucketIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, byHand := range []bool{false, true} {
		t.Run(fmt.Sprintf("by hand %v", byHand), func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			observer := open(t, s)
			owner := open(t, s)
			for i := range 20 { // so that the new bucket's revisions are below the old one's
				register(t, owner, web(fmt.Sprintf("a%02d", i)))
				if i > 0 {
					if err := owner.Unregister("web"); err != nil {
						t.Fatal(err)
					}
				}
			}
			register(t, owner, web("a"))
			gone := start(t, plan{URL: s.URL(), Services: []kvService{web("gone")}})
			sees(t, observer, natstest.Soon, "web", "a", "gone")
			gone.freeze()
			js, err := jetstream.New(s.Connect())
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteKeyValue(t.Context(), "registry_default"); err != nil {
				t.Fatal(err)
			}
			if byHand {
				_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{
					Bucket: "registry_default", History: 1, LimitMarkerTTL: time.Minute, Storage: jetstream.FileStorage,
				})
				if err != nil && !isErr(err, jetstream.ErrBucketExists) {
					t.Fatal(err)
				}
			}
			sees(t, observer, natstest.Soon, "web", "a")
			// Revisions started over: a change with one that was used before is a change all the same.
			if err := owner.Update(kvService{Name: "web", ID: "a", Address: "anew:1"}); err != nil {
				t.Fatal(err)
			}
			natstest.Eventually(t, natstest.Soon, func() error { return wantAddress(observer, "anew:1") })
			register(t, owner, web("b"))
			sees(t, observer, natstest.Soon, "web", "a", "b")
			gone.thaw()
			sees(t, observer, natstest.Soon, "web", "a", "b", "gone")
			gone.kill()
			sees(t, observer, natstest.Soon, "web", "a", "b")
		})
	}
}

// Invariant 4: an observer that was frozen while services came and went shows what is there when it goes on. The
// observer is this process's; what is frozen is its connection.
func TestCutConnectionConverges(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	nc := s.Connect()
	observer := openOn(t, nc)
	owner := open(t, s)
	gone := register(t, owner, web("gone"))
	stays := register(t, owner, web("stays"))
	sees(t, observer, natstest.Soon, "web", "gone", "stays")
	for i := range 20 {
		if err := nc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		if i == 10 {
			if err := gone(); err != nil {
				t.Fatal(err)
			}
			register(t, owner, web("new"))
		}
	}
	sees(t, observer, natstest.Soon, "web", "new", "stays")
	_ = stays
}

// Invariant 4: an owner that was fenced, and looks its service up for the first time afterwards, does not see what it
// knew of it before. Seen to fail with keys that are no longer watched staying in the cache.
func TestFencedOwnerKeepsNoGhost(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	fenced := make(chan struct{}, 1)
	first := open(t, s, kvregistry.OnFenced(func(kvregistry.Service) { fenced <- struct{}{} }))
	second := open(t, s)
	register(t, first, web("one"))
	natstest.Eventually(t, natstest.Soon, func() error { return countViews(t, s, 1) })
	un := register(t, second, web("one"))
	<-fenced
	time.Sleep(50 * time.Millisecond) // for the first owner to forget it, which nothing shows
	if err := un(); err != nil {
		t.Fatal(err)
	}
	if _, err := first.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func countViews(t *testing.T, s *natstest.Server, want int) error {
	t.Helper()
	if got := views(natstest.Consumers(t, s.Connect(), "KV_registry_default")); len(got) < want {
		return fmt.Errorf("%d views, want %d", len(got), want)
	}
	return nil
}
