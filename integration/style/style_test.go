package style

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	columns = 100 // of a line, with a tab as four
	root    = "../.."
)

// words lists what comments and pages do not use, and what they say in its place.
var words = map[string]*regexp.Regexp{
	"recreated, again":      regexp.MustCompile(`(?i)\banew\b`),
	"even if, whether":      regexp.MustCompile(`(?i)\bbe (it|they|he)\b`),
	"except":                regexp.MustCompile(`(?i)\bbut for\b`),
	"a caller that, anyone": regexp.MustCompile(`(?i)\b(whoever|whomever|for who|to who|of who)\b`),
	"if": regexp.MustCompile(
		`(?i)\b(where (not|asked|possible|needed|there is (a|an|no))|only where)\b`),
	"is available, is in": regexp.MustCompile(`(?i)\b(is|are|was) had\b`),
}

// TestStyle reads each Go file and each page. It was seen to fail with a line of 101 columns and
// with each of the words.
func TestStyle(t *testing.T) {
	t.Parallel()
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "fuzz"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" && filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		check(t, path, string(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 200 {
		t.Errorf("only %d files were found", files)
	}
}

// check reports each fault of one file.
func check(t *testing.T, path, text string) {
	code := filepath.Ext(path) == ".go"
	fenced, n := false, 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if !code && strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		prose := line
		if code {
			_, prose, _ = strings.Cut(line, "//")
		} else if strings.HasPrefix(line, "| ") && strings.HasSuffix(path, "CONTRIBUTING.md") {
			prose = "" // its table of these words
		}
		if wide := len([]rune(strings.ReplaceAll(line, "\t", "    "))); wide > columns &&
			(code || !fenced && mayFold(line)) {
			t.Errorf("%s:%d: %d columns, at most %d", path, n, wide, columns)
		}
		for instead, word := range words {
			if found := word.FindString(prose); found != "" && !fenced {
				t.Errorf("%s:%d: %q: say %q", path, n, found, instead)
			}
		}
	}
}

// mayFold reports whether a page's line can be folded. Rows of tables, links and headings can't.
func mayFold(line string) bool {
	line = strings.TrimSpace(line)
	return !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "#") &&
		!strings.Contains(line, "](") && !strings.HasPrefix(line, "<!--")
}
