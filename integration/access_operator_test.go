package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// operatorServer is a server in operator mode, with one account whose users have JWTs.
type operatorServer struct {
	*natstest.Server
	t       *testing.T
	account nkeys.KeyPair
	claims  *jwt.AccountClaims
}

// credentials makes a user, and writes its credentials to a file.
func (o *operatorServer) credentials(file, user string, access *operator.Access) (public string) {
	o.t.Helper()
	_, seed, public := userKey(o.t)
	claims := jwt.NewUserClaims(public)
	claims.Name = user
	if access != nil {
		must(o.t, json.Unmarshal(access.Claims(), &claims.Permissions))
	}
	text, err := claims.Encode(o.account)
	must(o.t, err)
	creds, err := jwt.FormatUserConfig(text, seed)
	must(o.t, err)
	must(o.t, os.WriteFile(file, creds, 0o600))
	return public
}

// revoke revokes a user's credentials, like an account's JWT that is pushed to the server.
func (o *operatorServer) revoke(public string) {
	o.t.Helper()
	o.claims.Revoke(public)
	account, err := o.Server.Server().LookupAccount(o.claims.Subject)
	must(o.t, err)
	o.Server.Server().UpdateAccountClaims(account, o.claims)
}

func newOperator(t *testing.T, change ...func(*server.Options)) *operatorServer {
	pair, err := nkeys.CreateOperator()
	must(t, err)
	public, err := pair.PublicKey()
	must(t, err)
	resolver := &server.MemAccResolver{}
	newAccount := func(name string) (nkeys.KeyPair, *jwt.AccountClaims) {
		account, err := nkeys.CreateAccount()
		must(t, err)
		key, err := account.PublicKey()
		must(t, err)
		claims := jwt.NewAccountClaims(key)
		claims.Name = name
		if name != "SYS" {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1,
				Streams: -1, Consumer: -1}
		}
		text, err := claims.Encode(pair)
		must(t, err)
		must(t, resolver.Store(key, text))
		return account, claims
	}
	_, system := newAccount("SYS")
	account, claims := newAccount("ACME")
	trusted := jwt.NewOperatorClaims(public)
	trusted.SystemAccount = system.Subject
	s := natstest.Start(t, append(change, func(o *server.Options) {
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{trusted},
			resolver, system.Subject
	})...)
	return &operatorServer{s, t, account, claims}
}

// operated starts a server in operator mode whose users have roles.
func operated(t *testing.T, access map[string]operator.Access) *guarded {
	ca := newAuthority(t)
	o := newOperator(t, ca.guard(t))
	return &guarded{o.Server, access, func(user string) []nats.Option {
		file := filepath.Join(t.TempDir(), "user.creds")
		if a, ok := access[user]; ok {
			o.credentials(file, user, &a)
		} else {
			o.credentials(file, user, nil)
		}
		return []nats.Option{nats.UserCredentials(file), ca.client(t, user)}
	}}
}
