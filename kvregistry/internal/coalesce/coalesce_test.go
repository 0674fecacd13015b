package coalesce

import "testing"

// A key that comes and goes between two reads leaves nothing behind. Seen to fail without tidy.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	q := New[string](func(int, int) (int, bool) { return 0, false })
	q.Add("b", 7)
	for i := range 1000 {
		q.Add("a", i)
		q.Add("a", i)
		if order, pending := len(q.order), len(q.pending); order < pending || order > 2*pending+16 {
			t.Fatalf("%d entries are pending, and %d are in the order", pending, order)
		}
	}
	if e, ok := q.Take(); e != 7 || !ok {
		t.Errorf("Take = %d, %t", e, ok)
	}
	if e, ok := q.Take(); ok {
		t.Errorf("Take = %d of an empty queue", e)
	}
}
