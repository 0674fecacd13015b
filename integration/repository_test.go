package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tests, benchmarks and examples that the documents name exist, and so do the files that they
// link to. A name with … at its end is the beginning of several. Seen to fail with a test that was
// renamed, and with a page that is gone.
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

// The index in doc.go names each file of tests, and no other. Seen to fail with a file that was
// renamed.
func TestIndexNamesEachFile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("doc.go")
	must(t, err)
	var named []string
	for _, m := range regexp.MustCompile(`(?m)^//\t([\w, ]+?)  +`).FindAllStringSubmatch(
		string(text), -1) {
		named = append(named, strings.Split(m[1], ", ")...)
	}
	files, err := filepath.Glob("*_test.go")
	must(t, err)
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, "_test.go")
	}
	slices.Sort(named)
	slices.Sort(files)
	if diff := cmp.Diff(files, named); diff != "" {
		t.Errorf("files and index differ:\n%s", diff)
	}
}

// The library packages import only the standard library, nats.go and what nats.go itself needs. The
// package for the tests of users imports nats-server, too.
func TestLibraryImports(t *testing.T) {
	for pkg := range library {
		out, err := exec.Command("go", "list", "-deps", "-f",
			"{{if not .Standard}}{{.ImportPath}}{{end}}", "../"+pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range strings.Fields(string(out)) {
			ok := false
			for _, allowed := range allowedFor(pkg) {
				ok = ok || strings.HasPrefix(dep, allowed)
			}
			if !ok {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
	// The packages themselves import less than nats.go brings along.
	eachFile(t, func(pkg string, file *ast.File) {
		for _, imp := range file.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if strings.Contains(path, ".") && !strings.HasPrefix(path,
				"github.com/nats-io/nats.go") && !strings.HasPrefix(path,
				"github.com/kvregistry/go/") && (pkg != forTests || path != natsServer) {
				t.Errorf("%s imports %s", pkg, path)
			}
			if own, ok := strings.CutPrefix(path, "github.com/kvregistry/go/"); ok &&
				library[own] >= library[pkg] {
				t.Errorf("%s imports %s, which is not of a lower tier", pkg, own)
			}
		}
	})
}

const (
	forTests   = "kvregistry/kvregistrytest"
	natsServer = "github.com/nats-io/nats-server/v2/server"
)

// allowedFor returns how the packages that a package may be built of begin.
func allowedFor(pkg string) []string {
	list := []string{
		"github.com/kvregistry/go/", "github.com/nats-io/nats.go", "github.com/nats-io/nkeys",
		"github.com/nats-io/nuid", "github.com/klauspost/compress/", "golang.org/x/crypto/",
		"golang.org/x/sys/",
	}
	if pkg == forTests {
		list = append(list, "github.com/nats-io/nats-server/", "github.com/nats-io/jwt/",
			"github.com/antithesishq/", "github.com/google/go-tpm/",
			"github.com/minio/highwayhash", "golang.org/x/time/")
	}
	return list
}

// library lists the packages that a user's program is built of, and their tiers. A package imports
// lower tiers alone. Only kvregistry/semver and kvregistry/metrics, which wrap another library, and
// kvregistry/kvregistrytest, which programs do not import, may import more than nats.go.
var library = map[string]int{
	"internal/journal": 2, "internal/shown": 1, "internal/wire": 2,
	"tenant/internal/stream": 1, "tenant": 2, "tenant/operator": 3, "watcher": 3, "lease": 4,
	"lease/line": 5, "kvregistry/internal/balance": 6, "kvregistry/internal/coalesce": 6,
	"kvregistry/internal/endpoint": 6, "kvregistry/internal/plist": 6,
	"kvregistry/internal/signing":  6,
	"kvregistry/internal/snapfile": 6, "kvregistry": 7,
	"kvregistry/bridge": 8, "kvregistry/check": 8, "kvregistry/debug": 8, "kvregistry/pick": 8,
	"kvregistry/serve": 8, "kvregistry/transport": 8, forTests: 8,
}

func eachFile(t *testing.T, f func(pkg string, file *ast.File)) {
	t.Helper()
	for pkg := range library {
		paths, err := filepath.Glob("../" + pkg + "/*.go")
		must(t, err)
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			must(t, err)
			f(pkg, file)
		}
	}
}

// Each line that the library logs is in docs/operations.md. Seen to fail without the lines of the
// snapshot file, which were missing.
func TestLogLinesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`"((?:kvregistry|bridge): [^"]+)"`)
	found := 0
	for dir := range library {
		files, err := filepath.Glob("../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for code := range strings.Lines(string(text)) {
				said := line.FindStringSubmatch(code)
				if !logs.MatchString(code) || said == nil || strings.HasSuffix(file, "_test.go") {
					continue
				}
				if found++; !strings.Contains(string(page), "`"+said[1]) {
					t.Errorf("%s: %q is not in docs/operations.md", file, said[1])
				}
			}
		}
	}
	if found < 45 {
		t.Errorf("only %d lines were found", found)
	}
}

var logs = regexp.MustCompile(`\.(Debug|Info|Warn|Error|log|Say|SayLater)\(|^\tline[A-Z]\w+ += "`)
