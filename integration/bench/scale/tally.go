package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// tally counts the warnings of registries, by their text. Under too much load they repeat the same
// warnings.
type tally struct {
	mu    sync.Mutex // guards what follows
	times map[string]int
}

func (t *tally) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (t *tally) Handle(_ context.Context, r slog.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.times[r.Message]++
	return nil
}

func (t *tally) WithAttrs([]slog.Attr) slog.Handler { return t }

func (t *tally) WithGroup(string) slog.Handler { return t }

func (t *tally) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(t.times)) {
		_, _ = fmt.Fprintf(w, "\n%d times: %s\n", t.times[text], text)
	}
}
