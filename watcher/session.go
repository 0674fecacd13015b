package watcher

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/tenant"
)

// Why a session ended. None of them is an error of the view, which starts the next one.
var (
	errGap     = errors.New("a message was lost")
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
	name    string    // of the consumer
	inbox   string    // the subject that it sends to, which the server's own words have
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
	heard    time.Time // when a message or a heartbeat came last
	came     time.Time // when an entry did, or the answer to what it needs
	need     uint64    // the revision up to which it must have looked before its snapshot is shown
	received uint64    // the consumer's messages so far, which it numbers from 1
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
	return &session{view: v, name: v.name() + rand.Text(), filters: fs, ended: make(chan error, 1), whole: make(chan struct{}), heard: now, came: now, began: now}
}

// start reads where the stream stands, subscribes and makes the consumer. It does not begin before
// ready has returned: ready may be nil.
func (s *session) start(ctx context.Context, bound time.Duration, ready func(context.Context) error) (*nats.Subscription, error) {
	v := s.view
	subjects := v.bucket.Asks("STREAM.INFO", "CONSUMER.CREATE")
	for i, subject := range subjects {
		if strings.Contains(subject, ".CONSUMER.") {
			subjects[i] = subject + "." + v.name() + "*"
		}
	}
	ctx, cancel := v.bucket.Try(ctx, bound, subjects...)
	defer cancel()
	js := v.bucket.JetStream()
	err := s.locate(ctx, ready)
	if err != nil {
		return nil, v.bucket.Explain(ctx, err)
	}
	if s.origin.mirror {
		s.name, js = mirrorView+rand.Text(), v.bucket.Near()
	}
	s.told = v.toldUpTo(s.origin)
	s.reads = v.reads(s.filters) // those asked for are still compared with what is refused
	s.wide = s.filters.narrower(s.reads)
	s.inbox = v.bucket.Conn().NewInbox()
	s.mu.Lock() // no message is looked at before the number of pending ones is known
	defer s.mu.Unlock()
	sub, err := v.bucket.Conn().Subscribe(s.inbox, s.receive)
	if err != nil {
		return nil, err
	}
	_ = sub.SetPendingLimits(-1, -1) // flow control bounds what is under way
	consumer, err := js.CreatePushConsumer(ctx, v.bucket.Stream(), s.consumer(s.reads))
	if err != nil {
		s.closed = true // it may have been made all the same, and its first messages be here
		_ = sub.Unsubscribe()
		v.forget(s.name)
		return nil, v.bucket.Explain(ctx, err)
	}
	made := consumer.CachedInfo()
	s.pending = made.NumPending
	s.expected = int(made.NumPending + made.Delivered.Consumer) // what was sent already waits for s.mu
	s.keys, s.batch = map[string]struct{}{}, make([]Change, 0, min(s.expected, roomMost))
	s.finishSnapshot()
	return sub, nil
}

// roomMost is for how many changes of a snapshot there is room from the start.
const roomMost = 1 << 14

// consumer is what the session asks the server for.
func (s *session) consumer(reads filters) jetstream.ConsumerConfig {
	subjects := make([]string, 0, len(reads))
	for f := range reads {
		subjects = append(subjects, s.view.bucket.Subject(f))
	}
	return jetstream.ConsumerConfig{
		Name:              s.name,
		DeliverSubject:    s.inbox,
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubjects:    subjects,
		FlowControl:       true,
		IdleHeartbeat:     s.view.heartbeat,
		InactiveThreshold: abandoned,
		MemoryStorage:     true,
		Replicas:          1,
		MaxDeliver:        1,
	}
}

// widen has the session read more filters: its consumer is sent their changes from now on, and a
// session beside it reads what is there. run leaves reads alone meanwhile.
func (s *session) widen(ctx context.Context, added, wanted filters) error {
	v := s.view
	reads := v.reads(wanted)
	beside := v.newSession(added)
	beside.beside = true
	sub, err := beside.start(ctx, 2*startTime, func(ctx context.Context) error {
		if maps.Equal(reads, s.reads) {
			return nil
		}
		s.mu.Lock()
		s.wide = wanted.narrower(reads)
		s.mu.Unlock()
		_, err := v.bucket.JetStream().UpdatePushConsumer(ctx, v.bucket.Stream(), s.consumer(reads))
		return err
	})
	if err != nil {
		return err
	}
	s.reads = reads
	return beside.run(ctx, sub, nil)
}

