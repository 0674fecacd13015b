package wrap

import (
	"crypto/rand"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

// pairs is an option with keys and values.
type pairs map[string]string

var errPair = errors.New("write it as name=value")

// Set adds pairs. Its error quotes nothing: what was typed may be a secret.
func (p *pairs) Set(text string) error {
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return errPair
		}
		if *p == nil {
			*p = pairs{}
		}
		(*p)[key] = value
	}
	return nil
}

func (p *pairs) Type() string { return "pairs" }

// String is needed for an option. The pairs may hold a secret, and have no default.
func (p *pairs) String() string { return "" }

// described is what the options say of an instance.
type described struct {
	service kvregistry.Service
	port    int
}

func (d *described) flags(fs *pflag.FlagSet) {
	s := &d.service
	fs.StringVar(&s.Address, "address", "", "`host:port` where the instance is called")
	fs.IntVar(&d.port, "port", 0, "`port` where the instance is called, at this host's own "+
		"address to other hosts; a program that listens on loopback alone needs --address "+
		"127.0.0.1:port")
	fs.StringVar(&s.URL, "url", "", "`URL` where the instance is called, in addition to --address "+
		"or in its place")
	fs.StringVar(&s.ID, "id", "", "`id` of the instance; a running instance with the same id is "+
		"replaced (default a new one)")
	fs.StringVar(&s.Version, "version", "", "`version` of the service's software")
	fs.StringVar(&s.Zone, "zone", "", "`zone` of the machine")
	fs.StringSliceVar(&s.Tags, "tag", nil, "`tag`, or several with commas; may be repeated")
	fs.Var((*pairs)(&s.Metadata), "meta", "metadata, as `key=value`, or several with commas; may "+
		"be repeated")
	fs.Var((*pairs)(&s.Endpoints), "endpoint", "another place where the instance is reached, as "+
		"`name=host:port`, or several with commas; may be repeated")
	fs.IntVar(&s.Weight, "weight", 0, "share of the calls, as a `number`")
}

// instance is the described instance of a service. It has an id.
func (d *described) instance(name string) (kvregistry.Service, error) {
	s := d.service
	s.Name = name
	switch {
	case name == "":
		return s, cli.Usagef("--name is empty: name the service")
	case s.Address != "" && d.port != 0:
		return s, cli.Usagef("--address and --port exclude each other")
	case d.port < 0 || d.port > 65535:
		return s, cli.Usagef("--port %d is no port; use 1 to 65535", d.port)
	case d.port != 0:
		ip, err := kvregistry.OutboundIP()
		if err != nil {
			return s, cli.Usagef("--port: %w; give --address in its place", err)
		}
		s.Address = net.JoinHostPort(ip.String(), strconv.Itoa(d.port))
	case s.Address == "" && s.URL == "":
		return s, cli.Usagef("say where the instance is called: --address, --port or --url")
	}
	if s.Address != "" {
		if _, _, err := net.SplitHostPort(s.Address); err != nil {
			return s, cli.Usagef("--address %q is no host:port", s.Address)
		}
	}
	if s.ID == "" {
		s.ID = rand.Text()[:16]
	}
	return s, nil
}

// listens is the host:port where an instance listens.
func listens(s kvregistry.Service) (string, error) {
	if s.Address != "" {
		return s.Address, nil
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" {
		return "", cli.Usagef("--url has no host; write it as http://host:port")
	}
	port := u.Port()
	if port == "" {
		known, err := net.LookupPort("tcp", u.Scheme)
		if err != nil {
			return "", cli.Usagef("--url has no port; write it as http://host:port")
		}
		port = strconv.Itoa(known)
	}
	return net.JoinHostPort(u.Hostname(), port), nil
}
