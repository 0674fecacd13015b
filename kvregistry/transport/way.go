package transport

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/kvregistry/go/kvregistry"
)

const dial = "dial" // the scheme of a way that is not HTTP

// String describes the instances that can be called this way.
func (w way) String() string {
	switch {
	case w.endpoint != "":
		return fmt.Sprintf("an instance with an endpoint %q that is called by %s", w.endpoint,
			w.scheme)
	case w.scheme == "http":
		return "an instance with a URL of http or https, or with an Address on tcp"
	case w.scheme == "https":
		return "an instance with a URL of https, or with an Address on tcp and no URL of http"
	case w.network == "":
		return "an instance with an Address"
	default:
		return fmt.Sprintf("an instance with an Address on network %q", w.network)
	}
}

// reaches reports whether an instance can be called this way.
func (w way) reaches(s kvregistry.Service) bool {
	if w.scheme == dial {
		_, _, ok := w.dials(&s)
		return ok
	}
	return w.root(&s) != nil
}

// place is the instance, with its endpoint in place of its Address and URL if the way has one.
func (w way) place(s *kvregistry.Service) *kvregistry.Service {
	if w.endpoint == "" {
		return s
	}
	one, at := *s, s.Endpoints[w.endpoint]
	one.Network, one.Address, one.URL = "", at, ""
	switch {
	case strings.Contains(at, "://"):
		one.Address, one.URL = "", at
	case strings.HasPrefix(at, "/"):
		one.Network = "unix"
	}
	return &one
}

// dials returns the network and the address at which an instance is dialled. The network is the
// more specific one, such as tcp4, of the instance's and that of the way.
func (w way) dials(s *kvregistry.Service) (network, address string, ok bool) {
	s = w.place(s)
	network = cmp.Or(s.Network, "tcp")
	switch {
	case w.network == "" || w.network == family(network):
		return network, s.Address, s.Address != ""
	case network == family(w.network):
		return w.network, s.Address, s.Address != ""
	default:
		return network, s.Address, s.Address != "" && w.network == network
	}
}

// family returns a network without the version of IP.
func family(network string) string { return strings.TrimRight(network, "46") }

// root returns the URL of the service on an instance, nil if the instance is not called this way. A
// request of https is never sent without TLS; for one of http the instance's URL decides.
func (w way) root(s *kvregistry.Service) *url.URL {
	s = w.place(s)
	if s.URL != "" {
		if u, err := url.Parse(s.URL); err == nil && u.Host != "" && (u.Scheme == "https" ||
			u.Scheme == "http") {
			if w.scheme == "https" && u.Scheme != "https" {
				return nil
			}
			return u
		}
	}
	if s.Address == "" || s.Network != "" && family(s.Network) != "tcp" {
		return nil
	}
	return &url.URL{Scheme: w.scheme, Host: s.Address}
}

// under returns a service's URL on the instance whose root is given.
func under(root, u *url.URL) *url.URL {
	to := *u
	to.Scheme, to.Host, to.User = root.Scheme, root.Host, root.User
	if u.Path != "*" { // of OPTIONS: the server itself
		to.Path = join(root.Path, u.Path)
		if root.RawPath != "" || u.RawPath != "" {
			to.RawPath = join(root.EscapedPath(), u.EscapedPath())
		}
	}
	if root.RawQuery != "" && u.RawQuery != "" {
		to.RawQuery = root.RawQuery + "&" + u.RawQuery
	} else {
		to.RawQuery = root.RawQuery + u.RawQuery
	}
	return &to
}

// join puts a path under another. It does not clean them: the server gets the path that the caller
// wrote.
func join(root, path string) string {
	if path == "" {
		return root
	}
	return strings.TrimSuffix(root, "/") + "/" + strings.TrimPrefix(path, "/")
}

// relocate rewrites a Location below the instance's root to the same place of the service, as a
// path. A client, or a proxy's client, that follows it calls the service again, and not the root
// twice. Any other Location stays as it is.
func relocate(header http.Header, root, sent, asked *url.URL) {
	location := header.Get("Location")
	if location == "" {
		return
	}
	to, err := sent.Parse(location)
	if err != nil || to.Scheme != sent.Scheme || to.Host != sent.Host {
		return
	}
	path, ok := strings.CutPrefix(to.EscapedPath(), strings.TrimSuffix(root.EscapedPath(), "/"))
	switch {
	case !ok || path != "" && path[0] != '/':
		return
	case path == "": // no path can say this
		path = asked.Scheme + "://" + asked.Host
	case strings.HasPrefix(path, "//"): // which would name a host
		path = "/." + path
	}
	if to.RawQuery != "" || to.ForceQuery {
		path += "?" + to.RawQuery
	}
	if to.Fragment != "" {
		path += "#" + to.EscapedFragment()
	}
	header.Set("Location", path)
}
