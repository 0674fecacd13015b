package kvregistry

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// FuzzFilters takes the arguments of a filter and the values of an instance. A filter keeps the
// instance if the values match, and never panics.
func FuzzFilters(f *testing.F) {
	f.Add("v1", "tag", "key", "value", "zone", "passing",
		[]byte(`{"id":"1","name":"web","version":"v1","tags":["tag"],"metadata":{"key":"value"},`+
			`"zone":"zone"}`))
	f.Add("", "", "", "", "", "", []byte(`{"format":1}`))
	f.Add("\xff", "\x00", "*", ">", "ö", "king", []byte(`null`))
	f.Fuzz(func(t *testing.T, version, tag, key, value, zone, status string, data []byte) {
		s := Service{Name: "web", ID: "1", Version: version, Tags: []string{tag, "other"},
			Metadata: map[string]string{key: value}, Zone: zone, Status: Status(status)}
		if rec, err := decode("svc.web.1", data, 1); err == nil {
			s = rec.Instance
		}
		for name, tc := range map[string]struct {
			filter Filter
			want   bool
		}{
			"version": {WithVersion(version), s.Version == version},
			"tag":     {WithTag(tag), slices.Contains(s.Tags, tag)}, "no tag": {WithTag(), true},
			"zone": {InZone(zone), s.Zone == zone}, "status": {WithStatus(Status(status)),
				s.Status == Status(status)}, "no status": {WithStatus(), false},
			"host": {OnHost(zone), s.Host == zone}, "none": {Filter{}, true},
		} {
			if got := matches([]Filter{tc.filter}, &s); got != tc.want {
				t.Errorf("%s of %+v: %v", name, s, got)
			}
		}
		got, ok := s.Metadata[key]
		if matches([]Filter{WithMetadata(key, value)}, &s) != (ok && got == value) {
			t.Errorf("metadata of %+v", s)
		}
		_ = checkName(version)
		_ = s.check()
	})
}

// FuzzServiceCheck takes the text around and within a password in a URL, and the text after it in a
// tag and in metadata. No error has a half of the password. Seen to fail with an error that has
// url.Parse's, with one that has URL.Redacted, and with one that quotes the text that is not UTF-8.
func FuzzServiceCheck(f *testing.F) {
	const first, second = "SEC", "RET"
	for _, seed := range [][3]string{
		{"http://user:", "", "@h/"}, {"http://user:", "", "@h/\xff"}, {"user:", "", "@host:80/x"},
		{"postgres:u:", "", "@h/db"}, {"//user:", "", "@h"},
		{"http://user:", "/", "@h"}, {"http://user:", "%zz", "@h"}, {"http://user:", " ", "@h"},
		{"http://", "[", "@h:port"}, {"", "://", ""}, {"http://h/?", "%", "#"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, before, within, after string) {
		password := first + within + second
		for _, change := range []func(*Service){
			func(s *Service) { s.URL = before + password + after },
			func(s *Service) { s.Tags = []string{before + password + after} },
			func(s *Service) { s.Metadata = map[string]string{"key": before + password + after} },
			func(s *Service) { s.Metadata = map[string]string{"\xff" + password: ""} },
			func(s *Service) { s.Endpoints = map[string]string{"e": before + password + after} },
		} {
			s := valid()
			change(&s)
			err := s.check()
			if err == nil || strings.Contains(err.Error(), "URL ") &&
				strings.Contains(s.URL, "://") && !strings.ContainsAny(s.URL, "@?#") {
				continue // without a user or a query there is no password
			}
			if at, ok := s.Endpoint("e"); ok && !strings.Contains(at, "@") {
				continue // it has no user
			}
			if text := err.Error(); !errors.Is(err, ErrInvalidService) ||
				strings.Contains(text, first) || strings.Contains(text, second) {
				t.Errorf("%+v: %v", s, err)
			}
		}
	})
}

