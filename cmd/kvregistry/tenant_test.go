package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// called runs the program's code and returns its output.
func called(args ...string) (code int, out, err string) {
	var o, e natstest.Log // a command's goroutines may write when it has returned
	std := cli.NewStreams(strings.NewReader(""), &o, &e)
	code = cli.Run(root(std), args, std)
	return code, o.String(), e.String()
}

func TestTenantLife(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	if code, out, err := called("tenant", "create", "acme", "--server", s.URL(), "--max-bytes",
		"1048576", "--max-keys", "500"); code != 0 || out != "tenant acme is there\n" {
		t.Fatal(code, out, err)
	}
	if code, out, err := called("tenant", "create", "beta", "--server", s.URL()); code != 0 {
		t.Fatal(code, out, err)
	}
	code, out, err := called("tenant", "list", "--server", s.URL())
	want := "tenant  keys  max keys  bytes  max bytes  replicas\nacme    0     500       0      " +
		"1048576    1\nbeta    0     none      0      none       1\n"
	if code != 0 || out != want {
		t.Errorf("%d %s\n%q, want\n%q", code, err, out, want)
	}
	if code, out, err := called("tenant", "change", "beta", "--server", s.URL(), "--max-keys", "70",
		"--max-bytes", "2097152"); code != 0 || out != "tenant beta is changed\n" {
		t.Errorf("%d %s %s", code, out, err)
	}
	if code, out, err := called("tenant", "change", "acme", "--server", s.URL(), "--max-keys",
		"none"); code != 0 {
		t.Errorf("%d %s %s", code, out, err)
	}
	js, err2 := jetstream.New(s.Connect())
	if err2 != nil {
		t.Fatal(err2)
	}
	for value, size := range map[string]int32{"66560": 66560, "none": -1} {
		code, _, text := called("tenant", "change", "beta", "--server", s.URL(),
			"--max-value", value)
		if stream, err := js.Stream(t.Context(), "KV_registry_beta"); code != 0 || err != nil ||
			stream.CachedInfo().Config.MaxMsgSize != size {
			t.Errorf("values of %s bytes: %d %s %v", value, code, text, err)
		}
	}
	want = "tenant  keys  max keys  bytes  max bytes  replicas\nacme    0     none      0      " +
		"1048576    1\nbeta    0     70        0      2097152    1\n"
	if code, out, err := called("tenant", "list", "--server", s.URL()); code != 0 || out != want {
		t.Errorf("%d %s\n%q, want\n%q", code, err, out, want)
	}
	if code, _, err := called("tenant", "create", "acme", "--server", s.URL(), "--max-bytes",
		"5"); code != 1 || !strings.Contains(err, "max bytes is 1048576, must be 5") {
		t.Errorf("another limit: %d %s", code, err)
	}
	if code, _, err := called("tenant", "delete", "acme", "--server", s.URL()); code != 2 ||
		!strings.Contains(err, "--yes") {
		t.Errorf("deleted without being sure: %d %s", code, err)
	}
	if code, _, err := called("tenant", "delete", "acme", "--server", s.URL(), "--yes"); code != 0 {
		t.Errorf("%d %s", code, err)
	}
	if code, _, err := called("tenant", "delete", "acme", "--server", s.URL(),
		"--yes"); code != 3 || !strings.Contains(err, tenant.ErrBucketNotFound.Error()) {
		t.Errorf("deleted twice: %d %s", code, err)
	}
}

func TestTenantWrongUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"no subcommand \"move\"", []string{"move"}},
		{"say what to change", []string{"change", "a"}},
		{"--hub-domain", []string{"mirror", "a"}},
		{"no JetStream domain", []string{"permissions", "a", "--hub-domain", "a.b"}},
		{"or none", []string{"change", "a", "--max-keys", "0"}},
		{"name a tenant", []string{"create"}},
		{"name a tenant", []string{"create", "a.b"}},
		{"name a tenant", []string{"delete", ">", "--yes"}},
		{"unknown argument \"b\"", []string{"create", "a", "b"}},
		{"needs the names", []string{"permissions", "a", "--role", "registrar"}},
		{"takes no names", []string{"permissions", "a", "--role", "observer", "--service", "web"}},
		{"it is empty", []string{"permissions", "a", "--role", "registrar", "--service", ""}},
		{"role \"king\"", []string{"permissions", "a", "--role", "king"}},
		{"--format \"xml\"", []string{"permissions", "a", "--format", "xml"}},
		{"needs users", []string{"account", "a"}},
		{"has no users", []string{"account", "a", "--user", "user: u", "--format", "jwt"}},
		{"--format \"xml\"", []string{"account", "a", "--user", "user: u", "--format", "xml"}},
		{"max bytes is 0; use 1",
			[]string{"account", "a", "--user", "user: u", "--max-bytes", "0"}},
		{"2 replicas", []string{"account", "a", "--user", "user: u", "--replicas", "2"}},
		{"go together", []string{"list", "--tlscert", "x"}},
		{"--nkey", []string{"list", "--nkey", "there/is/none"}},
	} {
		if code, out, err := called(append([]string{"tenant"}, tc.args...)...); code != 2 ||
			out != "" || !strings.Contains(err, tc.want) {
			t.Errorf("%q: %d %q %q, want 2 and %q", tc.args, code, out, err, tc.want)
		}
	}
}

// "list" prints what should be changed about the server, once, and about each bucket. "create" and
// "change" shorten a bucket's duplicate window. "permissions" names the server version that roles
// need. Seen to fail without these lines, and with a "create" that changes nothing.
func TestTenantAdvice(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js, err := jetstream.New(s.Connect())
	if err != nil {
		t.Fatal(err)
	}
	lengthen := func() {
		t.Helper()
		for _, name := range []string{"acme", "beta"} {
			stream, err := js.Stream(t.Context(), "KV_registry_"+name)
			if err != nil {
				t.Fatal(err)
			}
			cfg := stream.CachedInfo().Config
			cfg.Duplicates = 2 * time.Minute
			if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
		}
	}
	does := func(args ...string) (told string) {
		t.Helper()
		code, _, told := called(append([]string{"tenant"}, args...)...)
		if code != 0 {
			t.Fatalf("%q: %d %s", args, code, told)
		}
		return told
	}
	does("create", "acme", "--server", s.URL())
	does("create", "beta", "--server", s.URL())
	if told := does("list", "--server", s.URL()); told != "" {
		t.Errorf("all is well: %s", told)
	}
	lengthen()
	told := does("list", "--server", s.Labelled(t, "2.11.4"))
	if strings.Count(told, "\n") != 3 || strings.Count(told, "nats-server 2.11.4 ") != 1 ||
		strings.Count(told, "2m0s") != 2 || strings.Count(told, "registry_beta") != 1 {
		t.Errorf("two long windows and an old server: %s", told)
	}
	does("create", "acme", "--server", s.URL())
	does("change", "beta", "--server", s.URL(), "--max-keys", "50")
	if told := does("list", "--server", s.URL()); told != "" {
		t.Errorf("all was changed: %s", told)
	}
	for _, format := range []string{"config", "jwt", "json"} {
		if told := does("permissions", "acme", "--format", format); !strings.Contains(told,
			operator.RolesNeed) {
			t.Errorf("%s: %q", format, told)
		}
	}
}

// A server and the JWT library read the printed permissions, also of names with commas. Seen to
// fail with names that are split at commas.
func TestTenantPermissions(t *testing.T) {
	t.Parallel()
	want, err := operator.Permissions("acme", operator.RoleRegistrar, "web", "a.b", "a,b")
	if err != nil {
		t.Fatal(err)
	}
	if want, err = want.For("web-1"); err != nil {
		t.Fatal(err)
	}
	printed := func(format string) string {
		code, out, err := called("tenant", "permissions", "acme", "--role", "registrar",
			"--service", "web", "--service", "a.b", "--service", "a,b", "--user",
			"web-1", "--format", format)
		if code != 0 {
			t.Fatal(code, err)
		}
		return out
	}
	var access operator.Access
	if err := json.Unmarshal([]byte(printed("json")), &access); err != nil ||
		access.Inbox != want.Inbox || len(access.Publish) != len(want.Publish) {
		t.Errorf("json: %v, %+v", err, access)
	}
	var claims jwt.Permissions
	if err := json.Unmarshal([]byte(printed("jwt")), &claims); err != nil ||
		strings.Join(claims.Pub.Allow, " ") != strings.Join(want.Publish, " ") ||
		len(claims.Pub.Deny) > 0 || claims.Sub.Allow[0] != "_INBOX_acme.web-1.>" {
		t.Errorf("jwt: %v, %+v", err, claims)
	}
	opts := natstest.Configured(t, "authorization { users: [ { user: u, "+
		"password: p\n"+printed("config")+"} ] }\n")
	if p := opts.Users[0].Permissions; strings.Join(p.Publish.Allow,
		" ") != strings.Join(want.Publish, " ") || len(p.Publish.Deny) > 0 ||
		p.Subscribe.Allow[0] != "_INBOX_acme.web-1.>" {
		t.Errorf("config: %+v %+v", p.Publish, p.Subscribe)
	}
}

