package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

const usageTenant = `kvregistry tenant makes, lists and deletes tenants, and says what their users
may do.

Usage:

  kvregistry tenant create <tenant>         make a tenant's bucket, with its limits
  kvregistry tenant change <tenant>         change its limits
  kvregistry tenant mirror <tenant>         mirror a hub's bucket in a leaf node's domain
  kvregistry tenant list                    list the account's tenants
  kvregistry tenant permissions <tenant>    print the permissions of a role
  kvregistry tenant account <tenant>        print an account for a tenant alone
  kvregistry tenant delete <tenant>         delete a tenant's bucket and all that is in it

"kvregistry tenant create -h" prints the options of create, and so on.
`

// tenantCommands are the subcommands of tenant.
var tenantCommands = map[string]func(args []string, std streams) error{
	"create":      tenantCreate,
	"change":      tenantChange,
	"mirror":      tenantMirror,
	"list":        tenantList,
	"permissions": tenantPermissions,
	"account":     tenantAccount,
	"delete":      tenantDelete,
}

// tenants runs one subcommand of tenant.
func tenants(args []string, std streams) error {
	if len(args) > 1 && args[0] == "help" {
		args = []string{args[1], "-h"}
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		_, _ = io.WriteString(std.out, usageTenant)
		return nil
	}
	command, ok := tenantCommands[args[0]]
	if !ok {
		return wrongUsage("there is no subcommand %q", args[0])
	}
	return command(args[1:], std)
}

// named takes a tenant's name from the front of the arguments, before the options.
func named(args []string) (name string, rest []string) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return "", args
	}
	return args[0], args[1:]
}

// parseNamed is parse for a subcommand that needs a tenant's name.
func parseNamed(fs *flag.FlagSet, about string, args []string,
	std streams) (name string, err error) {
	name, rest := named(args)
	if err := parse(fs, about, rest, std); err != nil {
		return "", err
	}
	if _, err := tenant.BucketName(name); err != nil || isSecret(name) {
		if isDoubtful(name) {
			return "", wrongUsage("name a tenant first, in place of %w", errSecret)
		}
		return "", wrongUsage("name a tenant first: 1 to 64 letters, digits, '-' and '_'")
	}
	return name, nil
}

func tenantCreate(args []string, std streams) error {
	var l login
	var cfg tenant.Config
	fs := flag.NewFlagSet("tenant create", flag.ContinueOnError)
	l.flags(fs)
	fs.IntVar(&cfg.Replicas, "replicas", 0, "how `many` servers keep the bucket: 1, 3 or 5; 0 is "+
		"1 on a single server and 3 in a cluster")
	fs.Int64Var(&cfg.MaxBytes, "max-bytes", 0, "the bucket's largest size in `bytes`; 0 is "+
		"without limit")
	fs.Int64Var(&cfg.MaxKeys, "max-keys", 0, "the largest `number` of registrations, leases and "+
		"keys that ended in the last 10 minutes together; 0 is without limit")
	fs.Int64Var(&cfg.MaxValue, "max-value", 0, "the longest value that the server takes, in "+
		"`bytes` with its headers; 0 is without limit")
	name, err := parseNamed(fs, "kvregistry tenant create <tenant> makes a tenant's bucket. If "+
		"the bucket exists, it is checked, and only a duplicate window that is too long is "+
		"changed.", args, std)
	if err != nil {
		return err
	}
	done := "tenant " + name + " is there"
	return l.report(std, done, func(ctx context.Context, nc *nats.Conn) error {
		return operator.Provision(ctx, nc, name, cfg)
	})
}

// amount is a flag for a limit that can be removed.
type amount int64

func (a *amount) String() string { return limit(int64(*a)) }

func (a *amount) Set(text string) error {
	if text == "none" {
		*a = operator.Unlimited
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return errors.New("give a number above 0, or none")
	}
	*a = amount(n)
	return nil
}

