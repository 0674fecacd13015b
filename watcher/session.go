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

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// Why a session ended. None of them is an error of the view, which starts the next one.
var (
	errSilent  = errors.New("the server fell silent")
	errBehind  = errors.New("the replica that was read lags behind")
	errFilters = errors.New("the set of filters changed")
	errAgain   = errors.New("the server refused it, and is asked again")
	errRenewed = errors.New("the connection came back")
	errDown    = errors.New("the connection is down")
	errRemoved = errors.New("keys were removed without a message")
	errOther   = errors.New("the mirror is of another bucket than the one that was read")
	errRemade  = errors.New("the bucket was made anew while the session began")
	errStale   = errors.New("the mirror that was read does not hear of the hub, which answers")
	errNearer  = errors.New("the mirror is current again")
)

// A view has one session that lasts. If filters are added to it, its consumer is sent their changes
// too from then on, and a second session beside it reads what is there, and ends when its snapshot
// is whole. What was read before is not read again, and goes on meanwhile.

// session is the life of one consumer: first a snapshot, then changes as they come. Its messages arrive
// in one goroutine, that of its subscription.
type session struct {
	view    *View
	feed    *tenant.Feed
	filters filters   // what was wanted when it began
	reads   filters   // what it is sent: those, or what covers them
	origin  origin    // of the stream at the session's start
	first   uint64    // the leader's first revision then: what a mirror has below it was purged by hand
	last    uint64    // the last revision then of what is read: the stream, or its mirror
	shows   time.Time // as of when a mirror's snapshot is current; zero where that is not known
	told    uint64    // the revision up to which an earlier session has told of it
	beside  bool      // it reads what was added to another session

	ended chan error    // what the subscription's goroutine ended the session with; holds one
	whole chan struct{} // closed when the snapshot is complete

	mu       sync.Mutex // guards what follows, which the subscription's goroutine and run share
	closed   bool
	wide     bool      // it is sent more than is wanted
	came     time.Time // when an entry came last, or the answer to what it needs
	need     uint64    // the revision up to which it must have looked before its snapshot is shown
	horizon  uint64    // the stream's revision up to which the server says the consumer has looked
	pending  uint64    // messages that are still to come, as the last one said
	began    time.Time
	sure     bool                // a heartbeat came that says that nothing is on its way
	expected int                 // keys that the snapshot has
	keys     map[string]struct{} // the known ones that came; nil once the snapshot was handed over
	inPlace  int                 // those of them that came as they were when the session began
	checked  bool                // the leader was asked what was written meanwhile, or is being asked
	complete bool                // the snapshot was handed over
	batch    []Change
	bytes    int // that the changes of the batch take, while the snapshot is read
	junk     int // changes of it that are junk,
	passed   int // and those of them that were left out,
	over     int // and the changes that were left out for want of room
}

// origin tells one life of a stream from the next.
type origin struct {
	created  time.Time
	last     uint64 // its last revision, as its leader said
	replicas int
	mirror   bool // it is read by a mirror, near by
}

// lags reports whether what is read may be behind the leader.
func (o origin) lags() bool { return o.mirror || o.replicas > 1 }

// precedes reports whether o is of the same life as a later origin, and says less.
func (o origin) precedes(later origin) bool {
	return o.created.Equal(later.created) && o.last < later.last
}

// newSession makes a session that has sent nothing yet.
func (v *View) newSession(fs filters) *session {
	now := time.Now()
	return &session{view: v, filters: fs, ended: make(chan error, 1), whole: make(chan struct{}), came: now, began: now}
}

// start reads where the stream stands, and opens the feed. It does not begin before ready has
// returned: ready may be nil.
func (s *session) start(ctx context.Context, bound time.Duration, ready func(context.Context) error) error {
	v := s.view
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	if err := s.locate(ctx, ready); err != nil {
		return err
	}
	s.told = v.toldUpTo(s.origin)
	s.reads = v.reads(s.filters) // those asked for are still compared with what is refused
	s.wide = s.filters.narrower(s.reads)
	s.mu.Lock() // no message is looked at before the number of pending ones is known
	defer s.mu.Unlock()
	feed, err := v.bucket.OpenFeed(ctx, tenant.FeedConfig{
		Name: v.name(), Keys: s.reads.list(), Near: s.origin.mirror, Heartbeat: v.heartbeat,
		Message: s.message, Mark: s.mark, Lost: s.lost,
	})
	if err != nil {
		s.closed = true // it may have been made all the same, and its first messages be here
		if feed != nil {
			v.forget(feed)
		}
		return err
	}
	s.feed, s.pending = feed, feed.Messages // what was sent already waits for s.mu
	s.expected = int(s.pending)
	s.keys, s.batch = map[string]struct{}{}, make([]Change, 0, min(s.expected, roomMost))
	s.finishSnapshot()
	return nil
}

