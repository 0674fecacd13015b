package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// guarded is a server whose users have roles, with a function that returns the options of each user
// by name. The user "root" may do everything.
type guarded struct {
	*natstest.Server
	access  map[string]operator.Access
	connect func(user string) []nats.Option
}

// as connects as a user, with the user's own inbox.
func (g *guarded) as(t testing.TB, user string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	if a, ok := g.access[user]; ok {
		opts = append(opts, nats.CustomInboxPrefix(a.Inbox))
	}
	return g.Connect(append(opts, g.connect(user)...)...)
}

// authentications lists the ways in which a server identifies its users, each with the
// configuration that this library generates for it.
var authentications = map[string]func(t *testing.T, access map[string]operator.Access) *guarded{
	"passwords":                            passwords,
	"passwords, longer acknowledgements":   longerAcks,
	"passwords, a cluster":                 clustered,
	"nkeys over TLS":                       nkeyed,
	"JWTs and credentials files over TLS":  operated,
	"client certificates, mapped to users": certified,
}

func passwords(t *testing.T, access map[string]operator.Access) *guarded {
	return passworded(t, access, nil)
}

// longerAcks starts a server that sends the longer form of the subjects of acknowledgements and
// flow control, as later servers will.
func longerAcks(t *testing.T, access map[string]operator.Access) *guarded {
	return passworded(t, access, map[string]bool{server.FeatureFlagJsAckFormatV2: true})
}

func passworded(t *testing.T, access map[string]operator.Access, flags map[string]bool) *guarded {
	users := withPasswords(t, access)
	return &guarded{natstest.Start(t,
		func(o *server.Options) { o.Users, o.FeatureFlags = users, flags }), access, password}
}

// lenient starts a server that accepts JetStream requests with unknown members, as servers before
// 2.12 do.
func lenient(t *testing.T, access map[string]operator.Access) *guarded {
	users := withPasswords(t, access)
	s := natstest.Start(t, func(o *server.Options) { o.Users, o.NoJetStreamStrict = users, true })
	return &guarded{s, access, password}
}

func clustered(t *testing.T, access map[string]operator.Access) *guarded {
	users := withPasswords(t, access)
	return &guarded{natstest.Cluster(t, func(o *server.Options) { o.Users = users })[0], access,
		password}
}

func withPasswords(t *testing.T, access map[string]operator.Access) []*server.User {
	return configured(t, access,
		func(user string) string { return fmt.Sprintf("user: %q, password: secret", user) }).Users
}

func password(user string) []nats.Option { return []nats.Option{nats.UserInfo(user, "secret")} }

func nkeyed(t *testing.T, access map[string]operator.Access) *guarded {
	seeds := map[string][]byte{}
	opts := configured(t, access, func(user string) string {
		var public string
		_, seeds[user], public = userKey(t)
		return "nkey: " + public
	})
	ca := newAuthority(t)
	s := natstest.Start(t, func(o *server.Options) { o.Nkeys = opts.Nkeys }, ca.guard(t))
	return &guarded{s, access, func(user string) []nats.Option {
		file := filepath.Join(t.TempDir(), "seed")
		must(t, os.WriteFile(file, seeds[user], 0o600))
		opt, err := nats.NkeyOptionFromSeed(file)
		must(t, err)
		return []nats.Option{opt, ca.client(t, user)}
	}}
}

// configured reads, as nats-server does, a configuration file whose users have the given access.
func configured(t *testing.T, access map[string]operator.Access,
	who func(user string) string) *server.Options {
	t.Helper()
	return natstest.Configured(t, configuration(access, who))
}

// configuration returns the text of the configuration file that configured reads.
func configuration(access map[string]operator.Access, who func(user string) string) string {
	var text strings.Builder
	text.WriteString("authorization {\n  users: [\n")
	for user, a := range access {
		fmt.Fprintf(&text, "{ %s\n%s}\n", who(user), a.Config())
	}
	fmt.Fprintf(&text, "{ %s }\n  ]\n}\n", who("root"))
	return text.String()
}

// userKey makes a user's nkey.
func userKey(t *testing.T) (pair nkeys.KeyPair, seed []byte, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	if seed, err = pair.Seed(); err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return pair, seed, public
}
