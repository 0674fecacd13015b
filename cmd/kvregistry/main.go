// Command kvregistry runs what the registry needs on one machine, and shows what the registry does.
//
//	kvregistry serve    a NATS server with JetStream, for one machine
//	kvregistry demo     services that come, go, crash and are called all the time
//	kvregistry tenant   makes, lists and deletes tenants, and says what their users may do
//	kvregistry bridge   joins a tenant with processes that use the plain pub/sub registry
//	kvregistry reaper   removes what dead processes of a tenant left
//
// The exit code is 0 if all went well, 1 if it did not, and 2 if the command line is wrong.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
)

const usage = `kvregistry registers services on NATS JetStream and finds them.

Usage:

  kvregistry serve    run a NATS server with JetStream on this machine
  kvregistry demo     show services that come, go, crash and are called all the time
  kvregistry tenant   make, list and delete tenants, and print their users' permissions
  kvregistry bridge   join a tenant with processes that use the plain pub/sub registry
  kvregistry reaper   remove what dead processes of a tenant left
  kvregistry help     print this

"kvregistry serve -h" prints the options of serve, and so for demo, bridge and reaper.
"kvregistry tenant help" lists the subcommands of tenant.
`

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// commands are the subcommands. demoServiceCommand is for the demo only, and is not in the usage.
var commands = map[string]func(args []string, std streams) error{
	"serve":            serve,
	"demo":             demo,
	"tenant":           tenants,
	"bridge":           joinPlain,
	"reaper":           reap,
	demoServiceCommand: demoService,
}

func main() {
	os.Exit(run(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run runs one subcommand and returns the exit code.
func run(args []string, std streams) int {
	std.out, std.err = printed{std.out, nil}, printed{std.err, hidden}
	if len(args) > 1 && args[0] == "help" { // help tenant create is tenant create -h
		args = append(slices.Clone(args[1:]), "-h")
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		_, _ = io.WriteString(std.out, usage)
		return 0
	}
	command, ok := commands[args[0]]
	if !ok {
		_, _ = fmt.Fprintf(std.err, "kvregistry: there is no subcommand "+
			"%q; \"kvregistry help\" lists them\n", printable(args[0]))
		return 2
	}
	err := command(args[1:], std)
	var wrong usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &wrong):
		_, _ = fmt.Fprintf(std.err, "kvregistry %s: %s; %s\n", args[0], oneLine(err.Error()),
			helpOf(args))
		return 2
	default:
		_, _ = fmt.Fprintf(std.err, "kvregistry %s: %s\n", args[0], oneLine(err.Error()))
		return 1
	}
}

// helpOf says which command line lists the options of the one that was wrong.
func helpOf(args []string) string {
	if args[0] != "tenant" {
		return fmt.Sprintf("\"kvregistry %s -h\" lists the options", args[0])
	}
	if _, ok := tenantCommands[args[1]]; !ok {
		return "\"kvregistry tenant help\" lists the subcommands"
	}
	return fmt.Sprintf("\"kvregistry tenant %s -h\" lists the options", args[1])
}
