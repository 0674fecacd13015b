package kvregistry

import (
	"errors"
	"testing"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// An owner may write to a bucket that was made anew before its view has noticed. An earlier owner's registration, seen in the bucket
// before, has a higher revision then, and is no newer one. Seen to fail with written not looking at what was seen: the owner took itself for
// fenced, and its key stayed for as long as its lease did, which chaos found.
func TestWriteThatOutrunsTheView(t *testing.T) {
	view := watcher.New(nil, watcher.Config{Apply: func([]watcher.Change, *watcher.Snapshot) {}})
	other := func(rev uint64) []sighting {
		return []sighting{{Change: watcher.Change{Key: "svc.web.a", Op: tenant.Put, Revision: rev}, name: "web", rec: record{Owner: "other"}}}
	}
	for name, seenWhen := range map[string]func(o *owner, g *registration, see func(rev uint64)){
		"seen before the write": func(o *owner, g *registration, see func(uint64)) { see(5000); write(o, g, 2) },
		"seen while it is under way": func(o *owner, g *registration, see func(uint64)) {
			see(4000)
			_, _, _, _ = o.writing(g)
			see(5000)
			o.written(g, 2, "L")
		},
		"seen after it": func(o *owner, g *registration, see func(uint64)) { see(4000); write(o, g, 2); see(5000) },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOwner()
			g := &registration{key: "svc.web.a", name: "web", id: "a", turn: make(chan struct{}, 1)} // its turn is taken
			o.add(g)
			seenWhen(o, g, func(rev uint64) { o.see("own", other(rev), nil, view) })
			g.turn <- struct{}{}
			o.judge("own", g)
			o.see("own", other(5001), nil, view)
			if g.over != nil || g.rev != 2 {
				t.Fatalf("over by %v, at revision %d", g.over, g.rev)
			}
			o.see("own", other(3), &watcher.Snapshot{UpTo: 3, Reset: true}, view)
			if !errors.Is(g.over, ErrFenced) {
				t.Errorf("a newer owner in the new bucket gave %v", g.over)
			}
		})
	}
	t.Run("in the same bucket", func(t *testing.T) {
		o := newOwner()
		g := &registration{key: "svc.web.a", name: "web", id: "a", turn: make(chan struct{}, 1)}
		o.add(g)
		o.see("own", other(5000), nil, view)
		_, _, _, _ = o.writing(g)
		o.see("own", other(5002), nil, view)
		o.written(g, 5001, "L")
		g.turn <- struct{}{}
		o.judge("own", g)
		if !errors.Is(g.over, ErrFenced) {
			t.Errorf("a newer owner, seen before the answer came, gave %v", g.over)
		}
	})
}

func write(o *owner, g *registration, rev uint64) {
	_, _, _, _ = o.writing(g)
	o.written(g, rev, "L")
}
