package watcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/kvregistry/go/tenant"
)

// Why a session ended. None of them is an error of the view, which starts the next session.
var (
	errSilent  = errors.New("the server fell silent")
	errBehind  = errors.New("the replica that was read lags behind")
	errFilters = errors.New("the set of filters changed")
	errAgain   = errors.New("the server refused it, and is asked again")
	errRenewed = errors.New("the connection came back")
	errDown    = errors.New("the connection is down")
	errRemoved = errors.New("keys were removed without a message")
	errOther   = errors.New("the mirror is of another bucket than the one that was read")
	errRemade  = errors.New("the bucket was recreated while the session began")
	errStale   = errors.New("the mirror that was read does not hear of the hub, which answers")
	errNearer  = errors.New("the mirror is current again")
)

const (
	lagTime   = 2 * time.Second // after which a replica that lags behind is left for another
	batchMost = 256             // changes passed on at once
	roomMost  = 1 << 14         // changes of a snapshot for which there is room from the start
)

// session is the life of one consumer: first a snapshot, then changes as they come. A view has one
// session that lasts. If filters are added to it, its consumer is sent their changes too, and a
// second session beside it reads what is there, and ends when its snapshot is whole.
type session struct {
	view    *View
	filters filters // what was wanted when it began
	beside  bool    // it reads what was added to another session
	source  source
	told    uint64  // the revision up to which earlier sessions have told of the bucket
	reads   filters // what it is sent: filters, or what covers them
	feed    *tenant.Feed

	ended chan error    // why a goroutine ended the session; holds one
	whole chan struct{} // closed when the snapshot is complete

	mu       sync.Mutex // guards what follows, which the goroutines of the feed and of run share
	closed   bool
	wide     bool      // it is sent more than is wanted
	came     time.Time // when an entry came last, or the answer to what it needs
	need     uint64    // the revision up to which it must have looked before its snapshot is shown
	horizon  uint64    // the revision up to which the consumer has looked
	pending  uint64    // messages that are still to come, as the last one said
	sure     bool      // the server said that nothing is on its way
	complete bool      // the snapshot was handed over
	batch    []Change  // of the snapshot; then those that are not passed on yet
	reading            // what is read of the snapshot
}

// reading counts what a session reads of its snapshot.
type reading struct {
	expected int                 // keys that it has
	keys     map[string]struct{} // the known ones that came
	inPlace  int                 // keys that came as they were when the session began
	checked  bool                // the leader was or is asked what was written meanwhile
	bytes    int                 // that the changes of the batch take
	junk     int                 // changes that are junk,
	passed   int                 // those of them that were left out,
	over     int                 // and changes that were left out because of MaxBytes
}

// newSession makes a session that has sent nothing yet.
func (v *View) newSession(fs filters) *session {
	return &session{view: v, filters: fs, ended: make(chan error, 1), whole: make(chan struct{}),
		came: time.Now()}
}

// start chooses what is read, and opens the feed. It does not begin before ready has returned;
// ready may be nil. Without an error, run must follow.
func (s *session) start(ctx context.Context, bound time.Duration,
	ready func(context.Context) error) (err error) {
	v := s.view
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if s.source, s.need, err = v.choose(ctx, s.filters, s.beside, ready); err != nil {
		return err
	}
	s.told = v.toldUpTo(s.source)
	s.reads = v.reads(s.filters)
	s.wide = s.filters.narrower(s.reads)
	s.mu.Lock() // no message is looked at before the number of pending ones is known
	defer s.mu.Unlock()
	s.feed, err = v.bucket.OpenFeed(ctx, tenant.FeedConfig{
		Name: v.name(), Keys: s.reads.list(), Near: s.source.mirror, Heartbeat: v.cfg.Heartbeat,
		Within: v.within(), Message: s.message, Mark: s.mark, Lost: s.end,
	})
	if err != nil {
		s.closed = true // it may exist nevertheless, and its first messages be here
		v.forget(s.feed)
		return err
	}
	s.pending, s.expected = s.feed.Messages, int(s.feed.Messages)
	s.keys, s.batch = map[string]struct{}{}, make([]Change, 0, min(s.expected, roomMost))
	s.finish()
	return nil
}