// roomMost is for how many changes of a snapshot there is room from the start.
const roomMost = 1 << 14

// widen has the session read more filters: its consumer is sent their changes from now on, and a
// session beside it reads what is there. run leaves reads alone meanwhile.
func (s *session) widen(ctx context.Context, added, wanted filters) error {
	v := s.view
	reads := v.reads(wanted)
	beside := v.newSession(added)
	beside.beside = true
	err := beside.start(ctx, 2*startTime, func(ctx context.Context) error {
		if maps.Equal(reads, s.reads) {
			return nil
		}
		s.mu.Lock()
		s.wide = wanted.narrower(reads)
		s.mu.Unlock()
		return s.feed.Change(ctx, reads.list())
	})
	if err != nil {
		return err
	}
	s.reads = reads
	return beside.run(ctx, nil)
}

// locate finds out what is to be read once ready has returned, and up to which revision. A mirror
// is read where the leader confirms that it is of the same bucket and the mirror hears of it; or
// while the hub is away. Otherwise the leader itself is.
func (s *session) locate(ctx context.Context, ready func(context.Context) error) (err error) {
	v := s.view
	readied := make(chan error, 1)
	if ready == nil {
		readied <- nil
	} else {
		v.wg.Go(func() { readied <- ready(ctx) }) // ends with ctx
	}
	var mirror *tenant.Mirror
	if !v.cfg.Follow && !s.beside {
		mirror = v.bucket.Mirror(ctx) // asked first: what it has, the leader has
	}
	ask, cancel := ctx, context.CancelFunc(func() {})
	if mirror != nil {
		ask, cancel = context.WithTimeout(ctx, startTime/2)
	}
	defer cancel()
	state, err := v.bucket.State(ask)
	switch away := mirror != nil && ctx.Err() == nil && v.bucket.HubAway(err); {
	case away && !v.knows(mirror.Of):
		return fmt.Errorf("%w, and the hub is away: %w", errOther, err)
	case away:
		s.origin, s.last = origin{mirror.Of, mirror.Last, 1, true}, mirror.Last
		v.unseen(s.origin, s.filters, &s.need)
		s.shows = mirror.Heard
		return nil
	case err != nil:
		return err
	}
	s.origin = origin{state.Created, state.Last, state.Replicas, v.usable(mirror, state)}
	s.first, s.last = state.First, state.Last
	if s.origin.mirror {
		s.last, s.shows = mirror.Last, s.began
	}
	switch {
	case s.beside && !v.knows(state.Created):
		return errRemade
	case v.outdated(s.origin):
		return fmt.Errorf("%w: its leader is at %d", errBehind, s.origin.last)
	}
	if err := <-readied; err != nil {
		return err
	}
	s.need, err = v.need(ctx, s.origin, s.filters) // what was written before readied is in what a replica needs
	return err
}

// follow sees to the mirror that is read: how old it is, and whether it still hears of the hub. Where it does not, and the hub answers, the session ends.
func (s *session) follow(ctx context.Context) {
	for backoff.Sleep(ctx, s.view.heartbeat) == nil {
		ask, cancel := context.WithTimeout(ctx, startTime)
		mirror := s.view.bucket.Mirror(ask)
		var err error
		if mirror == nil || !mirror.Fresh() {
			_, err = s.view.bucket.State(ask)
		}
		cancel()
		switch {
		case err != nil:
		case mirror == nil || !mirror.Fresh():
			s.mu.Lock()
			s.end(errStale)
			s.mu.Unlock()
			return
		case mirror.Lag == 0 && s.isComplete():
			s.view.confirm(mirror.Heard)
		}
	}
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
	if s.horizon >= s.first && (!s.wide || s.view.wants(m.Key)) {
		s.take(&m)
	}
	switch {
	case !s.complete:
		if s.horizon <= s.last {
			s.inPlace++ // a key has one message at a time: it is the first of this one
		}
		s.pending = m.Pending
		s.finishSnapshot()
	case len(s.batch) >= batchMost || m.Last: // under load, changes are passed on together
		s.flush()
	}
}

// confirm notes that the server has said that the view is current.
func (s *session) confirm() {
	if s.complete && !s.origin.mirror {
		s.view.confirm(time.Now())
	}
}

