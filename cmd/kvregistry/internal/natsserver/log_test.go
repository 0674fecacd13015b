package natsserver

import (
	"bytes"
	"strings"
	"testing"
)

// Text of a client in a line of the server's log does not control the terminal. Seen to fail with
// lines that are written as they come.
func TestLogSteersNothing(t *testing.T) {
	t.Parallel()
	const hostile = "a\x1b[31mred\x07\r\nforged: line\u202e\u009b\xff"
	var out bytes.Buffer
	log := &serverLog{out: &out}
	log.Errorf("Invalid JSON on %q and %s", hostile, hostile)
	log.Warnf("%s", hostile)
	if text := out.String(); strings.ContainsAny(text, "\x1b\x07\r\u202e\u009b") ||
		strings.Count(text, "\n") != 2 {
		t.Errorf("%q", text)
	}
}
