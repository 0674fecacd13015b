package bridge

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/internal/endpoint"
)

// The words between the prefix and a service's name in a subject. The last is the bridges' own;
// plain processes do not listen to it.
const (
	register   = "register"
	unregister = "unregister"
	ping       = "ping"
	beat       = "bridge"
)

// mark is the header of all that a bridge publishes. Plain processes see the payload only.
const mark = "Kvregistry-Bridge"

// Origin is the key in the metadata of what a bridge has registered. Its value is the prefix where
// it was heard.
const Origin = "kvregistry.bridge"

// largest is the length of the longest message that is read.
const largest = 64 << 10

// message is what a plain process says of one of its services. One that unregisters has neither
// times nor status.
type message struct {
	Network string            `json:"net,omitempty"`
	Address string            `json:"add,omitempty"`
	URL     string            `json:"url,omitempty"`
	Name    string            `json:"name,omitempty"`
	Version string            `json:"v,omitempty"`
	Host    string            `json:"h,omitempty"`
	KV      map[string]string `json:"kv,omitempty"`
	Times   *times            `json:"t,omitempty"`
	Status  string            `json:"status,omitempty"` // left out if it is passing
}

type times struct {
	Registered int64 // when it was said, in Unix milliseconds of the sender
	Duration   int64 // the time until it is said again, in milliseconds
}

// decode reads a message that came on a service's subject. A message that names another service is
// invalid, because a permission to publish for one service must not cover others.
func decode(name string, data []byte) (m message, ok bool) {
	if len(data) > largest || json.Unmarshal(data, &m) != nil {
		return message{}, false
	}
	return m, m.Name == name && name != ""
}

// place returns where an instance is. Plain processes take all instances without an address for
// one; here their URLs tell them apart.
func (m message) place() place { return placeOf(m.Name, m.Address, m.URL, m.Host) }

func placeOf(name, address, link, host string) place {
	at := place{name: name, address: cmp.Or(address, hostPort(link), link)}
	if anyHosts(at.address) {
		at.host = host
	}
	return at
}

// anyHosts reports whether an address is the same on each host: a loopback one, one to listen at,
// or a socket's path.
func anyHosts(address string) bool {
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	ip, _ := netip.ParseAddr(host)
	return err == nil && (host == "localhost" || ip.IsLoopback() || endpoint.Everywhere(host))
}

// hostPort returns a URL's host and port, or "" if it has none.
func hostPort(link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" {
		return ""
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	if port == "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// The time for which an instance stays that is not heard: the time that its process says, within
// these bounds, and half of that again.
const (
	usual    = 20 * time.Second // of a plain process that does not say its own
	shortest = 500 * time.Millisecond
	longest  = time.Hour
)

func (m message) lasts() time.Duration {
	every := usual
	if m.Times != nil && m.Times.Duration > 0 {
		every = min(longest, time.Duration(min(m.Times.Duration,
			longest.Milliseconds()))*time.Millisecond)
	}
	return max(every, shortest) * 3 / 2
}

// same reports whether two messages say the same of an instance, whenever they were said.
func (m message) same(o message) bool {
	return m.Network == o.Network && m.Address == o.Address && m.URL == o.URL && m.Name == o.Name &&
		m.Version == o.Version && m.Host == o.Host &&
		m.Status == o.Status && maps.Equal(m.KV, o.KV)
}

// service returns the instance as it is registered in the tenant: by the same id, whichever bridge
// does it.
func (m message) service(prefix string) kvregistry.Service {
	at := m.place()
	key := prefix + "\x00" + at.name + "\x00" + at.address
	if at.host != "" {
		key += "\x00" + at.host
	}
	hash := sha256.Sum256([]byte(key))
	s := kvregistry.Service{
		ID: "plain-" + hex.EncodeToString(hash[:10]), Name: m.Name, Version: m.Version,
		Network: m.Network, Address: m.Address, URL: m.URL, Host: m.Host,
		Metadata: map[string]string{}, Status: kvregistry.Passing,
	}
	if m.URL != "" && !absolute(m.URL) { // the plain registry takes any text for one
		s.Address, s.URL = cmp.Or(s.Address, m.URL), ""
	}
	if s.Address == "" && s.URL == "" {
		s.Address = m.Host
	}
	s.Address, s.URL = m.reachable(s.Address), m.reachableURL(s.URL)
	if s.Host == "" { // it is not this bridge's
		s.Host, _, _ = net.SplitHostPort(at.address)
		s.Host = cmp.Or(s.Host, "unknown")
	}
	if status := kvregistry.Status(m.Status); status == kvregistry.Warning ||
		status == kvregistry.Critical {
		s.Status = status
	}
	maps.Copy(s.Metadata, m.KV)
	s.Metadata[Origin] = prefix
	return s
}

// reachable returns an address with the message's host in place of an address for all interfaces.
// Plain processes register such addresses too, and their callers use the host.
func (m message) reachable(address string) string {
	if m.Host == "" || !endpoint.ListensEverywhere(m.Network, address) {
		return address
	}
	_, port, _ := net.SplitHostPort(address) // it has one
	return net.JoinHostPort(m.Host, port)
}

// reachableURL is reachable for a URL.
func (m message) reachableURL(link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" || m.Host == "" || !endpoint.Everywhere(u.Hostname()) {
		return link
	}
	u.Host = strings.TrimSuffix(net.JoinHostPort(m.Host, u.Port()), ":")
	return u.String()
}

// absolute reports whether a URL can be registered as one.
func absolute(link string) bool {
	u, err := url.Parse(link)
	return err == nil && u.IsAbs() && u.Opaque == "" && (u.Host != "" || u.Path != "")
}

// said returns the message by which a plain process hears of an instance of the tenant. It always
// has an address, because without one it would be taken for any other instance that has none.
func said(s kvregistry.Service) message {
	m := message{
		Network: s.Network, Address: placeOf(s.Name, s.Address, s.URL, s.Host).address, URL: s.URL,
		Name: s.Name, Version: s.Version, Host: s.Host, KV: s.Metadata,
	}
	if s.Status != kvregistry.Passing {
		m.Status = string(s.Status)
	}
	return m
}

// encode returns the message's payload. There are only maps and texts in it, so it cannot fail.
func (m message) encode() []byte {
	data, _ := json.Marshal(m)
	return data
}

// sayable reports whether a service's name can be the end of a subject.
func sayable(name string) bool {
	if name == "" || !utf8.ValidString(name) {
		return false
	}
	for token := range strings.SplitSeq(name, ".") {
		if token == "" || strings.ContainsAny(token, "*>") ||
			strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return false
		}
	}
	return true
}
