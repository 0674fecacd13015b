package tenant

import (
	"errors"
	"strings"
	"testing"
)

// A name's token is one key token, readable where it can be, and turns back into that name alone.
func TestTokens(t *testing.T) {
	for name, want := range map[string]string{
		"web": "web", "Web-1_x": "Web-1_x", "my.service": "my=2Eservice", "a b": "a=20b", "=": "=3D", "é": "=C3=A9", "*": "=2A", ">": "=3E",
		"\x00": "=00", "$": "=24", strings.Repeat("x", MaxName): strings.Repeat("x", MaxName),
	} {
		got, err := EncodeToken(name)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
		if back, err := DecodeToken(got); err != nil || back != name {
			t.Errorf("%q came back as %q, %v", name, back, err)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", MaxName+1), "\xff", "a\xc3"} {
		if _, err := EncodeToken(name); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%.10q: %v", name, err)
		}
	}
	for _, token := range []string{"", "=", "=4", "=2e", "=61", "=ZZ", "a.b", "a b", "=FF", "é"} {
		if name, err := DecodeToken(token); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%q is no token, and came out as %q, %v", token, name, err)
		}
	}
}

func TestBucketName(t *testing.T) {
	if got, err := BucketName("acme_1-x"); err != nil || got != "registry_acme_1-x" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "a.b", "a b", "*", ">", "é", "a\x00", strings.Repeat("x", MaxTenant+1)} {
		if _, err := BucketName(bad); !errors.Is(err, ErrInvalidTenant) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
}

// Keys turn back into what they were made of, and into nothing else.
func TestServiceKeys(t *testing.T) {
	key, err := ServiceKey("my.web", "id 1")
	if err != nil || key != "svc.my=2Eweb.id=201" {
		t.Fatalf("got %q, %v", key, err)
	}
	if service, id, ok := ParseServiceKey(key); !ok || service != "my.web" || id != "id 1" {
		t.Errorf("came back as %q, %q, %v", service, id, ok)
	}
	for _, bad := range []string{"", "svc", "svc.", "svc.web", "svc.web.", "svc..1", "svc.web.1.2", "lease.x", "sweep", "svc.=61.1"} {
		if _, _, ok := ParseServiceKey(bad); ok {
			t.Errorf("%q is no registration's key", bad)
		}
	}
	if id, ok := ParseLeaseKey(LeaseKey("X")); !ok || id != "X" {
		t.Errorf("lease came back as %q, %v", id, ok)
	}
	for _, bad := range []string{"lease.", "lease", "svc.a.b"} {
		if _, ok := ParseLeaseKey(bad); ok {
			t.Errorf("%q is no lease's key", bad)
		}
	}
}

// Encoding is a bijection between names and tokens: what encodes decodes to itself, and what decodes encodes to itself.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{"web", "my.service", "=2E", "é", "\xff", "", "*>", "=61"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if token, err := EncodeToken(s); err == nil {
			if strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=") != "" {
				t.Errorf("%q gave the token %q", s, token)
			}
			if back, err := DecodeToken(token); err != nil || back != s {
				t.Errorf("%q came back as %q, %v", s, back, err)
			}
		}
		if name, err := DecodeToken(s); err == nil {
			if again, err := EncodeToken(name); err != nil || again != s {
				t.Errorf("token %q is %q, whose token is %q, %v", s, name, again, err)
			}
		}
	})
}
