package operator

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
)

// hostileSecrets are passwords that a configuration file would read as another value, or that would
// end the string.
var hostileSecrets = []string{
	"$HOME", "$", "12345", "-1", "1.5", "1k", "5MB", "true", "off", "null", "2026-01-01T00:00:00Z",
	"10s",
	"abc, permissions: {}", "abc}, { user: evil, password: x", "abc } ] }", "abc ]", "{", "}", "[",
	"]", "(", ")",
	"a\"b", "a'b", `"`, `'`, `\`, `a\`, `\"`, `\x41`, `a\nb`, `\q`, `a"b'c\d$e`, `"a" b`,
	`x", password: "y`,
	"#no comment", "a # b", "// a", "a // b", "include evil.conf", "a;b", "a,b", "a=b", "a: b",
	"user: x, password: y", ", password: z",
	" leading", "trailing ", "  ", "\ttab", "pass\tword", "wéb網", "\u202e", "\x1b[31m", "\x00",
	"\xff\xfe", "$2a$", "BLOCK (", "%s%d", "${HOME}", "`id`",
}

// parsed returns what a nats-server reads of an account's entry.
func parsed(t *testing.T, account string) *server.Options {
	t.Helper()
	return natstest.Configured(t, "accounts: {\n"+account+"}\n")
}

