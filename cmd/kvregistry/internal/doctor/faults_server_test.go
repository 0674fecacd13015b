package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

var serverFaults = []fault{
	{"server-version", Error, `"2.9.99"`, func(t *testing.T) (*nats.Conn, Config) {
		d := edited{`"version":"` + server.VERSION + `"`, `"version":"2.9.99"`}
		return start(t).Connect(nats.UserInfo("root", "p"), nats.SetCustomDialer(d)), Config{}
	}},
	{"server-versions", Warning, "2.14.9 (n0)", func(t *testing.T) (*nats.Conn, Config) {
		list := natstest.Cluster(t, accounts(t, "enabled"))
		const n0 = `"server_name":"n0","version":"`
		d := edited{n0 + server.VERSION, n0 + "2.14.9"}
		return login(list[1]), Config{System: systemOf(list[1], nats.SetCustomDialer(d))}
	}},
	{"jetstream", Error, "JetStream is not enabled", func(t *testing.T) (*nats.Conn, Config) {
		off := func(o *server.Options) { o.JetStream = false }
		return natstest.Start(t, off).Connect(), Config{}
	}},
	{"jetstream", Error, "not enabled for account", func(t *testing.T) (*nats.Conn, Config) {
		return natstest.Start(t, accounts(t, "disabled")).Connect(nats.UserInfo("root", "p")),
			Config{}
	}},
	{"jetstream", Error, "does not answer", func(t *testing.T) (*nats.Conn, Config) {
		list := natstest.Cluster(t, accounts(t, "enabled"))
		provision(t, login(list[0]), tenant.Config{})
		list[1].Down()
		list[2].Down()
		return login(list[0]), Config{}
	}},
	{"permissions", Error, "$JS.API.STREAM.MSG.GET." + stream,
		func(t *testing.T) (*nats.Conn, Config) {
			access, err := operator.Permissions(name, operator.RoleObserver)
			must(t, err)
			access, err = access.For("ann")
			must(t, err)
			all := access.Publish
			access.Publish = nil
			for _, subject := range all {
				if subject != "$JS.API.STREAM.MSG.GET."+stream {
					access.Publish = append(access.Publish, subject)
				}
			}
			s, root := guarded(t, "ann", access)
			provision(t, root, tenant.Config{})
			return s.Connect(nats.UserInfo("ann", "p"), nats.CustomInboxPrefix(access.Inbox)),
				Config{}
		}},
	{"round-trip", Warning, "the shortest TTL is 2s", func(t *testing.T) (*nats.Conn, Config) {
		s := start(t)
		register(t, process(t, login(s), kvregistry.TTL(2*time.Second)), "web", "1", "127.0.0.1:1")
		return login(s, nats.SetCustomDialer(late(250*time.Millisecond))), Config{}
	}},
	{"clock", Warning, "differ by 876", func(t *testing.T) (*nats.Conn, Config) { // 100 years
		s := start(t)
		provision(t, login(s), tenant.Config{})
		return login(s, nats.SetCustomDialer(edited{`"ts":"20`, `"ts":"21`})), Config{}
	}},
	{"credentials", Warning, "end in", func(t *testing.T) (*nats.Conn, Config) {
		return expiring(t, 2*time.Hour), Config{}
	}},
	{"certificate", Warning, `"doctor" ends at`, func(t *testing.T) (*nats.Conn, Config) {
		cert, pool := authority(t, 24*time.Hour)
		s := natstest.Start(t, func(o *server.Options) {
			o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
			o.TLSTimeout = natstest.Soon.Seconds()
		})
		return s.Connect(nats.Secure(&tls.Config{RootCAs: pool})), Config{}
	}},
	{"sync-interval", Hint, "every 2m0s", func(t *testing.T) (*nats.Conn, Config) {
		s := start(t)
		provision(t, login(s), tenant.Config{})
		return login(s), Config{System: systemOf(s)}
	}},
	{"ha-assets", Error, "of 2 streams", func(t *testing.T) (*nats.Conn, Config) {
		list := natstest.Cluster(t, accounts(t, "enabled"), func(o *server.Options) {
			o.JetStreamLimits.MaxHAAssets = 2
		})
		provision(t, login(list[0]), tenant.Config{})
		return login(list[0]), Config{System: systemOf(list[0])}
	}},
	{"account-room", Warning, "bytes of storage", func(t *testing.T) (*nats.Conn, Config) {
		s := natstest.Start(t, accounts(t, "{ max_file: 100000, max_mem: 0 }"))
		provision(t, login(s), tenant.Config{})
		put(t, login(s), "svc.web.1", strings.Repeat("a", 80_000), 0)
		return login(s), Config{}
	}},
	{"slow-connections", Warning, "Slow Consumer", func(t *testing.T) (*nats.Conn, Config) {
		s := start(t, func(o *server.Options) { o.MaxPending = 1 << 20 })
		v := &natstest.Valve{}
		slow := login(s, nats.SetCustomDialer(v), nats.Name("slow"), nats.NoReconnect())
		_, err := slow.Subscribe("x", func(*nats.Msg) {})
		must(t, err)
		must(t, slow.Flush())
		v.Lock()
		t.Cleanup(v.Unlock)
		fast := login(s)
		repeat(t, func() {
			_ = fast.Publish("x", make([]byte, 100_000))
			_ = fast.Flush()
		})
		return login(s), Config{System: systemOf(s)}
	}},
	{"closed-connections", Warning, "Kicked (", func(t *testing.T) (*nats.Conn, Config) {
		s := start(t)
		for range flaps {
			id, err := login(s, nats.NoReconnect()).GetClientID()
			must(t, err)
			must(t, s.Server().DisconnectClientByID(id))
		}
		return login(s), Config{System: systemOf(s)}
	}},
}

