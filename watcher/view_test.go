package watcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// model is what a reader builds from a view's changes.
type model struct {
	mu        sync.Mutex
	keys      map[string]string
	last      map[string]uint64
	snapshots int
	resets    int
	changes   int
	gone      int // changes that report that a key went
	wrong     []string
}

func (m *model) apply(changes []Change, snapshot *Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if snapshot != nil {
		m.snapshots++
		if snapshot.Reset {
			m.resets++
			m.last = map[string]uint64{}
		}
	} else if m.snapshots == 0 {
		m.wrong = append(m.wrong, "a change came before the first snapshot")
	}
	m.changes += len(changes)
	for _, c := range changes {
		if c.Revision != 0 && c.Revision <= m.last[c.Key] {
			m.wrong = append(m.wrong, fmt.Sprintf("%s went from %d to %d", c.Key, m.last[c.Key],
				c.Revision))
		}
		m.last[c.Key] = c.Revision
		if c.Op == tenant.Put {
			m.keys[c.Key] = string(c.Value)
		} else {
			m.gone++
			delete(m.keys, c.Key)
		}
	}
}

func (m *model) is(want map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.wrong) > 0 {
		return errors.New(m.wrong[0])
	}
	if !maps.Equal(m.keys, want) {
		return fmt.Errorf("the view made %d keys, want %d: %.200s", len(m.keys), len(want),
			fmt.Sprint(m.keys))
	}
	return nil
}

func newView(t *testing.T, s *natstest.Server) (*View, *model, *tenant.Bucket) {
	t.Helper()
	b, err := tenant.New(s.Connect(), "test", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	// a cluster may lose a request
	natstest.Eventually(t, natstest.Soon, func() error { return b.Ensure(t.Context()) })
	m := &model{keys: map[string]string{}, last: map[string]uint64{}}
	v := New(b, Config{Apply: m.apply, Missing: b.Ensure})
	t.Cleanup(v.Close)
	v.Start()
	return v, m, b
}

// newReplicatedView returns a view of a bucket with three replicas, each of which has all.
func newReplicatedView(t *testing.T) (*View, *model, *tenant.Bucket) {
	t.Helper()
	v, m, b := newView(t, natstest.Cluster(t)[0])
	natstest.AwaitReplicas(t, b.Conn(), "KV_"+b.Name(), 3)
	return v, m, b
}

func put(t *testing.T, b *tenant.Bucket, key, value string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error { // a cluster may lose a request
		_, err := b.Write(t.Context(), tenant.Write{Key: key, Value: []byte(value)})
		return err
	})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// The first snapshot is complete before it is shown. Then each change comes, and only changes of
// what is watched.
func TestSnapshotThenChanges(t *testing.T) {
	t.Parallel()
	v, m, b := newView(t, natstest.Start(t))
	want := map[string]string{}
	for i := range 1000 {
		key := fmt.Sprintf("svc.a.%d", i)
		want[key] = "x"
		put(t, b, key, "x")
		if i%10 == 0 {
			put(t, b, fmt.Sprintf("svc.other.%d", i), "x")
		}
	}
	v.Watch("svc.a.*")
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	if err := m.is(want); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	put(t, b, "svc.a.1", "y")
	want["svc.a.1"] = "y"
	if _, err := b.Write(t.Context(), tenant.Write{Key: "svc.a.2", Op: tenant.Delete}); err != nil {
		t.Fatal(err)
	}
	delete(want, "svc.a.2")
	natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
	if heard := v.Heard(); heard.Before(began) {
		t.Errorf("the view says that it got nothing since %s before the change", began.Sub(heard))
	}
}

// Filters are added one by one, beyond the number that one consumer may have. Each gets its
// snapshot, also one that was removed and added again. Seen to fail for the last one if a session
// is taken to cover what was removed meanwhile.
func TestManyFilters(t *testing.T) {
	t.Parallel()
	v, m, b := newView(t, natstest.Start(t))
	want := map[string]string{}
	const n = filterMax + 60
	for i := range n {
		key := fmt.Sprintf("svc.s%d.1", i)
		put(t, b, key, "x")
		want[key] = "x"
	}
	put(t, b, "svc.never.1", "x")
	for i := range n {
		f := fmt.Sprintf("svc.s%d.*", i)
		v.Watch(f)
		if err := v.Wait(within(t, natstest.Soon), f); err != nil {
			t.Fatal(i, err)
		}
		if _, ok := m.keys[fmt.Sprintf("svc.s%d.1", i)]; !ok {
			t.Fatalf("filter %d has no snapshot", i)
		}
	}
	if err := m.is(want); err != nil {
		t.Fatal(err)
	}
	v.Unwatch("svc.s0.*") // gone for the reader
	delete(want, "svc.s0.1")
	put(t, b, "svc.s0.1", "after") // not watched any more
	put(t, b, "svc.s1.1", "after")
	want["svc.s1.1"] = "after"
	natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
	v.Watch("svc.s0.*") // there again
	want["svc.s0.1"] = "after"
	if err := v.Wait(within(t, natstest.Soon), "svc.s0.*"); err != nil {
		t.Fatal(err)
	}
	if err := m.is(want); err != nil {
		t.Fatal(err)
	}
	if v.Resyncs() != 0 {
		t.Errorf("%d resyncs without a fault", v.Resyncs())
	}
}

// Keys that are added one after the other, beyond the filters of one consumer, are seen by the
// present consumer. A new consumer would read them all again. Seen to fail if a session is taken to
// read only the filters that it began with.
func TestManyKeysOfOnesOwn(t *testing.T) {
	t.Parallel()
	v, m, b := newView(t, natstest.Start(t))
	want := map[string]string{}
	add := func(i int) {
		key := fmt.Sprintf("svc.a.%d", i)
		v.WatchSoon(key)
		put(t, b, key, "x")
		want[key] = "x"
	}
	for i := range filterMax + 1 {
		add(i)
	}
	natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
	stream := natstest.Stream(t, b.Conn(), "KV_"+b.Name())
	// the keys are shown before their consumer is there
	natstest.Eventually(t, natstest.Soon, func() error {
		var filters []string
		for c := range stream.ListConsumers(t.Context()).Info() {
			filters = append(filters, c.Config.FilterSubjects...)
		}
		if len(filters) != 1 || !strings.HasSuffix(filters[0], ".svc.>") {
			return fmt.Errorf("consumers of %q", filters)
		}
		return nil
	})
	made := make(chan *nats.Msg, 16)
	sub, err := b.Conn().ChanSubscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED."+"KV_"+b.Name()+".>",
		made)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	resyncs := v.Resyncs()
	// a session checks for filters twice in each
	for i, began := filterMax+1, time.Now(); time.Since(began) < 3*heartbeat; i++ {
		add(i)
		time.Sleep(heartbeat / 50) // the test needs others to come later
	}
	natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
	if len(made) > 0 && v.Resyncs() == resyncs { // a machine that stood still ends a session
		t.Errorf("%d consumers were created for keys that the present one reads", len(made))
	}
}

