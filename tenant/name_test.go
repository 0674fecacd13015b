package tenant

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// legal matches a token: it has nothing that NATS reads as a separator or a wildcard.
var legal = regexp.MustCompile(`^[A-Za-z0-9_=-]+$`)

func TestTokenRoundTrip(t *testing.T) {
	for _, tc := range []struct{ name, token string }{
		{"web", "web"},
		{"Web-1_b", "Web-1_b"},
		{"my.service", "my=2Eservice"},
		{"a=b", "a=3Db"},
		{"a=2Eb", "a=3D2Eb"}, // this looks like an escape and is none
		{"*", "=2A"},
		{">", "=3E"},
		{"a b", "a=20b"},
		{"$KV/x", "=24KV=2Fx"},
		{"\x00\n\x7f", "=00=0A=7F"},
		{"größe", "gr=C3=B6=C3=9Fe"},
		{"日", "=E6=97=A5"},
		{"\uFFFD", "=EF=BF=BD"}, // the replacement character itself is valid
		{strings.Repeat("x", MaxName), strings.Repeat("x", MaxName)},
		{strings.Repeat(".", MaxName), strings.Repeat("=2E", MaxName)},
	} {
		token, err := EncodeToken(tc.name)
		if err != nil {
			t.Errorf("EncodeToken(%q): %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.token, token); diff != "" {
			t.Errorf("EncodeToken(%q) (-want +got):\n%s", tc.name, diff)
		}
		if !legal.MatchString(token) {
			t.Errorf("EncodeToken(%q) = %q, not one token of letters, digits, '-', '_' and '='",
				tc.name, token)
		}
		back, err := decodeToken(token)
		if err != nil {
			t.Errorf("decodeToken(%q): %v", token, err)
		}
		if diff := cmp.Diff(tc.name, back); diff != "" {
			t.Errorf("decodeToken(%q) (-want +got):\n%s", token, diff)
		}
	}
}

// TestTokenInjective tries every name of up to three bytes over an alphabet with the letters of an
// escape.
func TestTokenInjective(t *testing.T) {
	const alphabet = "a2E=.*>-_ "
	names := []string{""}
	of := map[string]string{}
	for from := 0; len(names[len(names)-1]) < 3; {
		end := len(names)
		for _, prefix := range names[from:end] {
			for _, c := range alphabet {
				names = append(names, prefix+string(c))
			}
		}
		from = end
	}
	for _, name := range names[1:] {
		token, err := EncodeToken(name)
		if err != nil {
			t.Fatalf("EncodeToken(%q): %v", name, err)
		}
		if other, taken := of[token]; taken {
			t.Errorf("%q and %q share the token %q", name, other, token)
		}
		of[token] = name
	}
	if want := 10 + 100 + 1000; len(of) != want {
		t.Errorf("%d tokens, want %d", len(of), want)
	}
}

func TestEncodeTokenRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":          "",
		"too long":       strings.Repeat("x", MaxName+1),
		"not UTF-8":      "a\xff",
		"half a rune":    "\xc3",
		"overlong slash": "\xc0\xaf",
		"a surrogate":    "\xed\xa0\x80",
	} {
		if got, err := EncodeToken(in); !errors.Is(err, ErrInvalidName) || got != "" {
			t.Errorf("%s: EncodeToken(%q) = %q, %v; want ErrInvalidName", name, in, got, err)
		}
	}
}

func TestDecodeTokenRefuses(t *testing.T) {
	for name, token := range map[string]string{
		"empty":                   "",
		"a dot":                   "a.b",
		"a wildcard":              "*",
		"a tail wildcard":         ">",
		"a space":                 "a b",
		"no hexadecimal":          "=",
		"one digit":               "=2",
		"one digit after a name":  "a=2",
		"not hexadecimal":         "=2G",
		"lower case":              "=2e",
		"a plain byte escaped":    "=41",
		"a hyphen escaped":        "=2D",
		"an underscore escaped":   "=5F",
		"not UTF-8":               "=FF",
		"half a rune":             "a=C3",
		"a byte that is no ASCII": "ö",
		"too long":                strings.Repeat("x", MaxName+1),
		"too long when decoded":   strings.Repeat("=2E", MaxName+1),
	} {
		if got, err := decodeToken(token); !errors.Is(err, ErrInvalidName) || got != "" {
			t.Errorf("%s: decodeToken(%q) = %q, %v; want ErrInvalidName", name, token, got, err)
		}
	}
}

func TestBucketName(t *testing.T) {
	long := strings.Repeat("t", maxTenant)
	for _, tc := range []struct {
		tenant, want string
		err          error
	}{
		{"default", "registry_default", nil},
		{"A-1_b", "registry_A-1_b", nil},
		{long, "registry_" + long, nil},
		{"", "", ErrInvalidTenant},
		{long + "t", "", ErrInvalidTenant},
		{"a.b", "", ErrInvalidTenant},
		{"a*", "", ErrInvalidTenant},
		{">", "", ErrInvalidTenant},
		{"a b", "", ErrInvalidTenant},
		{"a=2E", "", ErrInvalidTenant},
		{"ö", "", ErrInvalidTenant},
		{"a\n", "", ErrInvalidTenant},
	} {
		got, err := BucketName(tc.tenant)
		if !errors.Is(err, tc.err) || got != tc.want {
			t.Errorf("BucketName(%q) = %q, %v; want %q, %v", tc.tenant, got, err, tc.want, tc.err)
		}
	}
}

// FuzzToken takes its bytes for a name and for a token. What one function accepts, the other
// returns.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"web", "my.service", "a=b", "=2E", "=2e", "=41", "größe", "\xff",
		"*", ">", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if token, err := EncodeToken(in); err == nil {
			if !legal.MatchString(token) {
				t.Errorf("EncodeToken(%q) = %q, not one token", in, token)
			}
			if back, err := decodeToken(token); err != nil || back != in {
				t.Errorf("decodeToken(%q) = %q, %v; want %q", token, back, err, in)
			}
		} else if !errors.Is(err, ErrInvalidName) {
			t.Errorf("EncodeToken(%q): %v, want ErrInvalidName", in, err)
		}
		if name, err := decodeToken(in); err == nil {
			if again, err := EncodeToken(name); err != nil || again != in {
				t.Errorf("EncodeToken(%q) = %q, %v; want %q: a name has one token",
					name, again, err, in)
			}
		} else if !errors.Is(err, ErrInvalidName) {
			t.Errorf("decodeToken(%q): %v, want ErrInvalidName", in, err)
		}
	})
}
