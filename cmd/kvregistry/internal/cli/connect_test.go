package cli

import (
	"errors"
	"fmt"
	"net"
	"testing"
)

// A host that is not found, or does not answer, may be a piece of a password. Seen to fail with the
// errors of package net as they are.
func TestConnectingHidesHosts(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"no such host": &net.OpError{Op: "dial", Net: "tcp",
			Err: &net.DNSError{Err: "no such host", Name: "SECRET"}},
		"i/o timeout": &net.OpError{Op: "dial", Net: "tcp", Addr: &net.UnixAddr{Name: "SECRET"},
			Err: errors.New("i/o timeout")},
		"invalid port": &net.OpError{Op: "dial", Net: "tcp",
			Err: &net.AddrError{Err: "invalid port", Addr: "SECRET"}},
	} {
		if got := withoutURL(fmt.Errorf("SECRET: %w", err)); got.Error() != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	if err := withoutURL(nil); err != nil {
		t.Error(err)
	}
}
