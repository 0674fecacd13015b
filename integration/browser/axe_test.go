package browser

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// axeVersion is the version of axe-core, which npm fetches.
const axeVersion = "4.14.1"

// axe returns the script of axe-core. It is kept in the user's folder for caches.
func axe(t *testing.T) string {
	t.Helper()
	dir, err := os.UserCacheDir()
	must(t, err)
	dir = filepath.Join(dir, "kvregistry-browser")
	must(t, os.MkdirAll(dir, 0o755))
	file := filepath.Join(dir, "axe-core-"+axeVersion+".tgz")
	if _, err := os.Stat(file); err != nil {
		cmd := exec.Command("npm", "pack", "--silent", "axe-core@"+axeVersion)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("npm pack: %v: %s", err, out)
			}
			t.Skipf("axe-core is not there: npm pack: %v: %s", err, out)
		}
	}
	packed, err := os.ReadFile(file)
	must(t, err)
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	must(t, err)
	for files := tar.NewReader(unzipped); ; {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s has no axe.min.js", file)
		}
		must(t, err)
		if head.Name == "package/axe.min.js" {
			script, err := io.ReadAll(files)
			must(t, err)
			return string(script)
		}
	}
}

// axe-core finds nothing wrong in any view, in light and in dark, on a desk and on a telephone.
// Seen to fail with a link without a name, and with a page that only the mouse scrolls.
func TestAccessibility(t *testing.T) {
	script := axe(t)
	env := kvregistrytest.New(t)
	reg := town(t, env)
	p := open(t, served(t, env), 1440, 900)
	p.shows("recommendations")
	busy(p, env, reg)
	junk(t, env)
	p.run(chromedp.Evaluate[chromedp.Void](script + "; 0"))
	check := func(name string) {
		t.Helper()
		found := eval[string](p, `(async () => {
			await new Promise(requestAnimationFrame);
			const all = await axe.run(document, { resultTypes: ['violations'] });
			return JSON.stringify(all.violations.map((v) => ({ rule: v.id, help: v.help,
				at: v.nodes.slice(0, 3).map((n) => n.html + ' ' + n.failureSummary) })));
		})()`)
		var violations []map[string]any
		must(t, json.Unmarshal([]byte(found), &violations))
		for _, v := range violations {
			t.Errorf("%s: %s: %s: %v", name, v["rule"], v["help"], v["at"])
		}
	}
	for _, theme := range []string{"light", "dark"} {
		p.theme(theme)
		for _, width := range []int64{1440, 360} {
			if theme == "dark" && width == 360 {
				continue // its colours are those of a desk
			}
			p.size(width, 800)
			for view, want := range map[string]string{
				"services": "recommendations", "service/web": "web-05",
				"service/web/web-05": "Owner and lease", "changes": "expired",
				"leases": "Heartbeat", "holds": "search/reindex", "health": "When it turned",
				"doctor":                       "1 error",
				"services?q=nothing-like-this": "Nothing matches",
			} {
				p.at("#/" + view)
				p.shows(want)
				check(fmt.Sprintf("%s, %s, %d", view, theme, width))
			}
		}
		p.at("#/services")
		p.keys("j?")
		p.await(`document.querySelector('#keys').open`)
		check("the keys, " + theme)
		p.keys("?")
		p.await(`!document.querySelector('#keys').open`)
	}
	env.StopServer()
	p.shows("The page shows what was known")
	check("NATS is away")
	if out := strings.TrimSpace(eval[string](p, "axe.version")); out != axeVersion {
		t.Errorf("axe-core is %s", out)
	}
}
