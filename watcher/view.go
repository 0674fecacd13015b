package watcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/backoff"
	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
)

const (
	heartbeat = 750 * time.Millisecond // how often an idle consumer says that it is there
	patience  = 15 * time.Second       // how long an answer may take on a connection that is busy
	startTime = time.Second            // bounds what it takes to make a consumer; one that is placed on a lost server is never made
	lagTime   = 2 * time.Second        // after which a replica that lags behind is left for another
	lagLook   = 500 * time.Millisecond // between two looks at whether it still does
	asked     = 32                     // filters whose last revision is asked for one by one
	soonTime  = 375 * time.Millisecond // how long WatchSoon gathers keys
	settled   = 5 * time.Second        // a session that lasted this long was a good one: back-off starts over
	batchMost = 256                    // changes passed on at once
	filterMax = 256                    // filters of one consumer
)

// silence is how long a server may say nothing before its consumer is in doubt.
func silence(heartbeat time.Duration) time.Duration { return 2*heartbeat + heartbeat/4 }

// Change is what happened to a key. A key that is gone without a trace (its tombstone has ended, or
// the bucket was made anew) is a [tenant.Purge] with revision 0.
type Change struct {
	Key      string
	Value    []byte // of a put
	Revision uint64
	Epoch    uint64 // the life of the bucket that the revision is of; see [Revision]
	Op       tenant.Op
	TTL      time.Duration // that the message gives the key, in a view that follows; 0 if it gives none
	If       *uint64       // the revision that its write was to go on top of, in a view that follows; nil if it named none
	Long     int           // how many bytes the value has, where it has more than Config.MaxValue and is left out
	Read     any           // what Config.Read made of the value, which is left out then
	Over     bool          // there was no room for it: Config.MaxBytes
}

// Measured is what Config.Read may return, so that the view knows what it is worth and what it
// takes.
type Measured interface {
	Bytes() int // in memory
	Junk() bool // it is worth nothing, unless it took the place of something
}

const (
	changeBytes = 300 // of a change without its key and its value, in a snapshot that is read
	junkMost    = 16  // changes of a snapshot that are junk and are passed on, as examples
)

// bytes is about what a change takes in a snapshot that is read.
func (c *Change) bytes() int {
	n := changeBytes + 2*len(c.Key) + len(c.Value)
	if m, ok := c.Read.(Measured); ok {
		n += m.Bytes()
	}
	return n
}

// junk reports whether Read says that a change is worth nothing.
func (c *Change) junk() bool {
	m, ok := c.Read.(Measured)
	return ok && m.Junk()
}

// Snapshot goes with the changes that a whole snapshot brought.
type Snapshot struct {
	UpTo  uint64 // it holds every change up to this revision
	Epoch uint64 // the life of the bucket that it is of; see [Revision]
	Reset bool   // the life is another than before: revisions started over
	Part  bool   // it is of filters that were added, and says nothing of other keys
	Junk  int    // keys with junk that were not passed on, and were not counted by an earlier snapshot
	Over  int    // keys that were not passed on, for want of room; the next whole snapshot has them again
}

// Config says what a view does with what it sees. Apply is needed, the rest may be left out.
type Config struct {
	// Apply is called for changes, in order and by one goroutine at a time; it must not block. With a
	// snapshot it is called also when nothing changed; otherwise snapshot is nil.
	Apply func(changes []Change, snapshot *Snapshot)
	// Read makes of a put what Apply wants to know of it, while others are on their way: a snapshot is applied as a whole, when all of it has come.
	// It must not keep the value. It is not called for what the view knows already. It may be
	// called for several changes at a time. May be nil.
	Read func(Change) any
	// Missing is called when the bucket is not there; where it makes the bucket, the view goes on at once.
	Missing func(context.Context) error
	// Follow says that the view is a reaper's: its consumers are named so, a mirror is not read
	// however near it is, Apply is told of the end of a key also if the view never saw the key's
	// value, and Read is called for each value.
	Follow bool
	// Heartbeat is how often an idle consumer says that it is there; a consumer that falls silent
	// is noticed after 2.25 of these. 750 ms if it is 0.
	Heartbeat time.Duration
	// Patience is how long an answer may take on a connection that is busy with other traffic
	// before the connection is in doubt. 15 s if it is 0.
	Patience time.Duration
	// MaxValue is the longest value that is kept, in bytes: of one that is longer nothing is, from when it is received. 0 is no bound.
	MaxValue int
	// MaxBytes is about what the changes of a snapshot may take in memory while it is read. Of
	// those that don't fit, only the known keys are passed on. 0 is no bound.
	MaxBytes int
	// Check is the time between two looks at whether keys were removed without a message, as by a purge of the stream by
	// hand: one request each. 15 s where it is 0.
	Check  time.Duration
	Logger *slog.Logger
}

