package doctor

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
)

// fault is something that is wrong, and what Examine says of it.
type fault struct {
	check    string
	severity Severity
	seen     string // a part of it
	begin    func(*testing.T) (*nats.Conn, Config)
}

// Examine names each fault that is made on a real server, and each check of the table names one.
// Each of them was seen to fail with an Examine that drops what the checks find.
func TestFaults(t *testing.T) {
	t.Parallel()
	all := slices.Concat(serverFaults, bucketFaults, leafFaults, registrationFaults, viewFaults)
	for _, c := range checks {
		if !slices.ContainsFunc(all, func(f fault) bool { return f.check == c.name }) {
			t.Errorf("no fault has check %s name it", c.name)
		}
	}
	for _, f := range all {
		t.Run(f.check, func(t *testing.T) {
			t.Parallel()
			nc, cfg := f.begin(t)
			finds(t, nc, cfg, f.check, f.severity, f.seen)
		})
	}
}
