package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// guarded is a server whose users have roles, and how each of them, by name, connects. The user "root" may do everything.
type guarded struct {
	*natstest.Server
	access  map[string]operator.Access
	connect func(user string) []nats.Option
}

// as connects as a user, with its own inbox.
func (g *guarded) as(t testing.TB, user string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	if a, ok := g.access[user]; ok {
		opts = append(opts, nats.CustomInboxPrefix(a.Inbox))
	}
	return g.Connect(append(opts, g.connect(user)...)...)
}

// authentications are the ways in which a server knows its users, each with what tenant generates for it.
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

// longerAcks is a server that sends the longer form of acknowledgements' and flow control's subjects, as later ones will.
func longerAcks(t *testing.T, access map[string]operator.Access) *guarded {
	return passworded(t, access, map[string]bool{server.FeatureFlagJsAckFormatV2: true})
}

func passworded(t *testing.T, access map[string]operator.Access, flags map[string]bool) *guarded {
	users := withPasswords(t, access)
	return &guarded{natstest.Start(t, func(o *server.Options) { o.Users, o.FeatureFlags = users, flags }), access, password}
}

// lenient is a server that takes requests to JetStream with unknown members, as servers before 2.12
// do.
func lenient(t *testing.T, access map[string]operator.Access) *guarded {
	users := withPasswords(t, access)
	s := natstest.Start(t, func(o *server.Options) { o.Users, o.NoJetStreamStrict = users, true })
	return &guarded{s, access, password}
}

func clustered(t *testing.T, access map[string]operator.Access) *guarded {
	users := withPasswords(t, access)
	return &guarded{natstest.Cluster(t, func(o *server.Options) { o.Users = users })[0], access, password}
}

func withPasswords(t *testing.T, access map[string]operator.Access) []*server.User {
	return configured(t, access, func(user string) string { return fmt.Sprintf("user: %q, password: secret", user) }).Users
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

func certified(t *testing.T, access map[string]operator.Access) *guarded {
	ca := newAuthority(t)
	opts := configured(t, access, func(user string) string { return fmt.Sprintf("user: %q", user+"@example.com") })
	s := natstest.Start(t, ca.guard(t), func(o *server.Options) { o.Users, o.TLSMap = opts.Users, true })
	return &guarded{s, access, func(user string) []nats.Option { return []nats.Option{ca.client(t, user)} }}
}

// configured reads a configuration file whose users have the given access, as nats-server does.
func configured(t *testing.T, access map[string]operator.Access, who func(user string) string) *server.Options {
	t.Helper()
	return natstest.Configured(t, configuration(access, who))
}

// configuration is such a file's text.
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

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
}

// guard has a server ask for certificates.
func (a *authority) guard(t *testing.T) func(*server.Options) {
	return func(o *server.Options) {
		o.TLS, o.TLSVerify, o.TLSTimeout = true, true, 5
		o.TLSConfig = &tls.Config{
			Certificates: []tls.Certificate{a.issue(t, "server")}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		}
	}
}

// client connects with a certificate.
func (a *authority) client(t *testing.T, user string) nats.Option {
	return nats.Secure(&tls.Config{Certificates: []tls.Certificate{a.issue(t, user)}, RootCAs: a.pool, MinVersion: tls.VersionTLS13})
}

// issue makes a certificate that says who its holder is by an e-mail address.
func (a *authority) issue(t *testing.T, user string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user}, EmailAddresses: []string{user + "@example.com"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// files are a certificate for a user and its key, on disk.
func (a *authority) files(t *testing.T, user string) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	issued := a.issue(t, user)
	private, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	must(t, err)
	writePEM(t, cert, "CERTIFICATE", issued.Certificate[0])
	writePEM(t, key, "PRIVATE KEY", private)
	return cert, key
}

// fromFiles connects with what the files have at the time.
func (a *authority) fromFiles(cert, key string) nats.Option {
	return together(nats.Secure(&tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS13}), nats.ClientCert(cert, key))
}

// writePEM writes a file of one or several of a kind.
func writePEM(t *testing.T, file, kind string, ders ...[]byte) {
	t.Helper()
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	must(t, os.WriteFile(file, text, 0o600))
}
