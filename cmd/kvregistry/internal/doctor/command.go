package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

const aboutCommand = `kvregistry doctor finds what is wrong with a tenant: its server, its bucket,
who reaps, and what is registered. Each finding has what was seen, why it matters, and the command
that mends it. What this user may not see is listed as not checked. docs/doctor.md lists the checks.

It changes nothing. The exit code is 1 if there is an error or a warning. A hint does not count.`

// The formats of the output.
const (
	asText = "text"
	asJSON = "json"
)

// Command is "kvregistry doctor".
func Command(std cli.Streams) *cobra.Command {
	var t cli.Target
	var system cli.Login
	var cfg Config
	var format, role string
	c := &cobra.Command{
		Use: "doctor", Short: "find what is wrong with a tenant, and say how to mend it",
		Long: aboutCommand,
		Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error {
			if format != asText && format != asJSON {
				return cli.Usagef("-o %q: use %s or %s", format, asText, asJSON)
			}
			cfg.Tenant, cfg.Role = t.Tenant, operator.Role(role)
			ctx, cancel := t.Bounded(c.Context())
			defer cancel()
			r, err := connectAndExamine(ctx, &t, &system, cfg)
			if err != nil {
				return err
			}
			if format == asJSON {
				err = cli.PrintJSON(std, r)
			} else {
				r.Print(std.Out)
			}
			if err == nil && r.Wrong() {
				err = cli.Exit(cli.ExitFailure)
			}
			return err
		},
	}
	fs := c.Flags()
	fs.StringVarP(&format, "output", "o", asText, "`format`: text, json")
	fs.BoolVar(&cfg.Dial, "dial", false, "connect to each address that is registered, from this "+
		"machine; the tenant's processes choose these addresses")
	fs.DurationVar(&cfg.Watch, "watch", DefaultWatch, "how `long` to watch what changes")
	fs.StringVar(&role, "role", "", "`role` that the user should have: "+roleNames()+"; any of "+
		"them by default")
	system.Short(fs, "system-", "a server, for the checks that need a user of the system account")
	t.FlagsWithin(fs, time.Minute, "the longest `time` that all checks may take")
	return c
}

func roleNames() (text string) {
	for i, role := range operator.Roles() {
		if i > 0 {
			text += ", "
		}
		text += string(role)
	}
	return text
}

// connectAndExamine examines on connections of its own.
func connectAndExamine(
	ctx context.Context, t *cli.Target, system *cli.Login, cfg Config,
) (r Report, err error) {
	nc, err := t.Connect("doctor")
	if err != nil {
		return Report{}, err
	}
	defer nc.Close()
	if system.Given() {
		login := system.Over(t.Login)
		if cfg.System, err = login.Connect("doctor"); err != nil {
			return Report{}, err
		}
		defer cfg.System.Close()
	}
	r, err = Examine(ctx, nc, cfg)
	if errors.Is(err, tenant.ErrInvalidTenant) || errors.Is(err, tenant.ErrInvalidConfig) {
		err = cli.Usage(err)
	}
	return r, err
}
