// Package journal logs for a registry that must not wait for the user's log handler.
//
// A line is logged either by the goroutine of a user's call, or by the backlog: one goroutine that
// nothing but [Journal.Close] waits for. Lines of one text are merged when there are many.
package journal

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"
)

// A line of one text may come [Burst] times at once, and then once in [Interval]. Journal tells
// what comes beyond that together, once in Interval.
const (
	Burst    = 20
	Interval = time.Second
)

// Journal logs through the user's handler. All of its methods may be called by any number of
// goroutines. It holds no lock while the handler runs.
type Journal struct {
	log     *slog.Logger // the user's
	backlog backlog

	mu     sync.Mutex // guards what follows
	kinds  map[string]*kind
	closed bool
}

// kind is what is known of the lines with one text.
type kind struct {
	free  float64 // how many may come now
	at    time.Time
	held  int         // changes that are to be told together
	timer *time.Timer // tells them; nil while none are held
}

// New makes a journal.
func New(log *slog.Logger) *Journal {
	return &Journal{log: log, kinds: map[string]*kind{}}
}

// Logger returns a logger whose lines the backlog logs.
func (j *Journal) Logger() *slog.Logger { return slog.New(handler{j.log.Handler(), &j.backlog}) }

// Say logs a line about n changes in the caller's goroutine, or holds the changes for the next line
// with this text. It is for goroutines that the user called from.
func (j *Journal) Say(line string, n int, args ...any) {
	if !j.holds(line, n) {
		j.log.Info(line, args...)
	}
}

// SayLater is [Journal.Say] by the backlog. It is for all other goroutines, because a log handler
// may be slow or close the registry.
func (j *Journal) SayLater(line string, n int, args ...any) {
	j.backlog.add(func() { j.Say(line, n, args...) })
}

// holds reports whether a line came too often to be logged now.
func (j *Journal) holds(line string, n int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	k, now := j.kinds[line], time.Now()
	if k == nil {
		k = &kind{free: Burst, at: now}
		j.kinds[line] = k
	}
	k.free = min(Burst, k.free+now.Sub(k.at).Seconds()/Interval.Seconds())
	k.at = now
	if k.free >= 1 {
		k.free--
		return false
	}
	k.held += n
	if k.timer == nil && !j.closed {
		k.timer = time.AfterFunc(Interval, func() { j.tellHeld(line) }) // Close stops it
	}
	return true
}

// tellHeld has the backlog log what was held of a text.
func (j *Journal) tellHeld(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k := j.kinds[line]
	if n := k.held; n > 0 {
		j.backlog.add(func() { j.log.Info(line, "times", n) })
	}
	k.held, k.free, k.at, k.timer = 0, 0, time.Now(), nil
}

// Close logs what is held, and waits for the backlog until ctx ends. After that nothing is logged.
func (j *Journal) Close(ctx context.Context) {
	j.mu.Lock()
	j.closed = true
	var held []string
	for line, k := range j.kinds {
		if k.timer != nil && k.timer.Stop() {
			held = append(held, line)
		}
	}
	j.mu.Unlock()
	for _, line := range held {
		j.tellHeld(line)
	}
	j.backlog.close(ctx)
}

// Plain returns a text from outside in a form for log lines. It quotes a text that has characters
// which can't be printed, so that the text steers no terminal, whatever the handler prints.
func Plain(text string) string {
	if quoted := strconv.Quote(text); len(quoted) != len(text)+len(`""`) {
		return quoted
	}
	return text
}
