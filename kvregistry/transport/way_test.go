package transport

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/kvregistry/go/kvregistry"
)

// TestWhereAnInstanceIsCalled holds which instances a request, or a dial, can go to, and at which
// address. Seen to fail with a root that lets https go to a URL of http, and with dials that
// compares networks byte by byte.
func TestWhereAnInstanceIsCalled(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		way  way
		one  kvregistry.Service
		want string // the root, or the network; empty if it is not called this way
	}{
		{way{scheme: "http"}, kvregistry.Service{URL: "http://10.0.0.1:80/test"},
			"http://10.0.0.1:80/test"},
		{way{scheme: "http"}, kvregistry.Service{URL: "https://10.0.0.1/test"},
			"https://10.0.0.1/test"},
		{way{scheme: "https"}, kvregistry.Service{URL: "https://10.0.0.1/test"},
			"https://10.0.0.1/test"},
		{way{scheme: "https"}, kvregistry.Service{URL: "http://10.0.0.1/test"}, ""},
		{way{scheme: "https"}, kvregistry.Service{URL: "http://10.0.0.1/test",
			Address: "10.0.0.1:443"}, ""},
		{way{scheme: "http"}, kvregistry.Service{Address: "10.0.0.1:80"}, "http://10.0.0.1:80"},
		{way{scheme: "https"}, kvregistry.Service{Address: "10.0.0.1:443", Network: "tcp4"},
			"https://10.0.0.1:443"},
		{way{scheme: "http"}, kvregistry.Service{Address: "/run/web.sock", Network: "unix"}, ""},
		{way{scheme: "http"}, kvregistry.Service{URL: "redis://10.0.0.1", Address: "10.0.0.1:80"},
			"http://10.0.0.1:80"},
		{way{scheme: "http"}, kvregistry.Service{URL: "redis://10.0.0.1"}, ""},
		{way{scheme: "http"}, kvregistry.Service{URL: "http:/path-only"}, ""},

		{way{scheme: dial}, kvregistry.Service{Address: "10.0.0.1:80"}, "tcp"},
		{way{scheme: dial}, kvregistry.Service{Address: "/run/web.sock", Network: "unix"}, "unix"},
		{way{scheme: dial}, kvregistry.Service{URL: "http://10.0.0.1:80"}, ""},
		{way{scheme: dial, network: "tcp"}, kvregistry.Service{URL: "http://10.0.0.1:80"}, ""},
		{way{scheme: dial, network: "tcp"}, kvregistry.Service{Address: "10.0.0.1:80"}, "tcp"},
		{way{scheme: dial, network: "tcp"}, kvregistry.Service{Address: "10.0.0.1:80",
			Network: "tcp6"}, "tcp6"},
		{way{scheme: dial, network: "tcp4"}, kvregistry.Service{Address: "10.0.0.1:80"}, "tcp4"},
		{way{scheme: dial, network: "tcp4"}, kvregistry.Service{Address: "10.0.0.1:80",
			Network: "tcp6"}, ""},
		{way{scheme: dial, network: "tcp4"}, kvregistry.Service{Address: "10.0.0.1:80",
			Network: "tcp4"}, "tcp4"},
		{way{scheme: dial, network: "tcp"}, kvregistry.Service{Address: "10.0.0.1:80",
			Network: "udp"}, ""},
		{way{scheme: dial, network: "unix"}, kvregistry.Service{Address: "/run/web.sock",
			Network: "unixgram"}, ""},

		{way{scheme: "http", endpoint: "e"}, kvregistry.Service{URL: "http://10.0.0.1:80/"}, ""},
		{way{scheme: "http", endpoint: "e"}, kvregistry.Service{URL: "http://10.0.0.1:80/",
			Network: "unix", Endpoints: map[string]string{"e": "10.0.0.2:1"}}, "http://10.0.0.2:1"},
		{way{scheme: "https", endpoint: "e"}, kvregistry.Service{Address: "10.0.0.1:80",
			Endpoints: map[string]string{"e": "https://10.0.0.2/x"}}, "https://10.0.0.2/x"},
		{way{scheme: dial, endpoint: "e"}, kvregistry.Service{Address: "10.0.0.1:80",
			Endpoints: map[string]string{"e": "/run/e.sock"}}, "unix"},
		{way{scheme: dial, endpoint: "e"}, kvregistry.Service{Address: "10.0.0.1:80",
			Endpoints: map[string]string{"f": "10.0.0.2:1"}}, ""},
	} {
		got := ""
		if tc.way.scheme == dial {
			if network, _, ok := tc.way.dials(&tc.one); ok {
				got = network
			}
		} else if root := tc.way.root(&tc.one); root != nil {
			got = root.String()
		}
		if got != tc.want || tc.way.reaches(tc.one) != (tc.want != "") {
			t.Errorf("%+v to URL %q, Address %q, Network %q: %q, want %q", tc.way, tc.one.URL,
				tc.one.Address, tc.one.Network, got, tc.want)
		}
	}
}