// Changes during an outage come as ordinary changes, and nothing else does.
func TestResyncTellsTheDifference(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	v, m, b := newView(t, s)
	want := map[string]string{}
	for i := range 100 {
		key := fmt.Sprintf("svc.a.%d", i)
		put(t, b, key, "x")
		want[key] = "x"
	}
	v.Watch("svc.a.*")
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	other, err := tenant.New(s.Connect(), "test", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		changes := m.count()
		if err := b.Conn().ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("svc.a.%d", round)
		if _, err := other.Write(t.Context(), tenant.Write{Key: key,
			Op: tenant.Purge}); err != nil {
			t.Fatal(err)
		}
		delete(want, key)
		natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
		if n := m.count() - changes; n != 1 {
			t.Fatalf("round %d: one key changed, %d changes came", round, n)
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if v.Resyncs() == 0 {
			return errors.New("no resync")
		}
		return nil
	})
}

func (m *model) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changes
}

// A view that can't read returns the reason to a caller that waits.
func TestWaitSaysWhy(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	_, _, b := newView(t, s)
	v := New(b, Config{Apply: func([]Change, *Snapshot) {}})
	t.Cleanup(v.Close)
	v.Start()
	js, err := jetstream.New(b.Conn())
	if err == nil {
		err = js.DeleteStream(t.Context(), "KV_"+b.Name())
	}
	if err != nil {
		t.Fatal(err)
	}
	v.Watch("svc.a.*")
	// the first wait may be over before the view has tried
	natstest.Eventually(t, natstest.Soon, func() error {
		err := v.Wait(within(t, 200*time.Millisecond), "svc.a.*")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(),
			"stream not found") {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
}

// A value that is longer than the bound is not kept, and a shorter one takes no more than its
// length. The change is like any other. Seen to fail with sessions that keep values as they came.
func TestLongValueIsNotKept(t *testing.T) {
	b, err := tenant.New(natstest.Start(t).Connect(), "test", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var got []Change
	v := New(b, Config{MaxValue: 5, Apply: func(changes []Change, _ *Snapshot) {
		got = append(got, changes...)
	}})
	v.Watch("svc.a.*")
	s := &session{view: v, ended: make(chan error, 1), complete: true}
	buffer := []byte("short")
	for i, e := range []tenant.Entry{
		{Value: []byte("longer")}, {Value: buffer}, {Op: tenant.Delete},
	} {
		e.Key, e.Revision = "svc.a.1", uint64(101+i)
		s.message(tenant.Message{Entry: e, Last: true})
	}
	clear(buffer)
	want := []Change{
		{Key: "svc.a.1", Revision: 101, Long: 6}, {Key: "svc.a.1", Revision: 102,
			Value: []byte("short")},
		{Key: "svc.a.1", Revision: 103, Op: tenant.Delete},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A view keeps no more of a key than docs/design.md says, whatever its value is. Seen to fail with
// a view that keeps a snapshot's changes: 165 bytes.
func TestWhatAKeyTakes(t *testing.T) {
	const keys, most = 100_000, 150
	v := New(nil, Config{Apply: func([]Change, *Snapshot) {}})
	v.wanted = filters{"svc.web.*": {}}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var entries []Change
	for i := range keys {
		entries = append(entries, Change{Key: fmt.Sprintf("svc.web.%026d", i),
			Value: []byte("no record"), Revision: uint64(1 + i)})
	}
	v.replace(v.wanted, source{replicas: 1, leader: keys}, Snapshot{UpTo: keys}, entries)
	entries = nil
	if each := (heap() - before) / keys; each > most {
		t.Errorf("a key takes %d bytes", each)
	}
	runtime.KeepAlive(v)
}

// After writes, cut connections and new filters, the view equals the bucket.
func TestViewEqualsTheBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	v, m, b := newView(t, s)
	v.Watch("svc.a.*")
	writer, err := tenant.New(s.Connect(), "test", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for i := range 3000 {
		key := fmt.Sprintf("svc.%c.%d", 'a'+i%3, i%50)
		if i%7 == 0 {
			if _, err := writer.Write(t.Context(), tenant.Write{Key: key,
				Op: tenant.Delete}); err != nil {
				t.Fatal(err)
			}
			delete(want, key)
		} else {
			put(t, writer, key, fmt.Sprint(i))
			want[key] = fmt.Sprint(i)
		}
		switch {
		case i%300 == 299:
			if err := b.Conn().ForceReconnect(); err != nil {
				t.Fatal(err)
			}
		case i == 1000:
			v.Watch("svc.b.*")
		case i == 2000:
			v.Watch("svc.c.*")
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
	// the consumers whose deletion is under way go
	natstest.Eventually(t, natstest.Soon, func() error {
		names := natstest.Consumers(t, b.Conn(), "KV_"+b.Name())
		names = slices.DeleteFunc(names, func(n string) bool {
			return !strings.HasPrefix(n, "view-")
		})
		if len(names) != 1 {
			return fmt.Errorf("%d consumers of one view", len(names))
		}
		return nil
	})
}

// A snapshot of a replica is shown when the replica has all that was acknowledged and all that the
// view showed. A session of a replica that does not get there is ended. The test makes a view
// believe that it saw a later revision than the stream has. Seen to fail without the wait, with a
// wait that no message ends, without asking the leader, and with a need that counts the changes of
// other filters.
func TestReplicaThatLagsIsNotShown(t *testing.T) {
	t.Parallel()
	v, m, b := newReplicatedView(t)
	put(t, b, "svc.a.1", "x")
	last, err := b.Last(t.Context(), "svc.a.*")
	if err != nil {
		t.Fatal(err)
	}
	// the stream goes on beyond what is watched, as with every heartbeat
	put(t, b, "svc.other.1", "x")
	if need, err := v.need(t.Context(), source{replicas: 3},
		filters{"svc.a.*": {}}); need != last.Revision || err != nil || last.Revision == 0 {
		t.Fatalf("a first snapshot needs %d, %v, want %d", need, err, last.Revision)
	}
	v.Watch("svc.a.*")
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal("a first snapshot waited for changes of other filters:", err)
	}
	put(t, b, "svc.a.2", "x")
	natstest.Eventually(t, natstest.Soon, func() error {
		return m.is(map[string]string{"svc.a.1": "x", "svc.a.2": "x"})
	})
	renewed := func(seen uint64) {
		v.stateMu.Lock()
		v.seen["svc.a.*"] += seen
		v.stateMu.Unlock()
		before := v.Resyncs()
		if err := b.Conn().ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		natstest.Eventually(t, natstest.Soon, func() error {
			if v.Resyncs() == before {
				return errors.New("the session goes on")
			}
			return nil
		})
	}
	renewed(1)
	v.Watch("svc.b.*")
	if err := v.Wait(within(t, heartbeat/2), "svc.b.*"); err == nil {
		t.Fatal("a snapshot was shown that is older than what was seen")
	}
	put(t, b, "svc.a.3", "x")
	// after another heartbeat's time the consumer's next heartbeat would end the wait
	natstest.Eventually(t, heartbeat*9/10, func() error {
		return m.is(map[string]string{"svc.a.1": "x", "svc.a.2": "x", "svc.a.3": "x"})
	})
	// a slow cluster may end a session for another reason, after which the leader is asked
	for range 4 {
		renewed(1 << 40)
		// without that it is noticed after 15 s
		before, end := v.Resyncs(), time.Now().Add(12*time.Second)
		for time.Now().Before(end) && v.Resyncs() == before {
			time.Sleep(10 * time.Millisecond) // between two checks
		}
		if v.Resyncs() != before {
			return
		}
	}
	t.Error("a replica that stays behind is kept")
}

// A leader that has less than the view has seen was cut off, and is not believed. Nothing is shown,
// and no key goes, until a leader has more, unless that never happens. The test makes a view
// believe that it saw more than there is. Seen to fail with views that take it for a recreated
// bucket.
func TestOutdatedLeaderIsNotBelieved(t *testing.T) {
	t.Parallel()
	v, m, b := newReplicatedView(t)
	put(t, b, "svc.a.1", "x")
	v.Watch("svc.a.*")
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	v.keysMu.Lock()
	v.last += 3
	v.keysMu.Unlock()
	v.Watch("svc.b.*")
	// the first wait may be over before the leader is asked
	natstest.Eventually(t, natstest.Soon, func() error {
		err := v.Wait(within(t, heartbeat), "svc.b.*")
		if err == nil {
			t.Fatal("an earlier leader was believed")
		}
		if !errors.Is(err, errBehind) {
			return fmt.Errorf("with an earlier leader, a look-up gave %w", err)
		}
		return nil
	})
	for i := range 3 {
		put(t, b, fmt.Sprintf("svc.b.%d", i), "x")
	}
	if err := v.Wait(within(t, natstest.Soon), "svc.b.*"); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	if m.resets > 0 || m.gone > 0 {
		t.Errorf("%d resets, %d keys gone", m.resets, m.gone)
	}
	m.mu.Unlock()
	from := source{created: v.source.created, leader: 1, replicas: 3}
	v.keysMu.Lock()
	v.backward = spell{since: time.Now().Add(-2 * deposed), last: time.Now()}
	v.keysMu.Unlock()
	if v.outdated(from) {
		t.Error("a stream that went back for good is waited for")
	}
	from.replicas = 1
	if v.outdated(from) {
		t.Error("a single server has no earlier leader")
	}
}

// Apply is told of the end of a key that is a filter itself even if the value never came. Seen to
// fail without the exception for filters.
func TestEndOfAValueThatNeverCame(t *testing.T) {
	t.Parallel()
	v, m, b := newView(t, natstest.Start(t))
	v.Watch("svc.a.*")
	v.Watch("svc.a.own")
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"svc.a.own", "svc.a.other"} {
		if _, err := b.Write(t.Context(), tenant.Write{Key: key, Op: tenant.Purge}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, b, "svc.a.last", "x")
	natstest.Eventually(t, natstest.Soon, func() error {
		return m.is(map[string]string{"svc.a.last": "x"})
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, told := m.last["svc.a.own"]; !told || m.gone != 1 {
		t.Errorf("told of %v, %d of them gone", m.last, m.gone)
	}
}

// A session ends if its replica falls behind the leader without a sign, and the next one needs what
// the leader has. The test uses a stream's state that says more than there is. Seen to fail without
// the comparison, and without the doubt that it leaves.
func TestReplicaThatFallsBehindIsLeft(t *testing.T) {
	t.Parallel()
	v, _, b := newView(t, natstest.Start(t))
	put(t, b, "svc.a.1", "x")
	v.Watch("svc.a.*")
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	s := v.newSession(filters{"svc.a.*": {}})
	if err := s.start(t.Context(), natstest.Soon, nil); err != nil {
		t.Fatal(err)
	}
	defer s.feed.Close()
	<-s.whole // it is judged from then on
	leader, err := b.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader.Replicas = 3
	put(t, b, "svc.other.1", "x") // the session learns of it by a heartbeat
	leader.Last++
	// heartbeats may be late
	natstest.Eventually(t, natstest.Soon, func() error { return s.judge(t.Context(), leader) })
	v.stateMu.Lock()
	v.doubted = false
	v.stateMu.Unlock()
	leader.Last++
	if why := s.judge(t.Context(), leader); !errors.Is(why, errBehind) {
		t.Errorf("a session that is behind went on: %v", why)
	}
	if _, asked := v.floor(s.source, filters{"svc.a.*": {}}); len(asked) != 1 {
		t.Error("the next session would believe what the view has seen")
	}
}

// A session ends if the bucket is recreated between the read of the stream's state and the start of
// its consumer. Seen to fail without the comparison.
func TestBucketMadeAnewAsASessionBegins(t *testing.T) {
	t.Parallel()
	v, _, _ := newView(t, natstest.Start(t))
	s := v.newSession(filters{"svc.a.*": {}})
	if err := s.start(t.Context(), natstest.Soon, nil); err != nil {
		t.Fatal(err)
	}
	// the state was the one of the bucket before
	s.source.created = s.source.created.Add(-time.Second)
	if why := s.run(within(t, 5*time.Second), nil); !errors.Is(why, errRemade) {
		t.Errorf("the session ended with %v", why)
	}
}

// A key that is written again during a snapshot comes behind the others, and the snapshot waits for
// it. No reader is told that it went. Seen to fail with snapshots that end when nothing is pending.
func TestKeysWrittenWhileASnapshotIsRead(t *testing.T) {
	t.Parallel()
	_, _, b := newView(t, natstest.Start(t))
	m := &model{keys: map[string]string{}, last: map[string]uint64{}}
	v := New(b, Config{Apply: m.apply}) // its sessions are made by the test
	t.Cleanup(v.Close)
	v.Watch("svc.a.*")
	const keys = 20
	for i := range keys {
		put(t, b, fmt.Sprintf("svc.a.%d", i), "x")
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() { // ends with stop
			for i := w; ; i = (i + 4) % keys {
				select {
				case <-stop:
					return
				default:
				}
				put(t, b, fmt.Sprintf("svc.a.%d", i), "x")
			}
		})
	}
	for range 200 { // sessions
		one := v.newSession(filters{"svc.a.*": {}})
		if err := one.start(within(t, 60*time.Second), 60*time.Second, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case <-one.whole:
		case <-time.After(natstest.Soon):
			t.Fatal("a snapshot is not whole")
		}
		one.mu.Lock()
		one.closed = true
		one.mu.Unlock()
		one.feed.Close()
		v.forget(one.feed)
	}
	close(stop)
	writers.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone > 0 {
		t.Errorf("%d times a key was reported as gone that was there", m.gone)
	}
}

// A first snapshot has each key that was there before, even if some are written again and new ones
// come while it is read. Seen to fail with snapshots that end when as many keys have come as were
// counted.
func TestFirstSnapshotWhileKeysAreWritten(t *testing.T) {
	t.Parallel()
	_, _, b := newView(t, natstest.Start(t))
	const keys = 300
	for i := range keys {
		put(t, b, fmt.Sprintf("svc.a.%d", i), "x")
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() { // ends with ctx
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("svc.a.%d", (4*i+w)%keys)
				if w == 0 {
					key = fmt.Sprintf("svc.a.new-%d", i)
				}
				_, _ = b.Write(ctx, tenant.Write{Key: key, Value: []byte("x")})
			}
		})
	}
	short, most := 0, time.Duration(0)
	for range 100 {
		missing := 0
		v := New(b, Config{Apply: func(changes []Change, snapshot *Snapshot) {
			if snapshot == nil {
				return
			}
			missing = keys
			for _, c := range changes {
				if !strings.Contains(c.Key, "new") {
					missing--
				}
			}
		}})
		began := time.Now()
		v.Watch("svc.a.*")
		v.Start()
		err := v.Wait(within(t, natstest.Soon), "svc.a.*")
		most = max(most, time.Since(began))
		v.Close()
		if err != nil {
			t.Fatal(err)
		}
		if missing > 0 {
			short++
		}
	}
	stop()
	writers.Wait()
	t.Logf("the slowest snapshot took %s", most.Round(time.Millisecond))
	if short > 0 {
		t.Errorf("%d of 100 first snapshots lacked a key", short)
	}
}

// A single server that lost its last writes, and has others since, may have a known key at a lower
// revision. That revision is shown, and revisions start over. Seen to fail without wentBack.
func TestServerThatLostItsLastWrites(t *testing.T) {
	var resets int
	m := map[string]string{}
	v := New(nil, Config{Apply: func(changes []Change, snapshot *Snapshot) {
		if snapshot != nil && snapshot.Reset {
			resets++
		}
		for _, c := range changes {
			m[c.Key] = string(c.Value)
		}
	}})
	v.wanted = filters{"svc.a.*": {}}
	from := source{created: time.Now(), replicas: 1, leader: 12}
	v.replace(v.wanted, from, Snapshot{UpTo: 12},
		[]Change{{Key: "svc.a.1", Value: []byte("new"), Revision: 10}})
	v.replace(v.wanted, from, Snapshot{UpTo: 13},
		[]Change{{Key: "svc.a.1", Value: []byte("new"), Revision: 10}})
	if resets != 0 {
		t.Fatal("the same snapshot again was a reset")
	}
	from.leader = 14
	v.replace(v.wanted, from, Snapshot{UpTo: 14},
		[]Change{{Key: "svc.a.1", Value: []byte("old"), Revision: 7}})
	if resets != 1 || m["svc.a.1"] != "old" {
		t.Errorf("%d resets, shows %q", resets, m["svc.a.1"])
	}
}

// A key that expired between the start of a consumer and its first message never comes. Under
// constant changes no heartbeat says so. The snapshot ends without the key once the consumer has
// come as far as the leader. Seen to fail with snapshots that wait for as many keys as were
// counted.
func TestSnapshotOfAKeyThatEnded(t *testing.T) {
	t.Parallel()
	v, _, b := newView(t, natstest.Start(t))
	put(t, b, "svc.a.1", "x")
	last, err := b.Last(t.Context(), "svc.a.1")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]struct{}{"svc.a.1": {}}
	s := &session{
		view: v, filters: filters{"svc.a.*": {}}, horizon: last.Revision,
		reading: reading{expected: 2, inPlace: 1, keys: keys},
		whole:   make(chan struct{}), ended: make(chan error, 1),
	}
	s.mu.Lock()
	s.finish()
	if s.complete {
		t.Error("a key that may be on its way was not waited for")
	}
	s.mu.Unlock()
	select {
	case <-s.whole:
	case <-time.After(natstest.Soon):
		t.Error("a key that ended is waited for")
	}
}

// A session ends if the answer to its consumer's creation came too late. What the consumer sends is
// not read, and no consumer stays. Seen to fail (by a panic) with a session that is not closed if
// it could not begin.
func TestSessionThatCouldNotBegin(t *testing.T) {
	t.Parallel()
	v, m, b := newView(t, natstest.Start(t))
	put(t, b, "svc.a.1", "x")
	failed := 0
	for i := range 1000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Microsecond)
		s := v.newSession(filters{"svc.a.*": {}})
		err := s.start(ctx, startTime, nil)
		cancel()
		if err != nil {
			failed++
			continue
		}
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.feed.Close()
		v.forget(s.feed)
	}
	t.Logf("%d of 1000 could not begin", failed)
	if failed == 0 {
		t.Error("every session began in time")
	}
	v.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.snapshots+failed > 1000 {
		t.Errorf("%d sessions could not begin, and %d snapshots came", failed, m.snapshots)
	}
	// the server ends one that was made after the deletion
	natstest.Eventually(t, 15*time.Second, func() error {
		if names := natstest.Consumers(t, b.Conn(), "KV_"+b.Name()); len(names) > 0 {
			return fmt.Errorf("%d consumers stay", len(names))
		}
		return nil
	})
}

// slowLine makes connections that receive so many bytes a second; 0 is no bound.
type slowLine struct{ rate atomic.Int64 }

func (l *slowLine) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	return slowConn{c, l}, err
}

type slowConn struct {
	net.Conn
	line *slowLine
}

func (c slowConn) Read(p []byte) (int, error) {
	rate := c.line.rate.Load()
	if rate == 0 {
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(p[:min(len(p), 8<<10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(rate)) // the fault itself
	return n, err
}

// A consumer whose heartbeats wait behind other messages of the connection is not silent. The view
// checks the connection, and goes on. Seen to fail with a view that starts again as soon as it gets
// nothing.
func TestViewOnABusyConnection(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	line := &slowLine{}
	nc := s.Connect(nats.SetCustomDialer(line))
	b, err := tenant.New(nc, "test", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	const beat, size, parts = 100 * time.Millisecond, 16 << 10, 100
	m := &model{keys: map[string]string{}, last: map[string]uint64{}}
	v := New(b, Config{Apply: m.apply, Heartbeat: beat})
	t.Cleanup(v.Close)
	v.Watch("svc.a.*")
	v.Start()
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	var came atomic.Int64
	sub, err := nc.Subscribe("noise", func(*nats.Msg) { came.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	line.rate.Store(1 << 20)
	other, err := tenant.New(s.Connect(), "test", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range parts {
		if err := other.Conn().Publish("noise", make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, other, "svc.a.1", "x")
	longest := time.Duration(0)
	natstest.Eventually(t, natstest.Soon, func() error {
		longest = max(longest, time.Since(v.Heard()))
		if n := came.Load(); n < parts { // they are counted in another goroutine
			return fmt.Errorf("%d messages came", n)
		}
		return m.is(map[string]string{"svc.a.1": "x"})
	})
	if longest < 2*silence(beat) {
		t.Fatalf("the connection was not busy: it was silent for %s at most", longest)
	}
	if n := v.Resyncs(); n > 0 {
		t.Errorf("it was started again %d times, after %s of silence", n, longest)
	}
}

// A restart of the server ends the consumer. The connection reports it, before silence does. Seen
// to fail with a session that goes on when the connection comes back.
func TestReconnectIsNoSilence(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	_, _, b := newView(t, s)
	const beat = 2 * natstest.Soon
	m := &model{keys: map[string]string{}, last: map[string]uint64{}}
	v := New(b, Config{Apply: m.apply, Heartbeat: beat, Check: silence(beat)})
	t.Cleanup(v.Close)
	v.Watch("svc.a.*")
	v.Start()
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	s.Down()
	s.Up()
	put(t, b, "svc.a.1", "x")
	natstest.Eventually(t, natstest.Soon, func() error {
		return m.is(map[string]string{"svc.a.1": "x"})
	})
}

// A filter that is added while the first snapshot is read waits for it. A session that started
// again for each of many filters would show nothing. Seen to fail with sessions that end at once.
func TestFilterAddedDuringTheFirstSnapshot(t *testing.T) {
	t.Parallel()
	_, _, b := newView(t, natstest.Start(t))
	for i := range 50 {
		put(t, b, fmt.Sprintf("svc.a.%d", i), "x")
	}
	put(t, b, "svc.b.1", "x")
	var first sync.Once
	begun := make(chan struct{})
	var sizes []int
	v := New(b, Config{
		Apply: func(changes []Change, snapshot *Snapshot) {
			if snapshot != nil {
				sizes = append(sizes, len(changes))
			}
		},
		Read: func(Change) any {
			first.Do(func() { close(begun) })
			time.Sleep(5 * time.Millisecond) // a snapshot that takes long
			return nil
		},
	})
	t.Cleanup(v.Close)
	v.Watch("svc.a.*")
	v.Start()
	<-begun
	v.Watch("svc.b.*")
	if err := v.Wait(within(t, natstest.Soon), "svc.b.*"); err != nil {
		t.Fatal(err)
	}
	v.Close()
	if !slices.Equal(sizes, []int{50, 1}) {
		t.Errorf("the snapshots had %v keys, want the first ones and then one more", sizes)
	}
}

// A filter that is added to a session does not end it: nothing is read again, and its consumer
// stays. Seen to fail with sessions that are started again for each filter.
func TestFilterMoreReadsNothingAgain(t *testing.T) {
	t.Parallel()
	const many, more = 1000, 40
	s := natstest.Start(t)
	v, m, _ := newView(t, s)
	writer, err := tenant.New(s.Connect(), "test", tenant.Config{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	write := func(key string) {
		put(t, writer, key, "x")
		want[key] = "x"
	}
	for i := range many {
		write(fmt.Sprintf("svc.a.%d", i))
	}
	v.Watch("svc.a.*")
	if err := v.Wait(within(t, natstest.Soon), "svc.a.*"); err != nil {
		t.Fatal(err)
	}
	read := v.bucket.Conn().Stats().InMsgs
	for i := range more {
		write(fmt.Sprintf("svc.s%d.1", i))
		f := fmt.Sprintf("svc.s%d.*", i)
		v.Watch(f)
		if err := v.Wait(within(t, natstest.Soon), f); err != nil {
			t.Fatal(err)
		}
		if err := m.is(want); err != nil {
			t.Fatal(err)
		}
		write(fmt.Sprintf("svc.s%d.2", i))
		natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
	}
	if n := v.bucket.Conn().Stats().InMsgs - read; n > many {
		t.Errorf("%d messages came for %d filters of a key each, with %d other keys", n, more, many)
	}
	if v.Resyncs() != 0 {
		t.Errorf("%d resyncs", v.Resyncs())
	}
}

// Filters are added while keys under them come, change and go. No key goes back, no key that ended
// comes back, and in the end the view equals the bucket. Seen to fail, seldom, with deletes that
// are reported at any revision.
func TestFiltersAddedWhileKeysChange(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	v, m, _ := newView(t, s)
	const writers, services, keys = 4, 60, 5
	v.Watch("svc.first.*")
	want := map[string]string{}
	var mu sync.Mutex // guards want
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range writers {
		b, err := tenant.New(s.Connect(), "test", tenant.Config{})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { // ends with stop
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprintf("svc.s%d.%d-%d", i%services, w, i/services%keys)
				write := tenant.Write{Key: key, Value: []byte(fmt.Sprint(i))}
				if i/services%3 == 2 {
					write = tenant.Write{Key: key, Op: tenant.Delete}
				}
				if _, err := b.Write(t.Context(), write); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if write.Op == tenant.Put {
					want[key] = string(write.Value)
				} else {
					delete(want, key)
				}
				mu.Unlock()
			}
		})
	}
	for i := range services {
		f := fmt.Sprintf("svc.s%d.*", i)
		v.Watch(f)
		if i%3 == 0 { // the others are joined to it
			if err := v.Wait(within(t, natstest.Soon), f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range services {
		if err := v.Wait(within(t, natstest.Soon), fmt.Sprintf("svc.s%d.*", i)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	natstest.Eventually(t, natstest.Soon, func() error { return m.is(want) })
	if v.Resyncs() != 0 {
		t.Errorf("%d resyncs", v.Resyncs())
	}
}

// A key does not go back in any order of a session's changes and a joined snapshot. Seen to fail
// with a snapshot that is joined whatever the session has seen, with a session that reports what a
// joined snapshot outdates, and with deletes that are reported at any revision.
func TestJoinedSnapshotAndChanges(t *testing.T) {
	t.Parallel()
	put := func(rev uint64) Change {
		return Change{Key: "svc.a.1", Value: []byte(fmt.Sprint(rev)), Revision: rev}
	}
	del := func(rev uint64) Change {
		return Change{Key: "svc.a.1", Revision: rev, Op: tenant.Delete}
	}
	type step func(v *View) uint64
	join := func(upTo uint64, cs ...Change) step {
		return func(v *View) uint64 {
			return v.join(filters{"svc.a.*": {}}, Snapshot{UpTo: upTo}, cs)
		}
	}
	change := func(cs ...Change) step { return func(v *View) uint64 { v.change(cs); return 0 } }
	for name, tt := range map[string]struct {
		steps []step
		need  uint64 // the result of the last step
		want  string // the key's value
	}{
		"the session has seen its end": {[]step{change(del(105)), join(100, put(100))}, 105,
			""},
		"the snapshot has come as far": {[]step{change(del(105)),
			join(105, put(100), del(105))}, 105, ""},
		"the session has seen a later one": {[]step{change(put(105)),
			join(110, put(100), put(105))}, 105, "105"},
		"the session tells it late":      {[]step{join(105), change(put(100))}, 0, ""},
		"the session tells the end late": {[]step{join(105, put(105)), change(del(100))}, 0, "105"},
		"it comes back":                  {[]step{join(105), change(put(106))}, 0, "106"},
		"it goes":                        {[]step{join(105, put(105)), change(del(106))}, 0, ""},
	} {
		m := &model{keys: map[string]string{}, last: map[string]uint64{}, snapshots: 1}
		v := New(nil, Config{Apply: m.apply})
		v.Watch("svc.a.*")
		var need uint64
		for _, step := range tt.steps {
			need = step(v)
		}
		want := map[string]string{}
		if tt.want != "" {
			want["svc.a.1"] = tt.want
		}
		if err := m.is(want); err != nil || need != tt.need {
			t.Errorf("%s: %v, and %d is needed, want %d", name, err, need, tt.need)
		}
	}
}

// Filters that are too long for one message of the server are read by a wider one. What is not
// watched is not kept. Seen to fail with a request of any length, and with sessions that keep what
// nobody watches.
func TestFiltersLongerThanAMessage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		payload, filters int
	}{
		"64 KiB": {64 << 10, 250},
		"4 KiB":  {4 << 10, 17},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t, func(o *server.Options) { o.MaxPayload = int32(tt.payload) })
			_, _, b := newView(t, s)
			filter := func(i int) string {
				return fmt.Sprintf("svc.%s%d.*", strings.Repeat("n", 240), i)
			}
			want := map[string]string{}
			for i := range tt.filters {
				key := strings.TrimSuffix(filter(i), "*") + "1"
				put(t, b, key, "x")
				want[key] = "x"
			}
			for i := range 20 {
				put(t, b, fmt.Sprintf("svc.other.%d", i), "x")
			}
			m := &model{keys: map[string]string{}, last: map[string]uint64{}}
			var mu sync.Mutex // guards read
			var read []string
			v := New(b, Config{Apply: m.apply, Read: func(c Change) any {
				mu.Lock()
				defer mu.Unlock()
				read = append(read, c.Key)
				return nil
			}})
			t.Cleanup(v.Close)
			for i := range tt.filters - 2 {
				v.Watch(filter(i))
			}
			v.Start()
			for i := range tt.filters {
				v.Watch(filter(i))
				if err := v.Wait(within(t, natstest.Soon), filter(i)); err != nil {
					t.Fatal(i, err)
				}
			}
			v.Close()
			for key := range want {
				want[key] = "" // what was read is left out
			}
			if err := m.is(want); err != nil {
				t.Error(err)
			}
			if i := slices.IndexFunc(read,
				func(key string) bool { return strings.HasPrefix(key, "svc.other.") }); i >= 0 {
				t.Errorf("%s was read", read[i])
			}
			if n := v.Resyncs(); n > 0 {
				t.Errorf("%d sessions ended", n)
			}
		})
	}
}
