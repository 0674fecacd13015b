package operator_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// small is a server with one user, whose configuration is right.
func small() operator.Server {
	return operator.Server{Tenant: "acme",
		Limits: operator.AccountLimits{MaxBytes: 1 << 20, Replicas: 1, Connections: 5},
		Users:  []operator.ServerUser{{Name: "ann", Role: operator.RoleAdmin}}}
}

// A server that could not start, or that would not do what was asked, has no configuration. The
// error names the value. Each row was seen to fail without its check.
func TestServersThatAreRefused(t *testing.T) {
	t.Parallel()
	if _, err := small().Config(); err != nil {
		t.Fatal(err)
	}
	three := []string{"n1", "n2", "n3"}
	for _, tc := range []struct {
		want  string
		spoil func(s *operator.Server)
	}{
		{"a.b", func(s *operator.Server) { s.Tenant = "a.b" }},
		{"max bytes is 0", func(s *operator.Server) { s.Limits.MaxBytes = 0 }},
		{"needs users", func(s *operator.Server) { s.Users = nil }},
		{`role "king"`, func(s *operator.Server) { s.Users[0].Role = "king" }},
		{"needs the names", func(s *operator.Server) { s.Users[0].Role = operator.RoleRegistrar }},
		{"empty", func(s *operator.Server) { s.Users[0].Name = "" }},
		{"NATS_ACME_A_B_PASSWORD", func(s *operator.Server) {
			s.Users = []operator.ServerUser{{Name: "a-b", Role: operator.RoleAdmin},
				{Name: "a.b", Role: operator.RoleAdmin}}
		}},
		{`"4222"`, func(s *operator.Server) { s.Listen = "4222" }},
		{"cluster of 2", func(s *operator.Server) { s.Hosts = three[:2] }},
		{"3 replicas", func(s *operator.Server) { s.Limits.Replicas = 3 }},
		{"5 replicas", func(s *operator.Server) { s.Limits.Replicas, s.Hosts = 5, three }},
		{`"n3:6222"`, func(s *operator.Server) { s.Hosts = []string{"n1", "n2", "n3:6222"} }},
		{"/etc/secrets", func(s *operator.Server) { s.Include = "/etc/secrets" }},
		{"can't include", func(s *operator.Server) { s.Include = `a"b` }},
	} {
		s := small()
		tc.spoil(&s)
		text, err := s.Config()
		if text != "" || err == nil || !strings.Contains(err.Error(), tc.want) ||
			!errors.Is(err, tenant.ErrInvalidConfig) && !errors.Is(err, tenant.ErrInvalidName) &&
				!errors.Is(err, tenant.ErrInvalidTenant) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

// Names of users, services and folders are values in the configuration, whatever their characters.
// Seen to fail with a comment that has a name as it is.
func TestServerOfHostileNames(t *testing.T) {
	const name = "x\n} \"$HOME\" #"
	s := small()
	s.Store = t.TempDir() + `/a "b" $HOME`
	s.Users = []operator.ServerUser{{Name: name, Role: operator.RoleRegistrar,
		Services: []string{name}}}
	t.Setenv(s.Secret(s.Users[0]), "secret")
	text, err := s.Config()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil || len(opts.Users) != 1 || opts.Users[0].Username != name ||
		opts.Users[0].Password != "secret" || opts.StoreDir != s.Store {
		t.Errorf("%v, %+v, of:\n%s", err, opts, text)
	}
}
