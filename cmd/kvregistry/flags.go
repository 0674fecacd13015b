package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// usageError says that the command line was wrong.
type usageError struct{ error }

// wrongUsage is a usageError whose message quotes what was typed, except what may be a secret.
func wrongUsage(format string, args ...any) error {
	for i, arg := range args {
		args[i] = printable(arg)
	}
	return usageError{fmt.Errorf(format, args...)}
}

// parse reads a subcommand's options. If help was asked for it prints them, and the error is
// flag.ErrHelp. Other errors are usage errors, which run prints once.
func parse(fs *flag.FlagSet, about string, args []string, std streams) error {
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = fmt.Fprintf(std.out, "%s\n\nOptions:\n\n", about)
		fs.SetOutput(std.out)
		fs.PrintDefaults()
		return err
	case err != nil:
		return optionError(fs, err)
	case fs.NArg() > 0 && slices.ContainsFunc(args, isDoubtful):
		// A shell cuts a password at its spaces.
		return wrongUsage("unknown argument: %w", errSecret)
	case fs.NArg() > 0:
		return wrongUsage("unknown argument %q", strings.Join(fs.Args(), " "))
	}
	return checkSecrets(fs)
}
