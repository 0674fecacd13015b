package main

import "testing"

// Each mutation still fits the source, and each of the eleven invariants has one. The program finds
// out whether a test catches it.
func TestListFitsTheSource(t *testing.T) {
	ms, err := parse(listed)
	if err != nil {
		t.Fatal(err)
	}
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	names, invariants := map[string]bool{}, map[int]bool{}
	for _, m := range ms {
		if names[m.name] {
			t.Errorf("mutation %s is listed twice", m.name)
		}
		if m.invariant < 1 || m.invariant > 11 {
			t.Errorf("mutation %s: there is no invariant %d", m.name, m.invariant)
		}
		names[m.name], invariants[m.invariant] = true, true
		if _, err := m.apply(root); err != nil {
			t.Error(err)
		}
	}
	for i := 1; i <= 11; i++ {
		if !invariants[i] {
			t.Errorf("invariant %d has no mutation", i)
		}
	}
}
