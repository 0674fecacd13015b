package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// columns is how wide the help is.
const columns = 100

// ofConnection is the annotation of the options that say how to connect.
const ofConnection = "kvregistry_connection"

// connectionOptions are the names of the options of a [Login].
var connectionOptions = []string{"server", "context", "user", "password", "creds", "nkey",
	"tlscert", "tlskey", "tlsca", "inbox"}

const aboutConnection = `These options are those of the nats command. Its variables stand for them,
too: NATS_URL, NATS_CONTEXT, NATS_USER, NATS_PASSWORD, NATS_CREDS, NATS_NKEY, NATS_CERT, NATS_KEY
and NATS_CA.

`

// connectionTopic is a topic of the help: the options of a login, which many commands have.
func connectionTopic() *cobra.Command {
	var l Login
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SortFlags = false
	l.Flags(fs)
	return &cobra.Command{
		Use: "connection", Short: "the options that say how to connect",
		Long: aboutConnection + fs.FlagUsagesWrapped(columns),
	}
}

// usage prints how a command is used, after what it does.
func usage(c *cobra.Command) error {
	w := c.OutOrStderr()
	if c.Runnable() && !c.HasAvailableSubCommands() {
		line := strings.Replace(c.UseLine(), "[flags]", "[options]", 1)
		_, _ = fmt.Fprintf(w, "Usage:\n  %s\n", line)
	} else if c.HasAvailableSubCommands() {
		_, _ = fmt.Fprintf(w, "Usage:\n  %s <command>\n", c.CommandPath())
	}
	if c.Example != "" {
		_, _ = fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	for _, g := range c.Groups() {
		list(w, g.Title, c, func(sub *cobra.Command) bool { return sub.GroupID == g.ID })
	}
	list(w, "Commands:", c, func(sub *cobra.Command) bool { return sub.GroupID == "" })
	list(w, "Topics:", c, (*cobra.Command).IsAdditionalHelpTopicCommand)
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.SortFlags = false
	var connects []string
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if _, ok := f.Annotations[ofConnection]; ok {
			connects = append(connects, "--"+f.Name)
		} else {
			own.AddFlag(f)
		}
	})
	if own.HasAvailableFlags() {
		_, _ = fmt.Fprintf(w, "\nOptions:\n%s", own.FlagUsagesWrapped(columns))
	}
	if connects != nil {
		_, _ = fmt.Fprintf(w, "\nConnection: %s\n\"kvregistry help connection\" tells of them.\n",
			strings.Join(connects, " "))
	}
	return nil
}

// list prints the subcommands of a command that a function chooses.
func list(w io.Writer, title string, c *cobra.Command, chosen func(*cobra.Command) bool) {
	for _, sub := range c.Commands() {
		topic := sub.IsAdditionalHelpTopicCommand()
		if sub.Hidden || !chosen(sub) || topic != (title == "Topics:") {
			continue
		}
		if title != "" {
			_, _ = fmt.Fprintf(w, "\n%s\n", title)
			title = ""
		}
		_, _ = fmt.Fprintf(w, "  %-12s %s\n", sub.Name(), sub.Short)
	}
}
