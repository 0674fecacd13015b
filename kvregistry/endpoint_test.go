package kvregistry

import (
	"errors"
	"strings"
	"testing"
)

// An address or a URL that can't be called is refused, and the error quotes it and says what is
// missing. Seen to fail with a check that accepts all that net.SplitHostPort and url.Parse accept.
func TestEndpointsThatCannotBeCalled(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	for _, tc := range []struct{ network, address, url, says string }{
		{address: "127.0.0.1", says: "no port"},
		{address: "localhost", says: "no port"},
		{address: "[::1]", says: "no port"},
		{address: "web.example.com:", says: "no port"},
		{address: "127.0.0.1:0", says: "port 0"},
		{address: "127.0.0.1:00", says: "port 0"},
		{address: "127.0.0.1:65536", says: "too high"},
		{address: "127.0.0.1:99999", says: "too high"},
		{address: "127.0.0.1:-1", says: "no number"},
		{address: "127.0.0.1:http", says: "no number"},
		{address: "127.0.0.1: 80", says: "no number"},
		{network: "tcp4", address: "127.0.0.1:0", says: "port 0"},
		{network: "udp", address: "127.0.0.1", says: "no port"},
		{address: "::1:80", says: "brackets"},
		{address: "2001:db8::1", says: "brackets"},
		{address: "a:b:80", says: "colons"},
		{address: "[web]:80", says: "brackets"},
		{address: "[127.0.0.1:80", says: "no port"},
		{address: "http://127.0.0.1:80", says: "set URL"},
		{address: "tcp://127.0.0.1:80", says: "set URL"},
		{network: "tcp", address: "/run/web.sock", says: "no port"},
		{address: "127.0.0.1:80/path", says: "no number"},
		{address: "my host:80", says: "characters"},
		{address: " web:80", says: "characters"},
		{address: "web,db:80", says: "characters"},
		{address: "web/x:80", says: "characters"},
		{address: "web..example:80", says: "empty label"},
		{address: ".web:80", says: "empty label"},
		{address: ".:80", says: "empty label"},
		{address: long + ".example:80", says: "63 bytes"},
		{address: "256.1.1.1:80", says: "no IP address"},
		{address: "10.0.0:80", says: "no IP address"},
		{address: "0:80", says: "no host"},
		{url: "http://0:80/", says: "no host"},
		{url: "http:///path", says: "no scheme or no host"},
		{url: "http://", says: "no scheme or no host"},
		{url: "http:/path", says: "no scheme or no host"},
		{url: "file:///path", says: "no scheme or no host"},
		{url: "web.example.com/path", says: "no scheme or no host"},
		{url: "127.0.0.1:80", says: "does not parse"},
		{url: "unix://", says: "no scheme or no host"},
		{url: "unix:///", says: "no scheme or no host"},
		{url: "http://h:0/", says: "port 0"},
		{url: "http://h:99999/", says: "too high"},
		{url: "http://h:/", says: "no port"},
		{url: "http://h:http/", says: "does not parse"},
		{url: "http://::1/"},
		{url: "http://2001:db8::1:80/"},
		{url: "http://my host/", says: "does not parse"},
		{url: "http://web..example/", says: "empty label"},
		{url: "http://.:80/", says: "empty label"},
		{url: "redis://web,db:6379", says: "characters"},
		{url: "http://10.0.0/", says: "no IP address"},
	} {
		s := Service{Name: "web", ID: "a", Network: tc.network, Address: tc.address, URL: tc.url}
		err := s.check()
		value := tc.address + tc.url
		if !errors.Is(err, ErrInvalidService) || !strings.Contains(err.Error(), tc.says) ||
			!strings.Contains(err.Error(), `"`+value+`"`) &&
				!strings.Contains(err.Error(), "URL does not parse") &&
				!strings.Contains(tc.says, "no scheme") {
			t.Errorf("%s: %v, want one that says %q", value, err, tc.says)
		}
	}
	for _, s := range []Service{
		{Address: "/run/web.sock"},
		{Address: "127.0.0.1:80"}, {Address: "[::1]:80"}, {Address: "[fe80::1%eth0]:80"},
		{Address: "localhost:65535"}, {Address: "web-1.example.com:1"},
		{Address: "web_1:80"}, {Address: "example.com.:80"}, {Address: "bücher.example:80"},
		{Address: "7:80"}, {Network: "udp", Address: "h:53"},
		{Network: "unix", Address: "/run/web.sock"}, {Network: "unix", Address: "@web"},
		{Network: "unixgram", Address: "web.sock"},
		{URL: "http://h"}, {URL: "https://h:443/a?b=c"},
		{URL: "http://[::1]/"}, {URL: "http://[::1]:80/"},
		{URL: "redis://u:p@h:6379/0"}, {URL: "odd+scheme://h"}, {URL: "unix:///run/web.sock"},
		{URL: "unix:/run/web.sock"},
		{URL: "http+unix://web.sock/path"}, {URL: "nats://bücher.example"},
	} {
		s.Name, s.ID = "web", "a"
		if err := s.check(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for _, text := range []string{"u:SECRET@h", "u:SECRET@h:0", "http://u:SECRET@h:80",
		"@SECRET:80"} {
		s := Service{Name: "web", ID: "a", Address: text}
		hides(t, s, "Address", "SECRET")
	}
	for _, text := range []string{"http://u:SECRET@h:0", "http:///?token=SECRET",
		"http://u:SECRET@web..example/", "http://a..b/#SECRET"} {
		s := Service{Name: "web", ID: "a", URL: text}
		hides(t, s, "URL", "SECRET")
	}
}