func tenantChange(args []string, std streams) error {
	var l login
	var cfg tenant.Config
	fs := flag.NewFlagSet("tenant change", flag.ContinueOnError)
	l.flags(fs)
	fs.IntVar(&cfg.Replicas, "replicas", 0, "how `many` servers keep the bucket: 1, 3 or 5")
	fs.Var((*amount)(&cfg.MaxBytes), "max-bytes", "the bucket's largest size in `bytes`, or none")
	fs.Var((*amount)(&cfg.MaxKeys), "max-keys", "the largest `number` of registrations, leases "+
		"and keys that ended in the last 10 minutes together, or none")
	fs.Var((*amount)(&cfg.MaxValue), "max-value", "the longest value that the server takes, in "+
		"`bytes` with its headers, or none")
	name, err := parseNamed(fs, "kvregistry tenant change <tenant> sets limits of a bucket that "+
		"exists. Other limits stay as they are.", args, std)
	if err != nil {
		return err
	}
	if cfg == (tenant.Config{}) {
		return wrongUsage("say what to change: --max-keys, --max-bytes, --max-value or --replicas")
	}
	done := "tenant " + name + " is changed"
	return l.report(std, done, func(ctx context.Context, nc *nats.Conn) error {
		return operator.Change(ctx, nc, name, cfg)
	})
}

func tenantMirror(args []string, std streams) error {
	var l login
	var domain string
	fs := flag.NewFlagSet("tenant mirror", flag.ContinueOnError)
	l.flags(fs)
	fs.StringVar(&domain, "hub-domain", "", "JetStream `domain` of the hub, which has the bucket")
	name, err := parseNamed(fs, "kvregistry tenant mirror <tenant> mirrors a tenant's bucket in "+
		"the JetStream of the leaf node that it connects to. It replaces a mirror of a bucket "+
		"that was deleted and recreated.", args, std)
	if err != nil {
		return err
	}
	if domain == "" {
		return wrongUsage("name the domain that the bucket is in: --hub-domain")
	}
	done := "tenant " + name + " is mirrored"
	return l.report(std, done, func(ctx context.Context, nc *nats.Conn) error {
		return operator.MakeMirror(ctx, nc, name, domain)
	})
}

func tenantList(args []string, std streams) error {
	var l login
	fs := flag.NewFlagSet("tenant list", flag.ContinueOnError)
	l.flags(fs)
	if err := parse(fs, "kvregistry tenant list lists the account's tenants. It needs a user that "+
		"may see all of the account's streams.", args, std); err != nil {
		return err
	}
	return l.do(func(ctx context.Context, nc *nats.Conn) error {
		list, err := operator.List(ctx, nc)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "tenant\tkeys\tmax keys\tbytes\tmax bytes\treplicas")
		for _, t := range list {
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%d\n", t.Tenant, t.Keys, limit(t.MaxKeys),
				t.Bytes, limit(t.MaxBytes), t.Replicas)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		said := map[string]bool{} // what concerns the server is the same for each of its tenants
		for _, t := range list {
			for _, advice := range t.Advice {
				if !said[advice] {
					said[advice] = true
					_, _ = fmt.Fprintln(std.err, "kvregistry tenant list:", advice)
				}
			}
		}
		return nil
	})
}

func limit(n int64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}

