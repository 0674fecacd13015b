package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// library has the packages that a user's program is built of, and their tiers: a package imports lower
// tiers alone. Only kvregistry/semver, which wraps a library of others, is not held to nats.go.
var library = map[string]int{
	"internal/journal":       2,
	"tenant/internal/stream": 1, "tenant": 2, "tenant/operator": 3, "watcher": 3, "lease": 4, "lease/line": 5, "kvregistry": 7,
	"kvregistry/bridge": 8, "kvregistry/check": 8, "kvregistry/pick": 8, "kvregistry/serve": 8, "kvregistry/transport": 8,
}

// The library packages import the standard library and nats.go, with what nats.go itself needs, and nothing else.
func TestLibraryImports(t *testing.T) {
	for pkg := range library {
		out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "../"+pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range strings.Fields(string(out)) {
			ok := false
			for _, allowed := range []string{
				"github.com/kvregistry/go/", "github.com/nats-io/nats.go", "github.com/nats-io/nkeys", "github.com/nats-io/nuid",
				"github.com/klauspost/compress/", "golang.org/x/crypto/", "golang.org/x/sys/",
			} {
				ok = ok || strings.HasPrefix(dep, allowed)
			}
			if !ok {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
	// What they import themselves is less than what nats.go brings along.
	eachFile(t, func(pkg string, file *ast.File) {
		for _, imp := range file.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			if strings.Contains(path, ".") && !strings.HasPrefix(path, "github.com/nats-io/nats.go") && !strings.HasPrefix(path, "github.com/kvregistry/go/") {
				t.Errorf("%s imports %s", pkg, path)
			}
			if own, ok := strings.CutPrefix(path, "github.com/kvregistry/go/"); ok && library[own] >= library[pkg] {
				t.Errorf("%s imports %s, which is not of a lower tier", pkg, own)
			}
		}
	})
}

// Invariant 10, honest clocks: the library reads no time that another machine wrote. A message's or an entry's
// timestamp is the server's clock: nothing may compare it with this machine's. The stream's creation time tells one
// stream from the next and is compared for equality with itself alone. Seen to fail with an age taken from a
// message's timestamp, and with the age of the stream.
func TestNoForeignClockIsRead(t *testing.T) {
	allowed := map[string]bool{"info.Created": true, "state.Created": true} // a stream's, which is its origin
	eachFile(t, func(pkg string, file *ast.File) {
		equal := map[ast.Expr]bool{} // what is compared for equality alone
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Equal" || f.Sel.Name == "IsZero") {
					equal[f.X] = true
					for _, arg := range call.Args {
						equal[arg] = true
					}
				}
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, _ := sel.X.(*ast.Ident)
			if (sel.Sel.Name == "Timestamp" || sel.Sel.Name == "Created" || sel.Sel.Name == "TimeStamp" || sel.Sel.Name == "LastTime" || sel.Sel.Name == "FirstTime") &&
				!equal[sel] && (x == nil || !allowed[x.Name+"."+sel.Sel.Name]) {
				t.Errorf("%s reads a time of the server's: %s", pkg, sel.Sel.Name)
			}
			if sel.Sel.Name == "created" && !equal[sel] {
				t.Errorf("%s does more with a stream's creation time than to compare it for equality", pkg)
			}
			return true
		})
	})
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
