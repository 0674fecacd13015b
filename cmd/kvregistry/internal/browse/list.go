package browse

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

const aboutLs = `kvregistry ls lists the services of a tenant, with the number of their instances
by status. With a service it lists the service's instances. Names are one per line with -o name,
for scripts. The exit code is 3 if there is none.`

const aboutGet = `kvregistry get shows each instance of a service with all that it says of itself,
and the process that registered it. The exit code is 3 if there is none.`

// listing is what "ls" and "get" are asked.
type listing struct {
	cli.Target
	cli.Output
	filters
}

func (l *listing) flags(c *cobra.Command) {
	l.narrow(c)
	l.Output.Flags(c)
	l.Target.Flags(c.Flags())
	c.ValidArgsFunction = completeName(&l.Target)
}

// List is "kvregistry ls".
func List(std cli.Streams) *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use: "ls [service]", Short: "list services, or the instances of one",
		Long: aboutLs,
		Example: "  kvregistry ls\n  kvregistry ls web -o name\n" +
			"  kvregistry ls web --zone north --status passing\n" +
			"  kvregistry ls -o json --match 10.0.0.1:",
		Args: cli.Args("[service]"),
		RunE: func(c *cobra.Command, args []string) error {
			return l.open(c.Context(), func(ctx context.Context, reg *kvregistry.Registry,
				narrow []kvregistry.Filter) error {
				if len(args) == 0 {
					return l.services(ctx, std, reg, narrow)
				}
				return l.instances(ctx, std, reg, args[0], narrow)
			})
		},
	}
	l.flags(c)
	return c
}

// Get is "kvregistry get".
func Get(std cli.Streams) *cobra.Command {
	var l listing
	c := &cobra.Command{
		Use: "get service[/id]", Short: "show all that is known of a service or an instance",
		Long:    aboutGet,
		Example: "  kvregistry get web\n  kvregistry get web/web-1 -o json",
		Args:    cli.Args("service[/id]"),
		RunE: func(c *cobra.Command, args []string) error {
			name, id, one := strings.Cut(args[0], "/")
			return l.open(c.Context(), func(ctx context.Context, reg *kvregistry.Registry,
				narrow []kvregistry.Filter) error {
				if one {
					narrow = append(narrow, kvregistry.Where(func(s kvregistry.Service) bool {
						return s.ID == id
					}))
				}
				return l.details(ctx, std, reg, name, args[0], narrow)
			})
		},
	}
	l.flags(c)
	return c
}

// open opens the tenant and calls a function with the filters.
func (l *listing) open(ctx context.Context, f func(context.Context, *kvregistry.Registry,
	[]kvregistry.Filter) error) error {
	narrow, err := l.list()
	if err != nil {
		return err
	}
	s, err := l.Open(ctx, "ls")
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := l.Bounded(ctx)
	defer cancel()
	return f(ctx, s.Registry, narrow)
}

// service is a service as it is listed.
type service struct {
	Name      string `json:"name"`
	Instances int    `json:"instances"`
	Passing   int    `json:"passing"`
	Warning   int    `json:"warning"`
	Critical  int    `json:"critical"`
	Draining  int    `json:"draining"`
	Revision  uint64 `json:"revision"`
}

var services = cli.Table[service]{
	Name: func(s service) string { return s.Name },
	Columns: []cli.Column[service]{
		{Head: "service", Cell: func(s service) string { return s.Name }},
		{Head: "instances", Cell: func(s service) string { return fmt.Sprint(s.Instances) }},
		count("passing", kvregistry.Passing, func(s service) int { return s.Passing }),
		count("warning", kvregistry.Warning, func(s service) int { return s.Warning }),
		count("critical", kvregistry.Critical, func(s service) int { return s.Critical }),
		count("draining", kvregistry.Draining, func(s service) int { return s.Draining }),
		{Head: "revision", Wide: true, Cell: func(s service) string {
			return fmt.Sprint(s.Revision)
		}},
	},
}

// count is a column of how many instances have a status.
func count(head string, status kvregistry.Status, of func(service) int) cli.Column[service] {
	return cli.Column[service]{
		Head: head,
		Cell: func(s service) string { return fmt.Sprint(of(s)) },
		Colour: func(s service) cli.Colour {
			if of(s) == 0 {
				return cli.Plain
			}
			return colourOf(status)
		},
	}
}

// services prints the services that have an instance that passes.
func (l *listing) services(ctx context.Context, std cli.Streams, reg *kvregistry.Registry,
	narrow []kvregistry.Filter) error {
	catalog, err := reg.CatalogContext(ctx)
	if err != nil {
		return err
	}
	var list []service
	for snap := range catalog.All() {
		s := service{Name: snap.Name(), Revision: snap.Revision()}
		for one := range snap.All() {
			if passes(narrow, one) {
				s.add(one.Status)
			}
		}
		if s.Instances > 0 {
			list = append(list, s)
		}
	}
	if err := cli.Print(std, &l.Output, services, list); err != nil {
		return err
	}
	return l.none(len(list), "there is no service in tenant %s", l.Tenant)
}

func (s *service) add(status kvregistry.Status) {
	s.Instances++
	switch status {
	case kvregistry.Warning:
		s.Warning++
	case kvregistry.Critical:
		s.Critical++
	case kvregistry.Draining:
		s.Draining++
	default:
		s.Passing++
	}
}

// none is the error of a list that is empty.
func (l *listing) none(n int, format string, args ...any) error {
	if n > 0 {
		return nil
	}
	if len(l.tags)+len(l.statuses) > 0 || l.zone+l.host+l.version+l.text != "" {
		format += " that the options let through"
	}
	return cli.Nonef(format, args...)
}

// find returns the instances of a service that pass.
func find(ctx context.Context, reg *kvregistry.Registry, name string,
	narrow []kvregistry.Filter) (list []instance, err error) {
	snap, err := reg.SnapshotContext(ctx, name)
	if err != nil {
		return nil, wrongName(err)
	}
	owners := readOwners(ctx, reg)
	for s := range snap.All() {
		if passes(narrow, s) {
			list = append(list, owners.instance(s))
		}
	}
	return list, nil
}

// instances prints the instances of a service that pass.
func (l *listing) instances(ctx context.Context, std cli.Streams, reg *kvregistry.Registry,
	name string, narrow []kvregistry.Filter) error {
	list, err := find(ctx, reg, name, narrow)
	if err != nil {
		return err
	}
	if err := cli.Print(std, &l.Output, instances, list); err != nil {
		return err
	}
	return l.none(len(list), "there is no instance of service %s in tenant %s", name, l.Tenant)
}
