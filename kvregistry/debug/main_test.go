package debug

import (
	"os"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
)

// TestMain runs six tests at once.
func TestMain(m *testing.M) {
	natstest.Parallel(6)
	os.Exit(m.Run())
}
