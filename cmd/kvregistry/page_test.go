package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md")

const helpPage = "../../docs/cli.md"

// docs/cli.md has the help of each command, word for word. "go test ./cmd/kvregistry -run
// TestPageOfCommands -update" writes it. Seen to fail with an option that is new.
func TestPageOfCommands(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Commands\n\nThis page has what `kvregistry help` prints of each command.\n")
	for _, path := range append([]string{"", "connection"}, visible(tree(), "")...) {
		code, out, text := called(append([]string{"help"}, strings.Fields(path)...)...)
		if code != 0 {
			t.Fatal(path, code, text)
		}
		_, _ = fmt.Fprintf(&b, "\n## %s\n\n```\n%s\n```\n", strings.TrimSpace("kvregistry "+path),
			strings.TrimSpace(out))
	}
	want := b.String()
	if *update {
		if err := os.WriteFile(helpPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(helpPage); err != nil || string(got) != want {
		t.Errorf("%s is not what the commands say: write it by go test ./cmd/kvregistry -run "+
			"TestPageOfCommands -update (%v)", helpPage, err)
	}
}

// visible returns the paths of the commands below c that its help lists, in order.
func visible(c *cobra.Command, path string) (paths []string) {
	for _, sub := range c.Commands() {
		if sub.Hidden || !sub.Runnable() && !sub.HasSubCommands() {
			continue
		}
		paths = append(paths, strings.TrimSpace(path+" "+sub.Name()))
		paths = append(paths, visible(sub, strings.TrimSpace(path+" "+sub.Name()))...)
	}
	slices.Sort(paths)
	return paths
}
