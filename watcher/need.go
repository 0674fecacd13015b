package watcher

import (
	"cmp"
	"context"
	"maps"
	"strings"
	"sync"

	"github.com/kvregistry/go/tenant"
)

// asked is how many filters the leader is asked for one by one.
const asked = 32

// need is the revision that a consumer must have reached before its snapshot is shown. A replica
// may lag: what the view showed stays shown, and a filter that is new shows everything that was
// acknowledged before.
func (v *View) need(ctx context.Context, from source, fs filters) (uint64, error) {
	if !from.lags() {
		return 0, nil
	}
	floor, unseen := v.floor(from, fs)
	last, err := lastOf(ctx, unseen, v.bucket.Last)
	return max(floor, last), err
}

// floor is the highest revision that was told under some filters. If the view distrusts itself, it
// is also what the leader had: a former leader may answer what comes next. unseen are the filters
// of which nothing was shown, or nothing that is trusted: the leader has to say what it has.
func (v *View) floor(from source, fs filters) (rev uint64, unseen filters) {
	v.keysMu.Lock()
	defer v.keysMu.Unlock()
	restarted := v.restarted(from)
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	if v.doubted && !from.mirror {
		rev = from.leader
	}
	if restarted {
		return rev, maps.Clone(fs)
	}
	unseen = filters{}
	for f := range fs {
		rev = max(rev, v.seen[f])
		if v.doubted || !v.applied.covers(f) {
			unseen[f] = struct{}{}
		}
	}
	return rev, unseen
}

// lastOf is the revision of the last change under some filters, as last knows it. It asks for all
// at once: a hub may be far away.
func lastOf(ctx context.Context, fs filters,
	last func(context.Context, string) (tenant.Entry, error)) (rev uint64, err error) {
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

// shownUpTo is the highest revision that Apply was told of under any of some filters.
func (v *View) shownUpTo(fs filters) (rev uint64) {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	for f := range fs {
		rev = max(rev, v.seen[f])
	}
	return rev
}

// toldOf is the highest revision that Apply may have been told of under a filter that is new: by
// those that cover it, or that it covers. The caller holds v.stateMu.
func (v *View) toldOf(f string) (rev uint64) {
	for _, wider := range [...]string{tenant.Siblings(f), root(f), tenant.AllKeys} {
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

// note keeps the highest revision that is told under each filter. A key that a snapshot has no
// trace of went by what the snapshot holds, up to upTo.
func (v *View) note(changes []Change, upTo uint64) {
	v.stateMu.Lock()
	defer v.stateMu.Unlock()
	siblings := map[string]uint64{} // the highest of the filters with one parent
	for i := range changes {
		key, rev := changes[i].Key, cmp.Or(changes[i].Revision, upTo)
		v.noteUnder(key, rev)
		common := key[:strings.LastIndexByte(key, '.')+1]
		siblings[common] = max(siblings[common], rev)
	}
	for common, rev := range siblings {
		for _, f := range [...]string{tenant.Siblings(common), root(common), tenant.AllKeys} {
			v.noteUnder(f, rev)
		}
	}
}

// noteUnder is note for one filter. The caller holds v.stateMu.
func (v *View) noteUnder(f string, rev uint64) {
	if _, ok := v.wanted[f]; ok {
		v.seen[f] = max(v.seen[f], rev)
	}
}
