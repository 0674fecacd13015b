package debug

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/kvregistry/go/kvregistry"
)

// No password, token or query of a URL is shown, even if it does not parse. Seen to fail with
// url.Redacted, which shows a user that is a token, and with the text of a URL that does not parse.
func TestRedact(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                            "",
		"10.0.0.1:80":                 "10.0.0.1:80",
		"/run/web.sock":               "/run/web.sock",
		"http://h:1/path":             "http://h:1/path",
		"http://user:SECRET@h:1/path": "http://xxxxx@h:1/path",
		"nats://SECRET@h:1":           "nats://xxxxx@h:1",
		"http://h/?token=SECRET":      "http://h/?xxxxx",
		"http://h/#SECRET":            "http://h/#xxxxx",
		"http://user:SEC%RET@h":       "xxxxx",
		"http://user:SEC/SECRET@h":    "xxxxx",
		"http://user:SEC RET@h":       "xxxxx",
		"user:SECRET@h:1":             "xxxxx",
		"mailto:SECRET@h":             "xxxxx",
	} {
		if got := redact(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// What is escaped for a terminal is the same JSON, and has no character that steers one. Seen to
// fail without the second half of a pair.
func TestPrintable(t *testing.T) {
	t.Parallel()
	text := "a\x1b[31m\u009b31m\u202eb\u2066\U000e0041\x7f\u00a0ü<script>\n"
	body, err := json.MarshalIndent([]string{text}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	shown := printable(body)
	wantPrintable(t, string(shown))
	var back []string
	if err := json.Unmarshal(shown, &back); err != nil || back[0] != text {
		t.Errorf("%q is read as %q, %v", text, back, err)
	}
}

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
