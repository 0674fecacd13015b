package operator

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/kvregistry/go/tenant"
)

// Server is a nats-server, or a cluster of them, for one tenant alone. [Server.Config] returns its
// configuration.
type Server struct {
	Tenant string
	Limits AccountLimits
	Users  []ServerUser
	NKeys  bool     // users log in by nkeys, and not by passwords
	Listen string   // host:port for clients; "127.0.0.1:4222", or "0.0.0.0:4222" in a cluster
	Store  string   // folder of JetStream; "/var/lib/nats" if it is empty
	Hosts  []string // of the servers of a cluster, without ports; none for a single server
	// Include is a file with the [Server.Secrets], relative to the configuration file. If it is
	// empty, the server takes them from its environment.
	Include string
}

// ServerUser is a user of a [Server].
type ServerUser struct {
	Name     string // that the user logs in by; its inbox is made of it, as by [Access.For]
	Role     Role
	Services []string // of a registrar
}

// Config returns the whole configuration of the server as the text of its file. Its account holds
// the tenant's bucket and no other stream, each user may do what its role needs, and comments say
// how each of them connects. It refers to the [Server.Secrets] and has no secret in it. The servers
// of a cluster share one configuration, and differ in the variable NATS_SERVER_NAME.
//
// The error wraps [tenant.ErrInvalidTenant], [tenant.ErrInvalidName] or [tenant.ErrInvalidConfig].
func (s Server) Config() (string, error) {
	if s.Listen == "" && len(s.Hosts) > 0 {
		s.Listen = "0.0.0.0:4222"
	} else if s.Listen == "" {
		s.Listen = "127.0.0.1:4222"
	}
	if s.Store == "" {
		s.Store = "/var/lib/nats"
	}
	if err := s.check(); err != nil {
		return "", err
	}
	var entries []string
	for _, u := range s.Users {
		text, err := s.user(u)
		if err != nil {
			return "", err
		}
		entries = append(entries, text)
	}
	return render(serverText, struct {
		Server
		Account string
	}{s, s.Limits.account(s.Tenant, entries)}), nil
}

// user is a user's entry in the configuration, with comments before it.
func (s Server) user(u ServerUser) (string, error) {
	access, err := Permissions(s.Tenant, u.Role, u.Services...)
	if err == nil {
		access, err = access.For(u.Name)
	}
	if err != nil {
		return "", fmt.Errorf("%w (user %q)", err, u.Name)
	}
	text := render(userText, struct {
		ServerUser
		NKeys                             bool
		Secret, Inbox, Allow, Command, At string
	}{u, s.NKeys, s.Secret(u), access.Inbox, access.Config(), s.command(u.Role), s.url()})
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    "), nil
}

func (s Server) check() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("operator: %w: %s", tenant.ErrInvalidConfig, fmt.Sprintf(format, args...))
	}
	if err := s.Limits.check(s.Tenant); err != nil {
		return err
	}
	if len(s.Users) == 0 {
		return wrong("a server needs users")
	}
	if host, port, err := net.SplitHostPort(s.Listen); err != nil || host == "" || port == "" {
		return wrong("can't listen on %q; use host:port, for example 127.0.0.1:4222", s.Listen)
	}
	for _, host := range s.Hosts {
		if host == "" || strings.ContainsAny(host, ":/@\"\\, \t\r\n") {
			return wrong("%q is no host of a cluster; use a name or an IPv4 address without a port",
				host)
		}
	}
	switch n := len(s.Hosts); {
	case n != 0 && n < 3:
		return wrong("a cluster of %d; use 3 servers or more", n)
	case n < s.Limits.Replicas && s.Limits.Replicas > 1:
		return wrong("%d replicas; use as many hosts of a cluster or more", s.Limits.Replicas)
	case filepath.IsAbs(s.Include), strings.ContainsAny(s.Include, "\"\r\n"):
		return wrong("can't include %q; use a path that is relative to the configuration file",
			s.Include)
	}
	return s.checkSecrets()
}

// checkSecrets returns an error if two users have the same name or variable.
func (s Server) checkSecrets() error {
	of := map[string]string{}
	for _, u := range s.Users {
		secret := s.Secret(u)
		if other, ok := of[secret]; ok {
			return fmt.Errorf("operator: %w: users %q and %q share the variable %s; rename one",
				tenant.ErrInvalidConfig, other, u.Name, secret)
		}
		of[secret] = u.Name
	}
	return nil
}

// Secret is the name of the variable that the configuration takes a user's password from, or its
// public nkey.
func (s Server) Secret(u ServerUser) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, "NATS_"+s.Tenant+"_"+u.Name)
	if s.NKeys {
		return name + "_NKEY"
	}
	return name + "_PASSWORD"
}
