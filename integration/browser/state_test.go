package browser

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// While NATS is away the page says so and shows what was known, and goes on by itself when NATS is
// back.
func TestNATSAway(t *testing.T) {
	env := kvregistrytest.New(t)
	reg := town(t, env)
	p := open(t, served(t, env), 1440, 900)
	p.shows("Live", "recommendations")
	env.StopServer()
	p.shows("NATS is away", "The page shows what was known")
	p.shows("recommendations")
	p.at("#/service/web")
	p.shows("web-05")
	env.StartServer()
	p.shows("Live")
	p.await(`document.querySelector('#banner').hidden`)
	natstest.Eventually(t, natstest.Soon, func() error {
		return reg.SetStatus("web", kvregistry.Warning)
	})
	p.await(rowsText + `.every((text) => text.includes('warning'))`)
}

// With --allow-writes a button removes the registration of a dead process, and is refused for a
// living one. Without it there is no button.
func TestDeregister(t *testing.T) {
	env := kvregistrytest.New(t, kvregistry.WithoutReaping()) // a reaper would be sooner
	_, err := env.Register(kvregistry.Service{Name: "web", ID: "alive", Address: "h:1"})
	must(t, err)
	const buttons = "document.querySelectorAll('#detail .writes button').length"
	p := open(t, served(t, env)+"/#/service/web/alive", 1440, 900)
	p.shows("Owner and lease")
	if n := eval[int](p, buttons); n > 0 {
		t.Errorf("a page that only reads has %d buttons", n)
	}
	p = open(t, served(t, env, "--allow-writes")+"/#/service/web/alive", 1440, 900)
	p.shows("Owner and lease", "Deregister …")
	put(t, env, "svc.web.dead", `{"format":1,"lease":"LDEAD","owner":"O","instance":{"id":"dead",`+
		`"name":"web","address":"h:2"}}`)
	ask := func(id, answer string) {
		t.Helper()
		p.at("#/service/web/" + id)
		p.await(fmt.Sprintf("document.querySelector('#detail h2').innerText === %q", id))
		p.run(chromedp.Click("#detail .danger"))
		p.shows("Deregister web / " + id + "?")
		p.run(chromedp.Click("#ask .danger"))
		p.shows(answer)
	}
	ask("alive", "its owner is alive")
	p.keys(kb.Escape)
	p.shows("Drain …")
	ask("dead", "This instance is not there any more")
	p.keys(kb.Escape)
	p.await(rowsText + `.length === 1`)
}

