package kvregistry

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"unicode/utf8"

	"github.com/kvregistry/go/tenant"
)

// Status says whether an instance should be called.
type Status string

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
// A Service that a look-up returns is a copy of the caller's own, but its Tags and Metadata are shared with
// the cache and must not be changed; [Service.Clone] gives ones that may.
type Service struct {
	ID       string            `json:"id"`                 // unique within the name; made by Register where it is empty
	Name     string            `json:"name"`               // what look-ups ask for
	Version  string            `json:"version,omitempty"`  // of the service's software
	Network  string            `json:"network,omitempty"`  // of Address, as for net.Dial: tcp, udp, unix
	Address  string            `json:"address,omitempty"`  // host:port, or a socket's path
	URL      string            `json:"url,omitempty"`      // absolute
	Host     string            `json:"host,omitempty"`     // the machine's name; os.Hostname where it is empty
	Zone     string            `json:"zone,omitempty"`     // where the machine is
	Tags     []string          `json:"tags,omitempty"`     //
	Metadata map[string]string `json:"metadata,omitempty"` //
	Weight   int               `json:"weight,omitempty"`   // share of the calls, for who chooses by it; not negative
	Status   Status            `json:"status,omitempty"`   // Passing where it is empty

	// Revision is the bucket's revision of the write that this was read from. The registry sets it.
	Revision uint64 `json:"-"`
}

// Clone is a copy that shares nothing.
func (s Service) Clone() Service {
	s.Tags = slices.Clone(s.Tags)
	s.Metadata = maps.Clone(s.Metadata)
	return s
}

// same reports whether two instances say the same, whatever their revisions.
func (s *Service) same(o *Service) bool {
	return s.ID == o.ID && s.Name == o.Name && s.Version == o.Version && s.Network == o.Network &&
		s.Address == o.Address && s.URL == o.URL && s.Host == o.Host && s.Zone == o.Zone &&
		s.Weight == o.Weight && s.Status == o.Status &&
		slices.Equal(s.Tags, o.Tags) && maps.Equal(s.Metadata, o.Metadata)
}

// Everything is what [Registry.Observe] takes for all services of the tenant.
const Everything = "*"

// checkName returns an error that wraps ErrInvalidService unless a service may have this name.
func checkName(name string) error {
	if name == Everything {
		return fmt.Errorf("%w: the name %q stands for every service; take another", ErrInvalidService, name)
	}
	if _, err := tenant.EncodeToken(name); err != nil {
		return fmt.Errorf("%w: name: %w", ErrInvalidService, err)
	}
	return nil
}

// check returns an error that wraps ErrInvalidService unless s can be registered. Its id is there already.
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
	if s.URL != "" {
		u, err := url.Parse(s.URL)
		if err != nil {
			return bad("URL does not parse: %v", withoutURL(err))
		}
		if !u.IsAbs() || u.Opaque != "" || u.Host == "" && u.Path == "" {
			return bad("URL %q has no scheme or no host; write it as http://host:port/path", u.Redacted())
		}
	}
	if s.Weight < 0 {
		return bad("weight %d is negative", s.Weight)
	}
	if s.Status != "" && !s.Status.valid() {
		return bad("status %q; use passing, warning, critical or draining", s.Status)
	}
	for _, text := range s.texts() {
		if !utf8.ValidString(text) {
			return bad("%q is not valid UTF-8", text)
		}
	}
	return nil
}

// withoutURL is a parse error without the URL itself, which may hold a password.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// texts are the strings that a service brings along, its name and id apart.
func (s *Service) texts() []string {
	texts := append([]string{s.Version, s.Network, s.Address, s.URL, s.Host, s.Zone}, s.Tags...)
	for k, v := range s.Metadata {
		texts = append(texts, k, v)
	}
	return texts
}
