package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printed writes lines for people. It escapes what is not printable, as a Go string does, so that
// no foreign text controls the terminal. A tab and the end of a line stay.
type printed struct {
	out    io.Writer
	filter func(text string) string // removes what must not be printed; nil keeps all
}

func (p printed) Write(text []byte) (int, error) {
	s := escaped(string(text), "\n\t")
	if p.filter != nil {
		s = p.filter(s)
	}
	if _, err := io.WriteString(p.out, s); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Escape returns foreign text as a part of a line: what is not printable is escaped.
func Escape(text string) string { return escaped(text, "") }

// escaped escapes what is not printable, except the characters to keep.
func escaped(text, keep string) string {
	clean := true
	for _, r := range text {
		clean = clean && r != utf8.RuneError && (unicode.IsPrint(r) ||
			strings.ContainsRune(keep, r))
	}
	if clean {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			_, _ = fmt.Fprintf(&b, `\x%02x`, text[0])
		case unicode.IsPrint(r), strings.ContainsRune(keep, r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		text = text[n:]
	}
	return b.String()
}
