package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The Go code of some pages stands in an example, which compiles. Seen to fail with an example that
// changed.
func TestCodeOfPagesIsOfExamples(t *testing.T) {
	t.Parallel()
	for page, example := range map[string]string{
		"../docs/testing.md":    "../kvregistry/kvregistrytest/example_test.go",
		"../docs/operations.md": "../kvregistry/debug/example_test.go",
	} {
		text, err := os.ReadFile(page)
		must(t, err)
		code, err := os.ReadFile(example)
		must(t, err)
		found := goBlocks.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s has no Go code", page)
		}
		for _, block := range found {
			if !strings.Contains(string(code), block[1]) {
				t.Errorf("%s has code that is not in %s:\n%s", page, example, block[1])
			}
		}
	}
}

var goBlocks = regexp.MustCompile("(?s)\n```go\n(.*?)```\n")

// prelude is what the Go code of a page stands in.
const prelude = `package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"time"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/check"
	"github.com/kvregistry/go/kvregistry/pick"
	"github.com/kvregistry/go/kvregistry/transport"
)

var (
	ctx  = context.Background()
	srv  http.Server
	many []kvregistry.Service
)

func main() {
`

// The Go code of the README and the tour compiles, except that it does not use all that it
// declares. Seen to fail with a method that does not exist.
func TestCodeOfPagesCompiles(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"../README.md", "../docs/tour.md"} {
		text, err := os.ReadFile(page)
		must(t, err)
		found := goBlocks.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s has no Go code", page)
		}
		for _, block := range found {
			file := filepath.Join(t.TempDir(), "main.go")
			must(t, os.WriteFile(file, []byte(prelude+block[1]+"}\n"), 0o600))
			out, _ := exec.Command("go", "build", "-gcflags=-e", "-o", os.DevNull,
				file).CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if !strings.HasPrefix(line, "#") && !strings.Contains(line, "and not used") {
					t.Errorf("%s: %s", page, line)
				}
			}
		}
	}
}
