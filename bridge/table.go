package bridge

import "iter"

// place is what tells a plain process's instances apart: the name and the address.
type place struct{ name, address string }

// table holds what there is at places, by name and then by address.
type table[T any] struct {
	of map[string]map[string]*T
	n  int // how many there are
}

func (t *table[T]) at(p place) *T { return t.of[p.name][p.address] }

// add puts something at a place that is free.
func (t *table[T]) add(p place, one *T) {
	if t.of == nil {
		t.of = map[string]map[string]*T{}
	}
	if t.of[p.name] == nil {
		t.of[p.name] = map[string]*T{}
	}
	t.of[p.name][p.address] = one
	t.n++
}

// remove frees a place that is taken.
func (t *table[T]) remove(p place) {
	delete(t.of[p.name], p.address)
	if len(t.of[p.name]) == 0 {
		delete(t.of, p.name)
	}
	t.n--
}

// named yields what there is of a name. It may be removed meanwhile.
func (t *table[T]) named(name string) iter.Seq2[place, *T] {
	return func(yield func(place, *T) bool) {
		for address, one := range t.of[name] {
			if !yield(place{name, address}, one) {
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
