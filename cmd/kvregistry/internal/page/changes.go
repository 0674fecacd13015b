package page

import (
	"iter"

	"github.com/kvregistry/go/kvregistry"
)

// change is what happened to a service between two catalogs, or a part of it.
type change struct {
	Service string      `json:"service"`
	Put     []*instance `json:"put,omitempty"`  // instances that came or say something else
	Gone    []string    `json:"gone,omitempty"` // ids
}

// mostPut is how many instances are in one change: a client takes the rest with the next one.
const mostPut = 200

// changes yields what differs between two catalogs, by service. Each is small, whatever the size of
// the service. before is nil for a client that knows nothing.
func changes(before, now *kvregistry.Catalog) iter.Seq[*change] {
	return func(yield func(*change) bool) {
		none := func(yield func(*kvregistry.Snapshot) bool) {}
		was := iter.Seq[*kvregistry.Snapshot](none)
		if before != nil {
			was = before.All()
		}
		name := (*kvregistry.Snapshot).Name
		for old, s := range merge(was, now.All(), name) {
			if old != s && !differ(old, s, yield) {
				return
			}
		}
	}
}

// differ yields what differs between two snapshots of a service, of which one may be nil.
func differ(before, now *kvregistry.Snapshot, yield func(*change) bool) bool {
	var of change
	full := func() bool {
		if len(of.Put)+len(of.Gone) == 0 {
			return true
		}
		ok := yield(&of)
		of = change{Service: of.Service}
		return ok
	}
	for _, s := range []*kvregistry.Snapshot{before, now} {
		if s != nil {
			of.Service = s.Name()
		}
	}
	for old, one := range merge(instances(before), instances(now), idOf) {
		switch {
		case one == nil:
			of.Gone = append(of.Gone, old.ID)
		case old == nil || old.Revision != one.Revision || old.Lease != one.Lease:
			of.Put = append(of.Put, short(one))
		}
		if len(of.Put)+len(of.Gone) >= mostPut && !full() {
			return false
		}
	}
	return full()
}

func idOf(s *kvregistry.Service) string { return s.ID }

// instances yields the instances of a snapshot, which may be nil.
func instances(s *kvregistry.Snapshot) iter.Seq[*kvregistry.Service] {
	return func(yield func(*kvregistry.Service) bool) {
		if s == nil {
			return
		}
		for one := range s.All() {
			if !yield(&one) {
				return
			}
		}
	}
}

// merge yields the elements of two ordered sequences in pairs of one key. What the other sequence
// lacks is paired with nil.
func merge[T any](a, b iter.Seq[*T], key func(*T) string) iter.Seq2[*T, *T] {
	return func(yield func(x, y *T) bool) {
		next, stop := iter.Pull(a)
		defer stop()
		x, some := next()
		for y := range b {
			for some && key(x) < key(y) {
				if !yield(x, nil) {
					return
				}
				x, some = next()
			}
			if some && key(x) == key(y) {
				if !yield(x, y) {
					return
				}
				x, some = next()
			} else if !yield(nil, y) {
				return
			}
		}
		for some {
			if !yield(x, nil) {
				return
			}
			x, some = next()
		}
	}
}
