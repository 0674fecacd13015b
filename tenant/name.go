package tenant

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxName is the longest service name or instance id, in bytes of UTF-8 before encoding.
const MaxName = 255

// maxTenant is the longest tenant name, in bytes.
const maxTenant = 64

const upperHex = "0123456789ABCDEF"

// plain reports whether c stands for itself in a key token.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '_'
}

// EncodeToken turns a name into one key token. Letters, digits, '-' and '_' stay as they are;
// every other byte of the name's UTF-8 becomes '=' and two upper-case hexadecimal digits, as in
// quoted-printable: "my.service" is "my=2Eservice". No two names share a token.
//
// The error wraps [ErrInvalidName] if the name is empty, longer than [MaxName] bytes or not
// UTF-8.
func EncodeToken(name string) (string, error) {
	switch {
	case name == "":
		return "", fmt.Errorf("%w: it is empty", ErrInvalidName)
	case len(name) > MaxName:
		return "", fmt.Errorf("%w: %.40q… has %d bytes, at most %d are allowed",
			ErrInvalidName, name, len(name), MaxName)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("%w: %q is not valid UTF-8", ErrInvalidName, name)
	}
	escapes := 0
	for i := range len(name) {
		if !plain(name[i]) {
			escapes++
		}
	}
	if escapes == 0 {
		return name, nil
	}
	var b strings.Builder
	b.Grow(len(name) + 2*escapes)
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String(), nil
}

// decodeToken is the inverse of [EncodeToken]. It accepts nothing that EncodeToken does not
// produce, so a name has one token only; the error wraps [ErrInvalidName].
func decodeToken(token string) (string, error) {
	var b strings.Builder
	b.Grow(len(token))
	for i := 0; i < len(token); i++ {
		if plain(token[i]) {
			b.WriteByte(token[i])
			continue
		}
		if token[i] != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("%w: token %q", ErrInvalidName, token)
		}
		hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
		if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
			return "", fmt.Errorf("%w: token %q", ErrInvalidName, token)
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	name := b.String()
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) {
		return "", fmt.Errorf("%w: token %q", ErrInvalidName, token)
	}
	return name, nil
}

// BucketName is the bucket of a tenant, "registry_" and its name. A tenant's name is 1 to 64
// letters, digits, '-' and '_': it stands in subjects that an operator writes permissions for, so
// it is checked, not escaped. The error wraps [ErrInvalidTenant].
func BucketName(tenant string) (string, error) {
	if tenant == "" || len(tenant) > maxTenant {
		return "", fmt.Errorf("%w: %.80q has %d bytes; use 1 to %d",
			ErrInvalidTenant, tenant, len(tenant), maxTenant)
	}
	for _, r := range tenant {
		if r >= utf8.RuneSelf || !plain(byte(r)) {
			return "", fmt.Errorf("%w: %q has the character %q; use letters a to z, digits, '-' "+
				"and '_'", ErrInvalidTenant, tenant, r)
		}
	}
	return "registry_" + tenant, nil
}
