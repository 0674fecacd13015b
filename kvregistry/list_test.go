package kvregistry

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// A list is what a sorted slice is after the same changes, in batches of any size, and each list that a reader has stays as it was. Its nodes are neither too large nor,
// but for a few, almost empty. Seen to fail with nodes that are changed by the batch after theirs, with kids that are found by ids below their own, with counts that are
// not made again, and with small nodes that are not joined.
func TestListIsLikeASortedSlice(t *testing.T) {
	for _, most := range []int{1, 10, fan, 5 * fan, 100 * fan} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			var list *node
			model := map[string]*Service{}
			type kept struct {
				list *node
				want []*Service
			}
			var readers []kept
			for batch := range uint64(300) {
				for range 1 + rand.N(max(2, most/4)) {
					id := fmt.Sprintf("%x", rand.N(2*most))
					if list.find(id) != model[id] {
						t.Fatalf("%s is %v, want %v", id, list.find(id), model[id])
					}
					if grows := batch%100 < 60; rand.N(20) == 0 == grows { // takes what is there back, mostly once it has grown
						if model[id] != nil {
							delete(model, id)
							list = list.without(batch+1, id)
						}
						continue
					}
					s := &Service{ID: id, Status: []Status{Passing, Passing, Warning, Critical}[rand.N(4)]}
					model[id] = s
					list = list.with(batch+1, s)
				}
				list.seal(batch + 1)
				want := make([]*Service, 0, len(model))
				for _, s := range model {
					want = append(want, s)
				}
				slices.SortFunc(want, func(a, b *Service) int { return strings.Compare(a.ID, b.ID) })
				isList(t, list, want)
				if batch%50 == 0 {
					readers = append(readers, kept{list, want})
				}
			}
			for _, r := range readers {
				isList(t, r.list, r.want)
			}
		})
	}
}

// isList compares all that a reader may ask of a list with what is in it.
func isList(t *testing.T, list *node, all []*Service) {
	t.Helper()
	for c, want := range [choices][]*Service{
		every: all, passing: slices.Clip(those(all, Passing)), warning: those(all, Warning),
	} {
		if got := slices.Collect(list.all(choice(c))); !slices.Equal(got, want) || list.count(choice(c)) != len(want) {
			t.Fatalf("choice %d has %d (%d) instances, want %d", c, len(got), list.count(choice(c)), len(want))
		}
		for _, i := range []int{0, len(want) / 2, len(want) - 1} {
			if i >= 0 && i < len(want) && list.at(choice(c), i) != want[i] {
				t.Fatalf("instance %d of choice %d is %v, want %v", i, c, list.at(choice(c), i), want[i])
			}
		}
	}
	if nodes := nodesOf(t, list); nodes > 2+len(all)*6/fan {
		t.Fatalf("%d nodes for %d instances", nodes, len(all))
	}
}

func nodesOf(t *testing.T, n *node) (nodes int) {
	t.Helper()
	if n == nil {
		return 0
	}
	if n.len() > fan {
		t.Fatalf("a node has %d", n.len())
	}
	for _, kid := range n.kids {
		nodes += nodesOf(t, kid)
	}
	return nodes + 1
}

// A change of a large list copies a few nodes, and not the list. Seen to fail with nodes of 10,000.
func TestChangeOfAListCopiesLittle(t *testing.T) {
	const many = 100_000
	var list *node
	for i := range many {
		list = list.with(1, &Service{ID: fmt.Sprintf("%05d", i), Status: Passing})
	}
	list.seal(1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const changes = 1000
	for batch := uint64(2); batch < 2+changes; batch++ {
		list = list.with(batch, &Service{ID: fmt.Sprintf("%05d", rand.N(many)), Status: Passing})
		list.seal(batch)
	}
	runtime.ReadMemStats(&after)
	if bytes := (after.TotalAlloc - before.TotalAlloc) / changes; bytes > 10_000 {
		t.Errorf("a change of %d instances allocates %d bytes", many, bytes)
	} else {
		t.Logf("a change of %d instances allocates %d bytes", many, bytes)
	}
}

// A list that nobody was shown is changed in place, and what was shown of it once stays as it was.
// Seen to fail with a list that is sealed only by the batch that changes it.
func TestListThatNobodyWasShown(t *testing.T) {
	c := newCache(slog.New(slog.DiscardHandler), bounds{instances: 1000, services: 10, record: 1 << 20})
	c.track("web")
	svc := c.find("web")
	see := func(i int, op tenant.Op) {
		s := &sighting{Change: watcher.Change{Key: fmt.Sprint("svc.web.", i), Revision: uint64(i + 1), Op: op}, name: "web", id: fmt.Sprint(i)}
		s.rec.Instance = Service{Name: "web", ID: s.id, Status: Passing}
		c.apply([]*sighting{s}, nil)
	}
	see(0, tenant.Put)
	root := svc.list
	for i := 1; i < fan; i++ {
		see(i, tenant.Put)
	}
	if svc.list != root {
		t.Error("a change made a copy of a list that nobody was shown")
	}
	for i := fan; i < 10*fan; i++ {
		see(i, tenant.Put)
	}
	see(3, tenant.Delete)
	c.publish(svc)
	shown := svc.snap.Load()
	see(10*fan, tenant.Put)
	see(5, tenant.Delete)
	if n, now := shown.Len(), svc.snap.Load().Len(); n != 10*fan-1 || now != n {
		t.Errorf("%d instances were shown, want %d, and %d are shown now", n, 10*fan-1, now)
	}
	if shown.list.find("5") == nil || svc.snap.Load().list.find("5") != nil {
		t.Error("a later change is in what was shown before, or not in what is shown now")
	}
}
