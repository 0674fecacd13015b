package browse

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

// completeName gives a shell the names of the tenant's services for the first argument.
func completeName(t *cli.Target) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(c, t), cobra.ShellCompDirectiveNoFileComp
	}
}

// names are the names of a tenant's services, for the completion of a command line. They are none
// if the server does not answer soon.
func names(c *cobra.Command, t *cli.Target) []string {
	if cli.ReadVariables(c) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s, err := t.Open(ctx, "completion")
	if err != nil {
		return nil
	}
	defer s.Close()
	names, _ := s.ServiceNamesContext(ctx)
	return names
}

// wrongName makes of an invalid name an error of the command line.
func wrongName(err error) error {
	if errors.Is(err, kvregistry.ErrInvalidService) {
		return cli.Usage(err)
	}
	return err
}
