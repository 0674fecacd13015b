package kvregistry

import (
	"cmp"
	"iter"
	"slices"
)

// choice is which of a service's instances are meant.
type choice int

const (
	every choice = iota
	passing
	warning
	choices
)

// fan is how many instances a leaf has at the most, and how many kids another node.
const fan = 64

// node is a list of instances ordered by id, or the part of one: a tree, of which a change makes another one that shares with the one before it all but the way to what
// changed. So a change costs about the same whatever the number of instances, and readers have the one that they loaded for as long as they like. nil is an empty list.
//
// A node may be changed by the batch of changes that made it, until that seals it.
type node struct {
	batch uint64
	low   string  // none of its ids is less, unless it is its parent's first
	kids  []*node // nil in a leaf
	of    [choices][]*Service
	ends  [choices][]int // of each kid, how many instances there are up to its end
}

// put puts an instance in, in the place of one with the same id. Where the node got too large, right is what follows it.
func (n *node) put(batch uint64, s *Service) (left, right *node) {
	if n == nil {
		n = &node{batch: batch}
	}
	n = n.own(batch)
	if n.kids != nil {
		i := n.kid(s.ID)
		n.kids[i], right = n.kids[i].put(batch, s)
		if right != nil {
			n.kids = slices.Insert(n.kids, i+1, right)
		}
		return n, n.split()
	}
	i, known := n.place(s.ID)
	if known {
		n.of[every][i] = s
		return n, nil
	}
	n.of[every] = slices.Insert(n.of[every], i, s)
	return n, n.split()
}

// remove takes out an instance that is there.
func (n *node) remove(batch uint64, id string) *node {
	n = n.own(batch)
	if n.kids == nil {
		i, _ := n.place(id)
		n.of[every] = slices.Delete(n.of[every], i, i+1)
		return n
	}
	i := n.kid(id)
	n.kids[i] = n.kids[i].remove(batch, id)
	n.join(max(1, i))
	return n
}

// with is a whole list with an instance put in.
func (n *node) with(batch uint64, s *Service) *node {
	left, right := n.put(batch, s)
	if right == nil {
		return left
	}
	return &node{batch: batch, kids: []*node{left, right}}
}

// without is a whole list from which an instance is taken out that is there.
func (n *node) without(batch uint64, id string) *node {
	n = n.remove(batch, id)
	for len(n.kids) == 1 {
		n = n.kids[0]
	}
	if n.len() == 0 {
		return nil
	}
	return n
}

// find is the instance with an id, or nil.
func (n *node) find(id string) *Service {
	if n == nil {
		return nil
	}
	for n.kids != nil {
		n = n.kids[n.kid(id)]
	}
	if i, known := n.place(id); known {
		return n.of[every][i]
	}
	return nil
}

// own is the node where the batch made it, and a copy where another did.
func (n *node) own(batch uint64) *node {
	if n.batch == batch {
		return n
	}
	return &node{batch: batch, low: n.low, kids: slices.Clone(n.kids), of: [choices][]*Service{every: slices.Clone(n.of[every])}}
}

// len is how many instances or kids the node itself has.
func (n *node) len() int { return len(n.kids) + len(n.of[every]) }

// kid is the place of the kid that an id belongs to.
func (n *node) kid(id string) int {
	i, found := slices.BinarySearchFunc(n.kids, id, func(k *node, id string) int { return cmp.Compare(k.low, id) })
	if found {
		return i
	}
	return max(0, i-1)
}

// place is where an id is in a leaf, or would be.
func (n *node) place(id string) (i int, known bool) {
	return slices.BinarySearchFunc(n.of[every], id, func(s *Service, id string) int { return cmp.Compare(s.ID, id) })
}

// split takes the second half from a node that is too large.
func (n *node) split() (right *node) {
	if n.len() <= fan {
		return nil
	}
	right = &node{batch: n.batch}
	n.kids, right.kids = halves(n.kids)
	n.of[every], right.of[every] = halves(n.of[every])
	if right.kids != nil {
		right.low = right.kids[0].low
	} else {
		right.low = right.of[every][0].ID
	}
	return right
}

func halves[T any](list []*T) (left, right []*T) {
	half := len(list) / 2
	right = slices.Clone(list[half:])
	clear(list[half:])
	return list[:half], right
}

// join makes one of a kid and the one before it, where one is empty or both are small.
func (n *node) join(i int) {
	if i >= len(n.kids) {
		return
	}
	left, right := n.kids[i-1], n.kids[i]
	if min(left.len(), right.len()) > 0 && left.len()+right.len() > fan/2 {
		return
	}
	left = left.own(n.batch)
	left.kids, left.of[every] = append(left.kids, right.kids...), append(left.of[every], right.of[every]...)
	n.kids[i-1] = left
	n.kids = slices.Delete(n.kids, i, i+1)
}

// seal ends a batch: what it made is counted, and is immutable from then on.
func (n *node) seal(batch uint64) {
	if n == nil || n.batch != batch {
		return
	}
	if n.kids == nil {
		n.of[passing], n.of[warning] = those(n.of[every], Passing), those(n.of[every], Warning)
		return
	}
	for c := range choices {
		n.ends[c] = make([]int, len(n.kids))
	}
	for i, kid := range n.kids {
		kid.seal(batch)
		for c := range choices {
			n.ends[c][i] = kid.count(c)
			if i > 0 {
				n.ends[c][i] += n.ends[c][i-1]
			}
		}
	}
}

// those are the instances of a status: the list itself where all are.
func those(list []*Service, status Status) (some []*Service) {
	other := func(s *Service) bool { return s.Status != status }
	if !slices.ContainsFunc(list, other) {
		return list
	}
	for _, s := range list {
		if !other(s) {
			some = append(some, s)
		}
	}
	return some
}

// count is how many instances there are in a list that is sealed.
func (n *node) count(c choice) int {
	switch {
	case n == nil:
		return 0
	case n.kids == nil:
		return len(n.of[c])
	}
	return n.ends[c][len(n.kids)-1]
}

// at is the i-th instance of a list that is sealed.
func (n *node) at(c choice, i int) *Service { return n.from(c, i)[0] }

// all are the instances of a list that is sealed, in order.
func (n *node) all(c choice) iter.Seq[*Service] {
	return func(yield func(*Service) bool) {
		for i, most := 0, n.count(c); i < most; {
			part := n.from(c, i)
			for _, s := range part {
				if !yield(s) {
					return
				}
			}
			i += len(part)
		}
	}
}

// from are the instances of a leaf from the i-th of the whole list on, which has to be there.
func (n *node) from(c choice, i int) []*Service {
	for n.kids != nil {
		k, _ := slices.BinarySearch(n.ends[c], i+1)
		if k > 0 {
			i -= n.ends[c][k-1]
		}
		n = n.kids[k]
	}
	return n.of[c][i:]
}
