package tenants

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/tenant/operator"
)

const aboutConfig = `kvregistry tenant config <tenant> prints the whole configuration of a
nats-server for a tenant: its account, its users with what their roles need, the limits. Comments
say how each user connects. It asks no server.

The configuration has no passwords. It refers to variables, which the server takes from its
environment, or from a file that is included:

  kvregistry tenant config acme --user ann=admin --user dashboard=observer --user web=registrar:web
  kvregistry tenant config acme --include acme.secrets --make-secrets > nats.conf

Without --user there is a user for each role, except for registrars.`

// configured is what "tenant config" is asked.
type configured struct {
	operator.Server
	users   []string
	secrets bool
}

func config(std cli.Streams) *cobra.Command {
	var q configured
	c := named("config", "print the whole configuration of a server for a tenant", aboutConfig,
		func(_ *cobra.Command, name string) error { return q.print(name, std) })
	fs := c.Flags()
	fs.StringArrayVar(&q.users, "user", nil, "`name=role` of a user, or name=registrar:service; "+
		"may be given several times, with a registrar for each service. Roles: "+
		fmt.Sprint(operator.Roles()))
	fs.StringVar(&q.Include, "include", "", "`file` that sets the variables, relative to the "+
		"configuration; they are in the server's environment by default")
	fs.BoolVar(&q.secrets, "make-secrets", false, "write random passwords into the file of "+
		"--include, which must not exist yet")
	fs.BoolVar(&q.NKeys, "nkeys", false, "let users log in by nkeys, and not by passwords")
	fs.StringVar(&q.Listen, "listen", "", "`address` of the server, as host:port (default "+
		"127.0.0.1:4222, and 0.0.0.0:4222 in a cluster)")
	fs.StringVar(&q.Store, "store", "/var/lib/nats", "`directory` of the server's data")
	fs.StringSliceVar(&q.Hosts, "cluster", nil, "`hosts` of three servers or more, with commas "+
		"between them")
	fs.Int64Var(&q.Limits.MaxBytes, "max-bytes", 64<<20, "the bucket's largest size in `bytes`")
	fs.IntVar(&q.Limits.Replicas, "replicas", 0, "how `many` servers keep the bucket: 1, 3 or 5 "+
		"(default 1, and 3 in a cluster)")
	fs.IntVar(&q.Limits.Connections, "connections", 100, "how `many` connections the users may "+
		"have together")
	return c
}

func (q *configured) print(name string, std cli.Streams) (err error) {
	q.Tenant = name
	switch {
	case q.Limits.Replicas == 0 && len(q.Hosts) > 0:
		q.Limits.Replicas = 3
	case q.Limits.Replicas == 0:
		q.Limits.Replicas = 1
	}
	if q.Users, err = parseUsers(q.users); err != nil {
		return err
	}
	text, err := q.Config()
	if err != nil {
		return cli.Usagef("%w", err)
	}
	if q.secrets {
		if err := makeSecrets(q.Server, std); err != nil {
			return err
		}
	}
	_, err = io.WriteString(std.Out, text)
	return err
}

// parseUsers reads the values of --user. A registrar may stand in several of them.
func parseUsers(values []string) (users []operator.ServerUser, err error) {
	if len(values) == 0 {
		for _, role := range operator.Roles() {
			if role != operator.RoleRegistrar {
				users = append(users, operator.ServerUser{Name: string(role), Role: role})
			}
		}
		return users, nil
	}
	for _, value := range values {
		name, role, ok := strings.Cut(value, "=")
		if !ok || name == "" {
			return nil, cli.Usagef("--user %s: write it as name=role, or as name=registrar:service",
				value)
		}
		role, service, named := strings.Cut(role, ":")
		i := slices.IndexFunc(users, func(u operator.ServerUser) bool { return u.Name == name })
		if i < 0 {
			i = len(users)
			users = append(users, operator.ServerUser{Name: name, Role: operator.Role(role)})
		} else if users[i].Role != operator.Role(role) || !named {
			return nil, cli.Usagef("--user %s stands twice; only a registrar may, with a service "+
				"each time", name)
		}
		if named {
			users[i].Services = append(users[i].Services, service)
		}
	}
	return users, nil
}

// makeSecrets writes a random password for each user into the file that the configuration includes.
func makeSecrets(s operator.Server, std cli.Streams) error {
	switch {
	case s.Include == "":
		return cli.Usagef("--make-secrets needs --include, the file that they are written to")
	case s.NKeys:
		return cli.Usagef("--make-secrets makes no nkeys; make a pair for each user: nk -gen " +
			"user -pubout")
	}
	var b strings.Builder
	for _, u := range s.Users {
		_, _ = fmt.Fprintf(&b, "%s: %q\n", s.Secret(u), rand.Text())
	}
	file, err := os.OpenFile(s.Include, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--include: the file can't be made: %w", cli.Cause(err))
	}
	_, err = io.WriteString(file, b.String())
	if why := file.Close(); err == nil {
		err = why
	}
	if err != nil {
		return fmt.Errorf("--include: the file can't be written: %w", cli.Cause(err))
	}
	_, err = fmt.Fprintf(std.Err, "the passwords are in %s; keep it beside the configuration\n",
		cli.Place(s.Include))
	return err
}
