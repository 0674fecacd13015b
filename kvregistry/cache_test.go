package kvregistry

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/watcher"
)

// A list that no reader has is changed in place. A list that was shown once stays as it was. Seen
// to fail if only the batch that changes a list seals it.
func TestListThatNobodyWasShown(t *testing.T) {
	const fan = 64 // of package plist
	c := newCache(slog.New(slog.DiscardHandler), bounds{instances: 1000, services: 10,
		record: 1 << 20})
	c.track("web")
	svc := c.find("web")
	see := func(i int, op tenant.Op) {
		s := &sighting{Change: watcher.Change{Key: fmt.Sprint("svc.web.", i),
			Revision: uint64(i + 1), Op: op}, name: "web", id: fmt.Sprint(i)}
		s.rec.Instance = Service{Name: "web", ID: s.id, Status: Passing}
		c.apply([]*sighting{s}, nil)
	}
	see(0, tenant.Put)
	root := svc.list
	for i := 1; i < fan; i++ {
		see(i, tenant.Put)
	}
	if svc.list != root {
		t.Error("a change copied a list that no reader has")
	}
	for i := fan; i < 10*fan; i++ {
		see(i, tenant.Put)
	}
	see(3, tenant.Delete)
	c.publish(svc)
	shown := svc.snap.Load()
	see(10*fan, tenant.Put)
	see(5, tenant.Delete)
	if n, now := shown.Len(), svc.snap.Load().Len(); n != 10*fan-1 || now != n {
		t.Errorf("%d instances were shown, want %d, and %d are shown now", n, 10*fan-1, now)
	}
	if shown.list.Find("5") == nil || svc.snap.Load().list.Find("5") != nil {
		t.Error("a later change is in what was shown before, or not in what is shown now")
	}
}