// A server reads the printed account.
func TestTenantAccount(t *testing.T) {
	t.Parallel()
	code, out, text := called("tenant", "account", "acme", "--max-bytes", "1048576",
		"--connections", "3", "--user", "user: web, password: a", "--user",
		"user: api, password: b")
	if code != 0 {
		t.Fatal(text)
	}
	code, claims, text := called("tenant", "account", "acme", "--max-bytes", "1048576",
		"--connections", "3", "--format", "jwt")
	var limits jwt.OperatorLimits
	if err := json.Unmarshal([]byte(claims), &limits); code != 0 || err != nil ||
		limits.DiskStorage != 1<<20 || limits.Conn != 3 || limits.Streams != 1 ||
		limits.LeafNodeConn != 0 || limits.Consumer != 16 {
		t.Errorf("%d %s %v %+v", code, text, err, limits)
	}
	opts := natstest.Configured(t, "accounts: {\n"+out+"}\n")
	if len(opts.Accounts) != 1 || opts.Accounts[0].Name != "acme" || len(opts.Users) != 2 {
		t.Errorf("%+v", opts.Accounts)
	}
}

// The server reads the printed password, whatever its characters. Seen to fail with entries that
// are printed as they are.
func TestTenantAccountOfHostilePasswords(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{
		"$HOME", "12345", "true", "abc, permissions: {}", "abc }, { user: evil, password: x", `a"b`,
		`a\b`, "#", " x ", "a\x1b[31m", "user: x, password: y",
	} {
		code, out, text := called("tenant", "account", "acme", "--user",
			"user: web, password: "+secret, "--user", "user: api, password: b")
		if code != 0 {
			t.Errorf("%q: %d %s", secret, code, text)
			continue
		}
		opts := natstest.Configured(t, "accounts: {\n"+out+"}\n")
		if len(opts.Users) != 2 || opts.Users[0].Username != "web" ||
			opts.Users[0].Password != secret || opts.Users[0].Permissions != nil {
			t.Errorf("%q: %+v of\n%s", secret, opts.Users, out)
		}
		if strings.ContainsRune(out, '\x1b') {
			t.Errorf("%q controls the terminal", out)
		}
	}
	for _, entry := range []string{"SECRET", "user: web, password: SECRET\npermissions: { " +
		"publish: x }", "user: SECRET", "user: web, pasword: SECRET"} {
		if code, out, text := called("tenant", "account", "acme", "--user", entry); code != 2 ||
			strings.Contains(out+text, "SECRET") || !strings.Contains(text, "entry") {
			t.Errorf("%q: %d %s %s", entry, code, out, text)
		}
	}
}

// An administrator of a tenant makes and deletes its bucket with the permissions that "permissions"
// prints, and gets an error that names a missing one.
func TestTenantAdmin(t *testing.T) {
	t.Parallel()
	code, out, text := called("tenant", "permissions", "acme", "--role", "admin", "--user", "ann")
	if code != 0 {
		t.Fatal(text)
	}
	opts := natstest.Configured(t, "authorization { users: [ { user: ann, "+
		"password: p\n"+out+"} ] }\n")
	s := natstest.Start(t, func(o *server.Options) { o.Users = opts.Users })
	url := strings.Replace(s.URL(), "nats://", "nats://ann:p@", 1)
	if code, _, text := called("tenant", "create", "acme", "--server", url); code != 1 ||
		!strings.Contains(text, "--inbox") {
		t.Errorf("without the inbox: %d %s", code, text)
	}
	for _, args := range [][]string{{"create", "acme"}, {"delete", "acme", "--yes"}} {
		if code, _, text := called(append(append([]string{"tenant"}, args...), "--server", url,
			"--inbox", "_INBOX_acme.ann")...); code != 0 {
			t.Errorf("%v: %d %s", args, code, text)
		}
	}
	if code, _, text := called("tenant", "create", "other", "--server", url, "--inbox",
		"_INBOX_acme.ann"); code != 1 || !strings.Contains(text, "permission") {
		t.Errorf("another tenant: %d %s", code, text)
	}
}

