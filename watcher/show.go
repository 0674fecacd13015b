package watcher

import (
	"cmp"
	"maps"
	"slices"

	"github.com/kvregistry/go/tenant"
)

// replace applies a complete snapshot, which holds every change up to a revision: what differs from
// what the view held, and nothing else. If the snapshot lacks what was shown, replace applies
// nothing, and returns the revision that is needed, or errBehind.
func (v *View) replace(fs filters, from source, snapshot Snapshot,
	entries []Change) (need uint64, err error) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	last := make(map[string]*Change, len(entries))
	for i := range entries { // a key that changed while it was read is there twice
		last[entries[i].Key] = &entries[i]
	}
	reset, need, err := v.begins(from, fs, snapshot.UpTo, last)
	if need > 0 || err != nil {
		return need, err
	}
	if reset {
		v.begin()
	}
	snapshot.Reset = reset
	v.source, v.last, v.joined, v.backward = from, from.leader, nil, spell{}
	changes := slices.Grow(v.gone(last), len(entries))
	for i := range entries {
		e := &entries[i]
		if _, known := v.revs[e.Key]; last[e.Key] == e && (e.Op == tenant.Put || !known) {
			changes = append(changes, *e)
		}
	}
	v.note(changes, snapshot.UpTo)
	if len(v.revs) == 0 {
		v.revs = make(map[string]uint64, len(changes))
	}
	v.confirm(from.asOf())
	v.shown = filters{}
	v.show(fs)
	v.apply(changes, &snapshot)
	v.shownWhole()
	return 0, nil
}

// join applies a complete snapshot of filters that were added to a session, which holds every
// change of them up to a revision. If more was told under them, as by the session, join applies
// nothing and returns the revision that is needed: keys that ended meanwhile would come back.
func (v *View) join(fs filters, snapshot Snapshot, entries []Change) (need uint64) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	if need = v.shownUpTo(fs); need > snapshot.UpTo {
		return need
	}
	v.show(fs)
	v.note(entries, 0)
	snapshot.Part = true
	v.apply(entries, &snapshot)
	if v.joined == nil {
		v.joined = map[string]uint64{}
	}
	for f := range fs {
		if _, ok := v.shown[f]; ok { // it was not taken back meanwhile
			v.joined[f] = snapshot.UpTo
		}
	}
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	v.applied = maps.Clone(v.shown)
	v.advance.Send()
	return need
}

// show notes that filters are shown, except those that were taken back meanwhile. The caller holds
// v.keysMu.
func (v *View) show(fs filters) {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	for f := range fs {
		if v.wanted.covers(f) {
			v.shown[f] = struct{}{}
		}
	}
}

// gone returns the ends, in order, of the known keys that have no value in a snapshot, of which
// last has the last change of each key. The caller holds v.keysMu.
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
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	v.note(changes, 0)
	v.apply(changes, nil)
	last := changes[len(changes)-1].Revision // they come in order
	maps.DeleteFunc(v.joined, func(_ string, upTo uint64) bool { return upTo < last })
}

// apply drops what the view knows already, and passes the rest on. The caller holds v.keysMu.
func (v *View) apply(changes []Change, snapshot *Snapshot) {
	news := changes[:0]
	for _, c := range changes {
		rev, known := v.revs[c.Key]
		v.last = max(v.last, c.Revision)
		switch {
		case known && c.Revision != 0 && c.Revision <= rev:
			continue
		case c.Op != tenant.Put && !known && !v.tellsEnd(&c, snapshot == nil):
			continue
		case c.Op != tenant.Put:
			delete(v.revs, c.Key)
		case !known && v.outdates(&c), !v.wants(c.Key):
			continue
		default:
			v.revs[c.Key] = c.Revision
		}
		c.Epoch = v.epoch
		news = append(news, c)
	}
	if snapshot != nil {
		snapshot.Epoch, snapshot.shown, snapshot.keys = v.epoch, v.shown, v.revs
	}
	if len(news) > 0 || snapshot != nil {
		v.cfg.Apply(news, snapshot)
	}
	for i := range news {
		v.settle(&news[i])
	}
}

// tellsEnd reports whether Apply is told of the end of a key that has no value as far as the view
// knows. A live change came as it happened, and not with a snapshot. The caller holds v.keysMu.
func (v *View) tellsEnd(c *Change, live bool) bool {
	return v.cfg.Follow || live && v.isFilter(c.Key) && !v.outdates(c)
}

// settle does what Apply said of a change. The caller holds v.keysMu.
func (v *View) settle(c *Change) {
	if _, known := v.revs[c.Key]; known && c.Again {
		v.revs[c.Key] = 0
	}
	if c.Forget && !v.isFilter(c.Key) {
		delete(v.revs, c.Key)
	}
}

// outdates reports whether a snapshot that was joined has said since that a key, of which the
// session tells, is gone. The caller holds v.keysMu.
func (v *View) outdates(c *Change) bool {
	if len(v.joined) == 0 {
		return false
	}
	for _, f := range [...]string{c.Key, tenant.Siblings(c.Key), root(c.Key), tenant.AllKeys} {
		if c.Revision <= v.joined[f] {
			return true
		}
	}
	return false
}

// at returns the revision at which a key is known that has a value.
func (v *View) at(key string) (rev uint64, known bool) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	rev, known = v.revs[key]
	return rev, known
}

// hasRead reports whether a complete snapshot with a key was applied.
func (v *View) hasRead(key string) bool {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	return v.applied.covers(key)
}

// misses reports whether a key that the view knows is not among some keys.
func (v *View) misses(keys map[string]struct{}) bool {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	for key := range v.revs {
		if _, ok := keys[key]; !ok {
			return true
		}
	}
	return false
}

// removed reports whether the view holds keys whose messages are below the first revision: the last
// message of a key that has a value is never below it, unless it was removed without a message.
func (v *View) removed(first uint64) bool {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	for _, rev := range v.revs {
		if rev > 0 && rev < first {
			return true
		}
	}
	return false
}
