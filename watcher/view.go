package watcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvregistry/go/internal/bell"
	"github.com/kvregistry/go/tenant"
)

// soonTime is how long WatchSoon gathers keys.
const soonTime = 375 * time.Millisecond

// View is a watch of a set of keys. Its methods may be called by any number of goroutines, but not
// from Apply.
//
// Locks are taken in this order: session.mu, keysMu, stateMu.
type View struct {
	bucket *tenant.Bucket
	cfg    Config

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	widen  chan struct{} // a filter was added or taken back; holds one
	narrow atomic.Bool   // a filter was taken back that the consumer still has
	again  chan struct{} // asks to read everything again; holds one

	keysMu   sync.Mutex        // guards what follows; held while Apply runs
	revs     map[string]uint64 // the revision of each key that has a value; 0 to tell of it again
	shown    filters           // what is shown, from when it is being applied
	epoch    uint64            // the life of the bucket that is shown
	source   source            // that the last whole snapshot is of
	last     uint64            // the highest known revision of that life
	backward spell             // what was read had less than was shown
	joined   map[string]uint64 // up to which revision each added filter was read

	stateMu sync.Mutex        // guards what follows
	wanted  filters           // what was asked for
	added   filters           // those of them that no session reads yet
	applied filters           // what is shown, from when it was applied
	seen    map[string]uint64 // the highest revision that was told under each filter that is wanted
	doubted bool              // the last session read a replica that lags
	strayed bool              // the log says that the mirror is of a bucket that is no more
	failure error             // why there is no session; nil while there is one
	told    bool              // the log says that there is none
	advance bell.Broadcast    // applied grew, or failure is another
	ends    map[string]uint64 // how many sessions ended, by cause

	toldGone bool // the log says that the bucket is gone; of run's goroutine
	born     time.Time
	heard    atomic.Int64 // when the view was last current, in nanoseconds since born
}

// New makes a view. [View.Start] starts it, and [View.Close] ends it. Filters may be added before
// and after.
func New(b *tenant.Bucket, cfg Config) *View {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Check = cmp.Or(cfg.Check, checkTime)
	cfg.Patience = cmp.Or(cfg.Patience, patience)
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, heartbeat)
	v := &View{
		bucket: b, cfg: cfg, born: time.Now(), widen: make(chan struct{}, 1),
		again: make(chan struct{}, 1),
		revs:  map[string]uint64{}, shown: filters{},
		wanted: filters{}, added: filters{}, applied: filters{}, seen: map[string]uint64{},
		ends: map[string]uint64{},
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	return v
}

// Read reads the keys under a filter once. When it returns, Apply runs no more. The errors are
// those of [View.Wait].
func Read(ctx context.Context, b *tenant.Bucket, filter string, cfg Config) error {
	v := New(b, cfg)
	v.Watch(filter)
	v.Start()
	defer v.Close()
	return v.Wait(ctx, filter)
}

// Start starts the view. It reads once there is a filter.
func (v *View) Start() {
	v.wg.Go(v.run) // ends with v.ctx; Close waits
}

// Close stops the view and deletes its consumer. When it returns, Apply runs no more.
func (v *View) Close() {
	v.cancel()
	v.wg.Wait()
}

// Watch adds a filter: a key, "<parent>.*", "<root>.>" or [tenant.AllKeys]. It does not wait. The
// filter is read after the snapshot that is being read, together with others that came meanwhile.
func (v *View) Watch(filter string) {
	if _, _, covered := v.add(filter); !covered {
		bell.Ring(v.widen)
	}
}

// WatchSoon adds a key for a caller that is about to write it. Keys that are added within a moment
// are read together. If the consumer is sent the key already, nothing is read: what the key held
// before is shown with the next whole snapshot.
func (v *View) WatchSoon(key string) {
	switch first, waiting, covered := v.add(key); {
	case first:
		bell.Ring(v.widen) // no session is there to read it later
	case !covered && !waiting: // another that waits rings
		time.AfterFunc(soonTime, func() { bell.Ring(v.widen) })
	}
}

// add adds a filter. It reports whether the filter is the first one, whether others wait to be
// read, and whether another covers it.
func (v *View) add(filter string) (first, waiting, covered bool) {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
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

// Unwatch takes a filter back. Apply is told that its keys are gone: each is a purge with revision
// 0. The server stops sending their changes soon, or with the next session if the filter is a key;
// until then the view drops them.
func (v *View) Unwatch(filter string) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	v.apply(v.unwatch(filter), nil)
	if !isKey(filter) {
		v.narrow.Store(true)
		bell.Ring(v.widen)
	}
}

