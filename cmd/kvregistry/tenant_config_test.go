package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// clientLine matches the line of a comment that says how a user runs the command, and secretLine
// the password of a user.
var (
	clientLine = regexp.MustCompile(
		`#   NATS_USER="(\w+)" NATS_PASSWORD=PASSWORD kvregistry (.*)\n`)
	secretLine = regexp.MustCompile(`NATS_ACME_(\w+)_PASSWORD: "(\w+)"`)
)

// startConfigured starts a server with the configuration that "tenant config" prints, beside a file
// of secrets that it makes. It returns the command line of each user, which stands in a comment.
func startConfigured(t *testing.T, args ...string) (runs map[string][]string) {
	t.Helper()
	dir := t.TempDir()
	args = append([]string{"tenant", "config", "acme", "--include", "acme.secrets",
		"--make-secrets", "--store", filepath.Join(dir, "store")}, args...)
	cmd := exec.Command(os.Args[0], args...) // in a directory of its own
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asProgram+"=1")
	var out, told bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &told
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, told.String())
	}
	secrets, err := os.ReadFile(filepath.Join(dir, "acme.secrets"))
	if err != nil {
		t.Fatal(err)
	}
	password := map[string]string{}
	for _, m := range secretLine.FindAllStringSubmatch(string(secrets), -1) {
		if len(m[2]) < 26 || strings.Contains(out.String()+told.String(), m[2]) {
			t.Errorf("the password %s is short, or printed", m[2])
		}
		password[strings.ToLower(m[1])] = m[2]
	}
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("%v, of:\n%s", err, out.String())
	}
	opts.NoLog, opts.NoSigs = true, true
	natstest.Start(t, func(o *server.Options) { *o = *opts })
	runs = map[string][]string{}
	for _, m := range clientLine.FindAllStringSubmatch(out.String(), -1) {
		runs[m[1]] = append(strings.Fields(m[2]), "--user", m[1], "--password", password[m[1]])
	}
	if n := len(operator.Roles()) - 1; len(runs) != n || len(password) != n { // no registrar
		t.Fatalf("users %v, in:\n%s", runs, out.String())
	}
	return runs
}

// The printed configuration is that of a server, on which each user runs the command of its
// comment: the admin makes the bucket, and a reaper works in it. An admin of another tenant's
// bucket is refused. Seen to fail with a comment without the inbox.
func TestTenantConfig(t *testing.T) {
	t.Parallel()
	address := fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))
	runs := startConfigured(t, "--listen", address, "--max-bytes", "1048576")
	if code, out, told := called(runs["admin"]...); code != 0 {
		t.Fatal(code, out, told)
	}
	wrong := strings.Fields(strings.Replace(strings.Join(runs["admin"], "\n"), "acme", "other", 1))
	if code, out, told := called(wrong...); code != 1 || !strings.Contains(told, "permission") {
		t.Errorf("another tenant: %d %s%s", code, out, told)
	}
	start(t, runs["reaper"]...).says("holds a slot", natstest.Soon)
}

// A command line that names no user, or one twice, is wrong. A file of secrets that exists stays as
// it is. Seen to fail with a file that is replaced.
func TestTenantConfigWrongUsage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"name=role", []string{"--user", "web"}},
		{"stands twice", []string{"--user", "web=observer", "--user", "web=observer"}},
		{"needs the names", []string{"--user", "web=registrar"}},
		{"takes no names", []string{"--user", "web=observer:web"}},
		{"needs --include", []string{"--make-secrets"}},
		{"makes no nkeys", []string{"--make-secrets", "--nkeys", "--include", "nosuch"}},
		{"cluster of 2", []string{"--cluster", "a,b"}},
	} {
		code, out, told := called(append([]string{"tenant", "config", "acme"}, tc.args...)...)
		if code != 2 || out != "" || !strings.Contains(told, tc.want) {
			t.Errorf("%q: %d %q %q, want 2 and %q", tc.args, code, out, told, tc.want)
		}
	}
	const there = "tenant_config_test.go"
	if code, out, told := called("tenant", "config", "acme", "--include", there,
		"--make-secrets"); code != 1 || out != "" || !strings.Contains(told, "exists") {
		t.Errorf("%d %q %q", code, out, told)
	}
}
