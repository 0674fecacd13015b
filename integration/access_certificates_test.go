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
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant/operator"
)

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// guard makes a server ask for certificates of the authority.
func (a *authority) guard(t *testing.T) func(*server.Options) {
	return func(o *server.Options) {
		o.TLS, o.TLSVerify, o.TLSTimeout = true, true, 5
		o.TLSConfig = &tls.Config{
			Certificates: []tls.Certificate{a.issue(t, "server")}, ClientCAs: a.pool,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
		}
	}
}

// client returns the option that connects a user by a certificate.
func (a *authority) client(t *testing.T, user string) nats.Option {
	return nats.Secure(&tls.Config{Certificates: []tls.Certificate{a.issue(t, user)},
		RootCAs: a.pool, MinVersion: tls.VersionTLS13})
}

// issue returns a certificate that names its holder by an e-mail address.
func (a *authority) issue(t *testing.T, user string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user},
		EmailAddresses: []string{user + "@example.com"},
		IPAddresses:    []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// files writes a certificate for a user and its key to files.
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

// fromFiles returns the option that connects with the content that the files have then.
func (a *authority) fromFiles(cert, key string) nats.Option {
	return together(nats.Secure(&tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS13}),
		nats.ClientCert(cert, key))
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour),
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

// writePEM writes a file with one or more blocks of a kind.
func writePEM(t *testing.T, file, kind string, ders ...[]byte) {
	t.Helper()
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	must(t, os.WriteFile(file, text, 0o600))
}

// certified starts a server that maps client certificates to users.
func certified(t *testing.T, access map[string]operator.Access) *guarded {
	ca := newAuthority(t)
	opts := configured(t, access,
		func(user string) string { return fmt.Sprintf("user: %q", user+"@example.com") })
	s := natstest.Start(t, ca.guard(t),
		func(o *server.Options) { o.Users, o.TLSMap = opts.Users, true })
	return &guarded{s, access,
		func(user string) []nats.Option { return []nats.Option{ca.client(t, user)} }}
}
