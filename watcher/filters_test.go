package watcher

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is sent to the server has no two filters that overlap, and covers what is wanted.
func TestReducedFilters(t *testing.T) {
	for name, c := range map[string]struct{ wanted, want []string }{
		"none":                   {nil, nil},
		"apart":                  {[]string{"svc.a.*", "svc.b.1"}, []string{"svc.a.*", "svc.b.1"}},
		"a key of a service":     {[]string{"svc.a.*", "svc.a.1"}, []string{"svc.a.*"}},
		"a service of all":       {[]string{"svc.>", "svc.a.*", "svc.a.1"}, []string{"svc.>"}},
		"names that begin alike": {[]string{"svc.a.*", "svc.ab.*"}, []string{"svc.a.*", "svc.ab.*"}},
		"too many":               {[]string{"svc.a.*", "svc.b.*", "svc.c.*", "svc.d.*"}, []string{"svc.>"}},
	} {
		fs := filters{}
		for _, f := range c.wanted {
			fs[f] = struct{}{}
		}
		got := fs.reduced(3)
		slices.Sort(got)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if len(fs) != len(c.wanted) {
			t.Errorf("%s: the set itself was changed", name)
		}
		for _, f := range c.wanted {
			if !fs.covers(f) {
				t.Errorf("%s: %s is not covered by itself", name, f)
			}
		}
	}
}

func TestCovers(t *testing.T) {
	fs := filters{"svc.a.*": {}, "svc.b.1": {}}
	for f, want := range map[string]bool{
		"svc.a.*": true, "svc.a.1": true, "svc.b.1": true, "svc.b.2": false, "svc.b.*": false, "svc.>": false, "svc.ab.1": false, "lease.a": false, "sweep": false,
	} {
		if got := fs.covers(f); got != want {
			t.Errorf("%s: %v", f, got)
		}
	}
	for i := range 3 {
		if f := fmt.Sprintf("svc.x.%d", i); !(filters{"svc.>": {}}).covers(f) {
			t.Errorf("%s is not covered by everything", f)
		}
	}
}
