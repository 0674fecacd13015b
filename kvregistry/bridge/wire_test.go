package bridge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kvregistry/go/kvregistry"
)

// The bytes that github.com/eddieraa/registry v0.4.12 published, of a service with all fields.
const (
	realRegister = `{"net":"tcp","add":"10.0.0.1:80","url":"http://10.0.0.1/api",` +
		`"name":"web","v":"1.2","h":"vm","kv":{"k":"v"},` +
		`"t":{"Registered":1795670541608,"Duration":2000},"status":"warning"}`
	realUnregister = `{"net":"tcp","add":"10.0.0.1:80","url":"http://10.0.0.1/api",` +
		`"name":"web","v":"1.2","h":"vm","kv":{"k":"v"}}`
)

// What the plain registry publishes is read, and the same instance of a tenant is said in the same
// bytes. Seen to fail with any of the fields renamed, and with times that are not left out.
func TestBytesOfThePlainRegistry(t *testing.T) {
	m, ok := decode("web", []byte(realRegister))
	if want := 3 * time.Second; !ok || m.lasts() != want {
		t.Errorf("%+v, %v: it lasts for %s, want %s", m, ok, m.lasts(), want)
	}
	s := m.service("registry")
	if diff := cmp.Diff(kvregistry.Service{
		ID: "plain-c677fc1eedc8ec5fe747", Name: "web", Version: "1.2", Network: "tcp",
		Address: "10.0.0.1:80", URL: "http://10.0.0.1/api", Host: "vm",
		Metadata: map[string]string{"k": "v", Origin: "registry"}, Status: kvregistry.Warning,
	}, s); diff != "" {
		t.Errorf("it becomes (-want +got):\n%s", diff)
	}
	delete(s.Metadata, Origin)
	again := said(s)
	again.Times = m.Times
	if got := string(again.encode()); got != realRegister {
		t.Errorf("registered, it is said as\n%s\nwant\n%s", got, realRegister)
	}
	s.Status = kvregistry.Passing
	if got := string(said(s).encode()); got != realUnregister {
		t.Errorf("unregistered, it is said as\n%s\nwant\n%s", got, realUnregister)
	}
}

// A plain service with values that a registration cannot have becomes a registration all the same.
// Seen to fail without absolute, without the host for an address, and with an address that names
// none.
func TestOddPlainServices(t *testing.T) {
	for data, want := range map[string]kvregistry.Service{
		`{"name":"s","url":"http://a:8083/test"}`:  {URL: "http://a:8083/test", Host: "a"},
		`{"name":"s","url":"a:8083/test","h":"b"}`: {Address: "a:8083/test", Host: "b"},
		`{"name":"s","url":"/test","add":"a:1"}`:   {URL: "/test", Address: "a:1", Host: "a"},
		`{"name":"s","url":"%zz","add":"a:1"}`:     {Address: "a:1", Host: "a"},
		`{"name":"s","h":"b"}`:                     {Address: "b", Host: "b"},
		// Which is refused.
		`{"name":"s","add":":5454","status":"on fire"}`:    {Address: ":5454", Host: "unknown"},
		`{"name":"s","add":":5454","h":"b"}`:               {Address: "b:5454", Host: "b"},
		`{"name":"s","add":"0.0.0.0:5454","h":"b"}`:        {Address: "b:5454", Host: "b"},
		`{"name":"s","add":"[::]:5454","h":"::2"}`:         {Address: "[::2]:5454", Host: "::2"},
		`{"name":"s","url":"http://:8083/test","h":"b"}`:   {URL: "http://b:8083/test", Host: "b"},
		`{"name":"s","url":"http://0.0.0.0/test","h":"b"}`: {URL: "http://b/test", Host: "b"},
		`{"name":"s","add":":1","net":"unix","h":"b"}`: {Address: ":1",
			Host: "b", Network: "unix"},
		`{"name":"s","add":"a:1","status":"critical"}`: {Address: "a:1", Host: "a",
			Status: kvregistry.Critical},
		`{"name":"s","add":"[::1]:80","x":{"unknown":[1]}}`: {Address: "[::1]:80", Host: "::1"},
	} {
		m, ok := decode("s", []byte(data))
		got := m.service("registry")
		got.ID, got.Name, got.Metadata = "", "", nil
		if want.Status == "" {
			want.Status = kvregistry.Passing
		}
		if want.URL == "/test" { // it has no scheme, so it is no URL
			want.URL = ""
		}
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%s becomes (-want +got):\n%s", data, diff)
		}
	}
}