// take puts a message into the batch. Of a snapshot, a new key's value is left out if it is junk or
// there is no room for it: it is only counted. A key that was written while the snapshot is read
// may have come before, so it is always passed on.
func (s *session) take(m *tenant.Message) {
	v, key := s.view, m.Key
	rev, known := v.at(key)
	if known && !s.complete {
		s.keys[key] = struct{}{}
	}
	c := v.changeOf(m, known && rev >= s.horizon)
	if s.complete {
		s.batch = append(s.batch, c)
		return
	}
	size := c.bytes()
	if known && rev >= s.horizon || v.isFilter(key) { // Apply has it, or somebody here wrote it
		size = 0
	}
	first, over := !known && s.horizon <= s.last && size > 0, v.cfg.MaxBytes > 0 && size > 0 && s.bytes+size > v.cfg.MaxBytes
	switch {
	case first && c.junk() && s.horizon <= s.told && v.hasRead(key): // it was counted before
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

// changeOf is what is kept of a message. If the view reads values, it reads them at once: a snapshot
// is kept as a whole until its end, and others say how long its values are.
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

// mark takes the server's word that everything it had has come. It learns how far the consumer has
// looked.
func (s *session) mark(upTo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.confirm()
	if upTo > 0 {
		s.idle(upTo)
	}
	s.flush()
}

// idle takes the revision up to which a consumer has looked that has nothing to send.
func (s *session) idle(upTo uint64) {
	s.horizon = max(s.horizon, upTo)
	if s.horizon >= s.last { // what was counted as pending and did not come was overwritten
		s.pending, s.sure = 0, true
	}
	s.finishSnapshot()
	if !s.complete && s.need < math.MaxUint64 && time.Since(s.came) > lagTime {
		s.view.distrust()
		s.end(fmt.Errorf("%w: it is at %d of %d, %d are needed, and %d messages are pending", errBehind, s.horizon, s.origin.last, s.need, s.pending))
	}
}

// lost ends the session when the feed has lost a message.
func (s *session) lost(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.end(why)
	}
}

// finishSnapshot hands over the snapshot, if it is complete. A key that is written while the
// snapshot is read comes behind it, and the server may then count nothing as pending before it has
// come. So if a key has not come in its place, or one is missing that the view knows, the leader is
// asked for the last revision under the filters: the snapshot is complete when the consumer has
// come so far. A heartbeat that says that nothing is on its way answers the same. With several
// replicas the one that is read may lag behind: the next message or heartbeat says how far it has
// come since.
func (s *session) finishSnapshot() {
	if s.complete || s.pending > 0 || s.horizon < s.need {
		return
	}
	if !s.sure && !s.checked && (s.inPlace < s.expected || !s.beside && s.view.lacks(s.keys)) {
		s.checked, s.need = true, math.MaxUint64 // until the answer is there
		s.view.wg.Go(s.ask)                      // ends within startTime; Close waits
		return
	}
	upTo := s.horizon
	if !s.origin.lags() {
		upTo = max(upTo, s.origin.last)
	}
	snapshot := Snapshot{UpTo: upTo, Junk: s.passed, Over: s.over}
	var need uint64
	var err error
	if s.beside {
		need = s.view.join(s.filters, snapshot, s.batch)
	} else {
		need, err = s.view.replace(s.filters, s.origin, snapshot, s.batch)
	}
	switch {
	case err != nil:
		s.view.distrust()
		s.end(err)
		return
	case need > upTo:
		s.need = need
		return
	case !s.beside:
		s.view.confirm(s.shows)
	}
	s.complete, s.keys, s.batch = true, nil, nil
	close(s.whole)
}

// ask has the session need whatever was written until now to what it reads.
func (s *session) ask() {
	ctx, cancel := context.WithTimeout(s.view.ctx, startTime)
	defer cancel()
	last := s.view.bucket.Last
	if s.origin.mirror {
		last = s.view.bucket.LastNear
	}
	rev, err := lastOf(ctx, s.filters, last)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case err != nil:
		s.end(err)
	default:
		s.need, s.came = rev, time.Now()
		s.finishSnapshot()
	}
}

func (s *session) flush() {
	if s.complete && len(s.batch) > 0 {
		s.view.change(s.batch)
		s.batch = nil
	}
}

func (s *session) end(why error) {
	s.closed = true
	select {
	case s.ended <- why:
	default:
	}
}

