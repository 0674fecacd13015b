package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// hostileSecret is a password that a configuration file would take for something else.
const hostileSecret = `$HOME "12345" # }`

func byHostileSecret(user string) []nats.Option {
	return []nats.Option{nats.UserInfo(user, hostileSecret)}
}

// ownServer is a server of tenant acme alone, with a user for each role.
func ownServer() operator.Server {
	s := operator.Server{Tenant: "acme", Include: "acme.secrets",
		Limits: operator.AccountLimits{MaxBytes: 16 << 20, Replicas: 1, Connections: 50}}
	for _, role := range operator.Roles() {
		u := operator.ServerUser{Name: string(role), Role: role}
		if role == operator.RoleRegistrar {
			u.Services = []string{"web", "a.b"}
		}
		s.Users = append(s.Users, u)
	}
	return s
}

// generated reads the configuration of a server, as nats-server does, with a file of its secrets.
func generated(t *testing.T, s operator.Server, secret func(user string) string) *server.Options {
	t.Helper()
	text, err := s.Config()
	must(t, err)
	dir, secrets := t.TempDir(), ""
	for _, u := range s.Users {
		secrets += fmt.Sprintf("%s: %q\n", s.Secret(u), secret(u.Name))
	}
	if len(s.Hosts) > 0 {
		secrets += "NATS_SERVER_NAME: n\n"
	}
	must(t, os.WriteFile(filepath.Join(dir, s.Include), []byte(secrets), 0o600))
	file := filepath.Join(dir, "nats.conf")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("%v, of:\n%s", err, text)
	}
	opts.NoLog, opts.NoSigs = true, true
	return opts
}

// inboxes are the accesses of a server's users, with the inboxes that its configuration names.
func inboxes(t *testing.T, s operator.Server) map[string]operator.Access {
	t.Helper()
	text, err := s.Config()
	must(t, err)
	all := map[string]operator.Access{}
	for _, u := range s.Users {
		access, err := operator.Permissions(s.Tenant, u.Role, u.Services...)
		must(t, err)
		access, err = access.For(u.Name)
		must(t, err)
		if want := fmt.Sprintf("nats.CustomInboxPrefix(%q)", access.Inbox); !strings.Contains(text,
			want) {
			t.Errorf("the configuration does not say %s", want)
		}
		all[u.Name] = access
	}
	return all
}

// A server with the configuration of operator.Server lets each role do its work, over the inbox
// that the configuration names, and refuses the rest. Seen to fail with a random inbox, and with
// users without permissions.
func TestGeneratedServer(t *testing.T) {
	t.Parallel()
	for name, login := range map[string]func(t *testing.T, s *operator.Server) (
		secret func(user string) string, connect func(user string) []nats.Option){
		"passwords": func(*testing.T, *operator.Server) (func(string) string,
			func(string) []nats.Option) {
			return func(string) string { return hostileSecret }, byHostileSecret
		},
		"nkeys": func(t *testing.T, s *operator.Server) (func(string) string,
			func(string) []nats.Option) {
			s.NKeys = true
			seeds := map[string]seedFile{}
			for _, u := range s.Users {
				seeds[u.Name] = newSeedFile(t)
			}
			return func(user string) string { return seeds[user].public },
				func(user string) []nats.Option { return []nats.Option{seeds[user].option(t)} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := ownServer()
			secret, connect := login(t, &own)
			own.Listen = fmt.Sprintf("127.0.0.1:%d", natstest.FreePort(t))
			own.Store = t.TempDir()
			opts := generated(t, own, secret)
			if !opts.SyncAlways || opts.StoreDir != own.Store || opts.MaxPending != 4<<20 {
				t.Errorf("sync always is %v, store %s, max pending %d", opts.SyncAlways,
					opts.StoreDir, opts.MaxPending)
			}
			g := &guarded{natstest.Start(t, func(o *server.Options) { *o = *opts }),
				inboxes(t, own), connect}
			if !strings.HasSuffix(g.URL(), own.Listen) {
				t.Fatalf("the server is at %s and has to listen on %s", g.URL(), own.Listen)
			}
			adminMakesTheBucket(t, g)
			register(t, openOn(t, g.as(t, "service"), kvregistry.Tenant("acme")),
				kvregistry.Service{Name: "there", ID: "a", Address: "a:1"})
			for _, role := range operator.Roles() {
				t.Run(string(role), func(t *testing.T) {
					t.Parallel()
					operates(t, g, role)
					refusesRaw(t, g, role)
				})
			}
		})
	}
}

// Three servers share a generated configuration. Its account has room for the replicas. Seen to
// fail with an account for one replica.
func TestGeneratedCluster(t *testing.T) {
	t.Parallel()
	own := ownServer()
	own.Hosts, own.Limits.Replicas = []string{"n1", "n2", "n3"}, 3
	opts := generated(t, own, func(string) string { return hostileSecret })
	if len(opts.Routes) != 3 || opts.Routes[2].Host != "n3:6222" || opts.Cluster.Port != 6222 ||
		opts.Host != "0.0.0.0" {
		t.Errorf("routes to %v, listens on %s and %+v", opts.Routes, opts.Host, opts.Cluster)
	}
	list := natstest.Cluster(t, func(o *server.Options) {
		o.Accounts, o.Users, o.Nkeys = opts.Accounts, opts.Users, opts.Nkeys
		o.MaxPending, o.JetStreamLimits = opts.MaxPending, opts.JetStreamLimits
		o.Cluster.Name = opts.Cluster.Name
	})
	g := &guarded{list[1], inboxes(t, own), byHostileSecret}
	must(t, operator.Provision(t.Context(), g.as(t, "admin"), "acme",
		tenant.Config{Replicas: 3, MaxBytes: own.Limits.MaxBytes}))
	register(t, openOn(t, g.as(t, "registrar"), kvregistry.Tenant("acme")), web("a"))
	sees(t, openOn(t, g.as(t, "observer"), kvregistry.Tenant("acme")), natstest.Soon, "web", "a")
}

// A server takes the secrets from its environment, as they stand between the quotes. Not parallel,
// because it sets the environment.
func TestGeneratedServerOfTheEnvironment(t *testing.T) {
	own := ownServer()
	own.Include = ""
	for i, u := range own.Users {
		t.Setenv(own.Secret(u), fmt.Sprintf("'%d $HOME'", i))
	}
	text, err := own.Config()
	must(t, err)
	opts := natstest.Configured(t, text)
	if len(opts.Users) != len(own.Users) {
		t.Fatalf("%d users", len(opts.Users))
	}
	for _, u := range opts.Users {
		if !strings.HasSuffix(u.Password, " $HOME") || u.Permissions == nil {
			t.Errorf("%s has password %q and permissions %v", u.Username, u.Password, u.Permissions)
		}
	}
}
