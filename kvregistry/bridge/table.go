package bridge

import "iter"

// place is what tells a plain process's instances apart: the name and the address, and the host where the address is the same on each.
type place struct{ name, address, host string }

// table holds what there is at places, by name and then by place.
type table[T any] struct {
	of map[string]map[place]*T
	n  int // how many there are
}

func (t *table[T]) at(p place) *T { return t.of[p.name][p] }

// add puts something at a place that is free.
func (t *table[T]) add(p place, one *T) {
	if t.of == nil {
		t.of = map[string]map[place]*T{}
	}
	if t.of[p.name] == nil {
		t.of[p.name] = map[place]*T{}
	}
	t.of[p.name][p] = one
	t.n++
}

// remove frees a place that is taken.
func (t *table[T]) remove(p place) {
	delete(t.of[p.name], p)
	if len(t.of[p.name]) == 0 {
		delete(t.of, p.name)
	}
	t.n--
}

// named yields what there is of a name. It may be removed meanwhile.
func (t *table[T]) named(name string) iter.Seq2[place, *T] {
	return func(yield func(place, *T) bool) {
		for p, one := range t.of[name] {
			if !yield(p, one) {
				return
			}
		}
	}
}

// all yields all there is. It may be removed meanwhile.
func (t *table[T]) all() iter.Seq2[place, *T] {
	return func(yield func(place, *T) bool) {
		for name := range t.of {
			for p, one := range t.named(name) {
				if !yield(p, one) {
					return
				}
			}
		}
	}
}
