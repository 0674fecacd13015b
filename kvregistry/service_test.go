package kvregistry

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvregistry/go/tenant"
)

// valid returns a service that can be registered, with a value in every field.
func valid() Service {
	return Service{
		ID: "1", Name: "web", Version: "1.2.3", Network: "tcp", Address: "10.0.0.1:80",
		URL:  "http://10.0.0.1/x",
		Host: "h", Zone: "z", Tags: []string{"a", "b"}, Metadata: map[string]string{"k": "v"},
		Weight: 3, Status: Passing, Endpoints: map[string]string{"grpc": "10.0.0.1:9000"},
		Revision: 7,
	}
}

func TestServiceCheck(t *testing.T) {
	long := strings.Repeat("x", tenant.MaxName+1)
	for name, tc := range map[string]struct {
		change func(*Service)
		says   string // the text that the error must have; empty without an error
	}{
		"everything set": {change: func(*Service) {}},
		"address alone":  {change: func(s *Service) { s.URL = "" }},
		"URL alone":      {change: func(s *Service) { s.Address = "" }},
		"least": {change: func(s *Service) {
			*s = Service{ID: "1", Name: "web", Address: "/run/web.sock"}
		}},
		"a name to be escaped": {change: func(s *Service) {
			s.Name, s.ID = "my.service", "host:80"
		}},
		"a star within":   {change: func(s *Service) { s.Name = "a*" }},
		"no status":       {change: func(s *Service) { s.Status = "" }},
		"draining":        {change: func(s *Service) { s.Status = Draining }},
		"a socket's name": {change: func(s *Service) { s.Network, s.Address = "unix", "@:80" }},
		"URL of a socket": {change: func(s *Service) { s.URL = "unix:///run/web.sock" }},
		"endpoints": {change: func(s *Service) {
			s.Endpoints = map[string]string{"a": "[::1]:80", "": "/run/s", "c": "grpc://h:1/"}
		}},
		"weight 0": {change: func(s *Service) { s.Weight = 0 }},

		"no name":                {func(s *Service) { s.Name = "" }, "name"},
		"name too long":          {func(s *Service) { s.Name = long }, "name"},
		"name not UTF-8":         {func(s *Service) { s.Name = "\xff" }, "name"},
		"the name of everything": {func(s *Service) { s.Name = Everything }, "every service"},
		"no id":                  {func(s *Service) { s.ID = "" }, "id"},
		"id too long":            {func(s *Service) { s.ID = long }, "id"},
		"id not UTF-8":           {func(s *Service) { s.ID = "a\xc3" }, "id"},
		"nowhere to call": {func(s *Service) { s.Address, s.URL = "", "" },
			"neither Address nor URL"},
		"endpoint without a port": {func(s *Service) {
			s.Endpoints = map[string]string{"grpc": "10.0.0.1"}
		}, `endpoint "grpc": Address has no port`},
		"endpoint of all addresses": {func(s *Service) {
			s.Endpoints = map[string]string{"grpc": "http://0.0.0.0:80/"}
		}, `endpoint "grpc": URL names no host`},
		"endpoint not UTF-8": {func(s *Service) {
			s.Endpoints = map[string]string{"grpc": "a\xff:1"}
		}, "Endpoints"},
		"URL without scheme":    {func(s *Service) { s.URL = "/test" }, "no scheme"},
		"URL that is none":      {func(s *Service) { s.URL = "http://a b/" }, "does not parse"},
		"URL of all addresses":  {func(s *Service) { s.URL = "http://[::]:80/" }, "all addresses"},
		"URL without a host":    {func(s *Service) { s.URL = "http://:80/" }, "all addresses"},
		"all addresses of IPv4": {func(s *Service) { s.Address = "0.0.0.0:80" }, "all addresses"},
		"all addresses of IPv6": {func(s *Service) { s.Address = "[::]:80" }, "all addresses"},
		"a port alone":          {func(s *Service) { s.Address = ":80" }, "all addresses"},
		"negative weight":       {func(s *Service) { s.Weight = -1 }, "-1"},
		"unknown status":        {func(s *Service) { s.Status = "up" }, `"up"`},
		"status in capitals":    {func(s *Service) { s.Status = "Passing" }, `"Passing"`},
		"version not UTF-8": {func(s *Service) { s.Version = "\xff" },
			"Version is not valid UTF-8"},
		"network not UTF-8": {func(s *Service) { s.Network = "\xff" },
			"Network is not valid UTF-8"},
		"address not UTF-8": {func(s *Service) { s.Address = "\xff" },
			"Address is not valid UTF-8"},
		"URL not UTF-8":  {func(s *Service) { s.URL = "http://h/\xff" }, "URL is not valid UTF-8"},
		"host not UTF-8": {func(s *Service) { s.Host = "\xff" }, "Host is not valid UTF-8"},
		"zone not UTF-8": {func(s *Service) { s.Zone = "\xff" }, "Zone is not valid UTF-8"},
		"tag not UTF-8": {func(s *Service) { s.Tags = []string{"a", "\xff"} },
			"Tags[1] is not valid UTF-8"},
		"key not UTF-8": {func(s *Service) { s.Metadata = map[string]string{"\xff": "v"} },
			"a key of Metadata is not valid UTF-8"},
		"value not UTF-8": {func(s *Service) { s.Metadata = map[string]string{"k": "\xff"} },
			`Metadata["k"] is not valid UTF-8`},
	} {
		t.Run(name, func(t *testing.T) {
			s := valid()
			tc.change(&s)
			err := s.check()
			if tc.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrInvalidService) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want ErrInvalidService that says %q", err, tc.says)
			}
		})
	}
}

