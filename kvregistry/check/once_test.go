package check

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kvregistry/go/kvregistry"
)

// Once gives one result, bounded by the check's timeout, and runs nothing that is invalid or comes
// too late. Seen to fail without the look at ctx, and without the one at the options.
func TestOnce(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	runs := 0
	c := Of(func(context.Context) error { runs++; return broken })
	if err := c.Once(t.Context()); !errors.Is(err, broken) || runs != 1 {
		t.Errorf("%v after %d runs", err, runs)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Once(over); !errors.Is(err, context.Canceled) || runs != 1 {
		t.Errorf("%v after %d runs", err, runs)
	}
	for _, c := range []Check{{}, HTTP("no URL"), Of(nil)} {
		if err := c.Once(t.Context()); !errors.Is(err, kvregistry.ErrInvalidOption) {
			t.Errorf("an invalid check gives %v", err)
		}
	}
	hangs := Of(func(ctx context.Context) error {
		<-t.Context().Done()
		return nil
	}, Timeout(time.Millisecond))
	if err := hangs.Once(t.Context()); !errors.Is(err, errLate) {
		t.Errorf("a check that hangs gives %v", err)
	}
}