// FuzzOptions takes the values of options. An option is refused with ErrInvalidOption, or does what
// its documentation says.
func FuzzOptions(f *testing.F) {
	f.Add("acme", int64(15*time.Second), 3)
	f.Add("b.>", int64(-1), 0)
	f.Add("", int64(1500*time.Millisecond), -5)
	f.Fuzz(func(t *testing.T, tenant string, d int64, n int) {
		for _, opt := range []Option{
			Tenant(tenant), TTL(time.Duration(d)), Timeout(time.Duration(d)),
			MaxStale(time.Duration(d)), Replicas(n), MaxBytes(d), MaxKeys(d), MaxInstances(n),
			MaxServices(n), MaxRecord(n),
		} {
			o, err := newOptions([]Option{opt})
			if err != nil {
				if !errors.Is(err, ErrInvalidOption) {
					t.Errorf("%v", err)
				}
				continue
			}
			if len(o.tenant) == 0 || len(o.tenant) > 64 || o.ttl < 2*time.Second ||
				o.ttl%time.Second != 0 || o.timeout <= 0 || o.maxStale < 0 ||
				o.bucket.MaxBytes < 0 || o.bounds.instances <= 0 || o.bounds.services <= 0 ||
				o.bounds.record < 1<<10 {
				t.Errorf("accepted %+v", o)
			}
		}
	})
}

// FuzzBelieve takes the bytes at a key whose service has one signer. Whatever the bytes are, an
// accepted instance is as it was signed. Seen to fail if the first instance in the document is
// verified and the last one is read.
func FuzzBelieve(f *testing.F) {
	pair := keyPair(f)
	public, err := pair.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	r := &Registry{id: "OWNER"}
	r.owned = &owned{r: r}
	if r.opt, err = newOptions([]Option{SignWith(pair), TrustSigners(Everything,
		public)}); err != nil {
		f.Fatal(err)
	}
	if r.bucket, err = tenant.New(&nats.Conn{}, "acme", tenant.Config{}); err != nil {
		f.Fatal(err)
	}
	said := Service{Name: "web", ID: "1", Address: "a:1", Tags: []string{"t"},
		Metadata: map[string]string{"k": "v"}, Status: Warning}
	value, err := r.owned.Encode(&said, webKey, "L")
	if err != nil {
		f.Fatal(err)
	}
	var rec struct{ Signature []byte }
	if err := json.Unmarshal(value, &rec); err != nil {
		f.Fatal(err)
	}
	signature, _ := json.Marshal(rec.Signature)
	// Each run has a new key, so the inputs are edits of the signed bytes: whole values would be of
	// no use to a later run.
	f.Add(webKey, 0, 0, "")
	f.Add(webKey, 1, 0, `"instance":{"url":"http://evil"},`)
	f.Add("svc.web.2", 0, 0, "")
	f.Add(webKey, len(value)-1, 0, `,"INSTANCE":{"address":"evil:1"}`)
	f.Add(webKey, 1, len(value)-2, `"format":1,"lease":"L"`)
	f.Fuzz(func(t *testing.T, key string, at, cut int, insert string) {
		at = min(max(at, 0), len(value))
		cut = min(max(cut, 0), len(value)-at)
		edited := slices.Concat(value[:at],
			[]byte(strings.ReplaceAll(insert, "SIGNATURE", string(signature))), value[at+cut:])
		s := r.sight(watcher.Change{Key: key, Value: edited, Revision: 7})
		if s.err != nil {
			if s.taken() {
				t.Errorf("%s: a value that is not believed fences: %v", edited, s.err)
			}
			return
		}
		want := said
		want.Revision = 7
		if key != webKey || s.rec.Lease != "L" || s.rec.Owner != "OWNER" ||
			!reflect.DeepEqual(s.rec.Instance, want) {
			t.Errorf("%s at %s is believed: %+v", edited, key, s.rec)
		}
	})
}