// TestUnder holds the URL that a request is sent to. Seen to fail with a join that cleans the path,
// and without the query of the root.
func TestUnder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ root, url, want string }{
		{"http://10.0.0.1:80", "http://web", "http://10.0.0.1:80"},
		{"http://10.0.0.1:80", "http://web/", "http://10.0.0.1:80/"},
		{"http://10.0.0.1:80/", "http://web/a", "http://10.0.0.1:80/a"},
		{"http://10.0.0.1:80/test", "http://web", "http://10.0.0.1:80/test"},
		{"http://10.0.0.1:80/test", "http://web/", "http://10.0.0.1:80/test/"},
		{"http://10.0.0.1:80/test/", "http://web/a/b/", "http://10.0.0.1:80/test/a/b/"},
		{"https://10.0.0.1/test", "http://web/a//b/../c", "https://10.0.0.1/test/a//b/../c"},
		{"http://10.0.0.1/test", "http://web//a", "http://10.0.0.1/test//a"},
		{"http://10.0.0.1/te%2Fst", "http://web/a%2Fb%20c", "http://10.0.0.1/te%2Fst/a%2Fb%20c"},
		{"http://10.0.0.1/test", "http://web/ä", "http://10.0.0.1/test/%C3%A4"},
		{"http://10.0.0.1/?k=v", "http://web/?a=b&", "http://10.0.0.1/?k=v&a=b&"},
		{"http://10.0.0.1/?k=v", "http://web/", "http://10.0.0.1/?k=v"},
		{"http://[fe80::1]:80", "http://web/?a;b=%zz", "http://[fe80::1]:80/?a;b=%zz"},
		{"http://10.0.0.1/test", "http://web/*", "http://10.0.0.1/test/*"},
	} {
		if got := under(parse(t, tc.root), parse(t, tc.url)).String(); got != tc.want {
			t.Errorf("%s under %s: %s, want %s", tc.url, tc.root, got, tc.want)
		}
	}
	server := under(parse(t, "http://10.0.0.1/test"), &url.URL{Scheme: "http",
		Host: "web", Path: "*"})
	if server.RequestURI() != "*" {
		t.Errorf("OPTIONS * asks for %q", server.RequestURI())
	}
}

// TestRelocate holds where a redirect leads. Seen to fail without the case of a path that would
// name a host, and without the look at the host.
func TestRelocate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ root, sent, location, want string }{
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/a", "/test/a/", "/a/"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/a", "http://10.0.0.1:80/test/b?q=1#f",
			"/b?q=1#f"},
		{"http://10.0.0.1:80/test/", "http://10.0.0.1:80/test/a/", "../b%2Fc", "/b%2Fc"},
		{"http://10.0.0.1:80", "http://10.0.0.1:80/a", "b", "/b"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "/test", "http://web"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "/test//evil.example/",
			"/.//evil.example/"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "/tester", "/tester"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "/login", "/login"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "https://10.0.0.1:80/test/",
			"https://10.0.0.1:80/test/"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "http://login.example/test/",
			"http://login.example/test/"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "http://%zz", "http://%zz"},
		{"http://10.0.0.1:80/test", "http://10.0.0.1:80/test/", "", ""},
	} {
		header := http.Header{}
		header.Set("Location", tc.location)
		relocate(header, parse(t, tc.root), parse(t, tc.sent), parse(t, "http://web/a"))
		if got := header.Get("Location"); got != tc.want {
			t.Errorf("%s, asked for %s: %q leads to %q, want %q", tc.root, tc.sent,
				tc.location, got, tc.want)
		}
	}
}

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
