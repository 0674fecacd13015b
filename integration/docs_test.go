package integration

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the documents name is there: tests, benchmarks and examples (a name may be the beginning of several, as TestLeaf…), and the files that they link to. Seen to fail with a
// test that was renamed, and with a page that is gone.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	t.Parallel()
	code, pages := "", map[string]string{}
	must(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		isTest, isPage := strings.HasSuffix(path, "_test.go"), strings.HasSuffix(path, ".md")
		if err != nil || d.IsDir() || !isTest && !isPage {
			return err
		}
		text, err := os.ReadFile(path)
		if isPage {
			pages[path] = string(text)
		} else {
			code += string(text)
		}
		return err
	}))
	tests := regexp.MustCompile("`((?:Test|Benchmark|Example|Fuzz)[A-Z]\\w+)(…?)`")
	links := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	named := 0
	for page, text := range pages {
		for _, m := range tests.FindAllStringSubmatch(text, -1) {
			end := "("
			if m[2] != "" {
				end = ""
			}
			if named++; !strings.Contains(code, "func "+m[1]+end) {
				t.Errorf("%s names %s, which is not there", page, m[0])
			}
		}
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d names found", named)
	}
}