// An error about a bucket or an option says what to run. The command lines in the text are valid.
// Seen to fail with the errors as they were: "change it by hand", "use the Replicas option".
func TestTenantRemedies(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	if err := operator.Provision(t.Context(), s.Connect(), "acme", tenant.Config{}); err != nil {
		t.Fatal(err)
	}
	const limits = "--max-keys 10000 --max-value 66560 --max-bytes 67108864"
	const change = "run kvregistry tenant change acme " + limits + " ("
	for _, tc := range []struct{ args, want string }{
		{"create acme " + limits, change},
		{"create beta --replicas 3", "--replicas 1 "},
		{"create acme --replicas 3", "tenant change acme --replicas 3 ("},
		{"change acme --replicas 3", "Replicas(1), or --replicas 1 "},
		{"change nosuch --max-keys 5", "registry_nosuch; make it: kvregistry tenant create nosuch"},
	} {
		code, _, text := called(strings.Fields("tenant " + tc.args + " --server " + s.URL())...)
		want := cli.ExitFailure
		if strings.Contains(tc.args, "nosuch") {
			want = cli.ExitNone
		}
		if code != want || !strings.Contains(text, tc.want) ||
			strings.Contains(text, "change it by hand") {
			t.Errorf("%s: %d %s, want %s", tc.args, code, text, tc.want)
		}
	}
	if code, _, text := called(strings.Fields("tenant change acme " + limits + " --server " +
		s.URL())...); code != 0 {
		t.Errorf("the remedy: %d %s", code, text)
	}
	for path := range leaves(tree()) {
		_, _, text := called(append(strings.Fields(path), "acme", "--no-such")...)
		name, help := path, `"kvregistry `+path+` -h" tells more`
		if !strings.Contains(text, help) {
			t.Errorf("%s: %s, want %s", name, text, help)
		}
	}
	want := `"kvregistry tenant -h" tells more`
	if _, _, text := called("tenant", "move"); !strings.Contains(text, want) {
		t.Errorf("%s, want %s", text, want)
	}
}

// "help" takes the subcommand that it is about. Seen to fail with a help that ignores it.
func TestHelpOfASubcommand(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"help tenant":        "change       change a tenant's limits",
		"help tenant create": "--max-keys",
		"tenant help create": "--max-keys",
		"help serve":         "--store",
		"help help":          "say what a command does",
		"help":               "demo ",
	} {
		if code, out, text := called(strings.Fields(line)...); code != 0 ||
			!strings.Contains(out, want) {
			t.Errorf("%s: %d %s%s, want %s", line, code, out, text, want)
		}
	}
	if code, _, text := called("help", "move"); code != 2 || !strings.Contains(text, "move") {
		t.Errorf("%d %s", code, text)
	}
}

// docs/operations.md shows a whole configuration of a server, whose accounts the command beside it
// prints. Seen to fail with a page that shows another limit.
func TestDocumentedServer(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, account, text := called("tenant", "account", "acme", "--max-bytes", "67108864",
		"--connections", "100", "--user", "user: web, password: change-this",
		"--user", "user: dashboard, password: and-this")
	want := "port: 4222\njetstream {\n  store_dir: /var/lib/nats\n}\n" +
		"accounts: {\n" + account + "}\n"
	if !strings.Contains(string(page), "```\n"+want+"```\n") {
		t.Errorf("docs/operations.md does not show\n%s%s", want, text)
	}
	if opts := natstest.Configured(t, want); len(opts.Users) != 2 || !opts.JetStream {
		t.Errorf("%+v", opts.Users)
	}
}
