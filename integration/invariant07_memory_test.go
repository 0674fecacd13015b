package integration

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 7: MaxMemory bounds the memory of a view, for any number and size of values. Values
// that are left out are counted, logged once, shown in Health, and read when there is room. The
// server is a process of its own, so that its memory is not measured. The test is not parallel,
// because it measures the whole heap. Seen to fail without a bound for a snapshot while it is read,
// and without one for the values that are kept.
func TestMemoryOfAView(t *testing.T) {
	natstest.Long(t)
	const junk, records, size, most = 10_000, 3_000, 20_000, 12 << 20
	f := newFleet(t, 1)
	nc := f.connect()
	owner := openOn(t, nc, kvregistry.TTL(time.Minute), kvregistry.WithoutReaping())
	register(t, owner, web("a"))
	lease := leaseOf(owner)
	publish(t, nc, junk, func(i int) (string, string) {
		return fmt.Sprintf("svc.web.junk-%d-%s", i, strings.Repeat("k", 200)), "no record"
	})
	large := func(i int) (string, string) {
		id := fmt.Sprintf("r-%d", i)
		return "svc.web." + id,
			recordOf(id, lease, fmt.Sprintf(`,"metadata":{"k":%q}`, strings.Repeat("x", size)))
	}
	publish(t, nc, records, large)
	var lines natstest.Log
	observer := openOn(t, f.connect(), kvregistry.WithoutReaping(), kvregistry.MaxMemory(most),
		kvregistry.Timeout(time.Minute),
		kvregistry.Logger(lines.Logger()))
	skipped := func(want uint64) {
		t.Helper()
		natstest.Eventually(t, 2*time.Minute, func() error {
			if n := observer.Health().Skipped; n < want {
				return fmt.Errorf("%d skipped", n)
			}
			return nil
		})
	}
	before := heap()
	peak := peakOf(func() {
		must(t, observer.ObserveContext(t.Context(), kvregistry.Everything))
		skipped(junk + records - records/3)
	})
	// up to 32 MB may be sent and unread; more with the race detector
	if peak > most+48<<20 && !raced {
		t.Errorf("the process took %d MB", peak>>20)
	}
	publish(t, nc, records, large) // once more, as changes
	skipped(junk + 2*(records-records/3))
	// the view reads again now and then: up to 32 MB may be unread then, and there may be no room
	// for what is written meanwhile
	natstest.Eventually(t, 2*time.Minute, func() error {
		grown, h := heap()-before, observer.Health()
		if grown > most || !h.Full || h.OK() || h.Memory > most/3 || h.Memory < most/4 {
			return fmt.Errorf("the process keeps %d MB: %+v", grown>>20, h)
		}
		return nil
	})
	if _, err := observer.Snapshot("other"); !errors.Is(err, kvregistry.ErrUnavailable) {
		t.Errorf("a service that may have been left out gave %v", err)
	}
	purge(t, nc, records-50, func(i int) string {
		key, _ := large(i + 50)
		return key
	})
	natstest.Eventually(t, 2*time.Minute, func() error {
		snap, err := observer.Snapshot("web")
		if err == nil && (snap.Len() != 51 || observer.Health().Full) {
			err = fmt.Errorf("%d instances, full: %v", snap.Len(), observer.Health().Full)
		}
		return err
	})
	if n := lines.Count("the view is as large as it may be"); n != 1 {
		t.Errorf("it logged %d times that it is full", n)
	}
	natstest.Eventually(t, natstest.Soon, func() error { // a line may follow the change of state
		if n := lines.Count("the view has room again"); n != 1 {
			return fmt.Errorf("it logged %d times that there is room", n)
		}
		return nil
	})
}

// Invariant 7: values of a megabyte do not add up in the memory of a newcomer, because it does not
// keep them until the snapshot is complete. The server is a process of its own, so that its memory
// is not measured. Seen to fail with a session that keeps all received values: 200 MB instead of
// about 6 MB.
func TestNewcomerToLargeValues(t *testing.T) {
	f := newFleet(t, 1)
	const mega = 1 << 20
	many := 200
	if raced {
		many = 60
	}
	nc := f.connect()
	// the newcomer then scans for the dead
	owner := openOn(t, nc, kvregistry.TTL(time.Minute), kvregistry.WithoutReaping())
	register(t, owner, web("a"))
	kv := bucket(t, nc, "default")
	for i := range many {
		_, err := kv.PutString(t.Context(), fmt.Sprintf("svc.web.f-%d", i),
			strings.Repeat("x", mega-100))
		must(t, err)
	}
	most := int64(many * mega / 4)
	var newcomer *kvregistry.Registry
	if peak := peakOf(func() {
		nc := natstest.Connect(t, f.nodes[0].address()) // its pings may wait behind the values
		newcomer = openOn(t, nc, kvregistry.WithoutReaping(), kvregistry.Timeout(time.Minute))
		must(t, newcomer.ObserveContext(t.Context(), "web"))
	}); peak > most {
		t.Errorf("a newcomer took %d MB for %d values", peak>>20, many)
	}
	sees(t, newcomer, natstest.Soon, "web", "a")
	if n := newcomer.Health().Skipped; n != uint64(many) {
		t.Errorf("%d of %d skipped", n, many)
	}
}

