package doctor

import (
	"os"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
)

func TestMain(m *testing.M) {
	natstest.Parallel(8)
	os.Exit(m.Run())
}
