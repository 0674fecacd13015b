package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Streams are where a command reads and writes. Out and Err escape what is not printable, so that
// foreign text cannot control a terminal.
type Streams struct {
	In  io.Reader
	Out io.Writer // what was asked for
	Err io.Writer // messages; secrets are left out

	raw io.Writer // Out without its escaping, for text that is escaped already
}

// NewStreams returns the streams of a command that reads and writes these.
func NewStreams(in io.Reader, out, err io.Writer) Streams {
	return Streams{in, printed{out, nil}, printed{err, hidden}, out}
}

// Raw is Out without its escaping. What is written to it must hold no foreign text that is not
// escaped: see [Escape].
func (s Streams) Raw() io.Writer { return s.raw }

// Terminal reports whether a person reads Out on a terminal.
func (s Streams) Terminal() bool { return isTerminal(s.raw) }

// Colours reports whether Out may be coloured: it is a terminal, and NO_COLOR is not set.
func (s Streams) Colours() bool { return s.Terminal() && os.Getenv("NO_COLOR") == "" }

// Watched reports whether a person sees Err on a terminal, for messages on progress.
func (s Streams) Watched() bool {
	p, ok := s.Err.(printed)
	return ok && isTerminal(p.out)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
