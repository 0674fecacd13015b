package document

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzMembers compares what is read of an object with what encoding/json reads into a map. The map
// has exact names, and the last of several members. Seen to fail with a backslash that is not
// passed over in a string, and with a null that is kept in the metadata.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 , "b":[1,{"c":"}"}],"d":"\"]" } `, `{"a":1,"a":null,"A":"x"}`,
		`{"\u0061":"\ud800","é":"\u00e9"}`,
		`{"x":{"y":{"z":[[],[{}]]}},"":-1.5e+3}`, `[]`, `["a",null,"b\\"]`, `null`, `7`, `"x"`,
		"{\"\xff\":\"\xff\xfe\"}", `{"a":"\\","b":"\\\""}`,
		`{"t":["x",null],"p":{"k":"v","k":1,"k":"w","n":null}}`,
		`{"n":1e400,"m":-1e400,"o":1.0,"p":1.5}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if !json.Valid(value) {
			return
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(value, &want) != nil || want == nil {
			want = map[string]json.RawMessage{}
		}
		got := map[string]json.RawMessage{}
		for m := Members(bytes.TrimSpace(value)); m.Next(); {
			got[string(m.Name)] = m.Value
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", value, diff)
		}
		for _, one := range got {
			sameValue(t, one)
		}
	})
}

// sameValue compares the ways to read one value with encoding/json's.
func sameValue(t *testing.T, value []byte) {
	t.Helper()
	var want any
	if json.Unmarshal(value, &want) != nil {
		want = math.NaN() // a number that is too large for a float64
	}
	text, err := Text(value)
	if wantText, ok := want.(string); (ok || want == nil) != (err == nil) || text != wantText {
		t.Errorf("Text(%s) = %q, %v", value, text, err)
	}
	_, err = Whole(value)
	if f, ok := want.(float64); (ok && (f == math.Trunc(f) || math.IsNaN(f)) ||
		want == nil) != (err == nil) {
		t.Errorf("Whole(%s): %v", value, err)
	}
	texts, err := Texts(value)
	list, ok := want.([]any)
	if wantTexts, all := strs(list); (ok && all || want == nil) != (err == nil) || err == nil &&
		!cmp.Equal(wantTexts, texts) {
		t.Errorf("Texts(%s) = %q, %v", value, texts, err)
	}
	pairs, err := Pairs(value)
	object, ok := want.(map[string]any)
	wantPairs, all := map[string]string{}, true
	for name, one := range object {
		text, isText := one.(string)
		if all = all && (isText || one == nil); isText {
			wantPairs[name] = text
		}
	}
	if (ok && all || want == nil) != (err == nil) || err == nil &&
		(len(pairs) > 0 || len(wantPairs) > 0) && !cmp.Equal(wantPairs, pairs) {
		t.Errorf("Pairs(%s) = %q, %v, want %q", value, pairs, err, wantPairs)
	}
}

// strs returns the strings of a list, and whether it has nothing else except null.
func strs(list []any) (texts []string, ok bool) {
	for _, one := range list {
		text, isText := one.(string)
		switch {
		case isText:
			texts = append(texts, text)
		case one != nil:
			return nil, false
		}
	}
	return texts, true
}

// A whole number may have any spelling. One that is too large is read as the largest. Seen to fail
// with such a number that is read as 0.
func TestWhole(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"0": 0, "-0": 0, "7": 7, "-7": -7, "2.0": 2, "20e-1": 2, "0.2E+1": 2, "0e99999999999": 0,
		"9007199254740993": 9007199254740993, "1e400": math.MaxInt, "-1e400": math.MinInt,
		strings.Repeat("9", 400): math.MaxInt, "1e18": 1e18, "null": 0, "": 0,
	} {
		if n, err := Whole([]byte(text)); n != want || err != nil {
			t.Errorf("Whole(%.40s) = %d, %v; want %d", text, n, err, want)
		}
	}
	for _, text := range []string{"1.5", "-0.1", "15e-1", `"1"`, "true", "false", "[1]", "{}"} {
		if n, err := Whole([]byte(text)); err == nil {
			t.Errorf("Whole(%s) = %d", text, n)
		}
	}
}
