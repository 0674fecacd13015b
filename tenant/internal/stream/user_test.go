package stream

import "testing"

// Permissions allow what they list and do not deny, as a server takes them. Seen to fail with a
// pattern that allows what it is a prefix of.
func TestPermissionsInclude(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		allow, deny []string
		subject     string
		want        bool
	}{
		{nil, nil, "a.b", true},
		{[]string{"a.*"}, nil, "a.b", true},
		{[]string{"a.*"}, nil, "a.b.c", false},
		{[]string{"a.>"}, nil, "a.b.c", true},
		{[]string{"a.>"}, nil, "a", false},
		{[]string{"a"}, nil, "a.b", false},
		{[]string{"x", "a.b"}, nil, "a.b", true},
		{[]string{">"}, []string{"a.*"}, "a.b", false},
		{nil, []string{"a.b"}, "a.c", true},
		{nil, []string{"a.b"}, "a.>", false},
		{[]string{"a.*"}, nil, "a.>", false},
		{[]string{"a.*"}, nil, "a.*", true},
		{[]string{"a.>"}, nil, "a.b.*", true},
	} {
		if got := (Grants{c.allow, c.deny}).Include(c.subject); got != c.want {
			t.Errorf("allow %q, deny %q: %q is %v, want %v",
				c.allow, c.deny, c.subject, got, c.want)
		}
	}
}
