package kvregistry

import (
	"log/slog"
	"testing"

	"github.com/kvregistry/go/watcher"
)

// If everything is observed, a name that is looked up first is known not to be there. Seen to fail
// with a service that waits for a snapshot: the look-up returned ErrUnavailable.
func TestNameBesideEverything(t *testing.T) {
	c := newCache(slog.New(slog.DiscardHandler), bounds{instances: 10, services: 10,
		record: DefaultMaxRecord})
	c.view = watcher.New(nil, watcher.Config{Apply: func([]watcher.Change, *watcher.Snapshot) {}})
	c.observe(Everything)
	c.synced[Everything] = struct{}{}
	if svc := c.observe("web"); svc.snap.Load() == nil {
		t.Error("no snapshot")
	}
}
