package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Any word that was typed may be a secret: a password in a URL, or a seed in place of its file. So
// a message quotes only words that cannot be one.

var errSecret = errors.New("(not printed: it may hold a password)")

// plainWord is what a message quotes: a short word, such as a subcommand's or an option's name.
var plainWord = regexp.MustCompile(`^-{0,2}[a-z][a-z-]{0,14}$`)

// keys match what is a secret in any context: seeds of nkeys, JWTs, credentials and other PEM
// files.
var keys = regexp.MustCompile(`(?is)\bS[ACNOPUX][A-Z2-7]{40,}|\beyJ[\w-]{8,}[\w.-]*|` +
	`-----\s*BEGIN.*`)

// userinfo matches a URL, or a host, with a user or a password.
var userinfo = regexp.MustCompile(`(?is)[a-z][a-z0-9+.-]*(://|%3A%2F%2F).*(@|%40)\S*|` +
	`[^\s:/]+:\S+@\S+`)

// doubtful matches what a message about a file or a host does not quote.
var doubtful = regexp.MustCompile(`(?i)@|%40|://|%3A%2F%2F|pass(word)?\W`)

// isSecret reports whether a text certainly holds a secret.
func isSecret(text string) bool { return keys.MatchString(text) || userinfo.MatchString(text) }

// isDoubtful reports whether a text may hold a secret.
func isDoubtful(text string) bool { return isSecret(text) || doubtful.MatchString(text) }

// exampleURL is the URL that messages show.
const exampleURL = "nats://user:password@host:4222"

// hidden returns a text without the secrets that it certainly holds.
func hidden(text string) string {
	parts := strings.Split(text, exampleURL)
	for i := range parts {
		for _, r := range []*regexp.Regexp{keys, userinfo} {
			parts[i] = r.ReplaceAllString(parts[i], errSecret.Error())
		}
	}
	return strings.Join(parts, exampleURL)
}

var quotation = regexp.MustCompile(`"(?:\\.|[^"\\])*"`)

// printable returns a part of a message: a word that was typed, or an error that may quote one,
// with errSecret in place of what may be a secret. Numbers and durations stay as they are.
func printable(part any) any {
	switch p := part.(type) {
	case string:
		if !plainWord.MatchString(p) {
			return errSecret
		}
	case error:
		if isDoubtful(p.Error()) {
			return errSecret
		}
		text := quotation.ReplaceAllStringFunc(p.Error(), func(quoted string) string {
			if word, err := strconv.Unquote(quoted); err == nil && plainWord.MatchString(word) {
				return quoted
			}
			return errSecret.Error()
		})
		if text != p.Error() {
			return errors.New(text)
		}
	}
	return part
}

// Place returns the name of a file or a directory for a message.
func Place(path string) string {
	if isDoubtful(path) {
		return errSecret.Error()
	}
	return path
}

// numeric matches what may be meant as a number or a duration. No password in a URL matches.
var numeric = regexp.MustCompile(`^[-+]?[0-9.][^@:\x00-\x1f\x7f]{0,19}$`)

// formats say what the values of an option look like, by its type. An option of another type
// says that itself.
var formats = map[string]string{
	"bool":     "give the option alone, or with =true or =false",
	"int":      "give a whole number in digits, as 3 or 10000",
	"int64":    "give a whole number in digits, as 3 or 10000",
	"uint64":   "give a whole number in digits, as 3 or 10000",
	"duration": "give a number with its unit, as 15s or 1m30s",
}

// optionError rewrites an error of package pflag, which quotes what was typed.
func optionError(err error) error {
	var value *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	var syntax *pflag.InvalidSyntaxError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &value):
		f := value.GetFlag()
		return valueError("--"+f.Name, f, value.GetValue(), errors.Unwrap(err))
	case errors.As(err, &unknown):
		return Usagef("there is no option %s", "--"+cmp.Or(unknown.GetSpecifiedShortnames(),
			unknown.GetSpecifiedName()))
	case errors.As(err, &syntax):
		return Usagef("this is no option: %s", syntax.GetSpecifiedFlag())
	case errors.As(err, &missing):
		return Usagef("the option %s needs a value", "--"+missing.GetSpecifiedName())
	}
	return Usagef("options: %w", err)
}

// valueError says that an option, or the variable that stands for it, has a wrong value.
func valueError(option string, f *pflag.Flag, value string, why error) error {
	shown := printable(value)
	kind := f.Value.Type()
	format, plain := formats[kind]
	if !plain {
		format = fmt.Sprint(printable(why))
	}
	if (plain && kind != "bool" || kind == "amount") && numeric.MatchString(value) &&
		!isDoubtful(value) {
		shown = value
	}
	return usageError{fmt.Errorf("%s is %v: %s", option, shown, format)}
}

// urls are the options that take a URL with a password, or a text of which a part may look like
// one.
var urls = map[string]bool{"server": true, "plain-server": true, "system-server": true,
	"nats": true, "user": true, "password": true, "service": true, "url": true}

// checkSecrets refuses a secret in an option that takes none, and the contents of a file in place
// of its name.
func checkSecrets(set *pflag.FlagSet) (err error) {
	set.Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		switch {
		case keys.MatchString(value) && !userinfo.MatchString(value),
			isSecret(value) && !urls[f.Name]:
			err = Usagef("--"+f.Name+": %w; name a file that holds the secret, or leave "+
				"it out", errSecret)
		}
	})
	return err
}

// readable checks that an option's file can be read. Its error does not name the file, because the
// contents may stand in place of the name.
func readable(option, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return Usagef("--"+option+": the file can't be read: %w", Cause(err))
	}
	return f.Close()
}

// Cause returns why something failed, without the file, the host or the address.
func Cause(err error) error {
	var path *fs.PathError
	var lookup *net.DNSError
	var address *net.AddrError
	var network *net.OpError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &lookup):
		return errors.New(lookup.Err)
	case errors.As(err, &address):
		return errors.New(address.Err)
	case errors.As(err, &network):
		return network.Err
	}
	return err
}

// CheckSecret refuses an argument that may be a secret. The word what names the argument.
func CheckSecret(what, arg string) error {
	if isDoubtful(arg) {
		return Usagef("%w stands in place of "+what, errSecret)
	}
	return nil
}
