package natstest

import (
	"log/slog"
	"strings"
	"sync"
)

// Log holds the text that was written to it, and may be read meanwhile. The zero value is empty.
// Any number of goroutines may call its methods.
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

// Logger returns a logger that writes to the Log, one line for each record.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Count returns how many times the Log has a text.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// With returns the lines that have a text.
func (l *Log) With(text string) (list []string) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}
