package natsserver

import (
	"fmt"
	"io"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
)

// serverLog passes on the server's warnings, and keeps why it could not start, which an embedded
// server only logs.
type serverLog struct {
	out   io.Writer
	fatal chan string // holds one
}

func (l *serverLog) Fatalf(format string, args ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, args...):
	default:
	}
}

func (l *serverLog) Errorf(format string, args ...any) { l.write("error", format, args) }
func (l *serverLog) Warnf(format string, args ...any)  { l.write("warning", format, args) }
func (l *serverLog) Noticef(string, ...any)            {}
func (l *serverLog) Debugf(string, ...any)             {}
func (l *serverLog) Tracef(string, ...any)             {}

func (l *serverLog) write(level, format string, args []any) {
	text := cli.Escape(fmt.Sprintf(format, args...))
	_, _ = fmt.Fprintf(l.out, "nats-server: %s: %s\n", level, text)
}