// guarded starts a server with a user that may do anything, and one with permissions.
func guarded(t *testing.T, user string, access operator.Access) (*natstest.Server, *nats.Conn) {
	t.Helper()
	opts := natstest.Configured(t, "authorization { users: [\n{ "+operator.User("root", "p")+
		" }\n{ "+operator.User(user, "p")+"\n"+access.Config()+"}\n] }\n")
	s := natstest.Start(t, func(o *server.Options) { o.Users = opts.Users })
	return s, login(s)
}

// expiring connects to a server in operator mode as a user whose credentials end after a time.
func expiring(t *testing.T, after time.Duration) *nats.Conn {
	t.Helper()
	key := func(pair nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		must(t, err)
		public, err := pair.PublicKey()
		must(t, err)
		return pair, public
	}
	pair, trusted := key(nkeys.CreateOperator())
	resolver := &server.MemAccResolver{}
	account := func(name string) (nkeys.KeyPair, string) {
		pair2, public := key(nkeys.CreateAccount())
		claims := jwt.NewAccountClaims(public)
		claims.Name = name
		if name != "SYS" {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1,
				DiskStorage: -1, Streams: -1, Consumer: -1}
		}
		text, err := claims.Encode(pair)
		must(t, err)
		must(t, resolver.Store(public, text))
		return pair2, public
	}
	_, system := account("SYS")
	signer, _ := account("ACME")
	s := natstest.Start(t, func(o *server.Options) {
		claims := jwt.NewOperatorClaims(trusted)
		claims.SystemAccount = system
		o.TrustedOperators, o.AccountResolver = []*jwt.OperatorClaims{claims}, resolver
		o.SystemAccount = system
	})
	user, public := key(nkeys.CreateUser())
	claims := jwt.NewUserClaims(public)
	claims.Expires = time.Now().Add(after).Unix()
	text, err := claims.Encode(signer)
	must(t, err)
	seed, err := user.Seed()
	must(t, err)
	return s.Connect(nats.UserJWTAndSeed(text, string(seed)))
}

// authority makes a certificate for loopback that ends after a time, and what trusts it.
func authority(t *testing.T, after time.Duration) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true,
		Subject: pkix.Name{CommonName: "doctor"}, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(after)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