// View is a watch of a set of keys. Its methods may be called by any number of goroutines, but not from
// Apply, except [View.Has] and [View.Shows], which are for it.
type View struct {
	bucket    *tenant.Bucket
	cfg       Config
	heartbeat time.Duration

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	widen  chan struct{} // a filter was added; holds one
	soon   chan struct{} // one was added that can wait for soonTime; holds one
	again  chan struct{} // all is to be read again; holds one

	mu       sync.Mutex        // guards what follows, up to leftover
	wanted   filters           // what was asked for
	added    filters           // those of them that came since the session was made, and that no other covers
	shown    filters           // what the last complete snapshot covers, from when it is being applied
	applied  filters           // what it covers once it was applied: what Wait waits for
	doubted  bool              // the last session read a replica that lags: the next asks the leader what it needs
	seen     map[string]uint64 // the highest revision that was seen under each filter
	advance  bell.Broadcast    // applied grew, or failure is another
	strayed  bool              // the log says that the mirror is of a bucket that is no more
	failure  error             // why there is no session; nil while there is one
	told     bool              // the log says that there is none
	leftover []*tenant.Feed    // whose consumers could not be deleted while the connection was down

	keys     sync.Mutex        // guards what follows, up to joined; held while Apply runs
	revs     map[string]uint64 // the revision of each key that has a value
	epoch    uint64            // the life of the bucket that is shown
	origin   origin
	backward spell             // what was read had less than the view knows of
	joined   map[string]uint64 // filters that were added to the session, and up to which revision each was read

	born    time.Time
	heard   atomic.Int64 // nanoseconds since born: the last word of the server in a complete session
	resyncs atomic.Uint64
}

