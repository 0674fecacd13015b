package natstest

import (
	"log/slog"
	"strings"
	"sync"
)

// Log holds what was written to it, and may be read meanwhile. The zero value is empty. Its methods may be called by any number of goroutines.
type Log struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Logger is a logger that writes to it, a line each.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Count is how many times it has a text.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// With are its lines that have a text.
func (l *Log) With(text string) (list []string) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}
