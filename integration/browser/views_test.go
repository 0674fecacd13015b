package browser

import (
	"errors"
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// Each view shows what is there, at its own address, and the back button goes through them. Seen to
// fail with a view whose columns are left out.
func TestViews(t *testing.T) {
	env := kvregistrytest.New(t)
	reg := town(t, env)
	p := open(t, served(t, env), 1440, 900)
	p.shows("Live", "12 services, 57 instances", "recommendations")
	busy(p, env, reg)

	p.at("#/service/web")
	p.shows("web-05", "10.20.2.17:8080", "5.3.0-rc1", "eu-west-1b", "node-05", "draining")
	p.await(rowsText + `.length === 13`)
	p.shows(" of 15 s") // the age of a lease

	p.at("#/service/checkout/checkout-03")
	p.shows("critical", "10.20.3.20:8081", "metrics", "10.20.3.20:9100", "checkout-team",
		"Owner and lease", "Revision", "Running for")

	p.at("#/service/web/none")
	p.shows("This instance is not there any more")

	p.at("#/changes")
	p.shows("mail-03", "expired", "lease ended", "status: passing → warning",
		"version: 1.0.7 → 1.0.8")

	p.at("#/leases")
	p.shows("Heartbeat", fmt.Sprint(57))

	p.at("#/holds")
	p.shows("billing-export/leader", "holds", "waits, 2", "search/reindex")

	p.at("#/health")
	p.shows("The view is current", "When it turned")

	p.at("#/doctor")
	p.shows("Nothing is wrong", "Passed: ", "nats-server ", "Not checked: ")
	junk(t, env)
	natstest.Eventually(t, natstest.Soon, func() error {
		p.run(chromedp.Evaluate[chromedp.Void]("document.querySelector('.filters button').click()"))
		if !eval[bool](p, "Boolean(document.querySelector('.finding'))") {
			return errors.New("it finds nothing")
		}
		return nil
	})
	p.shows("svc.web.junk")

	p.run(chromedp.NavigateBack())
	p.shows("When it turned")
	p.run(chromedp.NavigateBack())
	p.shows("search/reindex")
	p.run(chromedp.NavigateForward())
	p.shows("The view is current")
}

// The search finds names, addresses, tags, hosts and metadata, and the numbers beside the statuses
// are those of what it found. Seen to fail with a search that leaves out metadata.
func TestSearch(t *testing.T) {
	env := kvregistrytest.New(t)
	town(t, env)
	p := open(t, served(t, env), 1440, 900)
	p.shows("recommendations")
	for q, want := range map[string]string{
		"inventory-02": "inventory-02", "10.20.3.20:8081": "checkout-03",
		"tag:canary":  "recommendations",
		"node-12 web": "web-12", "commit=9f52ef": "", "team=mail-team": "mail-02",
		"status:critical search": "search-08", "zone:eu-west-1b audit": "audit-02",
		"10.20.2.17:9100": "web-05",
	} {
		p.at("#/services")
		p.slash()
		p.keys(q)
		if want == "" {
			p.shows("Nothing matches")
		} else {
			p.shows(want)
			p.await(rowsText + `.length < 5`)
		}
		p.keys(kb.Escape)
		p.shows("12 services, 57 instances")
		p.keys(kb.Escape)
	}
	p.at("#/services?status=critical")
	p.await(rowsText + `.length === 2`)
	p.shows("checkout-03", "search-08")
}

// Everything is done by keys: the choice moves, opens, goes along with an open panel and back up,
// and a dialog lists the keys. Seen to fail with an Escape that does nothing.
func TestKeyboard(t *testing.T) {
	env := kvregistrytest.New(t)
	town(t, env)
	p := open(t, served(t, env), 1440, 900)
	p.shows("recommendations")
	chosen := func(want string) {
		t.Helper()
		p.await(fmt.Sprintf(`document.querySelector('.gridbox:not([hidden]) [aria-selected]')
			?.innerText.startsWith(%q)`, want))
	}
	p.keys("j")
	chosen("audit")
	p.keys("jj")
	chosen("catalog")
	p.keys("k")
	chosen("billing-export")
	p.keys(kb.End)
	chosen("web")
	p.keys(kb.Enter)
	p.shows("web-12")
	p.keys(kb.ArrowDown + kb.ArrowDown)
	chosen("web-02")
	p.keys(kb.Enter)
	p.shows("Owner and lease")
	p.await(`document.activeElement.id === 'detail'`)
	p.keys("j")
	p.await(`location.hash === '#/service/web/web-03'`)
	p.keys(kb.Escape)
	p.await(`location.hash === '#/service/web'`)
	p.await(`document.activeElement.getAttribute('role') === 'grid'`)
	chosen("web-03")
	p.keys(kb.Escape)
	p.shows("12 services, 57 instances")
	chosen("web") // the view is as it was left
	p.keys("2")
	p.shows("Nothing has changed")
	p.keys("1?")
	p.await(`document.querySelector('#keys').open`)
	p.shows("light or dark")
	p.keys(kb.Escape)
	p.await(`!document.querySelector('#keys').open`)
	before := eval[string](p, "getComputedStyle(document.body).backgroundColor")
	p.keys("t")
	p.await(fmt.Sprintf("getComputedStyle(document.body).backgroundColor !== %q", before))
	p.slash()
	p.keys("web-1")
	p.await(rowsText + `.length === 3`)
	p.keys(kb.Enter)
	chosen("web") // the first of what was found
	// By the Tab key everything is reached, too.
	p.run(chromedp.Evaluate[chromedp.Void]("document.body.focus(); document.activeElement.blur()"))
	seen := map[string]bool{}
	for range 35 { // it begins behind the list, and goes around
		p.keys(kb.Tab)
		seen[eval[string](p, `((e) => e.id || e.getAttribute('role') || e.textContent)(
			document.activeElement)`)] = true
	}
	for _, want := range []string{"q", "theme", "help", "grid", "state"} {
		if !seen[want] {
			t.Errorf("the Tab key does not reach %s, but %v", want, seen)
		}
	}
}

// Names and values that are HTML, steer the direction of text, or are very long, are shown as text.
// Seen to fail with texts that are inserted as HTML: then the browser's rules stop the scripts.
func TestHostile(t *testing.T) {
	env := kvregistrytest.New(t)
	const script = `<script>window.hurt=1</script><img src=x onerror="window.hurt=1">`
	long := make([]byte, 60<<10)
	for i := range long {
		long[i] = "0123456789abcdef"[i%16]
	}
	register(t, env,
		kvregistry.Service{Name: script, ID: `"><svg onload=window.hurt=1>`, Address: "h:1",
			Version: script, Zone: script, Host: script, Tags: []string{script, "__proto__"},
			Metadata: map[string]string{script: script, "__proto__": "x", "constructor": "y"}},
		kvregistry.Service{Name: "\u202eevil\u202c\u200f", ID: "a\u202eb/../c?d#e%20",
			Address: "h:2", Metadata: map[string]string{"\u202ekey": "va\u2066lue\x00\x1b[31m"}},
		kvregistry.Service{Name: "constructor", ID: "__proto__", Address: "h:3",
			URL:      "javascript://h/%0Awindow.hurt=1",
			Metadata: map[string]string{"long": string(long)}},
	)
	p := open(t, served(t, env), 1440, 900)
	p.shows(script, `\u202eevil\u202c\u200f`, "constructor")
	open := func(name, id string, texts ...string) {
		t.Helper()
		p.run(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(
			"location.hash = '#/service/' + encodeURIComponent(%q) + '/' + encodeURIComponent(%q)",
			name, id)))
		p.shows(texts...)
	}
	open(script, `"><svg onload=window.hurt=1>`, "Owner and lease", script, "__proto__")
	open("\u202eevil\u202c\u200f", "a\u202eb/../c?d#e%20", `a\u202eb/../c?d#e%20`, `\u202ekey`,
		`va\u2066lue\u0000\u001b[31m`)
	open("constructor", "__proto__", "javascript://h/%0Awindow.hurt=1", string(long))
	p.at("#/changes")
	p.at("#/services?q=%3Cscript%3E")
	p.await(rowsText + `.length === 1`)
	if eval[bool](p, `'hurt' in window || document.querySelectorAll(
		'main script, main img, aside script, aside img, a[href^=javascript]').length > 0`) {
		t.Error("foreign text was run, or made elements")
	}
	if over := eval[int](p, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		t.Errorf("the page is %d pixels too wide", over)
	}
}