// mirrorView is how the name of a consumer of a mirror begins.
const mirrorView = "view-near-"

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
	stream, err := v.bucket.JetStream().Stream(ask, v.bucket.Stream())
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
	info := stream.CachedInfo()
	s.origin = origin{info.Created, info.State.LastSeq, info.Config.Replicas, v.usable(mirror, info)}
	s.first, s.last = info.State.FirstSeq, info.State.LastSeq
	if s.origin.mirror {
		s.last, s.shows = mirror.Last, s.began
	}
	switch {
	case s.beside && !v.knows(info.Created):
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
			_, err = s.view.bucket.JetStream().Stream(ask, s.view.bucket.Stream())
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

// receive takes the consumer's messages, in order.
func (s *session) receive(msg *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.heard = time.Now()
	if s.complete && !s.origin.mirror {
		s.view.confirm(s.heard)
	}
	if msg.Subject == s.inbox { // an entry has its key's subject, whatever its headers say
		s.control(msg)
		return
	}
	meta, err := msg.Metadata()
	if err != nil || meta.Sequence.Consumer != s.received+1 {
		s.end(errGap)
		return
	}
	s.received++
	s.came = s.heard
	s.horizon = meta.Sequence.Stream
	if key := s.view.bucket.Key(msg.Subject); s.horizon >= s.first && (!s.wide || s.view.wants(key)) {
		s.take(msg, key)
	}
	switch {
	case !s.complete:
		if s.horizon <= s.last {
			s.inPlace++ // a key has one message at a time: it is the first of this one
		}
		s.pending = meta.NumPending
		s.finishSnapshot()
	case len(s.batch) >= batchMost || s.lastQueued(msg):
		s.flush()
	}
}

// take puts a message into the batch. Of a snapshot, a new key's value is left out if it is junk or
// there is no room for it: it is only counted. A key that was written while the snapshot is read
// may have come before, so it is always passed on.
func (s *session) take(msg *nats.Msg, key string) {
	v := s.view
	rev, known := v.at(key)
	if known && !s.complete {
		s.keys[key] = struct{}{}
	}
	c := v.changeOf(msg, key, s.horizon, known && rev >= s.horizon)
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

// changeOf is what is kept of a message: a snapshot is kept whole until its end, and others say how long its values are. So a value is read
// at once, where Apply wants it read; one with headers stands behind them in one buffer, so it is copied.
func (v *View) changeOf(msg *nats.Msg, key string, revision uint64, has bool) Change {
	value, op := tenant.ContentOf(msg)
	c := Change{Key: key, Value: value, Revision: revision, Op: op}
	if v.cfg.Follow && msg.Header != nil {
		c.TTL, c.If = tenant.TTLOf(msg), tenant.ExpectedOf(msg)
	}
	switch most := v.cfg.MaxValue; {
	case most > 0 && len(value) > most:
		c.Value, c.Long = nil, len(value)
	case v.cfg.Read != nil && op == tenant.Put && (v.cfg.Follow || !has):
		c.Read, c.Value = v.cfg.Read(c), nil
	case msg.Header != nil:
		c.Value = bytes.Clone(value)
	}
	return c
}

// lastQueued reports whether no other message waits behind msg: under load, changes are passed on together.
func (s *session) lastQueued(msg *nats.Msg) bool {
	queued, _, err := msg.Sub.Pending() // counts msg itself
	return err != nil || queued <= 1
}

// control answers flow control, and learns from a heartbeat how far the consumer has come.
func (s *session) control(msg *nats.Msg) {
	if msg.Reply != "" {
		_ = msg.Respond(nil)
		s.flush()
		return
	}
	sent, err := strconv.ParseUint(msg.Header.Get("Nats-Last-Consumer"), 10, 64)
	if err != nil || sent != s.received {
		s.end(errGap)
		return
	}
	if stalled := msg.Header.Get("Nats-Consumer-Stalled"); stalled != "" {
		_ = s.view.bucket.Conn().Publish(stalled, nil)
		return
	}
	if seen, err := strconv.ParseUint(msg.Header.Get("Nats-Last-Stream"), 10, 64); err == nil {
		s.horizon = max(s.horizon, seen)
	}
	if s.horizon >= s.last { // what was counted as pending and did not come was overwritten
		s.pending, s.sure = 0, true
	}
	s.finishSnapshot()
	if !s.complete && s.need < math.MaxUint64 && time.Since(s.came) > lagTime {
		s.view.distrust()
		s.end(fmt.Errorf("%w: it is at %d of %d, %d are needed, and %d messages are pending", errBehind, s.horizon, s.origin.last, s.need, s.pending))
	}
	s.flush()
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
	if s.beside {
		if need := s.view.join(s.filters, snapshot, s.batch); need > upTo {
			s.need = need
			return
		}
	} else {
		s.view.confirm(s.shows)
		s.view.replace(s.filters, s.origin, snapshot, s.batch)
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
func (s *session) run(ctx context.Context, sub *nats.Subscription, up <-chan nats.Status) error {
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
		_ = sub.Unsubscribe()
		s.view.forget(s.name)
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
			if quiet := s.quietFor(); quiet < most {
				alarm.Reset(most - quiet)
			} else {
				s.view.wg.Go(func() { probe <- s.probe(ctx) }) // ends with ctx; Close waits
			}
		case err := <-probe:
			quiet := s.quietFor()
			if queued, _, _ := sub.Pending(); err != nil || quiet >= most && queued == 0 {
				return fmt.Errorf("%w for %s", errSilent, quiet.Round(time.Millisecond))
			}
			alarm.Reset(max(most-quiet, s.view.heartbeat))
		case <-tick.C:
			if !s.view.bucket.Conn().IsConnected() {
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
	return s.view.bucket.Conn().FlushWithContext(ctx)
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
		stream, err := s.view.bucket.JetStream().Stream(ask, s.view.bucket.Stream())
		cancel()
		if err != nil {
			continue
		}
		s.view.bucket.Learn(stream.CachedInfo().Config)
		why := s.judge(ctx, stream.CachedInfo())
		if why == nil && s.view.usable(mirror, stream.CachedInfo()) && mirror.Lag == 0 {
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
func (s *session) judge(ctx context.Context, info *jetstream.StreamInfo) error {
	behind := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return (s.origin.mirror || info.Config.Replicas > 1) && s.horizon < info.State.LastSeq
	}
	removed := func() bool { return s.view.removed(info.State.FirstSeq) }
	switch {
	case !info.Created.Equal(s.origin.created): // the consumer is of this one, and what the session knows of the one before
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

func (s *session) quietFor() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.heard)
}