// With many instances few rows are in the document, and the list scrolls through all of them. The
// times are for docs/page.md.
func TestManyInstances(t *testing.T) {
	const many = 10_000
	env := kvregistrytest.New(t)
	var list []kvregistry.Service
	for i := range many {
		list = append(list, kvregistry.Service{Name: "many", ID: fmt.Sprintf("many-%05d", i),
			Address: fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255), Version: "1.2.3",
			Zone: "eu-west-1a", Host: fmt.Sprintf("node-%d", i%300), Tags: []string{"blue", "http"},
			Metadata: map[string]string{"commit": "0f3d2a1", "team": "many"}})
	}
	reg := register(t, env, list...)
	url := served(t, env)
	p := open(t, "about:blank", 1440, 900)
	call(p, performance.Enable, performance.EnableParams{TimeDomain: "threadTicks"})
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `times = {}; new MutationObserver(() => {
			if (!times.first && document.querySelector('.space .row')) {
				times.first = performance.now();
			}
			if (!times.all && document.querySelector('[aria-rowcount="10001"]')) {
				times.all = performance.now();
			}
		}).observe(document, { childList: true, subtree: true, attributes: true });`})
	p.run(chromedp.Navigate(url + "/#/service/many"))
	p.await("times.all")
	t.Logf("%d instances: the first rows after %.0f ms, all after %.0f ms", many,
		eval[float64](p, "times.first"), eval[float64](p, "times.all"))
	paint := eval[float64](p,
		"performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1")
	t.Logf("first contentful paint after %.0f ms; %.0f ms of work for all of it", paint,
		p.busy()*1000)
	few := func() {
		t.Helper()
		if n := eval[int](p, "document.querySelectorAll('.row').length"); n > 60 {
			t.Errorf("%d rows are in the document", n)
		}
	}
	few()
	// Each frame of a way through the list draws its rows.
	before := p.busy()
	frames := eval[[]float64](p, `(async () => {
		const grid = document.querySelector('.grid'), took = [];
		let last = performance.now();
		for (let i = 0; i < 120; i++) {
			grid.scrollTop += 400; // as a wheel that is turned fast
			await new Promise(requestAnimationFrame);
			const now = performance.now();
			took.push(now - last);
			last = now;
		}
		return took.sort((a, b) => a - b);
	})()`)
	t.Logf("120 frames of 400 pixels: the median took %.0f ms, the slowest %.0f ms, "+
		"with %.1f ms of work in each", frames[60], frames[119], (p.busy()-before)/120*1000)
	p.keys(kb.End)
	p.await(rowsText + `.some((text) => text.includes('many-09999'))`)
	few()
	// A change is on the screen soon.
	p.at("#/service/many?q=many-00007")
	p.await(rowsText + `.length === 1`)
	p.run(chromedp.Evaluate[chromedp.Void](`seen = new Promise((done) => new MutationObserver(
		() => {
			if (document.querySelector('.space').innerText.includes('9.9.9')) done(Date.now());
		}).observe(document.querySelector('main'), { childList: true, subtree: true })); 0`))
	changed := list[7]
	changed.Version = "9.9.9"
	at := time.Now()
	must(t, reg.Update(changed))
	seen := eval[float64](p, "seen")
	t.Logf("a change was on the screen %.0f ms after Update was called",
		seen-float64(at.UnixMilli()))
}

// busy is for how long the page has used a processor, in seconds. Other processes do not matter.
func (p *tab) busy() float64 {
	p.t.Helper()
	for _, m := range call(p, performance.GetMetrics, cdp.Empty{}).Metrics {
		if m.Name == "TaskDuration" {
			return m.Value
		}
	}
	p.t.Fatal("the browser does not say")
	return 0
}

// Neither the page nor its server keeps more than what is there, whatever came and went.
func TestChurn(t *testing.T) {
	env := kvregistrytest.New(t)
	reg := town(t, env)
	p := open(t, served(t, env), 1440, 900)
	p.shows("recommendations")
	heap := func() float64 {
		call(p, heapprofiler.CollectGarbage, cdp.Empty{})
		return call(p, runtime.GetHeapUsage, cdp.Empty{}).UsedSize
	}
	round := func(n int) {
		var list []kvregistry.Service
		for i := range 400 {
			list = append(list, kvregistry.Service{Name: fmt.Sprintf("job-%d-%d", n, i%40),
				ID: fmt.Sprint(i), Address: "h:1",
				Metadata: map[string]string{"run": fmt.Sprintf("%0100d", n)}})
		}
		gone, err := reg.RegisterAll(t.Context(), list...)
		must(t, err)
		time.Sleep(120 * time.Millisecond) // so that the page sees them, and not merged states
		must(t, gone())
	}
	settled := func() {
		t.Helper()
		p.shows("12 services, 57 instances")
	}
	for n := range 5 {
		round(n)
	}
	settled()
	before := heap()
	const rounds = 25
	for n := range rounds {
		round(5 + n)
	}
	settled()
	after := heap()
	t.Logf("the page's heap: %.1f MB, and %.1f MB after %d more changes", before/1e6, after/1e6,
		2*400*rounds)
	if after > before+4e6 {
		t.Errorf("the page's heap grew from %.1f to %.1f MB", before/1e6, after/1e6)
	}
	if n := eval[int](p, "document.querySelectorAll('*').length"); n > 2000 {
		t.Errorf("%d elements are in the document", n)
	}
	p.at("#/changes")
	natstest.Eventually(t, natstest.Soon, func() error {
		n := eval[string](p, `document.querySelector('.grid').getAttribute('aria-rowcount')`)
		if n != "501" {
			return errors.New("the list of changes has rows: " + n)
		}
		return nil
	})
}