// New makes a view. [View.Start] starts it, and [View.Close] ends it; filters may be added before and after.
func New(b *tenant.Bucket, cfg Config) *View {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Check = cmp.Or(cfg.Check, 15*time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, patience)
	v := &View{
		bucket: b, cfg: cfg, heartbeat: cmp.Or(cfg.Heartbeat, heartbeat), born: time.Now(),
		widen: make(chan struct{}, 1), soon: make(chan struct{}, 1), again: make(chan struct{}, 1),
		wanted: filters{}, added: filters{}, shown: filters{}, applied: filters{}, seen: map[string]uint64{}, revs: map[string]uint64{},
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v
}

// Read reads the keys under a filter once. When it returns, cfg.Apply runs no more. The error is that of
// [View.Wait].
func Read(ctx context.Context, b *tenant.Bucket, filter string, cfg Config) error {
	v := New(b, cfg)
	v.Watch(filter)
	v.Start()
	defer v.Close()
	return v.Wait(ctx, filter)
}

// Start begins to watch, once there is a filter.
func (v *View) Start() {
	v.wg.Go(v.run) // ends with v.ctx; Close waits
}

// Close stops the watch and deletes its consumers. When it returns, Apply runs no more.
func (v *View) Close() {
	v.cancel()
	v.wg.Wait()
	v.deleteLeftovers()
	v.wg.Wait()
}

// Watch adds a filter: a key, "<parent>.*", "<root>.>" or [tenant.AllKeys]. It does not wait. The
// filter is read as soon as the consumer's own snapshot has been, together with others that came
// meanwhile.
func (v *View) Watch(filter string) {
	if _, _, covered := v.add(filter); !covered {
		bell.Ring(v.widen)
	}
}

// WatchSoon adds a key for a caller that is about to write it. Keys that are added within a moment
// are read together. If the consumer reads the key already, as one of many filters does, nothing is
// read: what the key held before is shown with the next whole snapshot.
func (v *View) WatchSoon(key string) {
	switch first, waiting, covered := v.add(key); {
	case first:
		bell.Ring(v.widen) // there is no session to look for it
	case !covered && !waiting: // another that waits has rung
		bell.Ring(v.soon)
	}
}

// name is how the names of the view's consumers begin.
func (v *View) name() string {
	if v.cfg.Follow {
		return "reaper-"
	}
	return "view-"
}

// add adds a filter, and reports whether it is the first one at all, whether others wait for the
// next consumer, and whether another covers it.
func (v *View) add(filter string) (first, waiting, covered bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	first, waiting, covered = len(v.wanted) == 0, len(v.added) > 0, v.wanted.covers(filter)
	v.wanted[filter] = struct{}{}
	if !covered {
		v.added[filter] = struct{}{}
	}
	if _, ok := v.seen[filter]; !ok {
		v.seen[filter] = v.toldOf(filter)
	}
	return first, waiting, covered
}

// Unwatch takes a filter back. Its keys are gone as far as Apply is told: each is a purge with revision 0. The server
// goes on sending their changes until the consumer is next made anew; they are dropped.
func (v *View) Unwatch(filter string) {
	v.keys.Lock()
	defer v.keys.Unlock()
	v.mu.Lock()
	for _, fs := range []filters{v.wanted, v.added, v.shown, v.applied} {
		delete(fs, filter)
	}
	delete(v.seen, filter)
	var gone []Change
	for _, key := range v.under(filter) {
		if !v.wanted.covers(key) {
			gone = append(gone, Change{Key: key, Op: tenant.Purge})
		}
	}
	v.mu.Unlock()
	v.apply(gone, nil)
}

// under are the known keys of a filter. The caller holds v.keys.
func (v *View) under(filter string) (keys []string) {
	if _, known := v.revs[filter]; known { // it is a key itself
		return []string{filter}
	}
	if isKey(filter) {
		return nil
	}
	for key := range v.revs {
		if (filters{filter: {}}).covers(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Wait returns when a complete snapshot with the filter's keys has been applied. Where ctx ends first, the
// error wraps its error and says what keeps the view from reading. Where the server did not let it read in the last [tenant.RefusedTime], it does not wait: the error
// wraps [tenant.ErrPermission].
func (v *View) Wait(ctx context.Context, filter string) error {
	for {
		v.mu.Lock()
		applied, advance, failure := v.applied.covers(filter), v.advance.Next(), v.failure
		v.mu.Unlock()
		switch {
		case applied:
			return nil
		case errors.Is(failure, tenant.ErrPermission):
			return fmt.Errorf("watcher: %w", failure)
		}
		select {
		case <-advance:
		case <-v.ctx.Done():
			return fmt.Errorf("watcher: the view is closed: %w", v.ctx.Err())
		case <-ctx.Done():
			v.mu.Lock()
			defer v.mu.Unlock()
			if v.failure != nil {
				return fmt.Errorf("watcher: %w before the first snapshot: %w", ctx.Err(), v.failure)
			}
			return fmt.Errorf("watcher: %w", v.bucket.Blame(fmt.Errorf("%w before the first snapshot", ctx.Err())))
		}
	}
}

// Shows reports whether a complete snapshot with the filter's keys has been applied, or is being applied.
func (v *View) Shows(filter string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.shown.covers(filter)
}

// Has reports whether a key has a value. It is for Apply, which it may be called from alone.
func (v *View) Has(key string) bool {
	_, ok := v.revs[key]
	return ok
}

// Lacks reports whether a key has no value, as far as a complete snapshot that covers it and what came since say. It is not for Apply.
func (v *View) Lacks(key string) bool {
	v.keys.Lock()
	defer v.keys.Unlock()
	return !v.Has(key) && v.Shows(key)
}

// at is the revision at which a key was seen that has a value.
func (v *View) at(key string) (rev uint64, known bool) {
	v.keys.Lock()
	defer v.keys.Unlock()
	rev, known = v.revs[key]
	return rev, known
}

// Forget has nothing of a key kept, unless it is a filter itself. What it holds is told again by
// the next whole snapshot, unless that is junk. It is for Apply, which it may be called from alone.
func (v *View) Forget(key string) {
	if !v.isFilter(key) {
		delete(v.revs, key)
	}
}

// ReadAgain has all that is watched read again, once, beside whatever comes meanwhile.
func (v *View) ReadAgain() { bell.Ring(v.again) }

// Again has the next whole snapshot tell of a known key again, of which Apply could not take what
// it was told. It is for Apply, which it may be called from alone.
func (v *View) Again(key string) {
	if _, known := v.revs[key]; known {
		v.revs[key] = 0
	}
}

// Heard is when, by this process's clock, the server last confirmed that the view is current: no
// longer ago than an idle heartbeat in quiet times. It is zero before the first snapshot.
func (v *View) Heard() time.Time {
	if ns := v.heard.Load(); ns != 0 {
		return v.born.Add(time.Duration(ns))
	}
	return time.Time{}
}

// Failure is why there is no session, as far as is known; nil while there is one.
func (v *View) Failure() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failure
}

// Resyncs is how many sessions ended other than by a filter more.
func (v *View) Resyncs() uint64 { return v.resyncs.Load() }

// run makes one session after the other.
func (v *View) run() {
	up, stop := v.bucket.Reconnected()
	defer stop()
	level := 0
	gone := false // the log says that the bucket is
	for v.awaitWork() == nil {
		for len(up) > 0 { // this session starts on the connection as it is now
			<-up
		}
		began := time.Now()
		s := v.newSession(v.want())
		err := s.start(v.ctx, startTime<<min(level, 1), nil) // longer if the server may be far away
		if err == nil {
			gone = false
			v.deleteLeftovers()
			err = s.run(v.ctx, up)
		}
		if v.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errFilters) || errors.Is(err, errNearer) {
			continue
		}
		v.resyncs.Add(1)
		why := err
		if errors.Is(err, tenant.ErrBucketNotFound) && v.cfg.Missing != nil {
			if missing := v.cfg.Missing(v.ctx); missing == nil {
				level = min(level, 1)
			} else if errors.Is(missing, tenant.ErrPermission) {
				why = missing // which says what to do
			}
		}
		v.report(why)
		if why != err && !gone {
			gone = true
			v.cfg.Logger.Warn("kvregistry: the bucket is gone, and this user may not make it again", "cause", why)
		}
		if errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) {
			if v.bucket.Revive(v.ctx, startTime/2) {
				v.cfg.Logger.Warn("kvregistry: the connection did not answer, connecting again", "cause", err)
			}
		}
		if time.Since(began) > settled {
			level = 0
		}
		if errors.Is(err, tenant.ErrPermission) {
			_ = backoff.SleepOr(v.ctx, backoff.Jitter(tenant.RefusedTime), up) // or until another connection may have other permissions
			v.report(errAgain)
			continue
		}
		_ = backoff.Sleep(v.ctx, sessionCurve.Within(level))
		level++
	}
}

// awaitWork returns when there is something to watch and a connection to do it on.
func (v *View) awaitWork() error {
	for {
		v.mu.Lock()
		idle := len(v.wanted) == 0
		v.mu.Unlock()
		if !idle {
			return v.bucket.AwaitConnected(v.ctx)
		}
		select {
		case <-v.ctx.Done():
			return v.ctx.Err()
		case <-v.widen:
		}
	}
}

// sessionCurve is the longest time between two sessions. Many views may have lost the same server,
// and do not come back at once.
var sessionCurve = backoff.Curve{Least: 20 * time.Millisecond, Most: time.Second}

// distrust has the next session need what the leader has, and not only what the view has seen.
func (v *View) distrust() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doubted = true
}