// Errors end up in logs, so they quote nothing of a URL, of a tag or of metadata's values. Any of
// these may hold a password. Each row is a kind of fault. Seen to fail with an error that has
// url.Parse's, with one that has URL.Redacted, and with one that quotes the text that is not UTF-8.
func TestServiceCheckHidesPasswords(t *testing.T) {
	for _, tc := range []struct{ url, says string }{
		{"http://user:SECRET@h/\xff", "URL is not valid UTF-8"},
		{"http://user:SEC\xffRET@h/", "URL is not valid UTF-8"},
		{"//user:SECRET@host/x", "URL has no scheme or no host"},
		{"user:SECRET@host:80/x", "URL has no scheme or no host"},
		{"postgres:user:SECRET@h/db", "URL has no scheme or no host"},
		{"http:user:SECRET@h", "URL has no scheme or no host"},
		{"http://user:SEC/RET@host", "URL does not parse"},
		{"http://user:SEC?RET@host", "URL does not parse"},
		{"http://user:SEC#RET@host", "URL does not parse"},
		{"http://user:SEC%zzRET@h/", "URL does not parse"},
		{"http://user:SEC%RET@h/", "URL does not parse"},
		{"http://user:SEC RET@h/", "URL does not parse"},
		{"http://user:SEC\nRET@h/", "URL does not parse"},
		{"http://user:SEC[RET@h/", "URL does not parse"},
		{"http://user:SECRET@h:port/", "URL does not parse"},
		{"http://user:SECRET@[h/", "URL does not parse"},
		{"http://user:1234@h/%RET", "URL does not parse"},
		{"http://SECRET%zz@h", "URL does not parse"},
		{":user:SECRET@h", "URL does not parse"},
		{"us er:SECRET@h", "URL does not parse"},
	} {
		s := valid()
		s.URL = tc.url
		hides(t, s, tc.says, "SE", "RE", "zz", "user", "1234")
	}
	s := valid()
	s.Tags = []string{"a", "SECRET\xff"}
	hides(t, s, "Tags[1] is not valid UTF-8", "SECRET")
	s = valid()
	s.Metadata = map[string]string{"password": "SECRET\xff"}
	hides(t, s, `Metadata["password"] is not valid UTF-8`, "SECRET")
	s.Metadata = map[string]string{"SECRET\xff": "v"}
	hides(t, s, "a key of Metadata is not valid UTF-8", "SECRET")
}

