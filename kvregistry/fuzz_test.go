package kvregistry

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// FuzzFilters takes what a caller looks for and what an instance says: a filter keeps the instance where it says that, and does no harm.
func FuzzFilters(f *testing.F) {
	f.Add("v1", "tag", "key", "value", "zone", "passing", []byte(`{"id":"1","name":"web","version":"v1","tags":["tag"],"metadata":{"key":"value"},"zone":"zone"}`))
	f.Add("", "", "", "", "", "", []byte(`{"format":1}`))
	f.Add("\xff", "\x00", "*", ">", "ö", "king", []byte(`null`))
	f.Fuzz(func(t *testing.T, version, tag, key, value, zone, status string, data []byte) {
		s := Service{Name: "web", ID: "1", Version: version, Tags: []string{tag, "other"}, Metadata: map[string]string{key: value}, Zone: zone, Status: Status(status)}
		if rec, err := decode("svc.web.1", data, 1); err == nil {
			s = rec.Instance
		}
		for name, tc := range map[string]struct {
			filter Filter
			want   bool
		}{
			"version": {WithVersion(version), s.Version == version}, "tag": {WithTag(tag), slices.Contains(s.Tags, tag)}, "no tag": {WithTag(), true},
			"zone": {InZone(zone), s.Zone == zone}, "status": {WithStatus(Status(status)), s.Status == Status(status)}, "no status": {WithStatus(), false},
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

// FuzzOptions takes what a program may be configured with: an option is refused with ErrInvalidOption, or holds what its documentation says.
func FuzzOptions(f *testing.F) {
	f.Add("acme", int64(15*time.Second), 3)
	f.Add("b.>", int64(-1), 0)
	f.Add("", int64(1500*time.Millisecond), -5)
	f.Fuzz(func(t *testing.T, tenant string, d int64, n int) {
		for _, opt := range []Option{
			Tenant(tenant), TTL(time.Duration(d)), Timeout(time.Duration(d)), MaxStale(time.Duration(d)), Replicas(n), MaxBytes(d), MaxInstances(n), MaxServices(n), MaxRecord(n),
		} {
			o, err := newOptions([]Option{opt})
			if err != nil {
				if !errors.Is(err, ErrInvalidOption) {
					t.Errorf("%v", err)
				}
				continue
			}
			if len(o.tenant) == 0 || len(o.tenant) > 64 || o.ttl < 2*time.Second || o.ttl%time.Second != 0 || o.timeout <= 0 || o.maxStale < 0 ||
				o.bucket.MaxBytes < 0 || o.bounds.instances <= 0 || o.bounds.services <= 0 || o.bounds.record < 1<<10 {
				t.Errorf("accepted %+v", o)
			}
		}
	})
}
