package top

import (
	"context"
	"io"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
)

const about = `kvregistry top shows the services of a tenant on the whole terminal, with the number
of their instances by status, and goes on with each change. A key opens the instances of a service;
"?" lists the keys. It goes on while NATS is away, and says how old the view is.`

// Command is "kvregistry top".
func Command(std cli.Streams) *cobra.Command {
	var t cli.Target
	c := &cobra.Command{
		Use: "top", Short: "show the services on the whole terminal, as they change",
		Long: about, Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error { return start(c.Context(), &t, std) },
	}
	t.Flags(c.Flags())
	return c
}

// start connects and shows the view. What would be logged is on the screen.
func start(ctx context.Context, t *cli.Target, std cli.Streams) error {
	if !std.Terminal() {
		return cli.Usagef("the output is no terminal; use kvregistry ls or kvregistry watch")
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	s, err := t.OpenLasting(ctx, cli.NewStreams(std.In, std.Out, io.Discard), "top")
	if err != nil {
		return err
	}
	defer s.Close()
	return run(ctx, newModel(s.Registry, s.Conn, t.Tenant), tea.WithInput(std.In),
		tea.WithOutput(std.Raw()), tea.WithoutSignalHandler())
}
