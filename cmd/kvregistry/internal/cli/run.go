package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// natsVariable is the annotation of an option for which a variable of the nats command stands.
const natsVariable = "kvregistry_nats_variable"

// Run runs the command that args name, and returns the exit code. It prints the error of a command
// once, on one line.
func Run(root *cobra.Command, args []string, std Streams) int {
	root.SetArgs(args)
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return optionError(err) })
	prepare(root)
	root.SetUsageFunc(usage)
	root.AddCommand(connectionTopic())
	root.SetHelpCommand(helpCommand(root))
	command, err := root.ExecuteC()
	code := codeOf(err)
	var exit Exit
	if err == nil || errors.As(err, &exit) {
		return code
	}
	help := ""
	if code == ExitUsage {
		help = fmt.Sprintf("; \"%s -h\" tells more", command.CommandPath())
	}
	why := strings.TrimPrefix(Escape(err.Error()), "kvregistry: ") // as errors of the library begin
	_, _ = fmt.Fprintf(std.Err, "%s: %s%s\n", command.CommandPath(), why, help)
	return code
}

// prepare makes each command read the variables of its options, and refuse what it does not take.
func prepare(c *cobra.Command) {
	c.Flags().SortFlags = false
	if c.HasSubCommands() {
		c.Args, c.RunE = cobra.ArbitraryArgs, group
		c.SuggestionsMinimumDistance = 2
	} else if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			if err := ReadVariables(c); err != nil {
				return err
			}
			if err := checkSecrets(c.Flags()); err != nil {
				return err
			}
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		prepare(sub)
	}
}

// group is a command that has only subcommands.
func group(c *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "help" {
		return help(c, args[min(len(args), 1):])
	}
	hint := ""
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return Usage(fmt.Errorf("there is no subcommand %q%s", printable(args[0]), hint))
}

// helpCommand is the command "help".
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [command]...", Short: "say what a command does",
		RunE: func(_ *cobra.Command, args []string) error { return help(root, args) },
	}
}

// help prints what a command below c does. Its error quotes nothing that may be a secret.
func help(c *cobra.Command, args []string) error {
	sub, rest, err := c.Find(args)
	if err != nil || len(rest) > 0 {
		return Usagef("there is no command %q", strings.Join(args, " "))
	}
	sub.InitDefaultHelpFlag()
	return sub.Help()
}

// Args checks how many arguments a command has. The names are those that its usage shows; if the
// last one ends with "...", there may be more. An optional one stands in brackets.
func Args(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		most, least := len(names), 0
		for _, name := range names {
			if strings.HasSuffix(name, "...") {
				most = len(args)
			}
			if !strings.HasPrefix(name, "[") {
				least++
			}
		}
		switch {
		case len(args) < least:
			return Usage(errors.New("name the " + names[len(args)]))
		case len(args) > most && slices.ContainsFunc(args, isDoubtful):
			// A shell cuts a password at its spaces.
			return Usagef("unknown argument: %w", errSecret)
		case len(args) > most:
			return Usagef("unknown argument %q", args[most])
		}
		return nil
	}
}

// Variable returns the name of the environment variable that stands for an option.
func Variable(option string) string {
	return "KVREGISTRY_" + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}

// ReadVariables sets the options of a command that were not given from the environment. [Run] calls
// it before a command; the completion of an argument has to call it.
func ReadVariables(c *cobra.Command) (err error) {
	fs := c.Flags()
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || err != nil {
			return
		}
		for _, name := range append([]string{Variable(f.Name)}, f.Annotations[natsVariable]...) {
			value := os.Getenv(name)
			if value == "" {
				continue
			}
			if why := fs.Set(f.Name, value); why != nil {
				var wrong *pflag.InvalidValueError
				if errors.As(why, &wrong) {
					why = errors.Unwrap(why)
				}
				err = valueError("the variable "+name, f, value, why)
			}
			return
		}
	})
	return err
}

// UntilSignal returns a context that ends with SIGINT or SIGTERM. A second signal ends the process
// at once.
func UntilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
