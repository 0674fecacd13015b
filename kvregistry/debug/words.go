package debug

import (
	"strconv"
	"strings"

	"github.com/kvregistry/go/internal/shown"
)

// longest is how many bytes of a text are shown.
const longest = 256

// short returns a copy of the beginning of a text, which keeps no longer text in memory.
func short(text string) string { return strings.Clone(shown.Cut(text, longest)) }

// quote quotes a text from outside, so that it has nothing that steers a terminal, and no line of
// its own.
func quote(text string) string { return strconv.Quote(text) }
