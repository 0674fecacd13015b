package browse

import (
	"os"
	"testing"
)

// TestMain keeps what the machine says of NATS away from the tests.
func TestMain(m *testing.M) {
	for _, name := range []string{"NATS_URL", "NATS_CONTEXT", "NATS_CREDS", "NATS_USER"} {
		_ = os.Unsetenv(name)
	}
	os.Exit(m.Run())
}
