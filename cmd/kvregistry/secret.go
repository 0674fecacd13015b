package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
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

// place returns the name of a file or a directory for a message.
func place(path string) string {
	if isDoubtful(path) {
		return errSecret.Error()
	}
	return path
}

var (
	badValue = regexp.MustCompile(`(?s)^invalid (?:boolean )?value (".*") for ` +
		`(?:flag )?(-[a-z-]+): (.*)$`)
	badFlag = regexp.MustCompile(`(?s)^(flag provided but not defined|bad flag syntax): (.*)$`)
)

// numeric matches what may be meant as a number or a duration. No password in a URL matches.
var numeric = regexp.MustCompile(`^[-+]?[0-9.][^@:\x00-\x1f\x7f]{0,19}$`)

// formatOf says what a flag's value looks like, and whether that is a number or a duration. The
// format is "" if any text will do.
func formatOf(f *flag.Flag) (format string, number bool) {
	if a, ok := f.Value.(*amount); ok {
		return a.Set("").Error(), true
	}
	g, ok := f.Value.(flag.Getter)
	if !ok {
		return "", false
	}
	switch g.Get().(type) {
	case bool:
		return "give the option alone, or with =true or =false", false
	case int, int64:
		return "give a whole number in digits, as 3 or 10000", true
	case time.Duration:
		return "give a number with its unit, as 15s or 1m30s", true
	}
	return "", false
}

// optionError rewrites an error of package flag, which quotes what was typed.
func optionError(fs *flag.FlagSet, err error) error {
	if m := badValue.FindStringSubmatch(err.Error()); m != nil {
		value, _ := strconv.Unquote(m[1])
		shown := printable(value)
		format, number := formatOf(fs.Lookup(strings.TrimLeft(m[2], "-")))
		if number && numeric.MatchString(value) && !isDoubtful(value) {
			shown = value
		}
		return usageError{fmt.Errorf("options: %s is %v: %s", m[2], shown, cmp.Or(format, m[3]))}
	}
	if m := badFlag.FindStringSubmatch(err.Error()); m != nil {
		return wrongUsage("options: "+m[1]+": %s", m[2])
	}
	return wrongUsage("options: %w", err)
}

// urls are the options that take a URL with a password, or a text of which a part may look like
// one.
var urls = map[string]bool{"server": true, "plain-server": true, "nats": true,
	"user": true, "service": true}

// checkSecrets refuses a secret in an option that takes none, and the contents of a file in place
// of its name.
func checkSecrets(set *flag.FlagSet) (err error) {
	set.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		switch {
		case keys.MatchString(value) && !userinfo.MatchString(value),
			isSecret(value) && !urls[f.Name]:
			err = wrongUsage("--"+f.Name+": %w; name a file that holds the secret, or leave "+
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
		return wrongUsage("--"+option+": the file can't be read: %w", cause(err))
	}
	return f.Close()
}

// cause returns why something failed, without the file, the host or the address.
func cause(err error) error {
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
