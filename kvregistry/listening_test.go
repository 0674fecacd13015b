package kvregistry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
)

// Register refuses a service that does not listen yet, and leaves nothing. Seen to fail without the
// check.
func TestListeningRefuses(t *testing.T) {
	reg := newRegistry(t, natstest.Start(t), Listening(0))
	dead := fmt.Sprint("127.0.0.1:", natstest.FreePort(t))
	for name, s := range map[string]Service{
		"address": {Name: "web", Address: dead}, "URL": {Name: "web", URL: "http://" + dead + "/x"},
		"socket":  {Name: "web", Network: "unix", Address: filepath.Join(t.TempDir(), "s")},
		"no port": {Name: "web", URL: "odd://127.0.0.1/"},
	} {
		if un, err := reg.Register(s); !errors.Is(err, ErrNotListening) || un != nil {
			t.Errorf("%s: %v", name, err)
		}
		if un, err := reg.RegisterAll(t.Context(), s); !errors.Is(err, ErrNotListening) ||
			un != nil {
			t.Errorf("%s, of many: %v", name, err)
		}
	}
	if list := reg.RegisteredServices(); len(list) > 0 {
		t.Errorf("left: %v", list)
	}
	if _, err := reg.Register(Service{Name: "web"}); !errors.Is(err, ErrInvalidService) {
		t.Errorf("a service without an address: %v", err)
	}
	l := listen(t, "tcp", "127.0.0.1:0")
	for _, s := range []Service{FromListener(l, "web"), {Name: "web",
		URL: "http://" + l.Addr().String()}, {Name: "dns", Network: "udp",
		Address: "127.0.0.1:53"}} {
		if _, err := reg.Register(s); err != nil {
			t.Errorf("%v: %v", s, err)
		}
	}
	if _, err := newOptions([]Option{Listening(-1)}); !errors.Is(err, ErrInvalidOption) {
		t.Errorf("a negative patience gave %v", err)
	}
}

// With a patience, Register waits for the server to listen, no longer than that or than its
// context. Seen to fail with a single check, with a wait that does not look at the context, and
// with an error of two lines.
func TestListeningWaits(t *testing.T) {
	s := natstest.Start(t)
	reg := newRegistry(t, s, Listening(time.Minute))
	address := fmt.Sprint("127.0.0.1:", natstest.FreePort(t))
	done := make(chan error, 1)
	go func() {
		_, err := reg.RegisterContext(t.Context(), Service{Name: "web", ID: "a", Address: address})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("registered before it listened: %v", err)
	case <-time.After(100 * time.Millisecond): // so that it waits
	}
	if _, err := reg.GetService("web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("before it listens: %v", err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if one, err := reg.GetService("web"); err != nil || one.ID != "a" {
		t.Errorf("%v, %v", one, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
	defer cancel()
	_, err = reg.RegisterContext(ctx,
		Service{Name: "web", Address: fmt.Sprint("127.0.0.1:", natstest.FreePort(t))})
	if !errors.Is(err, ErrNotListening) || !errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("a context that ends first gave %v", err)
	}
}
