package watcher

import "time"

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

// restarted reports whether a source is of another life than the view shows. The caller holds
// v.keysMu.
func (v *View) restarted(from source) bool {
	return !v.source.created.IsZero() &&
		(!from.created.Equal(v.source.created) || from.leader < v.last)
}

// outdated reports whether the leader may be a former one: it has less than the view has seen in
// the same life. A leader that was cut off from the other replicas goes on for a while. If that is
// found for longer, the bucket itself has gone back.
func (v *View) outdated(from source) bool {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	if from.replicas <= 1 || !from.created.Equal(v.source.created) || from.leader >= v.last {
		v.backward = spell{}
		return false
	}
	return !v.backward.longer(deposed)
}

// begins reports whether a snapshot begins a life of the bucket. In the same life, a snapshot that
// has less than what was shown is not to be shown: need is the revision that it lacks, and err
// wraps errBehind if it can never have all. last has the snapshot's last change of each key. The
// caller holds v.keysMu.
func (v *View) begins(from source, fs filters, upTo uint64,
	last map[string]*Change) (reset bool, need uint64, err error) {
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

// wentBack reports whether a key is at a lower revision than it was shown at: the server lost its
// last writes, as in a power cut, and has written others since. The caller holds v.keysMu.
func (v *View) wentBack(last map[string]*Change) bool {
	for key, rev := range v.revs {
		if e, ok := last[key]; ok && e.Revision < rev {
			return true
		}
	}
	return false
}

// begin begins a life of the bucket, of which nothing was told. The caller holds v.keysMu.
func (v *View) begin() {
	v.epoch++
	for key := range v.revs {
		v.revs[key] = 0
	}
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	clear(v.seen)
}

// toldUpTo is the revision up to which Apply was told what the bucket held under the filters that
// were read; 0 in another life.
func (v *View) toldUpTo(from source) uint64 {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	if v.restarted(from) {
		return 0
	}
	return v.last
}
