package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
)

// After some refused passwords nats.go closes a connection. Then every call names the server's
// reason. Seen to fail with an error that says only that the connection is closed.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "u", "right" })
	nc := absent(t, strings.Replace(s.URL(), "://", "://u:wrong@", 1))
	r, err := New(t.Context(), nc, discard())
	if err != nil {
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("New: %v", err)
		}
		return // the server has refused it twice by then
	}
	defer r.Close()
	waits := make(chan error, 1) // of a call that waits while the connection is closed
	go func() {
		_, err := r.RegisterContext(t.Context(), Service{ID: "b", Name: "web", Address: "h:1"})
		waits <- err
	}()
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, nats.ErrAuthorization) || !errors.Is(err, ErrConnectionClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("a Register that waited", within(t, "a Register that waited", func() error {
		return <-waits
	}))
	natstest.Eventually(t, natstest.Soon, func() error {
		if !nc.IsClosed() {
			return errors.New("the connection is not closed")
		}
		return nil
	})
	for name, call := range ctxCalls {
		switch name {
		case "UpdateContext", "SetStatusContext", "UpdateFunc", "Events", "Snapshots", "WaitFor":
			continue // they wait until their context ends, or need a registration
		}
		check(name, call(t.Context(), r))
	}
	check("New", second(New(t.Context(), nc)))
	if h := r.Health(); !errors.Is(h.Err, nats.ErrAuthorization) {
		t.Errorf("Health: %v", h.Err)
	}
}

// While nats.go reconnects, a call whose context ends names the error of the last try. Seen to fail
// with an error that names only the connection's state.
func TestRefusedWhileConnecting(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "u", "right" })
	nc := natstest.Connect(t, strings.Replace(s.URL(), "://", "://u:wrong@", 1),
		nats.RetryOnFailedConnect(true), nats.IgnoreAuthErrorAbort())
	r, err := New(t.Context(), nc, discard())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for what, call := range map[string]func(context.Context) error{
		"Register": func(ctx context.Context) error {
			return second(r.RegisterContext(ctx, Service{ID: "a", Name: "web", Address: "h:1"}))
		},
		"GetService": func(ctx context.Context) error {
			return second(r.GetServiceContext(ctx, "web"))
		},
		"Exclusive": func(ctx context.Context) error { return second(r.Exclusive(ctx, "lock")) },
	} {
		natstest.Eventually(t, natstest.Soon, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := call(ctx); !errors.Is(err, nats.ErrAuthorization) ||
				!errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		})
	}
}

// A server refuses a subscription by an error on the connection alone. A request without an answer
// then names the remedy. Seen to fail with an error that names only the time.
func TestTooManySubscriptions(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, func(o *server.Options) { o.MaxSubs = 1 })
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) ||
			!strings.Contains(err.Error(), "max_subscriptions") {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	full := s.Connect()
	if _, err := full.Subscribe("mine", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	check("New", second(New(ctx, full, discard())))

	// this one may subscribe to its answers
	r, err := New(t.Context(), s.Connect(), discard(), TTL(2*time.Second), WithoutReaping())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mustRegister(t, r, Service{ID: "a", Name: "web", Address: "h:1"})
	check("a look-up", second(r.GetService("web")))
	natstest.Eventually(t, natstest.Soon, func() error {
		if err := r.Health().Err; !errors.Is(err, nats.ErrMaxSubscriptionsExceeded) {
			return errors.New("Health does not have the error")
		}
		return nil
	})
}

// An account may demand a limit in bytes for each stream, and may bound that limit. The error names
// the option that sets it. Seen to fail with the error that the storage is full.
func TestAccountThatWantsALimit(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t, func(o *server.Options) {
		*o = *natstest.Configured(t, `
listen: 127.0.0.1:-1
jetstream { store_dir: "`+o.StoreDir+`" }
accounts { A {
  jetstream { max_store: 64M, max_mem: 64M, max_bytes_required: true, disk_max_stream_bytes: 1M }
  users: [ { user: a, password: a } ]
} }`)
		o.Port, o.NoLog, o.NoSigs = natstest.FreePort(t), true, true
	})
	connect := func() *nats.Conn { return s.Connect(nats.UserInfo("a", "a")) }
	for name, opt := range map[string]Option{"none": Tenant("a"), "too much": MaxBytes(2 << 20)} {
		_, err := New(t.Context(), connect(), discard(), opt)
		if !errors.Is(err, ErrInvalidOption) || errors.Is(err, ErrStorageFull) ||
			!strings.Contains(err.Error(), "MaxBytes(n)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	r, err := New(t.Context(), connect(), discard(), MaxBytes(500_000))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
}
