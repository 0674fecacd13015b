// Command kvregistry shows what is registered on NATS, finds what is wrong, and runs what the
// registry needs.
//
// "kvregistry help" lists the commands. The exit code is 0 if all went well, 1 if it did not, 2 if
// the command line is wrong, and 3 if what was asked for is not there.
package main

import (
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/bridge"
	"github.com/kvregistry/go/cmd/kvregistry/internal/browse"
	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/cmd/kvregistry/internal/control"
	"github.com/kvregistry/go/cmd/kvregistry/internal/demo"
	"github.com/kvregistry/go/cmd/kvregistry/internal/doctor"
	"github.com/kvregistry/go/cmd/kvregistry/internal/page"
	"github.com/kvregistry/go/cmd/kvregistry/internal/reaper"
	"github.com/kvregistry/go/cmd/kvregistry/internal/serve"
	"github.com/kvregistry/go/cmd/kvregistry/internal/tenants"
	"github.com/kvregistry/go/cmd/kvregistry/internal/top"
	"github.com/kvregistry/go/cmd/kvregistry/internal/why"
	"github.com/kvregistry/go/cmd/kvregistry/internal/wrap"
)

const about = `kvregistry registers services on NATS JetStream and finds them.

Each option can be set by a variable: KVREGISTRY_TENANT stands for --tenant. The variables of the
nats command stand for the options of the connection, too: NATS_URL, NATS_CREDS and the like.
"source <(kvregistry completion bash)" makes a shell complete commands and names of services; zsh
and fish can, too.

The exit code is 0 if all went well, 1 if it did not, 2 if the command line is wrong, and 3 if what
was asked for is not there.`

func main() {
	std := cli.NewStreams(os.Stdin, os.Stdout, os.Stderr)
	os.Exit(cli.Run(root(std), os.Args[1:], std))
}

// The groups of commands in the help.
const (
	look    = "look"
	wrapped = "wrap"
	run     = "run"
	admin   = "admin"
)

// version is that of the module, as the program was built.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// root is the command that has all others.
func root(std cli.Streams) *cobra.Command {
	c := &cobra.Command{Use: "kvregistry", Long: about, Version: version()}
	add := func(group, title string, commands ...*cobra.Command) {
		c.AddGroup(&cobra.Group{ID: group, Title: title})
		for _, sub := range commands {
			sub.GroupID = group
			c.AddCommand(sub)
		}
	}
	add(look, "To see what is there:", browse.List(std), browse.Get(std), browse.Watch(std),
		browse.Resolve(std), browse.Wait(std), browse.Leases(std), top.Command(std),
		why.Command(std), doctor.Command(std), page.Command(std))
	add(wrapped, "To register a program, or run one at a time:", wrap.Run(std), wrap.Register(std),
		wrap.Lock(std))
	add(run, "To run the registry:", serve.Command(std), reaper.Command(std), bridge.Command(std),
		demo.Command(std))
	add(admin, "To administrate it:", control.DrainCommand(std), control.DeregisterCommand(std),
		tenants.Command(std))
	c.AddCommand(demo.ServiceCommand(std))
	return c
}
