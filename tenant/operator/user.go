package operator

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kvregistry/go/tenant"
)

// User is an entry of a user with a password, for [AccountConfig] and for "users" in a
// nats-server's configuration file. Both stand quoted, so they may hold any characters.
// AccountConfig refuses an empty one.
func User(name, password string) string {
	return "user: " + quote(name) + ", password: " + quote(password)
}

// quote is a string of a nats-server's configuration file: nothing in it is a variable, a number
// or the end of the string.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == '"', r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			for _, c := range []byte(text[:n]) {
				_, _ = fmt.Fprintf(&b, `\x%02X`, c)
			}
		default:
			b.WriteRune(r)
		}
		text = text[n:]
	}
	b.WriteByte('"')
	return b.String()
}

// The entries that AccountConfig takes. A name without quotes around it has no comma.
var (
	withPassword = regexp.MustCompile(`^user\s*:\s*("(?:[^"\\]|\\.)*"|` +
		`'[^']*'|[^\s,"'][^,]*?)\s*,\s*password\s*:[ \t]?(.*)$`)
	certified = regexp.MustCompile(`^certificate\s*:\s*(\S.*?)\s*$`)
	withKey   = regexp.MustCompile(`^nkey\s*:\s*"?(U[A-Z2-7]{55})"?\s*$`)
	quoted    = regexp.MustCompile(`^"(?:[^"\\]|\\[tnr"\\]|\\x[0-9a-fA-F]{2})*"$`)

	// permissions are as Access.Config writes them, and no other text.
	permissions = regexp.MustCompile(
		`^permissions: \{\n(?:  (?:publish|subscribe): \{\n    allow: ` +
			`\[\n(?:      "[^"\\\n]*"\n)*    \]\n  \}\n)*\}\s*$`)
)

// entry is an entry of a user as it stands in the configuration: its values quoted, which a caller
// may have done already. The error does not quote it, for it may hold a password.
func entry(user string) (string, error) {
	line, rest, more := strings.Cut(strings.TrimLeft(user, " \t\r\n"), "\n")
	rest = strings.TrimLeft(rest, " \t\r\n")
	if more && rest != "" && !permissions.MatchString(rest) {
		return "", fmt.Errorf("operator: %w: what follows the first line of a user's entry "+
			"is not what Access.Config gives; "+
			"if the password has more than one line, use operator.User", tenant.ErrInvalidConfig)
	}
	login, key := withPassword.FindStringSubmatch(line), withKey.FindStringSubmatch(line)
	cert := certified.FindStringSubmatch(line)
	switch {
	case login != nil && value(login[1]) == "", cert != nil && value(cert[1]) == "":
		return "", fmt.Errorf("operator: %w: a user's name is empty", tenant.ErrInvalidConfig)
	case login != nil && value(login[2]) == "":
		return "", fmt.Errorf("operator: %w: a user's password is empty", tenant.ErrInvalidConfig)
	case login != nil:
		line = User(value(login[1]), value(login[2]))
	case cert != nil:
		line = "user: " + quote(value(cert[1]))
	case key != nil:
		line = "nkey: " + key[1]
	default:
		return "", fmt.Errorf("operator: %w: a user's entry is none of "+
			`"user: NAME, password: PASSWORD", "nkey: PUBLIC KEY" and, if the server maps client `+
			`certificates to users, "certificate: NAME"`, tenant.ErrInvalidConfig)
	}
	if rest != "" {
		line += "\n" + strings.TrimSpace(rest)
	}
	return strings.ReplaceAll(line, "\n", "\n    "), nil
}

// value is a value of an entry. Quotes around it that a caller wrote are not part of it.
func value(text string) string {
	if quoted.MatchString(text) && utf8.ValidString(text) {
		if inner, err := strconv.Unquote(text); err == nil { // whose escapes are among those of Go
			return inner
		}
	}
	if n := len(text); n > 1 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		return text[1 : n-1]
	}
	return text
}
