package kvregistry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
	"unique"

	"github.com/kvregistry/go/kvregistry/internal/endpoint"
	"github.com/kvregistry/go/tenant"
)

// Status says whether an instance should be called.
type Status string

// The states of an instance.
const (
	Passing  Status = "passing"
	Warning  Status = "warning"
	Critical Status = "critical"
	Draining Status = "draining"
)

func (s Status) valid() bool {
	return s == Passing || s == Warning || s == Critical || s == Draining
}

// Service is one instance of a service: one running provider.
//
// A Service that a look-up returns is a copy of the caller's own, but its Tags, Metadata and
// Endpoints are shared with the cache and must not be changed; [Service.Clone] gives ones that may.
type Service struct {
	ID       string            `json:"id"`                 // unique within the name; made if empty
	Name     string            `json:"name"`               // what look-ups ask for
	Version  string            `json:"version,omitempty"`  // of the service's software
	Network  string            `json:"network,omitempty"`  // as for net.Dial: tcp, udp, unix
	Address  string            `json:"address,omitempty"`  // host:port, or a socket's path
	URL      string            `json:"url,omitempty"`      // absolute
	Host     string            `json:"host,omitempty"`     // os.Hostname if it is empty
	Zone     string            `json:"zone,omitempty"`     // where the machine is
	Tags     []string          `json:"tags,omitempty"`     //
	Metadata map[string]string `json:"metadata,omitempty"` //
	Weight   int               `json:"weight,omitempty"`   // share of the calls; not negative
	Status   Status            `json:"status,omitempty"`   // Passing if it is empty

	// Endpoints are further places where the instance is reached, by name: host:port, a socket's
	// path, or an absolute URL. An example is "metrics" at "10.0.0.1:9100".
	Endpoints map[string]string `json:"endpoints,omitempty"`

	// Revision is the bucket's revision of the write that this was read from. The registry sets it.
	Revision uint64 `json:"-"`
	// Owner is the registry that wrote this, and Lease the lease that it lives by, as a look-up
	// read them. [Registry.Leases] has both.
	Owner string `json:"-"`
	Lease string `json:"-"`
}

// Clone is a copy that shares nothing.
func (s Service) Clone() Service {
	s.Tags = slices.Clone(s.Tags)
	s.Metadata = maps.Clone(s.Metadata)
	s.Endpoints = maps.Clone(s.Endpoints)
	return s
}

// Endpoint returns one of the Endpoints, and whether there is one of that name.
func (s Service) Endpoint(name string) (at string, ok bool) {
	at, ok = s.Endpoints[name]
	return at, ok
}

// compact is what a cache keeps of an instance that it read: no more than that, and what many
// instances have in common only once. The instance is used up.
func (s *Service) compact(name string) *Service {
	one := *s
	one.Name = name
	for _, text := range []*string{&one.Version, &one.Network, &one.Host, &one.Zone, &one.Owner,
		&one.Lease} {
		*text = shared(*text)
	}
	one.Status = Status(shared(string(one.Status)))
	for i, tag := range one.Tags {
		one.Tags[i] = shared(tag)
	}
	one.Metadata, one.Endpoints = sharedPairs(s.Metadata), sharedPairs(s.Endpoints)
	return &one
}

// sharedPairs is a map with shared texts: a map keeps the keys that it was made with.
func sharedPairs(pairs map[string]string) map[string]string {
	if pairs == nil {
		return nil
	}
	kept := make(map[string]string, len(pairs))
	for key, value := range pairs {
		kept[shared(key)] = shared(value)
	}
	return kept
}

// Bytes of memory that a cache takes for an instance, without its texts, and for one text more.
const (
	instanceBytes = 700
	textBytes     = 40
)

// bytes is about what a cache takes for an instance, its key and the place in lists included. No
// instance takes more, except for what the allocator rounds up.
func (s *Service) bytes() int {
	if s == nil {
		return 0
	}
	n := instanceBytes + 3*(len(s.ID)+len(s.Name)) + len(s.Version) + len(s.Network) +
		len(s.Address) + len(s.URL) + len(s.Host) + len(s.Zone)
	for _, tag := range s.Tags {
		n += textBytes + len(tag)
	}
	for _, pairs := range []map[string]string{s.Metadata, s.Endpoints} {
		for key, value := range pairs {
			n += 2*textBytes + len(key) + len(value)
		}
	}
	return n
}

// sharedMost is the longest text that is looked for among those of other instances. Longer ones are
// seldom the same.
const sharedMost = 64

