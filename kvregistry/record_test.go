package kvregistry

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A record is read as it was written, whatever a later version adds to it.
func TestRecordRoundTrip(t *testing.T) {
	want := Service{
		ID: "a.b", Name: "web", Version: "1", Network: "tcp", Address: "h:1", URL: "http://h", Host: "h", Zone: "z", Tags: []string{"x"},
		Metadata: map[string]string{"k": "v"}, Weight: 2, Status: Warning,
	}
	data, err := encode(want, "L", "O")
	if err != nil {
		t.Fatal(err)
	}
	data = []byte(strings.Replace(string(data), `"format":1`, `"format":1,"new":[{"x":1}]`, 1))
	rec, err := decode("svc.web.a=2Eb", data, 7)
	if err != nil || rec.Lease != "L" || rec.Owner != "O" || rec.Instance.Revision != 7 {
		t.Fatalf("%+v, %v", rec, err)
	}
	if diff := cmp.Diff(want, rec.Instance, cmpopts.IgnoreFields(Service{}, "Revision")); diff != "" {
		t.Error(diff)
	}
	if id, ok := leaseOf(data); !ok || id != "L" {
		t.Errorf("its lease is %q, %v", id, ok)
	}
}

// What is no registration is refused, each for its reason.
func TestRecordsThatCantBeRead(t *testing.T) {
	for value, want := range map[string]error{
		`{"format":2,"lease":"L","instance":{"id":"1","name":"web"}}`:                errNewer,
		`{"format":2,"instance":"another shape"}`:                                    errNewer,
		`{"format":1,"instance":{"id":"1","name":"web"}}`:                            errNoLease,
		`{"format":1,"lease":"L","instance":{"id":"2","name":"web"}}`:                errForeign,
		`{"format":1,"lease":"L","instance":{"id":"1","name":"other"}}`:              errForeign,
		`{"format":1,"lease":"L","instance":{"id":"1","name":"web","status":"odd"}}`: errStatus,
		``:                    nil,
		`null`:                nil,
		`{}`:                  nil,
		`[1]`:                 nil,
		`{"format":0}`:        nil,
		`{"format":"1"}`:      nil,
		"\x00\xff":            nil,
		`{"format":1,"lease"`: nil,
	} {
		if _, err := decode("svc.web.1", []byte(value), 1); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", value, err, want)
		}
	}
	if _, err := decode("svc.web", []byte(`{"format":1,"lease":"L","instance":{"id":"1","name":"web"}}`), 1); !errors.Is(err, errNotKey) {
		t.Errorf("a key that is none: %v", err)
	}
}

// Whatever the bytes, reading them ends in a registration of that key, or in an error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"lease":"L","owner":"O","instance":{"id":"1","name":"web","tags":["x"],"metadata":{"k":"v"}}}`))
	f.Add([]byte(`{"format":9}`))
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Fuzz(func(t *testing.T, value []byte) {
		rec, err := decode("svc.web.1", value, 3)
		if err == nil && (rec.Instance.Name != "web" || rec.Instance.ID != "1" || rec.Lease == "" || rec.Instance.Revision != 3 || !rec.Instance.Status.valid()) {
			t.Errorf("%q was read as %+v", value, rec)
		}
		if id, ok := leaseOf(value); err == nil && (!ok || id != rec.Lease) {
			t.Errorf("%q: a reaper reads the lease %q, an observer %q", value, id, rec.Lease)
		}
	})
}
