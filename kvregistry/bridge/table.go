package bridge

import "iter"

// place identifies a plain process's instance: the name and the address, and the host if the
// address is the same on each host.
type place struct{ name, address, host string }

// table holds values at places, by name and then by place.
type table[T any] struct {
	of map[string]map[place]*T
	n  int // how many there are
}

func (t *table[T]) at(p place) *T { return t.of[p.name][p] }

// add puts a value at a place that is free.
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

// named yields the values of a name. The loop may remove them.
func (t *table[T]) named(name string) iter.Seq2[place, *T] {
	return func(yield func(place, *T) bool) {
		for p, one := range t.of[name] {
			if !yield(p, one) {
				return
			}
		}
	}
}

// all yields all values. The loop may remove them.
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