// shared is the one copy of a text that all its holders share. It goes when nobody has it any more.
func shared(text string) string {
	if text == "" || len(text) > sharedMost {
		return text
	}
	return unique.Make(text).Value()
}

// same reports whether two instances say the same, whatever their revisions, owners and leases.
func (s *Service) same(o *Service) bool {
	return s.ID == o.ID && s.Name == o.Name && s.Version == o.Version && s.Network == o.Network &&
		s.Address == o.Address && s.URL == o.URL && s.Host == o.Host && s.Zone == o.Zone &&
		s.Weight == o.Weight && s.Status == o.Status &&
		slices.Equal(s.Tags, o.Tags) && maps.Equal(s.Metadata, o.Metadata) &&
		maps.Equal(s.Endpoints, o.Endpoints)
}

// Everything is what [Registry.Observe] takes for all services of the tenant.
const Everything = "*"

// checkName returns an error that wraps ErrInvalidService unless a service may have this name.
func checkName(name string) error {
	if name == Everything {
		return fmt.Errorf("%w: the name %q stands for every service; take another",
			ErrInvalidService, name)
	}
	if _, err := tenant.EncodeToken(name); err != nil {
		return fmt.Errorf("%w: name: %w", ErrInvalidService, err)
	}
	return nil
}

// check returns an error that wraps ErrInvalidService unless s can be registered. Its id is there
// already. The error names a field that may hold a password and never quotes it: if a URL is not
// as it should be, nobody knows where its password ends.
func (s *Service) check() error {
	if err := checkName(s.Name); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w %q: %s", ErrInvalidService, s.Name, fmt.Sprintf(format, args...))
	}
	if _, err := tenant.EncodeToken(s.ID); err != nil {
		return fmt.Errorf("%w %q: id: %w", ErrInvalidService, s.Name, err)
	}
	if s.Address == "" && s.URL == "" {
		return bad("it has neither Address nor URL; callers need one of them")
	}
	if field := s.notText(); field != "" {
		return bad("%s is not valid UTF-8; encode it as text first", field)
	}
	if s.URL != "" {
		if why := endpoint.CheckURL(s.URL); why != "" {
			return bad("%s", why)
		}
	}
	if s.Address != "" {
		if why := endpoint.CheckAddress(s.Network, s.Address); why != "" {
			return bad("%s", why)
		}
	}
	for name, at := range s.Endpoints {
		why := ""
		if strings.Contains(at, "://") {
			why = endpoint.CheckURL(at)
		} else {
			why = endpoint.CheckAddress("", at)
		}
		if why != "" {
			return bad("endpoint %.40q: %s", name, why)
		}
	}
	if s.Weight < 0 {
		return bad("weight %d is negative", s.Weight)
	}
	if s.Status != "" && !s.Status.valid() {
		return bad("status %q; use passing, warning, critical or draining", s.Status)
	}
	return nil
}

// notText names a field that is not valid UTF-8, name and id apart; it is empty if all are.
func (s *Service) notText() string {
	for _, field := range [...]struct{ name, text string }{
		{"Version", s.Version}, {"Network", s.Network}, {"Address", s.Address}, {"URL", s.URL},
		{"Host", s.Host}, {"Zone", s.Zone},
	} {
		if !utf8.ValidString(field.text) {
			return field.name
		}
	}
	for i, tag := range s.Tags {
		if !utf8.ValidString(tag) {
			return fmt.Sprintf("Tags[%d]", i)
		}
	}
	for field, pairs := range map[string]map[string]string{
		"Metadata": s.Metadata, "Endpoints": s.Endpoints,
	} {
		for key, value := range pairs {
			switch {
			case !utf8.ValidString(key):
				return "a key of " + field
			case !utf8.ValidString(value):
				return fmt.Sprintf("%s[%.40q]", field, key)
			}
		}
	}
	return ""
}

// longest is how many bytes the service's JSON has at the most: a byte of a text becomes six if
// it has to be escaped.
func (s *Service) longest() int {
	n := len(s.ID) + len(s.Name) + len(s.Version) + len(s.Network) + len(s.Address) + len(s.URL) +
		len(s.Host) + len(s.Zone) + len(s.Status)
	for _, tag := range s.Tags {
		n += len(tag) + 1
	}
	for _, pairs := range []map[string]string{s.Metadata, s.Endpoints} {
		for key, value := range pairs {
			n += len(key) + len(value) + 1
		}
	}
	const names = 256 // those of the fields, and the weight
	return names + 6*n
}
