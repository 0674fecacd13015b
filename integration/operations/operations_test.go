package operations

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant/operator"
)

// root is the user of the account without a role.
const root = "root"

// wants maps the commands of the page to a text of their answer.
var wants = map[string]string{
	"kv ls registry_acme":              "svc.web.1",
	"kv watch registry_acme 'svc.>'":   "svc.web.1",
	"kv watch registry_acme 'lease.>'": "PUT registry_acme > lease.",

	"kv history registry_acme svc.web.1":                                   "svc.web.1",
	"kv get registry_acme svc.web.1 --raw":                                 `"address":"h:1"`,
	"stream get KV_registry_acme --last-for '$KV.registry_acme.svc.web.1'": `"address":"h:1"`,
	"stream get KV_registry_acme --last-for '$KV.registry_acme.reaper.0'":  `"owner":`,

	"stream info KV_registry_acme":     "$KV.registry_acme.>",
	"stream subjects KV_registry_acme": "$KV.registry_acme.svc.web.1",

	"consumer ls KV_registry_acme":                                             "view-",
	"consumer report KV_registry_acme":                                         "view-",
	"consumer rm KV_registry_acme reaper --force":                              "",
	"server check stream --stream KV_registry_acme":                            "OK",
	"server check kv --bucket registry_acme --key reaper.0":                    "OK",
	"--server nats://n1:4222 --creds ann.creds --inbox-prefix _INBOX_acme.ann": "",
}

// inline maps the commands within a sentence to their roles.
var inline = map[string]string{
	"server check stream --stream KV_registry_acme":         "observer",
	"server check kv --bucket registry_acme --key reaper.0": root,
	"consumer rm KV_registry_acme reaper --force":           root,
}

var (
	block    = regexp.MustCompile("(?m)^As ((?:[^:\n]|\n[^\n])*):\n\n```\n((?s:.*?))```\n")
	roleName = regexp.MustCompile("^`([a-z]+)`")
	sentence = regexp.MustCompile("`nats ([^`]+)`")
)

// documented returns the commands of the page, by role.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "<tenant>", "acme")
	by := map[string][]string{}
	shown := 0
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		role := root
		if name := roleName.FindStringSubmatch(m[1]); name != nil {
			role = name[1]
		}
		for line := range strings.Lines(m[2]) {
			if command, ok := strings.CutPrefix(line, "nats "); ok {
				command, _, _ = strings.Cut(command, " # ")
				by[role] = append(by[role], strings.TrimSpace(command))
				shown++
			}
		}
	}
	if all := strings.Count(text, "\nnats "); shown != all || all < 10 {
		t.Errorf("%d commands are shown, %d of them for a role", all, shown)
	}
	for _, m := range sentence.FindAllStringSubmatch(text, -1) {
		if role, ok := inline[m[1]]; ok {
			by[role] = append(by[role], m[1])
		} else if strings.Contains(m[1], "_acme") && !strings.HasPrefix(m[1], "--server") {
			t.Errorf("no role is known of %q", m[1])
		}
	}
	return by
}

// guarded returns a server with a user per role, named after it, and root.
func guarded(t *testing.T) *natstest.Server {
	t.Helper()
	text := "authorization { users: [\n{ " + operator.User(root, "p") + " }\n"
	for _, role := range operator.Roles() {
		var services []string
		if role == operator.RoleRegistrar {
			services = []string{"web"}
		}
		access, err := operator.Permissions("acme", role, services...)
		if err == nil {
			access, err = access.For(string(role))
		}
		if err != nil {
			t.Fatal(err)
		}
		text += "{ " + operator.User(string(role), "p") + "\n" + access.Config() + "}\n"
	}
	users := natstest.Configured(t, text+"] }\n").Users
	return natstest.Start(t, func(o *server.Options) { o.Users = users })
}

// populate registers an instance, takes a reaper slot, and creates the consumer of an earlier
// version.
func populate(t *testing.T, s *natstest.Server) {
	t.Helper()
	nc := s.Connect(nats.UserInfo(root, "p"))
	r, err := kvregistry.New(t.Context(), nc, kvregistry.Tenant("acme"),
		kvregistry.TTL(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if _, err := r.Register(kvregistry.Service{Name: "web", ID: "1", Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Observe("web"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if !r.Health().Reaps {
			return errors.New("it does not reap")
		}
		return nil
	})
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "KV_registry_acme",
		jetstream.ConsumerConfig{Durable: "reaper"}); err != nil {
		t.Fatal(err)
	}
}

// Each command of the page answers the role that it is listed for. Seen to fail with an earlier
// page, whose "kv get" and "consumer ls" an observer may not use.
func TestCommandsOfThePage(t *testing.T) {
	t.Parallel()
	program := build(t)
	by := documented(t)
	s := guarded(t)
	populate(t, s)
	home := t.TempDir()
	for _, role := range slices.Sorted(maps.Keys(by)) {
		for _, command := range by[role] {
			want, ok := wants[command]
			if !ok {
				t.Errorf("the test has no answer of %q", command)
				continue
			}
			if err := answers(program, home, s.URL(), role, command, want); err != nil {
				t.Errorf("as %s: nats %s: %v", role, command, err)
			}
		}
	}
}

// answers runs a command as a role until it answers.
func answers(program, home, url, role, command, want string) error {
	args := []string{"--server", url, "--user", role, "--password", "p", "--timeout",
		natstest.Soon.String()}
	if role != root {
		args = append(args, "--inbox-prefix", "_INBOX_acme."+role)
	}
	cmd := exec.Command(program, append(args, words(command)...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "NO_COLOR=1")
	var out natstest.Log
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the command
	defer func() { _ = cmd.Process.Kill() }()
	watches := strings.HasPrefix(command, "kv watch") // this one does not end
	deadline := time.After(2 * natstest.Soon)
	for {
		select {
		case err := <-ended:
			if err == nil && (watches || !strings.Contains(out.String(), want)) {
				err = fmt.Errorf("no %q", want)
			}
			if err != nil {
				return fmt.Errorf("%w in: %s", err, out.String())
			}
			return nil
		case <-deadline:
			return fmt.Errorf("no answer: %s", out.String())
		case <-time.After(10 * time.Millisecond):
			if watches && strings.Contains(out.String(), want) {
				return nil
			}
		}
	}
}

// words returns a command's arguments, as a shell reads them.
func words(command string) (list []string) {
	for _, word := range strings.Fields(command) {
		list = append(list, strings.Trim(word, "'"))
	}
	return list
}
