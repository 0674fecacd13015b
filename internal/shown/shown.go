// Package shown makes texts from outside fit to be shown to people: without secrets, in a length
// that a list can have, and with no character that steers a terminal.
package shown

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// hidden stands for what is not shown.
const hidden = "xxxxx"

// Redact returns the text of an address or a URL without a password. A user without a password may
// be a token, and so may a query and a fragment: they are not shown either. A URL that does not
// parse is hidden whole, because its password may end anywhere.
func Redact(text string) string {
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

// Cut returns the beginning of a text: of a text of more than most bytes, whole characters in at
// most so many bytes, and an ellipsis.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	end := most
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// Printable escapes what JSON leaves as it is and a terminal may obey: control characters above
// ASCII's, and marks that change the direction of the text. The result is the same JSON.
func Printable(json []byte) []byte {
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
