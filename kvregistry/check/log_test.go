package check

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// A check that begins to fail logs one line, which names the check and the cause, and so does one
// that passes again. Single failures log nothing. Seen to fail with a line for each result.
func TestWhatIsLogged(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	owner := newRegistry(t, s, kvregistry.Logger(log.Logger()))
	register(t, owner, "a", kvregistry.Passing)
	var f flag
	run(t, owner, f.check(Named("database"), Fall(3)))
	for round := 1; round <= 2; round++ {
		f.again(t, 3)
		f.down.Store(true)
		shows(t, owner, kvregistry.Critical)
		f.again(t, 5)
		f.down.Store(false)
		shows(t, owner, kvregistry.Passing)
		f.again(t, 5)
		fails, passes := log.With("a check fails"), log.With("a check passes again")
		if len(fails) != round || len(passes) != round {
			t.Fatalf("%q, %q", fails, passes)
		}
		for _, line := range append(fails, passes...) {
			if !strings.Contains(line, "service=web check=database") {
				t.Error(line)
			}
		}
		for _, line := range fails {
			if !strings.Contains(line, "status=critical cause=down") {
				t.Error(line)
			}
		}
	}
}

// A status that cannot be written is logged once, however often the write is tried, and once more
// when a write has succeeded in between. Seen to fail with a line for each try.
func TestRefusalIsLoggedOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	owner := newRegistry(t, s, kvregistry.Logger(log.Logger()), kvregistry.MaxRecord(4<<10))
	full := kvregistry.Service{ID: "a", Name: "web", Address: "h:1"}
	register(t, owner, "a", kvregistry.Passing)
	for n := 4 << 10; ; n-- { // the longest that fits, so that "critical" does not
		full.Metadata = map[string]string{"long": strings.Repeat("x", n)}
		if err := owner.Update(full); err == nil {
			break
		}
	}
	var f flag
	run(t, owner, f.check())
	for round := 1; round <= 2; round++ {
		f.again(t, 3)
		f.down.Store(true)
		natstest.Eventually(t, natstest.Soon, func() error {
			if n := len(log.With("could not set the status")); n < round {
				return fmt.Errorf("%d lines of %d", n, round)
			}
			return nil
		})
		f.again(t, 20)
		list := log.With("could not set the status")
		if len(list) != round || !strings.Contains(list[0], "service=web status=critical") {
			t.Errorf("%d lines after %d rounds: %q", len(list), round, list)
		}
		f.down.Store(false)
		natstest.Eventually(t, natstest.Soon, func() error {
			if n := len(log.With("passes again")); n < round {
				return fmt.Errorf("passed %d times", n)
			}
			return nil
		})
		f.again(t, 3)
	}
}