// unwatch takes a filter back, and returns the ends of its keys. The caller holds v.keysMu.
func (v *View) unwatch(filter string) (gone []Change) {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	delete(v.wanted, filter)
	delete(v.seen, filter)
	delete(v.joined, filter) // it may be read again
	if !isKey(filter) {
		v.splitOff(filter)
	}
	for _, fs := range []filters{v.shown, v.added, v.applied} {
		delete(fs, filter)
	}
	if v.wanted.covers(filter) {
		return nil
	}
	for _, key := range v.under(filter) {
		if !v.wanted.covers(key) {
			gone = append(gone, Change{Key: key, Op: tenant.Purge})
		}
	}
	return gone
}

// splitOff makes the filters that another one covers go on without it: as what is shown, or as what
// is to be read. The caller holds v.keysMu and v.stateMu.
func (v *View) splitOff(filter string) {
	for f := range v.wanted {
		if !(filters{filter: {}}).covers(f) {
			continue
		}
		for _, fs := range []filters{v.shown, v.applied} {
			if fs.covers(f) {
				fs[f] = struct{}{}
			}
		}
		if !v.shown.covers(f) {
			v.added[f] = struct{}{}
		}
	}
}

// under returns the known keys of a filter. The caller holds v.keysMu.
func (v *View) under(filter string) (keys []string) {
	if isKey(filter) {
		if _, known := v.revs[filter]; known {
			keys = append(keys, filter)
		}
		return keys
	}
	for key := range v.revs {
		if (filters{filter: {}}).covers(key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Wait returns when a complete snapshot with the filter's keys has been applied. If ctx ends first,
// the error wraps the error of ctx and says what keeps the view from reading. If the server refused
// to let the view read in the last [tenant.RefusedTime], Wait does not wait: the error wraps
// [tenant.ErrPermission].
func (v *View) Wait(ctx context.Context, filter string) error {
	for {
		v.stateMu.Lock()
		applied, advance, failure := v.applied.covers(filter), v.advance.Next(), v.failure
		v.stateMu.Unlock()
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
			if failure := v.Failure(); failure != nil {
				return fmt.Errorf("watcher: %w before the first snapshot: %w", ctx.Err(), failure)
			}
			return fmt.Errorf("watcher: %w",
				v.bucket.Blame(fmt.Errorf("%w before the first snapshot", ctx.Err())))
		}
	}
}

// Lacks reports whether a key that is shown has no value.
func (v *View) Lacks(key string) bool {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	_, has := v.revs[key]
	return !has && v.shown.covers(key)
}

// ReadAgain makes the view read all that is watched once more, while changes go on.
func (v *View) ReadAgain() { bell.Ring(v.again) }

// Heard returns when, by this process's clock, the server last confirmed that the view is current:
// no longer ago than a heartbeat in quiet times. It is zero before the first snapshot.
func (v *View) Heard() time.Time {
	if ns := v.heard.Load(); ns != 0 {
		return v.born.Add(time.Duration(ns))
	}
	return time.Time{}
}

// confirm notes that the view was current at a time; zero is none.
func (v *View) confirm(at time.Time) {
	if at.IsZero() {
		return
	}
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	// a mirror may have heard before v was born
	if ns, old := int64(at.Sub(v.born)), v.heard.Load(); old == 0 || ns > old {
		v.heard.Store(cmp.Or(ns, 1))
	}
}

// Failure returns why there is no session, as far as is known; nil while there is one.
func (v *View) Failure() error {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	return v.failure
}

// Resyncs returns how many sessions ended for another reason than a filter more.
func (v *View) Resyncs() (n uint64) {
	for _, ended := range v.Ends() {
		n += ended
	}
	return n
}

// Ends returns how many sessions ended so far, by cause, except for a filter more. The causes are a
// few fixed words.
func (v *View) Ends() map[string]uint64 {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	return maps.Clone(v.ends)
}

// want returns what is wanted now, for a session that is made for it.
func (v *View) want() filters {
	_, wanted := v.takeAdded()
	return wanted
}

// takeAdded returns the filters that no session reads yet, and all that are wanted.
func (v *View) takeAdded() (added, wanted filters) {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	added = maps.Clone(v.added)
	clear(v.added)
	return added, maps.Clone(v.wanted)
}

// covered reports whether a session that is sent some filters has all that is wanted.
func (v *View) covered(reads filters) bool {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	for f := range v.added {
		if !isKey(f) || !reads.covers(f) {
			return false
		}
	}
	clear(v.added)
	return true
}

// wants reports whether a key is under a filter that is wanted.
func (v *View) wants(key string) bool {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	return v.wanted.covers(key)
}

// isFilter reports whether a key is a filter itself.
func (v *View) isFilter(key string) bool {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	_, ok := v.wanted[key]
	return ok
}

// distrust makes the next session need what the leader has, and not only what the view has seen.
func (v *View) distrust() {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	v.doubted = true
}
