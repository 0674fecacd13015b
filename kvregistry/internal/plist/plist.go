// Package plist has a persistent list: a change makes another list that shares most with the one
// before, so readers keep the list that they loaded for as long as they like.
//
// A list is a tree. A change costs about the same whatever the number of elements. The package
// knows nothing of what the elements are: a [Kind] gives their order and their class.
package plist

import (
	"cmp"
	"iter"
	"slices"
)

// Class is which elements of a list are meant. The classes other than [All] have no element in
// common.
type Class int

// The classes.
const (
	All Class = iota
	First
	Second
	classes
)

// fan is how many elements a leaf has at most, and how many kids another node.
const fan = 64

// Kind says how the elements of lists are.
type Kind[T any] struct {
	Key   func(*T) string // orders the elements; an element is the only one with its key
	Class func(*T) Class  // [First], [Second], or All if it is in no other class
}

// List is a list of one kind, ordered by key. Copies of it are the same list. Changes of it and
// Seal are for one goroutine at a time; Count, At, Each and Leaf are for all, of a list that is
// sealed.
//
// A list may be changed in place by the batch of changes that made it, until it is sealed.
type List[T any] struct {
	kind *Kind[T]
	root *node[T] // nil if it is empty
}

// New makes an empty list.
func New[T any](k *Kind[T]) List[T] { return List[T]{kind: k} }

// With returns the list with an element put in, in the place of one with the same key.
func (l List[T]) With(batch uint64, e *T) List[T] {
	left, right := l.root.put(l.kind, batch, e)
	if right != nil {
		left = &node[T]{batch: batch, kids: []*node[T]{left, right}}
	}
	return List[T]{l.kind, left}
}

// Without returns the list without the element of a key, which has to be there.
func (l List[T]) Without(batch uint64, key string) List[T] {
	n := l.root.remove(l.kind, batch, key)
	for len(n.kids) == 1 {
		n = n.kids[0]
	}
	if n.len() == 0 {
		n = nil
	}
	return List[T]{l.kind, n}
}

// Find returns the element with a key, or nil.
func (l List[T]) Find(key string) *T {
	n := l.root
	if n == nil {
		return nil
	}
	for n.kids != nil {
		n = n.kids[n.kid(key)]
	}
	if i, known := n.place(l.kind, key); known {
		return n.of[All][i]
	}
	return nil
}

// Seal ends a batch: what it made is counted, and is immutable from then on.
func (l List[T]) Seal(batch uint64) { l.root.seal(l.kind, batch) }

// Count is how many elements of a class there are.
func (l List[T]) Count(c Class) int { return l.root.count(c) }

// At is the i-th element of a class.
func (l List[T]) At(c Class, i int) *T { return l.root.from(c, i)[0] }

// Leaf returns the elements of a class if they are in one slice, which must not be changed; nil if
// not.
func (l List[T]) Leaf(c Class) []*T {
	if l.root == nil || l.root.kids != nil {
		return nil
	}
	return l.root.of[c]
}

// Each yields the elements of a class in order.
func (l List[T]) Each(c Class) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i, most := 0, l.root.count(c); i < most; {
			part := l.root.from(c, i)
			for _, e := range part {
				if !yield(e) {
					return
				}
			}
			i += len(part)
		}
	}
}

// node is a list or a part of one.
type node[T any] struct {
	batch uint64
	low   string     // none of its keys is less, unless it is its parent's first
	kids  []*node[T] // nil in a leaf
	of    [classes][]*T
	ends  [classes][]int // of each kid, how many elements there are up to its end
}

// put puts an element in. If the node got too large, right is what follows it.
func (n *node[T]) put(k *Kind[T], batch uint64, e *T) (left, right *node[T]) {
	if n == nil {
		n = &node[T]{batch: batch}
	}
	n = n.own(batch)
	key := k.Key(e)
	if n.kids != nil {
		i := n.kid(key)
		n.kids[i], right = n.kids[i].put(k, batch, e)
		if right != nil {
			n.kids = slices.Insert(n.kids, i+1, right)
		}
		return n, n.split(k)
	}
	i, known := n.place(k, key)
	if known {
		n.of[All][i] = e
		return n, nil
	}
	n.of[All] = slices.Insert(n.of[All], i, e)
	return n, n.split(k)
}