func tenantPermissions(args []string, std streams) error {
	var role, user, hub, format string
	var services entries
	fs := flag.NewFlagSet("tenant permissions", flag.ContinueOnError)
	fs.StringVar(&role, "role", string(operator.RoleService),
		"`role`: "+fmt.Sprint(operator.Roles()))
	fs.Var(&services, "service", "`name` of a service that a registrar may register; may be "+
		"given several times")
	fs.StringVar(&user, "user", "", "`name` of the user, which the inbox is named after; random "+
		"by default")
	fs.StringVar(&hub, "hub-domain", "", "JetStream `domain` of the hub, for a user of a leaf "+
		"node whose domain has a mirror")
	fs.StringVar(&format, "format", "config", "`format`: config (of nats-server), jwt (the "+
		"claims' permissions) or json")
	name, err := parseNamed(fs, "kvregistry tenant permissions <tenant> prints what a user of a "+
		"role may do. It asks no server.", args, std)
	if err != nil {
		return err
	}
	access, err := operator.Permissions(name, operator.Role(role), services...)
	if err == nil && user != "" {
		access, err = access.For(user)
	}
	if err == nil && hub != "" {
		access, err = access.AtLeaf(hub)
	}
	if err != nil {
		return wrongUsage("%w", err)
	}
	_, _ = fmt.Fprintln(std.err, "kvregistry tenant permissions: roles keep the tenants of one "+
		"account apart with nats-server", operator.RolesNeed)
	switch format {
	case "config":
		_, err = fmt.Fprintf(std.out,
			"# connect with nats.CustomInboxPrefix(%[1]q), or --inbox %[1]s\n%s",
			access.Inbox, access.Config())
	case "jwt":
		_, err = fmt.Fprintf(std.out, "%s\n", access.Claims())
	case "json":
		err = json.NewEncoder(std.out).Encode(access)
	default:
		err = wrongUsage("--format %q is unknown; use config, jwt or json", format)
	}
	return err
}

// entries is a flag that may be given several times.
type entries []string

func (e *entries) String() string         { return strings.Join(*e, "; ") }
func (e *entries) Set(entry string) error { *e = append(*e, entry); return nil }

func tenantAccount(args []string, std streams) error {
	var limits operator.AccountLimits
	var users entries
	var format string
	fs := flag.NewFlagSet("tenant account", flag.ContinueOnError)
	fs.Int64Var(&limits.MaxBytes, "max-bytes", 64<<20, "the bucket's largest size in `bytes`")
	fs.IntVar(&limits.Replicas, "replicas", 1, "how `many` servers keep the bucket: 1, 3 or 5")
	fs.IntVar(&limits.Connections, "connections", 100, "how `many` connections the account's "+
		"users may have together")
	fs.StringVar(&format, "format", "config", "`format`: config (of nats-server) or jwt (the "+
		"limits of the account's claims)")
	fs.Var(&users, "user", "`entry` of a user, as \"user: web, password: "+
		"$SECRET\", \"nkey: UD…\" or, for a server with verify_and_map, \"certificate: NAME\"; "+
		"the password is taken as it stands; may be given several times")
	name, err := parseNamed(fs, "kvregistry tenant account <tenant> prints an "+
		"entry of \"accounts\" in a nats-server's configuration. It asks no server.", args, std)
	if err != nil {
		return err
	}
	var text string
	switch {
	case format == "jwt" && len(users) == 0:
		var limit []byte
		limit, err = operator.AccountClaims(name, limits)
		text = string(limit) + "\n"
	case format == "jwt":
		return wrongUsage("an account's JWT has no users: leave --user out, and sign each with " +
			"the account's key")
	case format != "config":
		return wrongUsage("--format %q is unknown; use config or jwt", format)
	case len(users) == 0:
		return wrongUsage("an account needs users: --user \"user: web, password: $SECRET\"")
	default:
		text, err = operator.AccountConfig(name, limits, users...)
	}
	if err != nil {
		return usageError{err} // which quotes nothing of an entry
	}
	_, err = io.WriteString(std.out, text)
	return err
}

func tenantDelete(args []string, std streams) error {
	var l login
	var yes bool
	fs := flag.NewFlagSet("tenant delete", flag.ContinueOnError)
	l.flags(fs)
	fs.BoolVar(&yes, "yes", false, "do it")
	name, err := parseNamed(fs, "kvregistry tenant delete <tenant> deletes a tenant's bucket and "+
		"all that is in it.", args, std)
	if err != nil {
		return err
	}
	if !yes {
		return usageError{fmt.Errorf("this ends every registration of tenant %s; add --yes to "+
			"do it", name)}
	}
	done := "tenant " + name + " is deleted"
	return l.report(std, done, func(ctx context.Context, nc *nats.Conn) error {
		return operator.Remove(ctx, nc, name)
	})
}
