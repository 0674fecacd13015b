package integration

import (
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// history records what every process of a run did and saw, and the faults.
type history struct {
	mu      sync.Mutex
	entries []entry
	changed chan struct{} // closed at the next entry, and replaced
}

func (h *history) add(e entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.At == 0 {
		e.At = time.Now().UnixNano()
	}
	h.entries = append(h.entries, e)
	close(h.changed)
	h.changed = make(chan struct{})
}

// record adds each line that a process prints, until the process ends.
func (h *history) record(p *process) {
	for line := range p.lines {
		var e entry
		if json.Unmarshal([]byte(line), &e) == nil && e.What != "" {
			h.add(e)
		} else {
			p.t.Logf("a worker printed: %s", line)
		}
	}
}

// await waits for an entry of a worker after a time. It returns nil if none comes.
func (h *history) await(who, what string, since int64, within time.Duration) *entry {
	late := time.After(within)
	for from := 0; ; {
		h.mu.Lock()
		for ; from < len(h.entries); from++ {
			if e := h.entries[from]; e.Who == who && e.What == what && e.At >= since {
				h.mu.Unlock()
				return &e
			}
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-late:
			return nil
		}
	}
}

// sorted returns the history in the order of its times.
func (h *history) sorted() []entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := slices.Clone(h.entries)
	slices.SortStableFunc(list, func(a, b entry) int { return int(a.At - b.At) })
	return list
}

func newHistory() *history { return &history{changed: make(chan struct{})} }
