package kvregistry_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// No error and no log line has the password of the connection's URL. The test goes through an
// outage, a refused password and the end of the connection. Seen to fail with the connection's URL
// in the error of a registration without a server, in Connect's on another connection, and in the
// line that a lease is lost.
func TestConnectionsPasswordIsNotSaid(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "web", "SECRET" })
	url := func(password string) string {
		return strings.Replace(s.URL(), "//", "//web:"+password+"@", 1)
	}
	nc := natstest.Connect(t, url("SECRET"))
	log := &natstest.Log{}
	options := []kvregistry.Option{kvregistry.TTL(2 * time.Second),
		kvregistry.Timeout(100 * time.Millisecond),
		kvregistry.Logger(slog.New(slog.NewTextHandler(log, nil)))}
	reg, err := kvregistry.Connect(append(options, kvregistry.Nats(nc))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reg.Close() })
	if _, err := reg.Register(kvregistry.Service{Name: "api", Address: "h:1"}); err != nil {
		t.Fatal(err)
	}
	fails := func(what string, err error) {
		t.Helper()
		if err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v, want an error without the password", what, err)
		}
	}
	opens := func(nc *nats.Conn) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		r, err := kvregistry.New(ctx, nc, append(options, kvregistry.Tenant("other"))...)
		if err != nil {
			return err
		}
		defer func() { _ = r.CloseContext(ctx) }()
		_, err = r.RegisterContext(ctx, kvregistry.Service{Name: "web", Address: "h:1"})
		return err
	}
	_, err = kvregistry.Connect(kvregistry.Nats(natstest.Connect(t, url("SECRET"))))
	fails("another connection", err)
	fails("a refused password",
		opens(natstest.Connect(t, url("SECRET-of-old"), nats.RetryOnFailedConnect(true))))

	s.Down()
	_, err = reg.GetService("web")
	fails("look-up without a server", err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = reg.RegisterContext(ctx, kvregistry.Service{Name: "web", Address: "h:1"})
	fails("registration without a server", err)
	fails("opened without a server", opens(nc))
	natstest.Eventually(t, natstest.Soon, func() error {
		if !strings.Contains(log.String(), "lease lost") {
			return errors.New("the log has no outage")
		}
		return nil
	})
	s.Up()

	nc.Close()
	_, err = reg.Register(kvregistry.Service{Name: "web", Address: "h:1"})
	fails("registration on a closed connection", err)
	fails("opened on a closed connection", opens(nc))
	if text := log.String(); strings.Contains(text, "SECRET") {
		t.Errorf("the log has the password:\n%s", text)
	}
}

// No error of Dial quotes a URL, which may hold a password. Seen to fail with the error of net/url.
func TestDialHidesPasswords(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"nats://user:SECRET@h:port", "nats://user:SEC/RET@h:4222", "nats://user:SEC RET@h:4222",
		"nats://user:SEC#RET@h", "nats://user:SEC%RET@h",
		"nats://h:1,nats://user:SEC/RET@h:4222",
	} {
		nc, err := kvregistry.Dial(url)
		if nc != nil || !errors.Is(err, kvregistry.ErrInvalidOption) ||
			strings.Contains(err.Error(), "SEC") || strings.Contains(err.Error(), "RET") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// No error of TrustSigners quotes a seed that is given as a public key, in any spelling. Seen to
// fail with an error that quotes what is no key.
func TestTrustSignersHidesSeeds(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	s := string(seed)
	for _, key := range []string{s, " " + s, s + "\n", `"` + s + `"`, strings.ToLower(s), s[:57],
		"nkey: " + s, "-----BEGIN USER NKEY SEED-----\n" + s} {
		_, err := kvregistry.New(t.Context(), new(nats.Conn), kvregistry.TrustSigners("web", key))
		if !errors.Is(err, kvregistry.ErrInvalidOption) ||
			strings.Contains(strings.ToUpper(err.Error()), s[4:20]) {
			t.Errorf("%q: %v", key, err)
		}
	}
}
