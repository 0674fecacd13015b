package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
)

// hostile is foreign text that would control a terminal.
const hostile = "a\x1b[31mred\x07\r\nforged: line\u202e\u009b\xff"

// Foreign text does not control the terminal, in whatever way it is printed. Seen to fail with a
// table, and with JSON, that is written as it comes.
func TestNothingSteersTheTerminal(t *testing.T) {
	t.Parallel()
	rows := []string{hostile}
	columns := Table[string]{Name: func(s string) string { return s }, Columns: []Column[string]{
		{Head: "name", Cell: func(s string) string { return s }}}}
	for _, f := range formatNames {
		var out, text bytes.Buffer
		std := NewStreams(nil, &out, &text)
		if err := Print(std, &Output{format(f)}, columns, rows); err != nil {
			t.Fatal(err)
		}
		Logger(true, std.Err).Warn(hostile, hostile, hostile)
		_, _ = fmt.Fprintf(std.Out, "ready: %s\n", Escape(hostile))
		said := out.String() + text.String()
		if strings.ContainsAny(said, "\x1b\x07\r\u202e\u009b") || strings.Contains(said, "\xff") ||
			strings.Contains(said, "\nforged") {
			t.Errorf("%s: %q", f, said)
		}
		if !strings.Contains(out.String(), `a\x1b[31mred\a\r\nforged: line\u202e\u009b\xff`) {
			t.Errorf("%s: it can't be read: %s", f, out.String())
		}
	}
	const plain = "tabs\tand \"quotes\", wéb, 网\n"
	if escaped(plain, "\n\t") != plain {
		t.Errorf("%q", escaped(plain, "\n\t"))
	}
}

// The JSON that is printed is that of encoding/json, for a program that reads it.
func TestPrintedJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	want := map[string]string{"a\u202e<&>": "b\x1b\U000e0001\x7f\u0085 wéb 网"}
	if err := PrintJSON(NewStreams(nil, &out, nil), want); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v, of %s", got, err, out.String())
	}
}
