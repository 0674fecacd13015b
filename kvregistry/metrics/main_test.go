package metrics_test

import (
	"flag"
	"os"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
)

// TestMain runs six tests at once. All of them need a server, so -short runs none.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(0)
	}
	natstest.Parallel(6)
	os.Exit(m.Run())
}