// remove takes out an element that is there.
func (n *node[T]) remove(k *Kind[T], batch uint64, key string) *node[T] {
	n = n.own(batch)
	if n.kids == nil {
		i, _ := n.place(k, key)
		n.of[All] = slices.Delete(n.of[All], i, i+1)
		return n
	}
	i := n.kid(key)
	n.kids[i] = n.kids[i].remove(k, batch, key)
	n.join(max(1, i))
	return n
}

// own returns the node if the batch made it, and a copy if another did.
func (n *node[T]) own(batch uint64) *node[T] {
	if n.batch == batch {
		return n
	}
	return &node[T]{batch: batch, low: n.low, kids: slices.Clone(n.kids),
		of: [classes][]*T{All: slices.Clone(n.of[All])}}
}

// len is how many elements or kids the node itself has.
func (n *node[T]) len() int { return len(n.kids) + len(n.of[All]) }

// kid is the place of the kid that a key belongs to.
func (n *node[T]) kid(key string) int {
	i, found := slices.BinarySearchFunc(n.kids, key, func(k *node[T], key string) int {
		return cmp.Compare(k.low, key)
	})
	if found {
		return i
	}
	return max(0, i-1)
}

// place is where a key is in a leaf, or would be.
func (n *node[T]) place(k *Kind[T], key string) (i int, known bool) {
	return slices.BinarySearchFunc(n.of[All], key, func(e *T, key string) int {
		return cmp.Compare(k.Key(e), key)
	})
}

// split takes the second half from a node that is too large.
func (n *node[T]) split(k *Kind[T]) (right *node[T]) {
	if n.len() <= fan {
		return nil
	}
	right = &node[T]{batch: n.batch}
	n.kids, right.kids = halves(n.kids)
	n.of[All], right.of[All] = halves(n.of[All])
	if right.kids != nil {
		right.low = right.kids[0].low
	} else {
		right.low = k.Key(right.of[All][0])
	}
	return right
}

func halves[E any](list []*E) (left, right []*E) {
	half := len(list) / 2
	right = slices.Clone(list[half:])
	clear(list[half:])
	return list[:half], right
}

// join makes one kid of a kid and the one before it, if one is empty or both are small.
func (n *node[T]) join(i int) {
	if i >= len(n.kids) {
		return
	}
	left, right := n.kids[i-1], n.kids[i]
	if min(left.len(), right.len()) > 0 && left.len()+right.len() > fan/2 {
		return
	}
	left = left.own(n.batch)
	left.kids, left.of[All] = append(left.kids, right.kids...),
		append(left.of[All], right.of[All]...)
	n.kids[i-1] = left
	n.kids = slices.Delete(n.kids, i, i+1)
}

// seal counts what a batch made.
func (n *node[T]) seal(k *Kind[T], batch uint64) {
	if n == nil || n.batch != batch {
		return
	}
	if n.kids == nil {
		n.of[First], n.of[Second] = k.those(n.of[All], First), k.those(n.of[All], Second)
		return
	}
	for c := range classes {
		n.ends[c] = make([]int, len(n.kids))
	}
	for i, kid := range n.kids {
		kid.seal(k, batch)
		for c := range classes {
			n.ends[c][i] = kid.count(c)
			if i > 0 {
				n.ends[c][i] += n.ends[c][i-1]
			}
		}
	}
}

// those are the elements of a class: the list itself if all are.
func (k *Kind[T]) those(list []*T, c Class) (some []*T) {
	other := func(e *T) bool { return k.Class(e) != c }
	if !slices.ContainsFunc(list, other) {
		return list
	}
	for _, e := range list {
		if !other(e) {
			some = append(some, e)
		}
	}
	return some
}

// count is how many elements of a class there are in a node that is sealed.
func (n *node[T]) count(c Class) int {
	switch {
	case n == nil:
		return 0
	case n.kids == nil:
		return len(n.of[c])
	}
	return n.ends[c][len(n.kids)-1]
}

// from are the elements of a leaf from the i-th of the whole list on, which has to be there.
func (n *node[T]) from(c Class, i int) []*T {
	for n.kids != nil {
		k, _ := slices.BinarySearch(n.ends[c], i+1)
		if k > 0 {
			i -= n.ends[c][k-1]
		}
		n = n.kids[k]
	}
	return n.of[c][i:]
}