// widen makes the session read other filters: its consumer is sent their changes from now on, and a
// session beside it reads what is there of those that were added. run leaves reads alone meanwhile.
func (s *session) widen(ctx context.Context, added, wanted filters) error {
	v := s.view
	reads := v.reads(wanted)
	change := func(ctx context.Context) error {
		if maps.Equal(reads, s.reads) {
			return nil
		}
		s.mu.Lock()
		s.wide = wanted.narrower(reads)
		s.mu.Unlock()
		return s.feed.Change(ctx, reads.list())
	}
	if len(added) == 0 {
		ctx, cancel := context.WithTimeout(ctx, startTime)
		defer cancel()
		err := change(ctx)
		if err == nil {
			s.reads = reads
		}
		return err
	}
	beside := v.newSession(added)
	beside.beside = true
	if err := beside.start(ctx, 2*startTime, change); err != nil {
		return err
	}
	s.reads = reads
	return beside.run(ctx, nil)
}

// name begins the names of the view's consumers.
func (v *View) name() string {
	if v.cfg.Follow {
		return "reaper-"
	}
	return "view-"
}

// within is the time within which something is written that a reaper's view is sent: it holds a
// slot, and renews that several times in its TTL. Nothing may be written to what others watch.
func (v *View) within() time.Duration {
	if v.cfg.Follow {
		return v.cfg.Patience
	}
	return 0
}

// reads returns what a consumer is sent for some filters: those, or what covers them if they are
// too many for one consumer, or for one message on this connection.
func (v *View) reads(fs filters) filters {
	list := fs.reduced(filterMax)
	if !v.bucket.FitsFeed(list) {
		list = fs.reduced(0)
	}
	reads := filters{}
	for _, f := range list {
		reads[f] = struct{}{}
	}
	return reads
}

// message takes a message of the feed.
func (s *session) message(m tenant.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.came, s.horizon = time.Now(), m.Revision
	s.confirm()
	if s.horizon >= s.source.first && (!s.wide || s.view.wants(m.Key)) {
		s.take(&m)
	}
	switch {
	case !s.complete:
		if s.horizon <= s.source.last {
			s.inPlace++ // a key has one message at a time: it is the first of this one
		}
		s.pending = m.Pending
		s.finish()
	case len(s.batch) >= batchMost || m.Last: // under load, changes are passed on together
		s.flush()
	}
}

// mark takes the server's word that all it had has come, and up to which revision the consumer has
// looked; 0 if it does not say. A replica that does not get as far as is needed is left.
func (s *session) mark(upTo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.confirm()
	s.flush()
	s.horizon = max(s.horizon, upTo)
	if s.complete || upTo == 0 {
		return
	}
	if s.horizon >= s.source.last { // what was counted as pending and did not come was overwritten
		s.pending, s.sure = 0, true
	}
	s.finish()
	if !s.complete && s.need < math.MaxUint64 && time.Since(s.came) > lagTime {
		s.fail(fmt.Errorf("%w: it is at %d of %d, %d are needed, and %d messages are pending",
			errBehind, s.horizon, s.source.leader, s.need, s.pending))
	}
}

