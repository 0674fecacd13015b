package debug

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// longest is how many bytes of a text are shown.
const longest = 256

// short returns a copy of the beginning of a text, which keeps no longer text in memory.
func short(text string) string {
	if len(text) <= longest {
		return strings.Clone(text)
	}
	end := longest
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// quote quotes a text from outside, so that it has nothing that steers a terminal, and no line of
// its own.
func quote(text string) string { return strconv.Quote(text) }

// printable escapes what JSON leaves as it is and a terminal may obey: control characters above
// ASCII's, and marks that change the direction of the text.
func printable(json []byte) []byte {
	list := make([]byte, 0, len(json))
	for _, r := range string(json) {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			list = utf8.AppendRune(list, r)
		case r > 0xffff:
			a, b := utf16.EncodeRune(r)
			list = fmt.Appendf(list, `\u%04x\u%04x`, a, b)
		default:
			list = fmt.Appendf(list, `\u%04x`, r)
		}
	}
	return list
}

// hidden stands for what is not shown.
const hidden = "xxxxx"

// redact returns the text of an address or a URL without a password. A user without a password may
// be a token, and so may a query: they are not shown either. Of a URL that does not parse nobody
// knows where its password ends.
func redact(text string) string {
	if !strings.Contains(text, ":/") && !strings.Contains(text, "@") {
		return text // host:port, or a socket's path
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Host == "" && strings.Contains(text, "@") {
		return hidden
	}
	if u.User != nil {
		u.User = url.User(hidden)
	}
	if u.RawQuery != "" {
		u.RawQuery = hidden
	}
	if u.Fragment != "" {
		u.Fragment, u.RawFragment = hidden, ""
	}
	return u.String()
}
