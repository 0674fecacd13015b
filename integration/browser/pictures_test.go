package browser

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

var (
	pictures = flag.String("pictures", "", "`folder` for the pictures of docs/page.md")
	all      = flag.Bool("all", false, "with -pictures, make a picture of each view, too")
)

// Pictures of the page, for docs/page.md and, with -all, for a look at each view.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("no -pictures")
	}
	env := kvregistrytest.New(t)
	reg := town(t, env)
	url := served(t, env)
	p := open(t, url, 1440, 900)
	p.shows("Live", "recommendations")
	busy(p, env, reg)
	p.shows("web")
	shot := func(name string, width, height int64, theme, hash, want string) {
		p.size(width, height)
		p.theme(theme)
		p.at(hash)
		p.shows(want)
		png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		must(t, err)
		must(t, os.WriteFile(filepath.Join(*pictures, name+".png"), png, 0o644))
	}
	for _, theme := range []string{"light", "dark"} {
		shot("page-"+theme, 1320, 780, theme, "#/service/web/web-05", "Running for")
		if !*all {
			continue
		}
		if theme == "light" {
			junk(t, env)
		}
		shot("services-"+theme, 1440, 900, theme, "#/services", "recommendations")
		shot("web-"+theme, 1440, 900, theme, "#/service/web", "web-05")
		shot("detail-"+theme, 1440, 900, theme, "#/service/web/web-05", "Owner and lease")
		shot("changes-"+theme, 1440, 900, theme, "#/changes", "expired")
		shot("leases-"+theme, 1440, 900, theme, "#/leases", "Heartbeat")
		shot("holds-"+theme, 1440, 900, theme, "#/holds", "search/reindex")
		shot("health-"+theme, 1440, 900, theme, "#/health", "Figures")
		shot("doctor-"+theme, 1440, 900, theme, "#/doctor", "Passed")
		shot("found-"+theme, 1440, 900, theme, "#/services?q=node-03", "sessions-03")
		shot("small-services-"+theme, 360, 740, theme, "#/services", "recommendations")
		shot("small-web-"+theme, 360, 740, theme, "#/service/web", "web-05")
		shot("small-detail-"+theme, 360, 740, theme, "#/service/web/web-05", "Owner and lease")
		shot("small-changes-"+theme, 360, 740, theme, "#/changes", "expired")
		shot("small-doctor-"+theme, 360, 740, theme, "#/doctor", "Passed")
		shot("small-leases-"+theme, 360, 740, theme, "#/leases", "Heartbeat")
		shot("small-health-"+theme, 360, 740, theme, "#/health", "Figures")
	}
}