// report logs the first failure after a good session, and keeps it for who waits.
func (v *View) report(err error) {
	if errors.Is(err, errSilent) {
		err = v.bucket.Blame(err)
	}
	v.mu.Lock()
	down := errors.Is(err, errDown) || errors.Is(err, errRenewed) || !v.bucket.Connected()
	first := !v.told && !down // of the connection its owner knows, and says so
	v.told = v.told || first
	v.failure = err
	v.advance.Send() // whoever waits may do so in vain
	v.mu.Unlock()
	if first {
		v.cfg.Logger.Info("kvregistry: look-ups answer from memory, the bucket is being read again", "cause", err)
	}
}

// want is what is wanted now, for a session that is made for it.
func (v *View) want() filters {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.added)
	return maps.Clone(v.wanted)
}

// takeAdded is what was added since the session was made, and all that is wanted now.
func (v *View) takeAdded() (added, wanted filters) {
	v.mu.Lock()
	defer v.mu.Unlock()
	added = maps.Clone(v.added)
	clear(v.added)
	return added, maps.Clone(v.wanted)
}

// reads is what a consumer is sent for some filters: those, or what covers them if they are too
// many for one consumer, or for one message on this connection.
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

// covered reports whether the session, which reads so much, has all that is wanted by now.
func (v *View) covered(reads filters) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for f := range v.added {
		if !isKey(f) || !reads.covers(f) {
			return false
		}
	}
	clear(v.added)
	return true
}

