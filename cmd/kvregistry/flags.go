package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// usageError says that the command line was wrong.
type usageError struct{ error }

// wrongUsage is a usageError whose message quotes what was typed, as far as it is printable.
func wrongUsage(format string, args ...any) error {
	for i, arg := range args {
		args[i] = printable(arg)
	}
	return usageError{fmt.Errorf(format, args...)}
}

// secret is in what may hold a password: a URL, which may stand where another argument belongs, or a user's entry.
var secret = regexp.MustCompile(`(?i)@|://|pass(word)?\W`)

var errSecret = errors.New("(not printed: it may hold a password)")

// printable is a part of a message, or errSecret in its place where the part quotes what may hold a password.
func printable(part any) any {
	if secret.MatchString(fmt.Sprint(part)) {
		return errSecret
	}
	return part
}

// parse reads a subcommand's options, and prints them where help was asked for: then the error is
// flag.ErrHelp. Other errors are usage errors; they are printed once, by run.
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
		return wrongUsage("options: %w", err)
	case fs.NArg() > 0:
		return wrongUsage("unknown argument %q", strings.Join(fs.Args(), " ")) // a shell cuts a password at its spaces
	}
	return nil
}
