package debug

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/kvregistry/go/kvregistry"
)

func wantPrintable(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("the page has %U", r)
		}
	}
}

// Events keeps the last of any number of events, whatever they say, and no long text of them. Seen
// to fail with events that are appended, and with whole texts.
func TestEventsAreBounded(t *testing.T) {
	t.Parallel()
	var events Events
	long := strings.Repeat("ü", 1<<20)
	for i := range 2*Kept + 7 {
		events.Add(kvregistry.Event{Kind: kvregistry.Registered, Revision: uint64(i),
			Service: kvregistry.Service{Name: long, ID: long, Status: kvregistry.Status(long)},
			Err:     errors.New(long)})
	}
	list, count := events.list()
	if len(list) != Kept || count != 2*Kept+7 {
		t.Fatalf("%d of %d events are kept, want %d of %d", len(list), count, Kept, 2*Kept+7)
	}
	for i, e := range list {
		if want := uint64(2*Kept + 6 - i); e.Revision != want {
			t.Fatalf("event %d is of revision %d, want %d", i, e.Revision, want)
		}
		for _, text := range []string{e.Service, e.Instance, string(e.Status), e.Error} {
			begin := strings.TrimSuffix(text, "…")
			if len(begin) > longest || !strings.HasPrefix(long, begin) {
				t.Fatalf("an event keeps %d bytes of a text: %.20q", len(text), text)
			}
		}
	}
}