// need is the revision up to which a consumer must have looked before its snapshot is shown. If
// there are replicas it reads one of them, which may lag behind: what the view showed stays shown,
// and a filter that is new shows whatever was acknowledged before.
func (v *View) need(ctx context.Context, from origin, fs filters) (rev uint64, err error) {
	if !from.lags() {
		return 0, nil
	}
	last, err := lastOf(ctx, v.unseen(from, fs, &rev), v.bucket.Last)
	return max(rev, last), err
}

// lastOf is the revision of the last change under some filters, as last knows it. It asks for all at once: a hub may be far away.
func lastOf(ctx context.Context, fs filters, last func(context.Context, string) (tenant.Entry, error)) (rev uint64, err error) {
	var mu sync.Mutex // guards rev and err
	var wg sync.WaitGroup
	for _, f := range fs.reduced(asked) {
		wg.Go(func() { // ends with ctx
			e, failure := last(ctx, f)
			mu.Lock()
			defer mu.Unlock()
			rev, err = max(rev, e.Revision), cmp.Or(err, failure)
		})
	}
	wg.Wait()
	return rev, err
}

// replace applies a complete snapshot, which holds every change up to a revision: what differs from
// what the view held, and nothing else. If the snapshot lacks what was shown, it applies nothing, and
// returns the revision that is needed, or errBehind.
func (v *View) replace(fs filters, from origin, snapshot Snapshot, entries []Change) (need uint64, err error) {
	v.keys.Lock()
	defer v.keys.Unlock()
	last := make(map[string]*Change, len(entries))
	for i := range entries { // a key may be there twice, where it changed while it was read
		last[entries[i].Key] = &entries[i]
	}
	reset, need, err := v.begins(from, fs, snapshot.UpTo, last)
	if need > 0 || err != nil {
		return need, err
	}
	if reset {
		v.epoch++
		for key := range v.revs {
			v.revs[key] = 0
		}
	}
	v.origin, v.joined, v.backward = from, nil, spell{}
	changes := v.gone(last)
	changes = slices.Grow(changes, len(entries))
	for i := range entries {
		e := &entries[i]
		if last[e.Key] != e {
			continue
		}
		if _, known := v.revs[e.Key]; e.Op == tenant.Put || !known {
			changes = append(changes, *e)
		}
	}
	v.note(changes, reset, snapshot.UpTo)
	if len(v.revs) == 0 {
		v.revs = make(map[string]uint64, len(changes))
	}
	if !from.mirror {
		v.confirm(time.Now())
	}
	v.show(fs)
	snapshot.Reset = reset
	v.apply(changes, &snapshot)
	v.advanced()
	return 0, nil
}

