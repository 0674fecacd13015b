package tenants

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/tenant/operator"
)

// question is what "tenant permissions" is asked.
type question struct {
	role, user, hub, format string
	services                []string
}

func permissions(std cli.Streams) *cobra.Command {
	var q question
	c := named("permissions", "print the permissions of a role",
		"kvregistry tenant permissions <tenant> prints what a user of a role may do. It asks no "+
			"server.", func(_ *cobra.Command, name string) error { return q.answer(name, std) })
	fs := c.Flags()
	fs.StringVar(&q.role, "role", string(operator.RoleService),
		"`role`: "+fmt.Sprint(operator.Roles()))
	fs.StringArrayVar(&q.services, "service", nil, "`name` of a service that a registrar may "+
		"register; may be given several times")
	fs.StringVar(&q.user, "user", "", "`name` of the user, which the inbox is named after; random "+
		"by default")
	fs.StringVar(&q.hub, "hub-domain", "", "JetStream `domain` of the hub, for a user of a leaf "+
		"node whose domain has a mirror")
	fs.StringVar(&q.format, "format", "config", "`format`: config (of nats-server), jwt (the "+
		"claims' permissions) or json")
	return c
}

func (q *question) answer(name string, std cli.Streams) error {
	access, err := operator.Permissions(name, operator.Role(q.role), q.services...)
	if err == nil && q.user != "" {
		access, err = access.For(q.user)
	}
	if err == nil && q.hub != "" {
		access, err = access.AtLeaf(q.hub)
	}
	if err != nil {
		return cli.Usagef("%w", err)
	}
	_, _ = fmt.Fprintln(std.Err, "kvregistry tenant permissions: roles keep the tenants of one "+
		"account apart with nats-server", operator.RolesNeed)
	switch q.format {
	case "config":
		_, err = fmt.Fprintf(std.Out,
			"# connect with nats.CustomInboxPrefix(%[1]q), or --inbox %[1]s\n%s",
			access.Inbox, access.Config())
	case "jwt":
		_, err = fmt.Fprintf(std.Out, "%s\n", access.Claims())
	case "json":
		err = json.NewEncoder(std.Out).Encode(access)
	default:
		err = cli.Usagef("--format %q is unknown; use config, jwt or json", q.format)
	}
	return err
}

func account(std cli.Streams) *cobra.Command {
	var limits operator.AccountLimits
	var users []string
	var format string
	c := named("account", "print an account for a tenant alone",
		"kvregistry tenant account <tenant> prints an entry of \"accounts\" in a nats-server's "+
			"configuration. It asks no server.",
		func(_ *cobra.Command, name string) error {
			return printAccount(std, name, limits, users, format)
		})
	fs := c.Flags()
	fs.Int64Var(&limits.MaxBytes, "max-bytes", 64<<20, "the bucket's largest size in `bytes`")
	fs.IntVar(&limits.Replicas, "replicas", 1, "how `many` servers keep the bucket: 1, 3 or 5")
	fs.IntVar(&limits.Connections, "connections", 100, "how `many` connections the account's "+
		"users may have together")
	fs.StringVar(&format, "format", "config", "`format`: config (of nats-server) or jwt (the "+
		"limits of the account's claims)")
	fs.StringArrayVar(&users, "user", nil, "`entry` of a user, as \"user: web, password: "+
		"$SECRET\", \"nkey: UD…\" or, for a server with verify_and_map, \"certificate: NAME\"; "+
		"the password is taken as it stands; may be given several times")
	return c
}

func printAccount(std cli.Streams, name string, limits operator.AccountLimits, users []string,
	format string) (err error) {
	var text string
	switch {
	case format == "jwt" && len(users) == 0:
		var limit []byte
		limit, err = operator.AccountClaims(name, limits)
		text = string(limit) + "\n"
	case format == "jwt":
		return cli.Usagef("an account's JWT has no users: leave --user out, and sign each with " +
			"the account's key")
	case format != "config":
		return cli.Usagef("--format %q is unknown; use config or jwt", format)
	case len(users) == 0:
		return cli.Usagef("an account needs users: --user \"user: web, password: $SECRET\"")
	default:
		text, err = operator.AccountConfig(name, limits, users...)
	}
	if err != nil {
		return cli.Usage(err) // which quotes nothing of an entry
	}
	_, err = io.WriteString(std.Out, text)
	return err
}