// take puts a message into the batch. Of a snapshot, the value of a new key is left out if it is
// junk or if there is no room: it is only counted. A key that was written while the snapshot is
// read may have come before, so it is always passed on.
func (s *session) take(m *tenant.Message) {
	v := s.view
	rev, known := v.at(m.Key)
	c := v.changeOf(m, known && rev >= m.Revision)
	if s.complete {
		s.batch = append(s.batch, c)
		return
	}
	if known {
		s.keys[m.Key] = struct{}{}
	}
	size := c.bytes()
	if known && rev >= m.Revision || v.isFilter(m.Key) { // Apply has it, or this process wrote it
		size = 0
	}
	first := !known && m.Revision <= s.source.last && size > 0
	over := v.cfg.MaxBytes > 0 && size > 0 && s.bytes+size > v.cfg.MaxBytes
	switch {
	case first && c.junk() && m.Revision <= s.told && v.hasRead(m.Key): // it was counted before
		return
	case first && c.junk() && (over || s.junk >= junkMost):
		s.junk++
		s.passed++
		return
	case first && over:
		s.over++
		return
	case over:
		c.Value, c.Read, c.Over = nil, nil, c.Op == tenant.Put
		size = c.bytes()
	}
	if c.junk() {
		s.junk++
	}
	s.bytes += size
	s.batch = append(s.batch, c)
}

// changeOf returns what is kept of a message. A value is read at once: a snapshot is kept as a
// whole until its end, and others say how long its values are.
func (v *View) changeOf(m *tenant.Message, has bool) Change {
	c := Change{Key: m.Key, Value: m.Value, Revision: m.Revision, Op: m.Op}
	if v.cfg.Follow {
		c.TTL, c.If = m.TTL(), m.If()
	}
	switch most := v.cfg.MaxValue; {
	case most > 0 && len(c.Value) > most:
		c.Value, c.Long = nil, len(c.Value)
	case v.cfg.Read != nil && c.Op == tenant.Put && (v.cfg.Follow || !has):
		c.Read, c.Value = v.cfg.Read(c), nil
	default:
		c.Value = bytes.Clone(c.Value)
	}
	return c
}

// finish hands over the snapshot if it is complete. A key that is written while the snapshot is
// read comes behind it, and the server may then count nothing as pending before the key has come.
// So if a key did not come in its place, or one is missing that the view knows, the leader is asked
// for the last revision under the filters: the snapshot is complete when the consumer has come so
// far. The caller holds s.mu.
func (s *session) finish() {
	if s.complete || s.pending > 0 || s.horizon < s.need {
		return
	}
	if !s.sure && !s.checked && (s.inPlace < s.expected || !s.beside && s.view.misses(s.keys)) {
		s.checked, s.need = true, math.MaxUint64 // until the answer is there
		s.view.wg.Go(s.ask)                      // ends within startTime; Close waits
		return
	}
	snapshot := Snapshot{UpTo: s.horizon, Junk: s.passed, Over: s.over}
	if !s.source.lags() {
		snapshot.UpTo = max(s.horizon, s.source.leader)
	}
	need, err := s.handOver(snapshot)
	switch {
	case err != nil:
		s.fail(err)
	case need > snapshot.UpTo:
		s.need = need
	default:
		s.complete, s.batch, s.keys = true, nil, nil
		close(s.whole)
	}
}

func (s *session) handOver(snapshot Snapshot) (need uint64, err error) {
	if s.beside {
		return s.view.join(s.filters, snapshot, s.batch), nil
	}
	return s.view.replace(s.filters, s.source, snapshot, s.batch)
}

// ask makes the session need whatever was written until now to what it reads.
func (s *session) ask() {
	ctx, cancel := context.WithTimeout(s.view.ctx, startTime)
	defer cancel()
	rev, err := s.source.lastOf(ctx, s.view.bucket, s.filters)
	if err != nil {
		s.end(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.need, s.came = rev, time.Now()
		s.finish()
	}
}

// flush passes on the changes that came. The caller holds s.mu.
func (s *session) flush() {
	if s.complete && len(s.batch) > 0 {
		s.view.change(s.batch)
		s.batch = nil
	}
}

// end ends the session, for the first reason that is given.
func (s *session) end(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close(why)
}

// fail ends the session because what it reads is not current. The caller holds s.mu.
func (s *session) fail(why error) {
	s.view.distrust()
	s.close(why)
}

// close is end for a caller that holds s.mu.
func (s *session) close(why error) {
	s.closed = true
	select {
	case s.ended <- why:
	default:
	}
}

func (s *session) isComplete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}
