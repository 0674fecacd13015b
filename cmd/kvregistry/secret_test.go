package main

import (
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// secrets are texts that hold a secret, each with the part that must not be printed.
func secrets(t *testing.T) map[string][2]string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	const jwt = "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.c2VjcmV0Y2xhaW1z.c2lnbmF0dXJl"
	creds := "-----BEGIN NATS USER JWT-----\n" + jwt + "\n------END NATS USER JWT------\n\n" +
		"-----BEGIN USER NKEY SEED-----\n" + string(seed) + "\n------END USER NKEY SEED------\n"
	return map[string][2]string{
		"a seed":                {string(seed), string(seed[4:40])},
		"a seed, quoted":        {`"` + string(seed) + `"`, string(seed[4:40])},
		"a seed after a word":   {"nkey: " + string(seed), string(seed[4:40])},
		"credentials":           {creds, "c2VjcmV0Y2xhaW1z"},
		"credentials, the seed": {creds, string(seed[4:40])},
		"a JWT":                 {jwt, "c2VjcmV0Y2xhaW1z"},
		"a key file":            {"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n", "MC4CAQ"},
		"a URL":                 {"nats://u:Tr0ub4dor@127.0.0.1:1", "Tr0ub4dor"},
		"a URL, escaped":        {"nats%3A%2F%2Fu%3ATr0ub4dor%40127.0.0.1%3A1", "Tr0ub4dor"},
		"a URL with a path":     {"nats://u:Tr0/ub4dor@127.0.0.1:1", "ub4dor"},
		"a URL with a space":    {"nats://u:Tr0 ub4dor@127.0.0.1:1", "ub4dor"},
		"a token":               {"tls://Tr0ub4dor@127.0.0.1:1", "Tr0ub4dor"},
		"no scheme":             {"u:Tr0ub4dor@127.0.0.1:1", "Tr0ub4dor"},
		"a password":            {"Tr0ub4dor&3", "Tr0ub4dor"},
		"a password, a word":    {"Tr0ub4dor", "Tr0ub4dor"},
		"a number":              {"99072531", "99072531"},
		"an escape":             {"Tr0ub4dor\x1b[31m", "Tr0ub4dor"},
	}
}

// nowhere is the URL of no server.
const nowhere = "nats://127.0.0.1:1"

// arguments are what each command needs to get as far as its connection. Those of an empty list
// need none, and those that are not here have subcommands.
var arguments = map[string][]string{
	"serve":  {}, // calls adds a port that is taken
	"demo":   {"--nats", nowhere},
	"bridge": {"--server", nowhere},
	"reaper": {"--server", nowhere},

	"ls":      {"--server", nowhere},
	"get":     {"web", "--server", nowhere},
	"watch":   {"--server", nowhere},
	"resolve": {"web", "--server", nowhere},
	"wait":    {"web", "--server", nowhere, "--timeout", "10ms"},
	"leases":  {"--server", nowhere},
	"why":     {"web/1", "--server", nowhere},
	"page":    {"--server", nowhere},
	"doctor":  {"--server", nowhere},
	"top":     {"--server", nowhere}, // which fails without a terminal

	"run":      {"--name", "web", "--port", "1"}, // no program
	"register": {"web", "--port", "1", "--check-interval", "1us"},
	"lock":     {"job"}, // no program

	"demo-service": {"--nats", nowhere},

	"drain":      {"web/1", "--server", nowhere},
	"deregister": {"web/1", "--server", nowhere},

	"tenant create":      {"acme", "--server", nowhere},
	"tenant change":      {"acme", "--server", nowhere, "--max-keys", "5"},
	"tenant mirror":      {"acme", "--server", nowhere, "--hub-domain", "hub"},
	"tenant list":        {"--server", nowhere},
	"tenant permissions": {"acme"}, // asks no server, as account
	"tenant account":     {"acme"},
	"tenant config":      {"acme"},
	"tenant delete":      {"acme", "--server", nowhere, "--yes"},
}

// tree is the whole command.
func tree() *cobra.Command { return root(cli.NewStreams(nil, io.Discard, io.Discard)) }

// leaves are the commands that do something, by their path below the root.
func leaves(c *cobra.Command) map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	for _, sub := range c.Commands() {
		if !sub.HasSubCommands() {
			all[sub.Name()] = sub
		}
		for path, leaf := range leaves(sub) {
			all[sub.Name()+" "+path] = leaf
		}
	}
	return all
}

// calls are the command lines of every command that fail before they do anything: no server is
// there, and the port of serve is taken.
func calls(t *testing.T) map[string][]string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	all := map[string][]string{}
	for path := range leaves(tree()) {
		args, ok := arguments[path]
		if !ok {
			t.Errorf("arguments says nothing of %q", path)
		}
		all[path] = append(strings.Fields(path), args...)
	}
	all["serve"] = append(all["serve"], "--port", strconv.Itoa(l.Addr().(*net.TCPAddr).Port),
		"--store", filepath.Join(t.TempDir(), "store"))
	return all
}

// everyForm are the commands whose options are tried in every form. The others share the frame with
// them, and so the forms.
var everyForm = map[string]bool{"serve": true, "demo": true, "tenant change": true,
	"tenant account": true, "tenant permissions": true, "ls": true}

// numeric are the types of the options that take a number.
var numeric = []string{"int", "int64", "uint64", "duration"}

