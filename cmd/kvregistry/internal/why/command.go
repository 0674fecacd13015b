package why

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
)

const about = `kvregistry why says in words what the registry tells of an instance, or of a name
that one process holds at a time: since when it is so, which process it belongs to, how old its
lease is, whether look-ups return it, which processes wait, and how it went if it is gone.

What went is known for 10 minutes, up to 20 if it was unregistered. The exit code is 3 if nothing is
known.`

// Command is "kvregistry why".
func Command(std cli.Streams) *cobra.Command {
	var t cli.Target
	var o cli.Output
	c := &cobra.Command{
		Use: "why service/id|lock/name", Short: "say why an instance or a lock is as it is",
		Long: about, Args: cli.Args("service/id or lock/name"),
		Example: "  kvregistry why web/1\n  kvregistry why lock/migrations",
		RunE: func(c *cobra.Command, args []string) error {
			kind, name, ok := strings.Cut(args[0], "/")
			if !ok || kind == "" || name == "" {
				return cli.Usagef("%q is neither service/id nor lock/name", args[0])
			}
			s, err := t.Open(c.Context(), "why")
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := t.Bounded(c.Context())
			defer cancel()
			var answer Answer
			if kind == "lock" {
				answer, err = Lock(ctx, s, name)
			} else {
				answer, err = Instance(ctx, s, kind, name)
			}
			if err != nil {
				return err
			}
			return print(std, &o, answer)
		},
	}
	o.Flags(c)
	t.Flags(c.Flags())
	return c
}

var answers = cli.Table[Answer]{Name: func(a Answer) string { return a.What }}

func print(std cli.Streams, o *cli.Output, a Answer) error {
	if !o.People() {
		return cli.Print(std, o, answers, []Answer{a})
	}
	for _, fact := range a.Facts {
		if _, err := fmt.Fprintln(std.Out, cli.Escape(fact)); err != nil {
			return err
		}
	}
	return nil
}