// No view is wider than the window, on a telephone as on a desk. Seen to fail with a list that has
// the columns of a desk on a telephone.
func TestFits(t *testing.T) {
	env := kvregistrytest.New(t)
	reg := town(t, env)
	p := open(t, served(t, env), 1440, 900)
	p.shows("recommendations")
	busy(p, env, reg)
	for _, width := range []int64{360, 768, 1440} {
		p.size(width, 740)
		for _, view := range []string{"services", "service/web", "service/web/web-05", "changes",
			"leases", "holds", "health", "services?q=node-03"} {
			p.at("#/" + view)
			p.await(`document.querySelector('main .view')`)
			parts := ""
			if width != 768 { // there a list scrolls sideways
				parts = ", .gridbox:not([hidden]) .grid"
			}
			p.await(fmt.Sprintf(`[...document.querySelectorAll('html, body, .view, #detail%s')]
				.every((e) => e.hidden || e.scrollWidth <= e.clientWidth)`, parts))
		}
	}
	p.size(360, 740)
	p.at("#/service/web")
	p.await(`[...document.querySelectorAll('.space .row')].every((row) => {
		const cells = [...row.children].filter((c) => getComputedStyle(c).display !== 'none');
		return cells.length === 2 && cells.every((c) => c.getBoundingClientRect().right <= 360);
	})`)
	// The columns of the rows are those of the head.
	p.size(1440, 900)
	p.await(`[...document.querySelectorAll('.head .cell')].every((cell, i) => {
		const other = document.querySelector('.space .row').children[i];
		return Math.abs(cell.getBoundingClientRect().left - other.getBoundingClientRect().left) < 1;
	})`)
}