// options returns a command's options and the type of each.
func options(path string) (kinds map[string]string) {
	kinds = map[string]string{}
	leaves(tree())[path].Flags().VisitAll(
		func(f *pflag.Flag) { kinds[f.Name] = f.Value.Type() })
	return kinds
}

// urls are the options that take a URL with a password, or a text that may look like one.
var urls = []string{"server", "plain-server", "system-server", "nats", "user", "password",
	"service", "url"}

// No message holds a secret, in whatever option of whatever subcommand, and in whatever form: as
// its value, in place of its name, beside it, or in place of the tenant. The requested output of a
// command is not checked. Seen to fail with errors of package flag, of the file system and of
// package net as they are, and with a seed that is a tenant's name.
func TestNoOptionPrintsASecret(t *testing.T) {
	t.Parallel()
	number := regexp.MustCompile(`^[0-9]+$`)
	secrets, calls := secrets(t), calls(t)
	for command, base := range calls {
		kinds := options(command)
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			tried := 0
			try := func(kind, inside string, args ...string) {
				t.Helper()
				tried++
				code, out, text := called(append(base[:len(base):len(base)], args...)...)
				if strings.Contains(text, inside) || code != 0 && strings.Contains(out, inside) {
					t.Errorf("%s in %q: %d, %s%s", kind, args, code, out, text)
				}
				if strings.ContainsRune(out+text, '\x1b') {
					t.Errorf("%s in %q: an escape reaches the terminal: %q", kind, args, out+text)
				}
			}
			for kind, s := range secrets {
				secret, inside := s[0], s[1]
				for name := range kinds {
					if command == "demo-service" && name == "nats" &&
						strings.Contains(secret, "@") {
						continue // it would wait for that server
					}
					if number.MatchString(secret) && slices.Contains(numeric, kinds[name]) {
						continue // a number that is out of range or has no unit is named
					}
					try(kind, inside, "--"+name, secret)
					// Of a host, which may take a while.
					lookup := slices.Contains(urls, name) && !strings.Contains(secret, "@")
					// Some of whose calls serve for a moment.
					if lookup || command == "demo-service" || !everyForm[command] {
						continue
					}
					try(kind, inside, "-"+name, secret)
					try(kind, inside, "--"+name+"="+secret)
					try(kind, inside, "-"+name+"="+secret)
					try(kind, inside, append([]string{"--" + name}, strings.Fields(secret)...)...)
					try(kind, inside, "--"+name+secret)
				}
				try(kind, inside, secret)
				try(kind, inside, strings.Fields(secret)...)
				try(kind, inside, "--"+secret)
				try(kind, inside, "---"+secret)
				try(kind, inside, "--="+secret)
			}
			if tried < 50 {
				t.Errorf("only %d calls", tried)
			}
		})
	}
	for kind, s := range secrets {
		for _, args := range [][]string{
			{s[0]}, {"--" + s[0]}, {"tenant", s[0]}, {"tenant", "create", s[0]},
			{"tenant", "delete", s[0]}, {"tenant", "delete", s[0], "--yes"},
			{"tenant", "permissions", s[0]}, {"tenant", "account", s[0]},
			{"tenant", "mirror", s[0]},
		} {
			if strings.HasPrefix(kind, "a password, a word") || number.MatchString(s[0]) {
				continue // may be a tenant's name, which is printed
			}
			if code, out, text := called(args...); code == 0 || strings.Contains(out+text, s[1]) {
				t.Errorf("%s in %q: %d, %s%s", kind, args, code, out, text)
			}
		}
	}
}

// The message still names the mistake and the remedy.
func TestMessagesAboutSecrets(t *testing.T) {
	t.Parallel()
	seed := secrets(t)["a seed"][0]
	missing := filepath.Join(t.TempDir(), "none")
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"--nkey: (not printed: it may hold a password); name a file",
			[]string{"list", "--nkey", seed}},
		{"--creds: (not printed: it may hold a password); name a file", []string{"list", "--creds",
			secrets(t)["credentials"][0]}},
		{"--creds: the file can't be read: no such file", []string{"list", "--creds", missing}},
		{"--tlsca: the file can't be read: no such file", []string{"list", "--tlsca", missing}},
		{"--user: (not printed", []string{"account", "acme", "--user", "nkey: " + seed}},
		{"--max-keys is (not printed: it may hold a password): give a number above 0, " +
			"or none", []string{"change", "acme", "--max-keys", "Tr0ub4dor"}},
		{"--max-keys is 1O000: give a number above 0", []string{"change", "acme", "--max-keys",
			"1O000"}},
		{"--max-keys is 1O000: give a whole number in digits, as", []string{"create", "acme",
			"--max-keys", "1O000"}},
		{"--max-bytes is 64M: give a whole number", []string{"account", "acme", "--max-bytes",
			"64M"}},
		{"--max-bytes is (not printed", []string{"create", "acme", "--max-bytes", "1:2"}},
		{"--max-bytes is (not printed", []string{"create", "acme", "--max-bytes", "1p@h"}},
		{"connections is 0; use 1", []string{"account", "acme", "--connections", "0", "--user",
			"user: u, password: p"}},
		{"there is no option --fromat", []string{"permissions", "acme",
			"--fromat", "jwt"}},
	} {
		if code, _, err := called(append([]string{"tenant"}, tc.args...)...); code != 2 ||
			!strings.Contains(err, tc.want) {
			t.Errorf("%q: %d %q, want %q", tc.args, code, err, tc.want)
		}
	}
}
