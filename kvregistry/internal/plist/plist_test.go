package plist

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// item is an element of a list.
type item struct {
	ID    string
	Class Class
}

var kind = &Kind[item]{Key: func(i *item) string { return i.ID }, Class: func(i *item) Class {
	return i.Class
}}

// A list equals a sorted slice after the same changes, in batches of any size. Each list that a
// reader has stays as it was. Its nodes are not too large, and only a few are almost empty. Seen to
// fail with nodes that are changed by the batch after theirs, with kids that are found by ids below
// their own, with counts that are not updated, and with small nodes that are not joined.
func TestListIsLikeASortedSlice(t *testing.T) {
	for _, most := range []int{1, 10, fan, 5 * fan, 100 * fan} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			list := New(kind)
			model := map[string]*item{}
			type kept struct {
				list List[item]
				want []*item
			}
			var readers []kept
			for batch := range uint64(300) {
				for range 1 + rand.N(max(2, most/4)) {
					id := fmt.Sprintf("%x", rand.N(2*most))
					if list.Find(id) != model[id] {
						t.Fatalf("%s is %v, want %v", id, list.Find(id), model[id])
					}
					// removes what is there, mostly after the list has grown
					if grows := batch%100 < 60; rand.N(20) == 0 == grows {
						if model[id] != nil {
							delete(model, id)
							list = list.Without(batch+1, id)
						}
						continue
					}
					s := &item{ID: id, Class: []Class{First, First, Second, All}[rand.N(4)]}
					model[id] = s
					list = list.With(batch+1, s)
				}
				list.Seal(batch + 1)
				want := make([]*item, 0, len(model))
				for _, s := range model {
					want = append(want, s)
				}
				slices.SortFunc(want, func(a, b *item) int { return strings.Compare(a.ID, b.ID) })
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

// isList compares all that a list returns with its content.
func isList(t *testing.T, list List[item], all []*item) {
	t.Helper()
	for c, want := range [classes][]*item{
		All: all, First: slices.Clip(kind.those(all, First)), Second: kind.those(all, Second),
	} {
		if got := slices.Collect(list.Each(Class(c))); !slices.Equal(got, want) ||
			list.Count(Class(c)) != len(want) {
			t.Fatalf("class %d has %d (%d) instances, want %d", c, len(got), list.Count(Class(c)),
				len(want))
		}
		for _, i := range []int{0, len(want) / 2, len(want) - 1} {
			if i >= 0 && i < len(want) && list.At(Class(c), i) != want[i] {
				t.Fatalf("instance %d of class %d is %v, want %v", i, c, list.At(Class(c), i),
					want[i])
			}
		}
	}
	if nodes := nodesOf(t, list.root); nodes > 2+len(all)*6/fan {
		t.Fatalf("%d nodes for %d instances", nodes, len(all))
	}
}

func nodesOf(t *testing.T, n *node[item]) (nodes int) {
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

// A change of a large list copies a few nodes, not the whole list. Seen to fail with nodes of
// 10,000.
func TestChangeOfAListCopiesLittle(t *testing.T) {
	const many = 100_000
	list := New(kind)
	for i := range many {
		list = list.With(1, &item{ID: fmt.Sprintf("%05d", i), Class: First})
	}
	list.Seal(1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const changes = 1000
	for batch := uint64(2); batch < 2+changes; batch++ {
		list = list.With(batch, &item{ID: fmt.Sprintf("%05d", rand.N(many)), Class: First})
		list.Seal(batch)
	}
	runtime.ReadMemStats(&after)
	if bytes := (after.TotalAlloc - before.TotalAlloc) / changes; bytes > 10_000 {
		t.Errorf("a change of %d instances allocates %d bytes", many, bytes)
	} else {
		t.Logf("a change of %d instances allocates %d bytes", many, bytes)
	}
}