// join applies a complete snapshot of filters that were added to a session, which holds every
// change of them up to a revision. If the session has come further under them, it applies nothing
// and returns that revision: keys that ended meanwhile would come back.
func (v *View) join(fs filters, snapshot Snapshot, entries []Change) (need uint64) {
	upTo := snapshot.UpTo
	v.keys.Lock()
	defer v.keys.Unlock()
	if need = v.shownUpTo(fs); need > upTo {
		return need
	}
	v.mu.Lock()
	for f := range fs {
		if v.wanted.covers(f) { // not taken back meanwhile
			v.shown[f] = struct{}{}
		}
	}
	v.mu.Unlock()
	v.note(entries, false, 0)
	snapshot.Part = true
	v.apply(entries, &snapshot)
	if v.joined == nil {
		v.joined = map[string]uint64{}
	}
	for f := range fs {
		v.joined[f] = upTo
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.applied = maps.Clone(v.shown)
	v.advance.Send()
	return need
}

// outdates reports whether a snapshot that was joined has said since that a key, of which the
// session tells, is gone. The caller holds v.keys.
func (v *View) outdates(c *Change) bool {
	if len(v.joined) == 0 {
		return false
	}
	for _, f := range [...]string{c.Key, parent(c.Key), root(c.Key), tenant.AllKeys} {
		if c.Revision <= v.joined[f] {
			return true
		}
	}
	return false
}

// gone are the ends, in order, of the known keys that have no value in a snapshot, of which last
// has the last change of each key. The caller holds v.keys.
func (v *View) gone(last map[string]*Change) (gone []Change) {
	for key := range v.revs {
		if e, ok := last[key]; !ok {
			gone = append(gone, Change{Key: key, Op: tenant.Purge})
		} else if e.Op != tenant.Put {
			gone = append(gone, *e)
		}
	}
	slices.SortFunc(gone, func(a, b Change) int { return cmp.Compare(a.Revision, b.Revision) })
	return gone
}

// change applies changes as they come.
func (v *View) change(changes []Change) {
	v.keys.Lock()
	defer v.keys.Unlock()
	v.note(changes, false, 0)
	v.apply(changes, nil)
	last := changes[len(changes)-1].Revision // they come in order
	maps.DeleteFunc(v.joined, func(_ string, upTo uint64) bool { return upTo < last })
}

// note keeps the highest revision that was told under each filter, from the start again if revisions
// started over. A key that a snapshot has no trace of went by what the snapshot holds, up to upTo.
func (v *View) note(changes []Change, reset bool, upTo uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if reset {
		clear(v.seen)
	}
	siblings := map[string]uint64{} // the highest of those that have all but the last token in common
	for i := range changes {
		key, rev := changes[i].Key, cmp.Or(changes[i].Revision, upTo)
		v.noteUnder(key, rev)
		common := key[:strings.LastIndexByte(key, '.')+1]
		siblings[common] = max(siblings[common], rev)
	}
	for common, rev := range siblings {
		for _, f := range [...]string{parent(common), root(common), tenant.AllKeys} {
			v.noteUnder(f, rev)
		}
	}
}

// noteUnder is note for one filter. The caller holds v.mu.
func (v *View) noteUnder(f string, rev uint64) {
	if _, ok := v.wanted[f]; ok {
		v.seen[f] = max(v.seen[f], rev)
	}
}

// apply drops what the view knows already, and passes the rest on. The caller holds v.keys.
func (v *View) apply(changes []Change, snapshot *Snapshot) {
	news := changes[:0]
	for _, c := range changes {
		c.Epoch = v.epoch
		rev, known := v.revs[c.Key]
		switch {
		case known && c.Revision != 0 && c.Revision <= rev:
		case !known && c.Op != tenant.Put && !v.cfg.Follow:
		case c.Op != tenant.Put:
			delete(v.revs, c.Key)
			news = append(news, c)
		case !known && v.outdates(&c):
		case v.wants(c.Key):
			v.revs[c.Key] = c.Revision
			news = append(news, c)
		}
		v.origin.last = max(v.origin.last, c.Revision)
	}
	if snapshot != nil {
		snapshot.Epoch = v.epoch
	}
	if len(news) > 0 || snapshot != nil {
		v.cfg.Apply(news, snapshot)
	}
}

func (v *View) wants(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.wanted.covers(key)
}

// isFilter reports whether a key is a filter itself.
func (v *View) isFilter(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.wanted[key]
	return ok
}

// toldUpTo is the revision up to which Apply was told what a stream held under the filters that
// were read.
func (v *View) toldUpTo(from origin) uint64 {
	v.keys.Lock()
	defer v.keys.Unlock()
	if v.restarted(from) {
		return 0
	}
	return v.origin.last
}

// hasRead reports whether a complete snapshot with a key has been applied.
func (v *View) hasRead(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.applied.covers(key)
}

// lacks reports whether a key that the view knows is missing.
func (v *View) lacks(keys map[string]struct{}) bool {
	v.keys.Lock()
	defer v.keys.Unlock()
	for key := range v.revs {
		if _, ok := keys[key]; !ok {
			return true
		}
	}
	return false
}

// removed reports whether the view holds keys whose messages are below a stream's first revision: the last message of a
// key that has a value is never below it, unless it was removed without a word.
func (v *View) removed(first uint64) bool {
	v.keys.Lock()
	defer v.keys.Unlock()
	for _, rev := range v.revs {
		if rev > 0 && rev < first {
			return true
		}
	}
	return false
}

// confirm notes that the view was current at a time; zero is none.
func (v *View) confirm(at time.Time) {
	ns := int64(at.Sub(v.born))
	if at.IsZero() {
		return
	}
	for old := v.heard.Load(); (old == 0 || ns > old) && !v.heard.CompareAndSwap(old, cmp.Or(ns, 1)); old = v.heard.Load() {
	}
}

// knows reports whether the view has seen no other bucket than the one that was made at a time.
func (v *View) knows(created time.Time) bool {
	v.keys.Lock()
	defer v.keys.Unlock()
	return v.origin.created.IsZero() || v.origin.created.Equal(created)
}

// usable reports whether a mirror may be read in place of the leader, which was asked after it. One that is ahead of its leader has what the hub lost.
func (v *View) usable(mirror *tenant.Mirror, leader tenant.State) bool {
	if mirror == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	strayed := !mirror.Of.Equal(leader.Created) || mirror.Last > leader.Last
	if strayed && !v.strayed {
		v.log(slog.LevelWarn, "kvregistry: the mirror is of a bucket that is no more, reading from the hub; make it anew")
	}
	v.strayed = strayed
	return !strayed && !v.doubted && mirror.Fresh()
}

// show notes what a complete snapshot covers.
func (v *View) show(fs filters) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shown = maps.Clone(fs)
	maps.DeleteFunc(v.shown, func(f string, _ struct{}) bool { return !v.wanted.covers(f) }) // taken back meanwhile
}

