package watcher

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func set(list ...string) filters {
	fs := filters{}
	for _, f := range list {
		fs[f] = struct{}{}
	}
	return fs
}

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		have []string
		ask  string
		want bool
	}{
		{nil, "svc.web.1", false},
		{[]string{"svc.web.1"}, "svc.web.1", true},
		{[]string{"svc.web.1"}, "svc.web.2", false},
		{[]string{"svc.web.1"}, "svc.web.*", false},
		{[]string{"svc.web.*"}, "svc.web.1", true},
		{[]string{"svc.web.*"}, "svc.web.*", true},
		{[]string{"svc.web.*"}, "svc.webs.1", false},
		{[]string{"svc.web.*"}, "svc.api.1", false},
		{[]string{"svc.web.*"}, "svc.>", false},
		{[]string{"svc.>"}, "svc.web.1", true},
		{[]string{"svc.>"}, "svc.web.*", true},
		{[]string{"svc.>"}, "svc.>", true},
		{[]string{"svc.>"}, "lease.1", false},
		{[]string{"svc.>"}, "lease.>", false},
		{[]string{"lease.>"}, "lease.1", true},
		{[]string{"lease.*"}, "lease.1", true},
		// the star is one token, and the tail may be longer
		{[]string{"lease.*"}, "lease.>", false},
		{[]string{"svc.api.*", "svc.web.1"}, "svc.api.2", true},
		{[]string{"sweep"}, "sweep", true},
	} {
		if got := set(tc.have...).covers(tc.ask); got != tc.want {
			t.Errorf("%v covers %q: %v, want %v", tc.have, tc.ask, got, tc.want)
		}
	}
}

func TestReduced(t *testing.T) {
	for name, tc := range map[string]struct {
		have []string
		most int
		want []string
	}{
		"nothing": {most: 8},
		"apart": {[]string{"svc.web.*", "svc.api.1"}, 8,
			[]string{"svc.api.1", "svc.web.*"}},
		"a key under its siblings": {[]string{"svc.web.*", "svc.web.1", "svc.web.2"}, 8,
			[]string{"svc.web.*"}},
		"everything under a root": {[]string{"svc.>", "svc.web.*", "svc.api.1"}, 8,
			[]string{"svc.>"}},
		"two roots": {[]string{"svc.>", "svc.web.1", "lease.a"}, 8,
			[]string{"lease.a", "svc.>"}},
		"as many as there may be": {[]string{"svc.a.*", "svc.b.*"}, 2,
			[]string{"svc.a.*", "svc.b.*"}},
		"one too many": {[]string{"svc.a.*", "svc.b.*", "svc.c.1"}, 2, []string{"svc.>"}},
		"too many of two roots": {[]string{"svc.a.*", "svc.b.*", "lease.x"}, 2,
			[]string{"lease.>", "svc.>"}},
		"covered ones count not": {[]string{"svc.a.*", "svc.a.1", "svc.a.2", "svc.b.1"}, 2,
			[]string{"svc.a.*", "svc.b.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			fs := set(tc.have...)
			got := fs.reduced(tc.most)
			slices.Sort(got)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(set(tc.have...), fs); diff != "" {
				t.Errorf("the set itself changed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReducedDoesNotOverlap tries sets of every size around the limit. The result covers all
// filters that were asked for, and none of its filters covers another.
func TestReducedDoesNotOverlap(t *testing.T) {
	const most = 20
	for n := range 40 {
		fs := filters{}
		for i := range n {
			fs[fmt.Sprintf("svc.s%d.*", i/3)] = struct{}{}
			fs[fmt.Sprintf("svc.s%d.%d", i, i)] = struct{}{}
		}
		out := fs.reduced(most)
		disjoint(t, out)
		if left := set(out...); !coversAll(left, fs) || len(out) > most {
			t.Errorf("%d filters were reduced to %d, which do not cover them, or are too many: %v",
				len(fs), len(out), out)
		}
	}
}

// TestReducedAfterTakingBack checks the same for a set from which filters were removed. A map that
// has had deletions is laid out differently, and a range may meet an entry again that is put back
// meanwhile.
func TestReducedAfterTakingBack(t *testing.T) {
	for range 100 { // the start of a range is random
		fs := set("svc.a.1", "svc.b.1", "svc.c.1", "svc.d.1")
		delete(fs, "svc.a.1")
		out := maps.Clone(fs).reduced(256)
		slices.Sort(out)
		if diff := cmp.Diff([]string{"svc.b.1", "svc.c.1", "svc.d.1"}, out); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

func disjoint(t *testing.T, list []string) {
	t.Helper()
	for i, f := range list {
		others := set(slices.Delete(slices.Clone(list), i, i+1)...)
		if others.covers(f) {
			t.Errorf("%q is covered by another of %v", f, list)
		}
	}
}

func coversAll(have, want filters) bool {
	for f := range want {
		if !have.covers(f) {
			return false
		}
	}
	return true
}