// Invariant 7: unreadable values are counted once, for any number of sessions, and stay in no
// memory. The test is not parallel, because it measures the whole heap. Seen to fail with a view
// that keeps the revision of each key: 14 MB.
func TestJunkLeavesNothing(t *testing.T) {
	natstest.Long(t)
	const junk = 15_000
	f := newFleet(t, 1)
	nc := f.connect()
	owner := openOn(t, nc, kvregistry.TTL(time.Minute), kvregistry.WithoutReaping())
	register(t, owner, web("a"))
	key := func(i int) (string, string) {
		return fmt.Sprintf("svc.web.%d-%s", i, strings.Repeat("k", 800)), "no record"
	}
	publish(t, nc, junk, key)
	observed := f.connect()
	observer := openOn(t, observed, kvregistry.WithoutReaping(), kvregistry.Timeout(time.Minute))
	before := heap()
	skipped := func(want uint64) {
		t.Helper()
		natstest.Eventually(t, natstest.Soon, func() error {
			if n := observer.Health().Skipped; n != want {
				return fmt.Errorf("%d skipped, want %d", n, want)
			}
			return nil
		})
	}
	began := time.Now()
	must(t, observer.ObserveContext(t.Context(), "web"))
	t.Logf("the values were read in %s", time.Since(began))
	sees(t, observer, 30*time.Second, "web", "a")
	skipped(junk)
	resyncs := observer.Health().Resyncs
	must(t, observed.ForceReconnect())
	natstest.Eventually(t, natstest.Soon, func() error {
		if observer.Health().Resyncs == resyncs {
			return errors.New("the view has no new session")
		}
		return nil
	})
	register(t, owner, web("b"))
	sees(t, observer, 30*time.Second, "web", "a", "b")
	skipped(junk)
	publish(t, nc, junk, key) // as changes
	skipped(2 * junk)
	natstest.Eventually(t, natstest.Soon, func() error {
		if grown := heap() - before; grown > 4<<20 {
			return fmt.Errorf("the process grew by %d KB", grown>>10)
		}
		return nil
	})
}

// publish writes many keys of a bucket at once.
func publish(t *testing.T, nc *nats.Conn, many int, msg func(i int) (key, value string)) {
	t.Helper()
	publishAll(t, nc, many, func(i int) *nats.Msg {
		key, value := msg(i)
		m := nats.NewMsg("$KV.registry_default." + key)
		m.Data = []byte(value)
		return m
	})
}

// purge purges many keys at once.
func purge(t *testing.T, nc *nats.Conn, many int, key func(i int) string) {
	t.Helper()
	publishAll(t, nc, many, func(i int) *nats.Msg {
		m := nats.NewMsg("$KV.registry_default." + key(i))
		m.Header.Set("KV-Operation", "PURGE")
		return m
	})
}

// publishAll publishes many messages to the bucket, and waits until all are acknowledged.
func publishAll(t *testing.T, nc *nats.Conn, many int, msg func(i int) *nats.Msg) {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
	must(t, err)
	for i := range many {
		_, err := js.PublishMsgAsync(msg(i), jetstream.WithStallWait(time.Minute))
		must(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the server does not acknowledge")
	}
}

// peakOf returns by how much the process's memory grows at most while f runs. It makes the
// collector run early.
func peakOf(f func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	before, done, peak := heap(), make(chan struct{}), make(chan int64)
	go func() { // ends with done
		var m runtime.MemStats
		most := before
		for {
			runtime.ReadMemStats(&m)
			most = max(most, int64(m.HeapAlloc))
			select {
			case <-done:
				peak <- most - before
				return
			case <-time.After(time.Millisecond): // between two checks
			}
		}
	}()
	f()
	close(done)
	return <-peak
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
