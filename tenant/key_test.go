package tenant

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServiceKey(t *testing.T) {
	long := strings.Repeat("x", MaxName+1)
	for _, tc := range []struct {
		service, id, key, filter string
		keyErr, filterErr        error
	}{
		{"web", "1", "svc.web.1", "svc.web.*", nil, nil},
		{"my.service", "host:80", "svc.my=2Eservice.host=3A80", "svc.my=2Eservice.*", nil, nil},
		{"**", ">", "svc.=2A=2A.=3E", "svc.=2A=2A.*", nil, nil},
		{"web", "*", "svc.web.=2A", "svc.web.*", nil, nil},
		{"*", "1", "", "", ErrInvalidName, ErrInvalidName}, // it stands for all services
		{"svc", "lease", "svc.svc.lease", "svc.svc.*", nil, nil},
		{"", "1", "", "", ErrInvalidName, ErrInvalidName},
		{"web", "", "", "svc.web.*", ErrInvalidName, nil},
		{long, "1", "", "", ErrInvalidName, ErrInvalidName},
		{"web", long, "", "svc.web.*", ErrInvalidName, nil},
		{"\xff", "1", "", "", ErrInvalidName, ErrInvalidName},
	} {
		key, err := ServiceKey(tc.service, tc.id)
		if !errors.Is(err, tc.keyErr) {
			t.Errorf("ServiceKey(%q, %q): %v, want %v", tc.service, tc.id, err, tc.keyErr)
		}
		if diff := cmp.Diff(tc.key, key); diff != "" {
			t.Errorf("ServiceKey(%q, %q) (-want +got):\n%s", tc.service, tc.id, diff)
		}
		filter, err := ServiceFilter(tc.service)
		if !errors.Is(err, tc.filterErr) {
			t.Errorf("ServiceFilter(%q): %v, want %v", tc.service, err, tc.filterErr)
		}
		if diff := cmp.Diff(tc.filter, filter); diff != "" {
			t.Errorf("ServiceFilter(%q) (-want +got):\n%s", tc.service, diff)
		}
	}
}

func TestParseServiceKey(t *testing.T) {
	type parsed struct {
		Service, ID string
		OK          bool
	}
	for _, tc := range []struct {
		key  string
		want parsed
	}{
		{"svc.web.1", parsed{"web", "1", true}},
		{"svc.my=2Eservice.host=3A80", parsed{"my.service", "host:80", true}},
		{"svc.=2A=2A.=3E", parsed{"**", ">", true}},
		{"svc.web.=2A", parsed{"web", "*", true}},
		{"svc.svc.svc", parsed{"svc", "svc", true}},
		{key: ""},
		{key: "svc"},
		{key: "svc."},
		{key: "svc.web"},
		{key: "svc.web."},
		{key: "svc..1"},
		{key: "svc.web.1.2"},
		{key: "svc.web.*"},
		{key: "svc.>"},
		{key: "SVC.web.1"},
		{key: "svc.we=2eb.1"}, // lower case: ServiceKey does not write it
		{key: "svc.web.=31"},  // a digit needs no escape
		{key: "svc.web.=FF"},
		{key: "svc.=2A.1"}, // no service may have the name *
		{key: "lease.web.1"},
		{key: SlotKey(0)},
	} {
		var got parsed
		got.Service, got.ID, got.OK = ParseServiceKey(tc.key)
		if !got.OK { // the value beside false means nothing
			got = parsed{}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("ParseServiceKey(%q) (-want +got):\n%s", tc.key, diff)
		}
	}
}

// TestServiceKeyRoundTrip checks that no service and id reach another's key.
func TestServiceKeyRoundTrip(t *testing.T) {
	names := []string{"a", "b", "a.b", ".", "..", "a.", ".a", "**", ">", "=", "=2E", "a=2Eb", "svc",
		"ä", " "}
	type pair struct{ Service, ID string }
	seen := map[string]pair{}
	for _, service := range names {
		for _, id := range names {
			key, err := ServiceKey(service, id)
			if err != nil {
				t.Fatalf("ServiceKey(%q, %q): %v", service, id, err)
			}
			want := pair{service, id}
			if other, taken := seen[key]; taken {
				t.Errorf("%v and %v share the key %q", want, other, key)
			}
			seen[key] = want
			s, i, ok := ParseServiceKey(key)
			if diff := cmp.Diff(want, pair{s, i}); diff != "" || !ok {
				t.Errorf("ParseServiceKey(%q), ok %v (-want +got):\n%s", key, ok, diff)
			}
		}
	}
}

func TestLeaseKey(t *testing.T) {
	longest := strings.Repeat("x", MaxName)
	for _, tc := range []struct {
		key, id string
		ok      bool
	}{
		{"lease.ABC", "ABC", true},
		{"lease." + longest, longest, true},
		{"lease.x" + longest, "", false},
		{"lease.", "", false},
		{"lease", "", false},
		{"", "", false},
		{"svc.lease.1", "", false},
		{SlotKey(0), "", false},
	} {
		id, ok := ParseLeaseKey(tc.key)
		if ok != tc.ok || ok && id != tc.id {
			t.Errorf("ParseLeaseKey(%q) = %q, %v; want %q, %v", tc.key, id, ok, tc.id, tc.ok)
		}
		if diff := cmp.Diff(tc.key, LeaseKey(id)); ok && diff != "" {
			t.Errorf("LeaseKey(%q) (-want +got):\n%s", id, diff)
		}
	}
}

// No name reaches another's line, and no line a service's keys. A reaper may purge registrations
// and tickets only.
func TestLockFilter(t *testing.T) {
	for name, want := range map[string]string{"job": "lock.job.*", "a.b": "lock.a=2Eb.*",
		"*": "lock.=2A.*", ">": "lock.=3E.*"} {
		if got, err := LockFilter(name); got != want || err != nil {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "\xff", strings.Repeat("x", MaxName+1)} {
		if got, err := LockFilter(name); !errors.Is(err, ErrInvalidName) {
			t.Errorf("%.10q: %q, %v", name, got, err)
		}
	}
	for key, want := range map[string]bool{
		"svc.web.1": true, "lock.job.X": true, "lease.L": false, "sweep": false, "svc": false,
		"lock": false, "locks.job.X": false, "": false,
	} {
		if ByLease(key) != want {
			t.Errorf("ByLease(%q) is %v", key, !want)
		}
	}
}

// A ticket's key tells its name and its id, and no key of another kind does. Seen to fail with keys
// of any kind.
func TestParseTicketKey(t *testing.T) {
	filter, err := LockFilter("a.b")
	if err != nil {
		t.Fatal(err)
	}
	if name, id, ok := ParseTicketKey(TicketKey(filter, "x1")); !ok || name != "a.b" || id != "x1" {
		t.Errorf("%q %q %t", name, id, ok)
	}
	for _, key := range []string{"svc.a.x1", "lease.x1", "lock.a", "lock.", "lock.*.x", ""} {
		if name, id, ok := ParseTicketKey(key); ok {
			t.Errorf("%q is %q %q", key, name, id)
		}
	}
}