// run holds the session until something ends it, and says what that was. It ends the subscription and the
// consumer.
func (s *session) run(ctx context.Context, up <-chan nats.Status) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	soonBell, widenBell := s.view.soon, s.view.widen
	var againBell chan struct{} // not before the snapshot is whole
	var widening chan error
	if s.beside {
		soonBell, widenBell = nil, nil
	} else {
		s.view.wg.Go(func() { s.check(ctx) }) // ends with ctx
	}
	if s.origin.mirror {
		s.view.wg.Go(func() { s.follow(ctx) }) // likewise
	}
	defer func() {
		cancel()
		if widening != nil {
			<-widening
		}
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.feed.Close()
		s.view.forget(s.feed)
	}()
	most := silence(s.view.heartbeat)
	alarm, tick := time.NewTimer(most), time.NewTicker(s.view.heartbeat/2)
	defer alarm.Stop()
	defer tick.Stop()
	whole, probe := s.whole, make(chan error, 1)
	var soon <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case why := <-s.ended:
			return why
		case <-up:
			return errRenewed
		case <-alarm.C:
			if quiet := s.feed.Quiet(); quiet < most {
				alarm.Reset(most - quiet)
			} else {
				s.view.wg.Go(func() { probe <- s.probe(ctx) }) // ends with ctx; Close waits
			}
		case err := <-probe:
			quiet := s.feed.Quiet()
			if err != nil || quiet >= most && !s.feed.Queued() {
				return fmt.Errorf("%w for %s", errSilent, quiet.Round(time.Millisecond))
			}
			alarm.Reset(max(most-quiet, s.view.heartbeat))
		case <-tick.C:
			if !s.view.bucket.Connected() {
				return errDown
			}
		case <-soonBell:
			if soon == nil {
				soon = time.After(soonTime)
			}
			continue
		case <-soon:
			soon = nil
		case <-againBell:
			return errFilters
		case <-widenBell:
			soon = nil
		case <-whole:
			if s.beside {
				return nil
			}
			whole, againBell = nil, s.view.again
		case err := <-widening:
			widening = nil
			if err != nil { // a session that begins anew reads all at once
				return errFilters
			}
		}
		if s.beside || whole != nil || soon != nil || widening != nil || s.view.covered(s.reads) {
			continue
		}
		if s.origin.mirror {
			return errFilters
		}
		added, wanted := s.view.takeAdded()
		done := make(chan error, 1)
		widening = done
		s.view.wg.Go(func() { done <- s.widen(ctx, added, wanted) }) // ends with ctx
	}
}

// probe waits until the server has sent what it had for the connection. A heartbeat may wait behind
// a long queue of other messages: a consumer is silent only if its heartbeat is not among them.
func (s *session) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.view.cfg.Patience)
	defer cancel()
	return s.view.bucket.Probe(ctx)
}

// check asks the stream's leader at once and then now and then how things stand, and ends the session where it can't see that by itself. It
// also sees to what earlier sessions left behind.
func (s *session) check(ctx context.Context) {
	for first := true; first || backoff.Sleep(ctx, s.view.cfg.Check) == nil; first = false {
		s.view.deleteLeftovers()
		ask, cancel := context.WithTimeout(ctx, startTime)
		var mirror *tenant.Mirror
		if !first && !s.origin.mirror && !s.view.cfg.Follow { // which the session left a moment ago
			mirror = s.view.bucket.Mirror(ask)
		}
		state, err := s.view.bucket.State(ask)
		cancel()
		if err != nil {
			continue
		}
		why := s.judge(ctx, state)
		if why == nil && s.view.usable(mirror, state) && mirror.Lag == 0 {
			why = errNearer
		}
		if why != nil {
			s.mu.Lock()
			s.end(why)
			s.mu.Unlock()
			return
		}
	}
}

// judge compares the session with what the leader says. A replica that was cut off from the others, or does not catch up,
// sends heartbeats like any other; but they do not come as far as the leader has been. Keys that were removed without a message
// are below the stream's first revision; what is under way explains either, so a moment is left to it.
func (s *session) judge(ctx context.Context, leader tenant.State) error {
	behind := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return (s.origin.mirror || leader.Replicas > 1) && s.horizon < leader.Last
	}
	removed := func() bool { return s.view.removed(leader.First) }
	switch {
	case !leader.Created.Equal(s.origin.created): // the consumer is of this one, and what the session knows of the one before
		return errRemade
	case !s.isComplete(): // what comes yet explains all else
		return nil
	case !removed():
	case backoff.Sleep(ctx, s.view.heartbeat) != nil:
		return nil
	case removed() && !behind():
		return errRemoved
	}
	for end := time.Now().Add(max(lagTime, s.view.heartbeat*5/4)); time.Now().Before(end); {
		if !behind() || backoff.Sleep(ctx, lagLook) != nil {
			return nil
		}
	}
	s.view.distrust()
	return errBehind
}

func (s *session) isComplete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}