func TestHowLongItLasts(t *testing.T) {
	for data, want := range map[string]time.Duration{
		`{"name":"s"}`: 30 * time.Second,
		`{"name":"s","t":{"Registered":1,"Duration":20000}}`:       30 * time.Second,
		`{"name":"s","t":{"Registered":1,"Duration":1}}`:           750 * time.Millisecond,
		`{"name":"s","t":{"Registered":1,"Duration":-5}}`:          30 * time.Second,
		`{"name":"s","t":{"Duration":9223372036854775807}}`:        90 * time.Minute,
		`{"name":"s","t":{"Registered":-9223372036854775807}}`:     30 * time.Second,
		`{"name":"s","t":{"Registered":1,"Duration":7200000}}`:     90 * time.Minute,
		`{"name":"s","t":null,"kv":null,"add":null,"status":null}`: 30 * time.Second,
	} {
		m, ok := decode("s", []byte(data))
		if got := m.lasts(); got != want || !ok {
			t.Errorf("%s lasts for %s, want %s", data, got, want)
		}
	}
}

// A URL's host and port are the address of an instance that has none, so that the same instance is
// recognized on either side. If the address is the same on each host, the host tells instances
// apart. Seen to fail with places that have no host.
func TestPlaces(t *testing.T) {
	for _, tc := range []struct{ address, url, want string }{
		{"a:1", "http://b:2/x", "a:1"},
		{"", "http://b:2/x", "b:2"},
		{"", "http://b/x", "b:80"},
		{"", "https://b", "b:443"},
		{"", "https://[::2]/", "[::2]:443"},
		{"", "grpc://b", "b"},
		{"", "http:///x", "http:///x"},
		{"", "%zz", "%zz"},
		{"", "", ""},
	} {
		if got := placeOf("s", tc.address, tc.url, "h"); got != (place{name: "s",
			address: tc.want}) {
			t.Errorf("%q and %q are at %q, want %q", tc.address, tc.url, got, tc.want)
		}
	}
	for _, link := range []string{"http://localhost:80/x", "http://:80/x"} {
		if got := placeOf("s", "", link, "h"); got.host != "h" {
			t.Errorf("%q is at %q", link, got)
		}
	}
	for _, address := range []string{"127.0.0.1:80", "[::1]:80", "localhost:80", ":80",
		"0.0.0.0:80", "[::]:80", "/run/sock", "unix:///run/sock"} {
		if got := placeOf("s", address, "", "h"); got != (place{"s", address, "h"}) {
			t.Errorf("%q is at %q", address, got)
		}
	}
}

func TestSayable(t *testing.T) {
	for name, want := range map[string]bool{
		"web": true, "old.web": true, "a-b_c=1": true, "ü": true,
		"": false, ".": false, "a.": false, ".a": false, "a..b": false, "*": false, ">": false,
		"a.*": false, "a*": false, "a b": false, "a\tb": false, "a\r\nPUB x 0": false,
		"a\x7f": false, "\xff": false,
	} {
		if got := sayable(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// Any bytes become a message that can be said and read again, and its time has bounds.
func FuzzDecode(f *testing.F) {
	f.Add("web", []byte(realRegister))
	f.Add("web", []byte(realUnregister))
	f.Add("s", []byte(`{"name":"s","kv":{"":""},"t":{"Duration":9223372036854775807}}`))
	f.Add("", []byte(`null`))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		m, ok := decode(name, data)
		if !ok {
			return
		}
		if m.Name != name || name == "" {
			t.Fatalf("%q speaks for %q", name, m.Name)
		}
		if d := m.lasts(); d < 750*time.Millisecond || d > 90*time.Minute {
			t.Fatalf("it lasts for %s", d)
		}
		s := m.service("p")
		if s.Metadata[Origin] != "p" || !strings.HasPrefix(s.ID, "plain-") {
			t.Fatalf("%+v does not say where it is from", s)
		}
		var again message
		if err := json.Unmarshal(said(s).encode(), &again); err != nil ||
			again.place() != said(s).place() {
			t.Fatalf("%v: said as %+v, and read as %+v", err, said(s), again)
		}
	})
}

// BenchmarkDecode measures what a bridge does with most messages: it hears again an instance that
// it knows.
func BenchmarkDecode(b *testing.B) {
	data := []byte(realRegister)
	known, _ := decode("web", data)
	b.ReportAllocs()
	for b.Loop() {
		if m, ok := decode("web", data); !ok || !m.same(known) {
			b.Fatal("not known again")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	m, _ := decode("web", []byte(realRegister))
	b.ReportAllocs()
	for b.Loop() {
		if len(m.encode()) == 0 {
			b.Fatal("nothing")
		}
	}
}