// hides checks that a service is refused by an error with none of these pieces.
func hides(t *testing.T, s Service, says string, pieces ...string) {
	t.Helper()
	err := s.check()
	if !errors.Is(err, ErrInvalidService) || !strings.Contains(err.Error(), says) {
		t.Errorf("%+v: %v, want ErrInvalidService that says %q", s, err, says)
		return
	}
	for _, piece := range pieces {
		if strings.Contains(err.Error(), piece) {
			t.Errorf("%+v: %v, with %q in it", s, err, piece)
		}
	}
}

func TestServiceClone(t *testing.T) {
	s := valid()
	c := s.Clone()
	if diff := cmp.Diff(s, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c.Tags[0], c.Metadata["k"], c.Metadata["new"] = "changed", "changed", "changed"
	c.Tags, c.Endpoints["grpc"] = append(c.Tags, "c"), "changed"
	if diff := cmp.Diff(valid(), s); diff != "" {
		t.Errorf("a change of the clone reached the original (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Service{}, Service{}.Clone()); diff != "" {
		t.Errorf("clone of nothing (-want +got):\n%s", diff)
	}
}

// TestServiceCloneIsDeep fails if a field is added that Clone would share.
func TestServiceCloneIsDeep(t *testing.T) {
	cloned := map[string]bool{"Tags": true, "Metadata": true, "Endpoints": true}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Service]()) {
		switch f.Type.Kind() {
		case reflect.String, reflect.Int, reflect.Uint64:
		default:
			if !cloned[f.Name] {
				t.Errorf("field %s of type %s: have Clone copy it, and add it to this test", f.Name,
					f.Type)
			}
		}
	}
}

// TestServiceSame changes each field alone, so that a new field is not forgotten.
func TestServiceSame(t *testing.T) {
	changes := map[string]func(*Service){
		"ID":       func(s *Service) { s.ID = "2" },
		"Name":     func(s *Service) { s.Name = "api" },
		"Version":  func(s *Service) { s.Version = "2" },
		"Network":  func(s *Service) { s.Network = "udp" },
		"Address":  func(s *Service) { s.Address = "10.0.0.2:80" },
		"URL":      func(s *Service) { s.URL = "http://10.0.0.2/x" },
		"Host":     func(s *Service) { s.Host = "i" },
		"Zone":     func(s *Service) { s.Zone = "y" },
		"Tags":     func(s *Service) { s.Tags = []string{"b", "a"} },
		"Metadata": func(s *Service) { s.Metadata = map[string]string{"k": "w"} },
		"Weight":   func(s *Service) { s.Weight = 4 },
		"Status":   func(s *Service) { s.Status = Draining },
		"Revision": func(s *Service) { s.Revision = 8 },
		"Owner":    func(s *Service) { s.Owner = "O" },
		"Lease":    func(s *Service) { s.Lease = "L" },
		"Endpoints": func(s *Service) {
			s.Endpoints = map[string]string{"grpc": "10.0.0.1:9001"}
		},
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Service]()) {
		change, ok := changes[f.Name]
		if !ok {
			t.Errorf("field %s: have same compare it, and add it to this test", f.Name)
			continue
		}
		a, b := valid(), valid()
		change(&b)
		// these are not part of the instance
		if want := slices.Contains([]string{"Revision", "Owner", "Lease"},
			f.Name); a.same(&b) != want {
			t.Errorf("with another %s, same is %v", f.Name, !want)
		}
	}
	a, b := valid(), valid()
	a.Tags, a.Metadata, b.Tags, b.Metadata = nil, nil, []string{}, map[string]string{}
	if !a.same(&b) {
		t.Error("none and empty differ; on the wire they do not")
	}
}
