package kvregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

const webKey = "svc.web.1"

// errAny stands for an error without a name.
var errAny = errors.New("any error")

func TestDecode(t *testing.T) {
	web := Service{ID: "1", Name: "web", URL: "http://a/", Status: Passing, Revision: 9}
	withStatus := func(s Status) Service { w := web; w.Status = s; return w }
	for name, tc := range map[string]struct {
		key, value string
		want       Service
		err        error
	}{
		"least": {
			value: `{"format":1,"lease":"L","instance":{"id":"1","name":"web","url":"http://a/"}}`,
			want:  web,
		},
		"unknown fields": {
			value: `{"format":1,"new":{"a":[1]},"lease":"L","instance":{"id":"1","name":"web",` +
				`"url":"http://a/","later":null}}`,
			want: web,
		},
		"a status": {
			value: `{"format":1,"lease":"L","instance":{"id":"1","name":"web","url":"http://a/",` +
				`"status":"draining"}}`,
			want: withStatus(Draining),
		},
		"a revision of its own is not believed": {
			value: `{"format":1,"lease":"L","instance":{"id":"1","name":"web","url":"http://a/",` +
				`"revision":1000,"Revision":1000}}`,
			want: web,
		},
		"escaped key": {
			key: "svc.my=2Eservice.=2A",
			value: `{"format":1,"lease":"L","instance":{"id":"*","name":"my.service",` +
				`"url":"http://a/"}}`,
			want: Service{ID: "*", Name: "my.service", URL: "http://a/", Status: Passing,
				Revision: 9},
		},

		"higher format": {value: `{"format":2,"lease":"L","instance":{"id":"1","name":"web"}}`,
			err: errNewer},
		"higher format, other shape": {value: `{"format":2,"lease":7,"instance":[]}`,
			err: errNewer},
		"higher format, nothing else": {value: `{"format":99}`, err: errNewer},
		"format 0": {value: `{"format":0,"lease":"L","instance":{"id":"1","name":"web"}}`,
			err: errAny},
		"negative format": {value: `{"format":-1,"lease":"L","instance":{"id":"1","name":"web"}}`,
			err: errAny},
		"no format": {value: `{"lease":"L","instance":{"id":"1","name":"web"}}`,
			err: errAny},
		"format as text": {value: `{"format":"1","lease":"L","instance":{"id":"1","name":"web"}}`,
			err: errAny},
		"no lease": {value: `{"format":1,"instance":{"id":"1","name":"web"}}`,
			err: errNoLease},
		"empty lease": {value: `{"format":1,"lease":"","instance":{"id":"1","name":"web"}}`,
			err: errNoLease},
		"another name": {value: `{"format":1,"lease":"L","instance":{"id":"1","name":"api"}}`,
			err: errForeign},
		"another id": {value: `{"format":1,"lease":"L","instance":{"id":"2","name":"web"}}`,
			err: errForeign},
		"no instance": {value: `{"format":1,"lease":"L"}`, err: errForeign},
		"unknown status": {value: `{"format":1,"lease":"L","instance":{"id":"1","name":"web",` +
			`"status":"up"}}`,
			err: errStatus},
		"metadata that is no text": {value: `{"format":1,"lease":"L","instance":{"id":"1",` +
			`"name":"web","metadata":{"a":1}}}`,
			err: errAny},
		"empty":         {value: ``, err: errAny},
		"null":          {value: `null`, err: errAny},
		"a list":        {value: `[]`, err: errAny},
		"half a record": {value: `{"format":1,"lease":"L","inst`, err: errAny},
		"two records":   {value: `{"format":1}{"format":1}`, err: errAny},
		"bytes":         {value: "\x00\xff\xfe", err: errAny},
		"a lease's key": {key: "lease.L",
			value: `{"format":1,"lease":"L","instance":{"id":"1","name":"web"}}`, err: errNotKey},
		"a key too deep": {key: "svc.web.1.2",
			value: `{"format":1,"lease":"L","instance":{"id":"1","name":"web"}}`, err: errNotKey},
	} {
		t.Run(name, func(t *testing.T) {
			key := tc.key
			if key == "" {
				key = webKey
			}
			rec, err := decode(key, []byte(tc.value), 9)
			switch {
			case errors.Is(tc.err, errAny) && err == nil, !errors.Is(tc.err, errAny) &&
				!errors.Is(err, tc.err):
				t.Fatalf("error %v, want %v", err, tc.err)
			case errors.Is(err, errNewer):
				if rec.Format <= wire.Format {
					t.Errorf("format %d of a record that is too new", rec.Format)
				}
			case err != nil:
				if diff := cmp.Diff(record{}, rec); diff != "" {
					t.Errorf("a record that can't be read is not empty (-want +got):\n%s", diff)
				}
			default:
				if diff := cmp.Diff(record{Format: 1, Lease: "L", Instance: tc.want},
					rec); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestEncodeDecode(t *testing.T) {
	for name, s := range map[string]Service{
		"everything set": valid(),
		"least":          {ID: "1", Name: "web", URL: "http://a/", Status: Passing},
		"odd texts": {ID: "\x00", Name: "a.b*>", URL: "http://a/", Version: "\"\\\u2028<&>",
			Status: Critical},
	} {
		value, err := encode(record{Format: wire.Format, Lease: "L", Owner: "O"}, s,
			DefaultMaxRecord)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		key, err := tenant.ServiceKey(s.Name, s.ID)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rec, err := decode(key, value, 42)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.Revision = 42
		if diff := cmp.Diff(record{Format: wire.Format, Lease: "L", Owner: "O", Instance: s},
			rec); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if lease, ok := wire.LeaseOf(value); lease != "L" || !ok {
			t.Errorf("%s: leaseOf is %q, %v", name, lease, ok)
		}
	}
}

// TestEncodeKeepsTheWireFormat checks the names of the fields, which other languages read.
func TestEncodeKeepsTheWireFormat(t *testing.T) {
	value, err := encode(record{Format: wire.Format, Lease: "L", Owner: "O"}, valid(),
		DefaultMaxRecord)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(value, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"format": 1.0, "lease": "L", "owner": "O",
		"instance": map[string]any{
			"id": "1", "name": "web", "version": "1.2.3", "network": "tcp",
			"address": "10.0.0.1:80", "url": "http://10.0.0.1/x",
			"host": "h", "zone": "z", "tags": []any{"a", "b"}, "metadata": map[string]any{"k": "v"},
			"weight": 3.0, "status": "passing",
			"endpoints": map[string]any{"grpc": "10.0.0.1:9000"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEncodeBoundsTheRecord finds the largest record to the byte.
func TestEncodeBoundsTheRecord(t *testing.T) {
	s := Service{ID: "1", Name: "web", URL: "http://a/", Metadata: map[string]string{"k": ""}}
	empty, err := encode(record{Format: wire.Format, Lease: "L", Owner: "O"}, s, DefaultMaxRecord)
	if err != nil {
		t.Fatal(err)
	}
	s.Metadata["k"] = strings.Repeat("x", DefaultMaxRecord-len(empty))
	if value, err := encode(record{Format: wire.Format, Lease: "L", Owner: "O"}, s,
		DefaultMaxRecord); err != nil || len(value) != DefaultMaxRecord {
		t.Errorf("%d bytes, %v; want %d and no error", len(value), err, DefaultMaxRecord)
	}
	s.Metadata["k"] += "x"
	if _, err := encode(record{Format: wire.Format, Lease: "L", Owner: "O"}, s,
		DefaultMaxRecord); !errors.Is(err, ErrInvalidService) {
		t.Errorf("one byte more: %v, want ErrInvalidService", err)
	}
}

func TestLeaseOf(t *testing.T) {
	longest := strings.Repeat("L", 64)
	for value, want := range map[string]string{
		`{"format":1,"lease":"L"}`:                     "L",
		`{"format":1,"lease":"L","instance":"broken"}`: "L", // all that a reaper needs
		// the lease has the same place in every format
		`{"format":2,"lease":"L"}`:                "L",
		`{"format":2,"lease":["L"]}`:              "",
		`{"format":0,"lease":"L"}`:                "",
		`{"lease":"L"}`:                           "",
		`{"format":1,"lease":""}`:                 "",
		`{"format":1,"lease":7}`:                  "",
		`{"format":1,"lease":"` + longest + `"}`:  longest,
		`{"format":1,"lease":"L` + longest + `"}`: "",
		`{"format":1}`:                            "",
		`{"format":1,"lease":"L"`:                 "",
		`null`:                                    "",
		``:                                        "",
	} {
		if got, ok := wire.LeaseOf([]byte(value)); got != want || ok != (want != "") {
			t.Errorf("leaseOf(%s) = %q, %v; want %q", value, got, ok, want)
		}
	}
}

// FuzzDecode checks that no bytes cause a panic, and that an accepted record can be shown to a
// user.
func FuzzDecode(f *testing.F) {
	full, err := encode(record{Format: wire.Format, Lease: "L", Owner: "O"}, valid(),
		DefaultMaxRecord)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(webKey, full)
	for _, value := range []string{
		`{"format":1,"lease":"L","instance":{"id":"1","name":"web"}}`,
		`{"format":2,"lease":[],"instance":7}`,
		`{"format":1,"lease":"L","instance":{"id":"1","name":"web","tags":[null,"\ud800"],` +
			`"weight":-1}}`,
		`{"format":1e9}`, `null`, `[`, ``, "\xff",
	} {
		f.Add(webKey, []byte(value))
	}
	f.Add("svc.=2A.=3E", []byte(`{"format":1,"lease":"L","instance":{"id":">","name":"*"}}`))
	f.Add("lease.L", []byte(`{}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		rec, err := decode(key, value, 5)
		lease, ok := wire.LeaseOf(value)
		if err != nil {
			return
		}
		if broken := wrong(key, rec); broken != "" {
			t.Errorf("decode(%q, %q) accepted a record whose %s: %+v", key, value, broken, rec)
		}
		if lease != rec.Lease || !ok {
			t.Errorf("a reaper reads the lease %q, %v, and an observer %q", lease, ok, rec.Lease)
		}
	})
}

// wrong returns what must not be in an accepted record.
func wrong(key string, rec record) string {
	s := rec.Instance
	made, err := tenant.ServiceKey(s.Name, s.ID)
	switch {
	case err != nil || made != key:
		return fmt.Sprintf("name and id are of key %q", made)
	case rec.Format != wire.Format:
		return "format is unknown"
	case !s.Status.valid():
		return "status is unknown"
	case s.Revision != 5:
		return "revision is not the bucket's"
	}
	if field := s.notText(); field != "" {
		return field + " is not UTF-8"
	}
	return ""
}

// The upper bound of a record's length is computed without encoding it. Seen to fail if texts are
// counted without their escapes.
func TestLongest(t *testing.T) {
	texts := []string{"", "a", "<>&", "\x00\x1f", "\u2028", "ö", strings.Repeat("\x01", 1000),
		strings.Repeat("\u2029", 500)}
	for i, text := range texts {
		other := texts[(i+3)%len(texts)]
		s := Service{
			ID: text, Name: other, Version: text, Network: text, Address: other, URL: text,
			Host: text, Zone: other, Weight: math.MaxInt, Status: Draining,
			Tags: []string{text, other, "", ""}, Metadata: map[string]string{text: other,
				other + "x": text, "y": ""}, Endpoints: map[string]string{text: other},
		}
		rec := record{Format: wire.Format, Lease: strings.Repeat("L", 64),
			Owner: strings.Repeat("O", 64), Signer: strings.Repeat("S", 56),
			Signature: make([]byte, 64)}
		value, err := encode(rec, s, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if most := s.longest() + envelope; len(value) > most {
			t.Errorf("%.20q: %d bytes, and %d at the most", text, len(value), most)
		}
	}
}

// BenchmarkDecode reads a registration as an observer does, and what a reaper reads of it.
func BenchmarkDecode(b *testing.B) {
	small := Service{ID: "7XYUXFTKZVV5HM3O", Name: "web", URL: "http://localhost:8083/test",
		Host: "n1", Status: Passing}
	rec := record{Format: wire.Format, Lease: "5XHPGZQ2K4TBMDJ3LR7WYVA6UE",
		Owner: "QJ4ZTN7M2XKBVD6GYRWHLS3PCA"}
	for name, s := range map[string]Service{"small": small, "full": valid()} {
		value, err := encode(rec, s, DefaultMaxRecord)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(value)))
			for b.Loop() {
				var rec record
				if err := rec.decode(s.Name, s.ID, value, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+", its lease alone", func(b *testing.B) {
			for b.Loop() {
				if _, ok := wire.LeaseOf(value); !ok {
					b.Fatal("no lease")
				}
			}
		})
	}
}