// For any name and password, the server reads exactly these, with the given permissions and no
// other user. Seen to fail with entries that are printed as they are.
func TestAccountOfHostileSecrets(t *testing.T) {
	t.Parallel()
	limits := AccountLimits{MaxBytes: 1 << 20, Replicas: 1, Connections: 3}
	access, err := Permissions("acme", RoleObserver)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append([]string{"two\nlines", "abc\npermissions: {}", "\n", "\r\n"},
		hostileSecrets...) {
		entries := map[string]string{
			"User":                 User("web", secret),
			"User, a role":         User("web", secret) + "\n" + access.Config(),
			"typed":                "user: web, password: " + secret,
			"typed, a role":        "user: web, password: " + secret + "\n" + access.Config(),
			"typed in quotes":      `user: web, password: "` + secret + `"`,
			"typed without spaces": "user:web,password: " + secret,
		}
		for how, e := range entries {
			typed := strings.HasPrefix(how, "typed")
			text, err := AccountConfig("acme", limits, e)
			if typed && strings.Contains(secret, "\n") {
				if !errors.Is(err, tenant.ErrInvalidConfig) && strings.TrimSpace(secret) != "" {
					t.Errorf("%s %q: %v", how, secret, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s %q: %v", how, secret, err)
				continue
			}
			want := secret
			if how == "typed in quotes" && strings.Contains(secret, `\`) || typed &&
				(quoted.MatchString(secret) || secret == `"`) {
				continue // these are escapes and quotes there
			}
			opts := parsed(t, text)
			if len(opts.Users) != 1 || len(opts.Accounts) != 1 || opts.Users[0].Username != "web" ||
				opts.Users[0].Password != want {
				t.Errorf("%s %q: %+v of\n%s", how, secret, opts.Users, text)
				continue
			}
			if p := opts.Users[0].Permissions; strings.HasSuffix(how, "a role") != (p != nil) ||
				p != nil && len(p.Publish.Allow) != len(access.Publish) {
				t.Errorf("%s %q: permissions %+v", how, secret, p)
			}
		}
		opts := parsed(t, must(AccountConfig("acme", limits, User(secret, "p"))))
		if len(opts.Users) != 1 || opts.Users[0].Username != secret {
			t.Errorf("a user named %q: %+v", secret, opts.Users)
		}
	}
}

func must(text string, err error) string {
	if err != nil {
		panic(err)
	}
	return text
}

// An invalid entry is refused, and the error does not quote it. Seen to fail if entries are not
// checked.
func TestEntriesThatAreNone(t *testing.T) {
	t.Parallel()
	limits := AccountLimits{MaxBytes: 1 << 20, Replicas: 1, Connections: 3}
	for _, e := range []string{
		"", "SECRET", "user: web, password:", "password: SECRET", "nkey: SUSECRET",
		"{ user: web, password: SECRET }", "include SECRET",
		"user: web, password: SECRET\npermissions: { publish: \">\" }", "user: web\nSECRET",
		"user: web", "user: web\npermissions: {\n}", `user: "web"`,
		"user: web, pasword: SECRET", "user: web, token: SECRET",
		"user: , password: SECRET", "user:, password: SECRET", `user: "", password: SECRET`,
		"user: '', password: SECRET", User("", "SECRET"), "user: , password: x, password: SECRET",
		"user: web, pass: x, password: SECRET", `user: ", password: SECRET`,
		`user: web, password: ""`, "user: web, password: ''", User("web", ""),
		"certificate:", "certificate: ", `certificate: ""`,
	} {
		if text, err := AccountConfig("acme", limits, e); !errors.Is(err,
			tenant.ErrInvalidConfig) || text != "" || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %s, %v", e, text, err)
		}
	}
	const key = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
	opts := parsed(t, must(AccountConfig("acme", limits, "nkey: "+key, "certificate: cert")))
	if len(opts.Nkeys) != 1 || opts.Nkeys[0].Nkey != key || len(opts.Users) != 1 {
		t.Errorf("%+v %+v", opts.Nkeys, opts.Users)
	}
}

// Each tenant's name is an account's in the configuration, whether it reads as a word or as a
// number. Each domain of a hub is one in the permissions. Seen to fail with subjects that are
// quoted as in Go.
func TestConfigurationOfHostileNames(t *testing.T) {
	t.Parallel()
	limits := AccountLimits{MaxBytes: 1 << 20, Replicas: 1, Connections: 3}
	for _, name := range []string{"include", "true", "off", "1", "12345", "-1", "-", "_", "1k",
		"nats", "jetstream", "users", "A", "2026-01-01"} {
		opts := parsed(t, must(AccountConfig(name, limits, User("web", "p"))))
		if len(opts.Accounts) != 1 || opts.Accounts[0].Name != name {
			t.Errorf("%s: %+v", name, opts.Accounts)
		}
	}
	for _, domain := range []string{"hub", `a"b`, `a\b`, "h\u202eb", "网", "}", "$HOME"} {
		a, err := Permissions("acme", RoleObserver)
		if err == nil {
			a, err = a.AtLeaf(domain)
		}
		if err != nil {
			t.Fatal(err)
		}
		opts := natstest.Configured(t, fmt.Sprintf("authorization { users: [ { %s\n%s } ] }\n",
			User("u", "p"), a.Config()))
		if p := opts.Users[0].Permissions; strings.Join(p.Publish.Allow,
			" ") != strings.Join(a.Publish, " ") {
			t.Errorf("%q: %q", domain, p.Publish.Allow)
		}
	}
}

// A user logs in with a hostile password, and with no other. Seen to fail with passwords that are
// written as they are.
func TestLogInWithHostileSecret(t *testing.T) {
	t.Parallel()
	const secret = `$HOME "12345", permissions: {} # \n }`
	opts := parsed(t, must(AccountConfig("acme", AccountLimits{MaxBytes: 1 << 20, Replicas: 1,
		Connections: 3}, "user: web, password: "+secret)))
	s := natstest.Start(t, func(o *server.Options) {
		o.Accounts, o.Users = opts.Accounts, opts.Users
	})
	if err := Provision(t.Context(), s.Connect(nats.UserInfo("web", secret)), "acme",
		tenant.Config{}); err != nil {
		t.Error(err)
	}
	if nc, err := nats.Connect(s.URL(), nats.UserInfo("web", "$HOME")); err == nil {
		nc.Close()
		t.Error("another password was taken")
	}
}
