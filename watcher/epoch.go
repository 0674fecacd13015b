package watcher

import (
	"maps"
	"time"

	"github.com/kvregistry/go/tenant"
)

// Revision is a revision of the bucket in one of its lives. A bucket that is deleted and created
// again, or that lost its last writes, begins a life in which revisions start over.
type Revision struct {
	Epoch uint64 // counts the lives as the view noticed them, from 0
	Seq   uint64 // the sequence in the stream
}

// Before reports whether r is older than o: it is of an earlier life, or lower in the same one.
func (r Revision) Before(o Revision) bool {
	return r.Epoch < o.Epoch || r.Epoch == o.Epoch && r.Seq < o.Seq
}

// Written is the revision of a write that was acknowledged at seq, and begun after r was shown. A
// write that is not above r is of the next life, which the view has not noticed yet.
func (r Revision) Written(seq uint64) Revision {
	if seq <= r.Seq {
		r.Epoch++
	}
	return Revision{r.Epoch, seq}
}

// deposed is how long a leader that was cut off may take itself for the leader: 20 s, and a margin.
const deposed = 25 * time.Second

// spell is how long something has been found again and again.
type spell struct{ since, last time.Time }

// longer notes that it was found now, and reports whether that has gone on for longer than d.
func (s *spell) longer(d time.Duration) bool {
	now := time.Now()
	if now.Sub(s.last) > settled {
		s.since = now
	}
	s.last = now
	return now.Sub(s.since) > d
}

// restarted reports whether the stream is in another life than the view knows. The caller holds
// v.keys.
func (v *View) restarted(from origin) bool {
	return !v.origin.created.IsZero() && (!from.created.Equal(v.origin.created) || from.precedes(v.origin))
}

// outdated reports whether the stream's leader may be one of before: it has less than the view has
// seen in the same life. A leader that was cut off from the other replicas goes on for a while. If
// that is found for too long, the stream itself has gone back.
func (v *View) outdated(from origin) bool {
	v.keys.Lock()
	defer v.keys.Unlock()
	if from.replicas <= 1 || !from.precedes(v.origin) {
		v.backward = spell{}
		return false
	}
	return !v.backward.longer(deposed)
}

// begins reports whether a snapshot begins a life of the bucket. In the same life, it is not to be
// shown if it has less than what was shown: need is the revision that it lacks, and err wraps
// errBehind if it can never have all. last has the snapshot's last change of each key. The caller
// holds v.keys.
func (v *View) begins(from origin, fs filters, upTo uint64, last map[string]*Change) (reset bool, need uint64, err error) {
	if v.restarted(from) {
		return true, 0, nil
	}
	if need := v.shownUpTo(fs); need > upTo {
		return false, need, nil
	}
	if !v.wentBack(last) {
		return false, 0, nil
	}
	if from.lags() && !v.backward.longer(deposed) {
		return false, 0, errBehind
	}
	return true, 0, nil
}

// shownUpTo is the highest revision that Apply was told of under any of some filters that are wanted.
func (v *View) shownUpTo(fs filters) (rev uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for f := range fs {
		rev = max(rev, v.seen[f])
	}
	return rev
}

// wentBack reports whether a key is at a lower revision than it was shown at: the server lost its
// last writes, as in a power cut, and has written others since. The caller holds v.keys.
func (v *View) wentBack(last map[string]*Change) bool {
	for key, rev := range v.revs {
		if e, ok := last[key]; ok && e.Revision < rev {
			return true
		}
	}
	return false
}

// toldOf is the highest revision that Apply may have been told of under a filter that is new: by
// those that cover it, or that it covers. The caller holds v.mu.
func (v *View) toldOf(f string) (rev uint64) {
	for _, wider := range [...]string{parent(f), root(f), tenant.AllKeys} {
		rev = max(rev, v.seen[wider])
	}
	if isKey(f) {
		return rev
	}
	for other, seen := range v.seen {
		if (filters{f: {}}).covers(other) {
			rev = max(rev, seen)
		}
	}
	return rev
}

// unseen are the filters of which the leader has to say what it has: the view has shown nothing of
// them yet, or distrusts what it saw. It raises rev to what was told of all of them. If the view
// distrusts itself, it raises rev to what the leader had: one of before may answer what comes next.
func (v *View) unseen(from origin, fs filters, rev *uint64) filters {
	v.keys.Lock()
	defer v.keys.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.doubted && !from.mirror {
		*rev = max(*rev, from.last)
	}
	if v.restarted(from) {
		return maps.Clone(fs)
	}
	unseen := filters{}
	for f := range fs {
		*rev = max(*rev, v.seen[f])
		if v.doubted || !v.applied.covers(f) {
			unseen[f] = struct{}{}
		}
	}
	return unseen
}