// log logs a line while locks are held: a handler may call back.
func (v *View) log(level slog.Level, line string) {
	v.wg.Go(func() { v.cfg.Logger.Log(context.WithoutCancel(v.ctx), level, line) })
}

// advanced wakes who waits for a snapshot.
func (v *View) advanced() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.told {
		v.log(slog.LevelInfo, "kvregistry: look-ups are current again")
	}
	v.told = false
	v.failure, v.doubted = nil, false
	v.applied = maps.Clone(v.shown)
	v.advance.Send()
}

// forget deletes the consumer of a feed. If that fails, as when the server that has it is down, it
// is tried again with each look at the stream, when a session begins, and by Close.
func (v *View) forget(feed *tenant.Feed) {
	if !v.bucket.Connected() {
		v.leave(feed)
		return
	}
	v.wg.Go(func() { // ends within startTime; Close waits
		ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), startTime)
		defer cancel()
		if feed.Delete(ctx) != nil {
			v.leave(feed)
		}
	})
}

// leave keeps a feed whose consumer is to be deleted. Those that are too many the server ends.
func (v *View) leave(feed *tenant.Feed) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.leftover) < 16 {
		v.leftover = append(v.leftover, feed)
	}
}

func (v *View) deleteLeftovers() {
	v.mu.Lock()
	feeds := v.leftover
	v.leftover = nil
	v.mu.Unlock()
	for _, feed := range feeds {
		v.forget(feed)
	}
}
