package lease

import (
	"testing"
	"time"
)

// A proof is a chain of committed writes without a gap. Seen to fail with a chain that outlives a
// gap, with gaps counted from when a write was known to be committed, and with a proof that never
// becomes too old.
func TestProof(t *testing.T) {
	at := time.Now()
	sec := func(n int) time.Time { return at.Add(time.Duration(n) * time.Second) }
	type write struct{ begun, known int }
	tests := map[string]struct {
		writes []write
		now    int
		holds  bool
	}{
		"none":         {nil, 10, false},
		"young":        {[]write{{0, 0}, {2, 2}}, 3, false},
		"old enough":   {[]write{{0, 0}, {2, 2}, {4, 4}, {6, 6}}, 6, true},
		"too long ago": {[]write{{0, 0}, {2, 2}, {4, 4}, {6, 6}}, 10, false},
		"a gap":        {[]write{{0, 0}, {2, 2}, {6, 6}, {8, 8}}, 8, false},
		"over after a gap": {[]write{{0, 0}, {6, 6}, {8, 8}, {10, 10}, {12, 12}}, 12,
			true},
		"late answers hide no gap":  {[]write{{0, 0}, {1, 3}, {3, 6}, {5, 7}, {7, 9}}, 9, false},
		"late answers are no later": {[]write{{0, 0}, {1, 3}, {4, 5}, {6, 7}}, 7, false},
		"an early one comes late":   {[]write{{0, 0}, {2, 2}, {4, 4}, {3, 5}, {6, 6}}, 7, true},
	}
	for name, tt := range tests {
		p := proof{gap: 3 * time.Second}
		for _, w := range tt.writes {
			p.add(sec(w.begun), sec(w.known))
		}
		if got := p.holds(sec(tt.now), 5*time.Second); got != tt.holds {
			t.Errorf("%s: holds is %v", name, got)
		}
	}
	p := proof{gap: 3 * time.Second}
	p.add(sec(0), sec(0))
	if p.extend(sec(0), 5*time.Second); !p.holds(sec(0), 5*time.Second) {
		t.Error("an extended proof does not hold")
	}
	if p.lose(); p.holds(sec(0), 0) {
		t.Error("a lost proof holds")
	}
}
