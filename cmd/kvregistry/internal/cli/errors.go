package cli

import (
	"errors"
	"fmt"
)

// The exit codes of the program.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2 // the command line is wrong
	ExitNone    = 3 // what was asked for is not there
)

// Exit is an error that ends the program with a code and without a message.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError says that the command line was wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usagef makes an error that says that the command line was wrong. Its message quotes what was
// typed, except what may be a secret.
func Usagef(format string, args ...any) error {
	for i, arg := range args {
		args[i] = printable(arg)
	}
	return usageError{fmt.Errorf(format, args...)}
}

// Usage is err as an error that says that the command line was wrong. The message must quote
// nothing that may be a secret.
func Usage(err error) error { return usageError{err} }

// noneError says that what was asked for is not there.
type noneError struct{ error }

func (e noneError) Unwrap() error { return e.error }

// Nonef makes an error that says that what was asked for is not there.
func Nonef(format string, args ...any) error { return noneError{fmt.Errorf(format, args...)} }

// IsNone reports whether an error says that what was asked for is not there.
func IsNone(err error) bool { return errors.As(err, &noneError{}) }

// codeOf returns the exit code of a command that returned err.
func codeOf(err error) int {
	var exit Exit
	var usage usageError
	var none noneError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return int(exit)
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &none):
		return ExitNone
	default:
		return ExitFailure
	}
}
