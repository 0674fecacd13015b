package check

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kvregistry/go/kvregistry"
)

// An interval or a timeout below a millisecond is refused: it lacks its unit. Seen to fail with all
// positive ones taken.
func TestShortTimesAreRefused(t *testing.T) {
	t.Parallel()
	for want, opt := range map[string]Option{"Every(5ns)": Every(5), "Timeout(5ns)": Timeout(5)} {
		err := Of(func(context.Context) error { return nil }, opt).err
		if !errors.Is(err, kvregistry.ErrInvalidOption) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
