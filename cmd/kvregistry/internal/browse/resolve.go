package browse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/pick"
)

const aboutResolve = `kvregistry resolve picks one instance, as a look-up of the library does, and
prints its address, or its URL if it has no address. Only instances that pass are picked, or those
in warning if none passes. The exit code is 3 if there is none.`

// resolving is what "resolve" is asked.
type resolving struct {
	cli.Target
	cli.Output
	filters
	picker, key, endpoint string
}

// pickers are the pickers of the library for one pick by one process. Those that look at the calls
// before it are left out.
var pickers = map[string]func() kvregistry.Picker{
	"weighted": pick.Weighted, "random": pick.Random, "hash": pick.Hash,
}

// Resolve is "kvregistry resolve".
func Resolve(std cli.Streams) *cobra.Command {
	var r resolving
	c := &cobra.Command{
		Use: "resolve service", Short: "print one address of a service, for scripts",
		Long: aboutResolve,
		Example: "  curl http://$(kvregistry resolve web)/\n" +
			"  kvregistry resolve web --endpoint grpc --zone north\n" +
			"  kvregistry resolve cache --picker hash --key user-17",
		Args: cli.Args("service"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.run(c.Context(), std, args[0])
		},
	}
	names := slices.Sorted(maps.Keys(pickers))
	fs := c.Flags()
	fs.StringVar(&r.picker, "picker", "weighted", "`name` of the picker: "+
		strings.Join(names, ", "))
	fs.StringVar(&r.key, "key", "", "`text` that the picker hash goes by")
	fs.StringVar(&r.endpoint, "endpoint", "", "`name` of the endpoint to print")
	r.narrow(c)
	r.Output.Flags(c)
	r.Target.Flags(fs)
	c.ValidArgsFunction = completeName(&r.Target)
	_ = c.RegisterFlagCompletionFunc("picker", cobra.FixedCompletions(names,
		cobra.ShellCompDirectiveNoFileComp)) // the option is there
	return c
}

func (r *resolving) run(ctx context.Context, std cli.Streams, name string) error {
	picker, ok := pickers[r.picker]
	if !ok {
		return cli.Usagef("--picker %s is unknown: use weighted, random or hash", r.picker)
	}
	if r.picker == "hash" && r.key == "" {
		return cli.Usagef("the picker hash needs --key")
	}
	narrow, err := r.list()
	if err != nil {
		return err
	}
	if r.endpoint != "" {
		narrow = append(narrow, kvregistry.WithEndpoint(r.endpoint))
	}
	s, err := r.Open(ctx, "resolve")
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := r.Bounded(ctx)
	defer cancel()
	parts := []kvregistry.Part{picker()}
	for _, f := range narrow {
		parts = append(parts, f)
	}
	look, err := s.Lookup(name, parts...)
	if err != nil {
		return wrongName(err)
	}
	one, done, err := look.PickWith(ctx, kvregistry.Request{Key: r.key})
	if errors.Is(err, kvregistry.ErrNotFound) {
		return cli.Nonef("%w", err)
	}
	if err != nil {
		return wrongName(err)
	}
	done(nil)
	if !r.People() {
		return cli.Print(std, &r.Output, instances,
			[]instance{readOwners(ctx, s.Registry).instance(one)})
	}
	address := where(one)
	if r.endpoint != "" {
		address, _ = one.Endpoint(r.endpoint)
	}
	_, err = fmt.Fprintln(std.Out, cli.Escape(address))
	return err
}
