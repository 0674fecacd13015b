package watcher

import (
	"maps"
	"slices"
	"strings"

	"github.com/kvregistry/go/tenant"
)

// filterMax is how many filters a consumer has at the most. Beyond, reading everything costs the
// server less.
const filterMax = 256

// filters is a set of key filters: a key itself, "<parent>.*", "<root>.>" or [tenant.AllKeys].
type filters map[string]struct{}

// root is the filter of everything under a key's first token.
func root(key string) string { return key[:strings.IndexByte(key, '.')+1] + ">" }

// isKey reports whether a filter is a key itself.
func isKey(filter string) bool {
	return !strings.HasSuffix(filter, "*") && !strings.HasSuffix(filter, ">")
}

// covers reports whether every key of filter f is one of the set's.
func (fs filters) covers(f string) bool {
	_, ok := fs[f]
	return ok || fs.coversByAnother(f)
}

// coversByAnother is covers without f itself.
func (fs filters) coversByAnother(f string) bool {
	if _, ok := fs[tenant.AllKeys]; ok && f != tenant.AllKeys {
		return true
	}
	for _, wider := range []string{root(f), tenant.Siblings(f)} {
		if _, ok := fs[wider]; ok && wider != f &&
			(wider != tenant.Siblings(f) || !strings.HasSuffix(f, ">")) {
			return true
		}
	}
	return false
}

// list is the set's filters, in no order.
func (fs filters) list() []string { return slices.Collect(maps.Keys(fs)) }

// narrower reports whether the set does not cover all of another set.
func (fs filters) narrower(other filters) bool {
	for f := range other {
		if !fs.covers(f) {
			return true
		}
	}
	return false
}

// reduced returns the set without the filters that another of it covers: a server refuses filters
// that overlap. If more than most are left, it returns the roots that cover them all.
func (fs filters) reduced(most int) []string {
	var out []string
	for f := range fs {
		if !fs.coversByAnother(f) {
			out = append(out, f)
		}
	}
	if len(out) <= most {
		return out
	}
	roots := filters{}
	for _, f := range out {
		roots[root(f)] = struct{}{}
	}
	out = out[:0]
	for f := range roots {
		out = append(out, f)
	}
	return out
}
