package transport_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/transport"
)

// A caller that has no file descriptor or port left blames no instance, and tries no other one.
// Seen to fail without fault.Own: instances were set aside, and retries were spent.
func TestCallersOwnFaults(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
		syscall.EADDRNOTAVAIL} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			register(t, reg, kvregistry.Service{Address: "127.0.0.1:1", URL: "http://127.0.0.1:1"},
				kvregistry.Service{Address: "127.0.0.1:2", URL: "http://127.0.0.1:2"})
			var dials atomic.Int32
			fails := func(context.Context, string, string) (net.Conn, error) {
				dials.Add(1)
				return nil, &net.OpError{Op: "dial", Net: "tcp",
					Err: os.NewSyscallError("socket", errno)}
			}
			base := &http.Transport{DialContext: fails}
			tr := newTransport(t, reg, transport.DialWith(fails), transport.Base(base))
			const calls = 20
			for range calls / 2 {
				if _, err := tr.DialContext(t.Context(), "tcp", "web"); !errors.Is(err, errno) {
					t.Fatal(err)
				}
				if _, err := (&http.Client{Transport: tr}).Get("http://web/"); !errors.Is(err,
					errno) {
					t.Fatal(err)
				}
			}
			if dials := dials.Load(); dials != calls {
				t.Errorf("%d dials, want one for each of %d calls", dials, calls)
			}
			for way, h := range tr.Health() {
				for _, one := range h.Instances {
					if one.Aside || one.Failures > 0 || one.InFlight != 0 {
						t.Errorf("%s: %+v", way, one)
					}
				}
			}
		})
	}
}
