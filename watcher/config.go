package watcher

import (
	"context"
	"log/slog"
	"time"

	"github.com/kvregistry/go/tenant"
)

const (
	heartbeat = 750 * time.Millisecond // see Config.Heartbeat
	patience  = 15 * time.Second       // see Config.Patience
	checkTime = 15 * time.Second       // see Config.Check
)

// Change is what happened to a key. A key that is gone without a trace (its tombstone has ended, or
// the bucket was recreated) is a [tenant.Purge] with revision 0.
type Change struct {
	Key      string
	Value    []byte // of a put; nil if Config.Read read it, or if it is too long
	Revision uint64
	Epoch    uint64 // the life of the bucket that the revision is of, counted from 0
	Op       tenant.Op
	TTL      time.Duration // that the message gives the key, or 0; only in a view that follows
	If       *uint64       // the revision that the write names, or nil; only in a view that follows
	Long     int           // the bytes of a value that is longer than Config.MaxValue
	Read     any           // what Config.Read made of the value
	Over     bool          // the value was left out, because of Config.MaxBytes

	// Apply may set the rest.
	Again  bool // the next whole snapshot tells of the key again: Apply could not take the change
	Forget bool // nothing of the key is kept, unless the key is a filter itself
}

// Measured is what Config.Read may return, so that the view knows what the value is worth and what
// memory it takes.
type Measured interface {
	Bytes() int // in memory
	Junk() bool // it is worth nothing, unless it took the place of something
}

const (
	changeBytes = 300 // the memory of a change without its key and its value
	junkMost    = 16  // changes of a snapshot that are junk and are passed on, as examples
)

// bytes is about what a change takes in memory.
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
	Epoch uint64 // the life of the bucket that it is of
	Reset bool   // the life is another than before: revisions started over
	Part  bool   // it is of filters that were added, and says nothing of other keys
	Junk  int    // keys with junk that were not passed on, and were not counted before
	Over  int    // keys left out because of Config.MaxBytes, until the next whole snapshot

	shown filters
	keys  map[string]uint64
}

// Covers reports whether all keys of a filter are shown. Only Apply may call it.
func (s *Snapshot) Covers(filter string) bool { return s.shown.covers(filter) }

// Has reports whether a key has a value, with the changes that Apply is given. Only Apply may call
// it.
func (s *Snapshot) Has(key string) bool {
	_, ok := s.keys[key]
	return ok
}

// Config says what a view does with what it reads. Apply is needed, the rest may be left out.
type Config struct {
	// Apply is called for changes, in order and by one goroutine at a time. It must not block, and
	// must not call the view. With a snapshot it is called also if nothing changed; otherwise
	// snapshot is nil. If a key is a filter itself, Apply is told of its end as it comes, even if
	// the view never saw a value: a value that is overwritten at once may not come.
	Apply func(changes []Change, snapshot *Snapshot)
	// Read makes of a put what Apply wants to know of it. It is called while the rest of a snapshot
	// is on its way, for several puts at a time, and not for what the view knows already. It must
	// not keep the value.
	Read func(Change) any
	// Missing is called when the bucket is not there. If it creates the bucket, the view goes on at
	// once.
	Missing func(context.Context) error
	// Follow is set by a reaper: its consumers are named so, no mirror is read, Apply is told of
	// the end of a key also if the view never saw a value, and Read is called for each put.
	Follow bool
	// Heartbeat is how often an idle consumer gives a sign of life. A consumer that falls silent is
	// noticed after 2.25 of these. 750 ms if it is 0.
	Heartbeat time.Duration
	// Patience is how long an answer may take on a connection that is busy with other traffic. 15 s
	// if it is 0.
	Patience time.Duration
	// MaxValue is the length of the longest value that is kept, in bytes. 0 is no bound.
	MaxValue int
	// MaxBytes is about what the changes of a snapshot may take in memory while it is read. Of what
	// does not fit, only the known keys are passed on. 0 is no bound.
	MaxBytes int
	// Check is the time between two questions to the leader. They find keys that were removed
	// without a message, and a replica that falls behind. 15 s if it is 0.
	Check  time.Duration
	Logger *slog.Logger
}
