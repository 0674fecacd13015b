package shown

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
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
		if got := Redact(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// A long text is cut between two characters. Seen to fail with a cut at a fixed byte.
func TestCut(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "abcd": "abcd", "abcde": "abcd…", "éé": "éé", "ééé": "éé…", "aééé": "aé…",
		"\xff\xff\xff\xff\xff": "\xff\xff\xff\xff…", "\x80\x80\x80\x80\x80": "…",
	} {
		if got := Cut(text, 4); got != want {
			t.Errorf("%q is cut to %q, want %q", text, got, want)
		}
	}
	if got := Cut(strings.Repeat("世", 99), 100); !utf8.ValidString(got) || len(got) != 99+3 {
		t.Errorf("%d bytes: %q", len(got), got)
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
	got := Printable(body)
	for _, r := range string(got) {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("it has %U", r)
		}
	}
	var back []string
	if err := json.Unmarshal(got, &back); err != nil || back[0] != text {
		t.Errorf("%q is read as %q, %v", text, back, err)
	}
}
