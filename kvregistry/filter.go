package kvregistry

import (
	"os"
	"slices"
)

// Filter narrows a look-up. If there are several, an instance has to pass all of them.
type Filter struct {
	match  func(*Service) bool
	status bool // it asks for statuses itself
}

// Where keeps the instances for which f returns true, or all of them if f is nil. f must not change
// the Service, or keep its Tags, Metadata or Endpoints.
func Where(f func(Service) bool) Filter {
	if f == nil {
		return Filter{}
	}
	return Filter{match: func(s *Service) bool { return f(*s) }}
}

// WithStatus keeps the instances that have one of the statuses. Without it a look-up gives the
// passing ones, and if there are none, the warning ones.
func WithStatus(any ...Status) Filter {
	return Filter{status: true, match: func(s *Service) bool {
		return slices.Contains(any, s.Status)
	}}
}

// WithVersion keeps the instances of a version, letter by letter.
func WithVersion(version string) Filter {
	return Filter{match: func(s *Service) bool { return s.Version == version }}
}

// WithTag keeps the instances that have all of the tags.
func WithTag(all ...string) Filter {
	return Filter{match: func(s *Service) bool {
		for _, tag := range all {
			if !slices.Contains(s.Tags, tag) {
				return false
			}
		}
		return true
	}}
}

// WithMetadata keeps the instances whose metadata has the value at the key.
func WithMetadata(key, value string) Filter {
	return Filter{match: func(s *Service) bool {
		got, ok := s.Metadata[key]
		return ok && got == value
	}}
}

// WithEndpoint keeps the instances that have an endpoint of a name.
func WithEndpoint(name string) Filter {
	return Filter{match: func(s *Service) bool {
		_, ok := s.Endpoints[name]
		return ok
	}}
}

// InZone keeps the instances of a zone.
func InZone(zone string) Filter {
	return Filter{match: func(s *Service) bool { return s.Zone == zone }}
}

// OnHost keeps the instances of a host.
func OnHost(host string) Filter {
	return Filter{match: func(s *Service) bool { return s.Host == host }}
}

// OnOwnHost keeps the instances of the host that this process runs on.
func OnOwnHost() Filter { return OnHost(hostname()) }

// hostname is this machine's name, or empty if it has none.
func hostname() string {
	name, _ := os.Hostname()
	return name
}

// Match reports whether the filter lets an instance through.
func (f Filter) Match(s Service) bool { return f.match == nil || f.match(&s) }

// matches reports whether all of the filters hold.
func matches(filters []Filter, s *Service) bool {
	for i := range filters {
		if filters[i].match != nil && !filters[i].match(s) {
			return false
		}
	}
	return true
}
