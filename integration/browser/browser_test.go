package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// program is the command under test. It is built once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("kvregistry-page-%d", os.Getpid()))
	cmd := exec.Command("go", "build", "-o", path, "./cmd/kvregistry")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// chromium is the browser, or why there is none.
var chromium = sync.OnceValues(func() (string, error) {
	name := os.Getenv("CHROMIUM")
	if name == "" {
		name = "chromium"
	}
	return exec.LookPath(name)
})

func TestMain(m *testing.M) {
	code := m.Run()
	stopBrowser()
	if path, err := program(); err == nil {
		_ = os.Remove(path)
	}
	os.Exit(code)
}

// needBrowser skips a test if there is no browser. In the gate it fails.
func needBrowser(t *testing.T) string {
	t.Helper()
	path, err := chromium()
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("there is no browser: %v; install Debian's package chromium", err)
	}
	t.Skipf("there is no browser: %v; install Debian's package chromium, or set CHROMIUM", err)
	return ""
}

// served starts kvregistry page for a tenant of a server, and returns its address.
func served(t *testing.T, env *kvregistrytest.Env, args ...string) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"page", "--listen", "127.0.0.1:0", "--server",
		env.URL()}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &natstest.Log{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("kvregistry page: %s", said)
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), "http://"); ok {
			go func() { // ends with the command
				for lines.Scan() {
				}
			}()
			return "http://" + strings.TrimRight(strings.Fields(at)[0], "/")
		}
	}
	t.Fatalf("kvregistry page did not start: %s", said)
	return ""
}

// browser starts the browser, which all tests share, and which ends with them.
var browser = sync.OnceValues(func() (context.Context, error) {
	path, err := chromium()
	if err != nil {
		return nil, err
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox, chromedp.WSURLReadTimeout(time.Minute))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, _ := chromedp.NewContext(alloc)
	stopBrowser = func() { _ = chromedp.Cancel(ctx); stop() }
	return ctx, chromedp.Do(ctx)
})

var stopBrowser = func() {}

// tab is an open page.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// open opens a page in a tab of its own. Errors of the page's script fail the test, and so does
// what the browser says of its rules.
func open(t *testing.T, url string, width, height int64) *tab {
	t.Helper()
	needBrowser(t)
	parent, err := browser()
	must(t, err)
	ctx, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx)) // opens the tab
	must(t, chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventExceptionThrown:
			text, _ := json.Marshal(e.ExceptionDetails)
			t.Errorf("the page's script failed: %s", text)
		case *cdplog.EventEntryAdded:
			if e.Entry.Source == "security" || e.Entry.Source == "violation" {
				t.Errorf("the browser says: %s", e.Entry.Text)
			}
		}
	}))
	p := &tab{t, ctx}
	call(p, runtime.Enable, cdp.Empty{})
	call(p, cdplog.Enable, cdp.Empty{})
	p.size(width, height)
	p.run(chromedp.Navigate(url))
	return p
}

// call sends a command to the browser.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	answer, err := chromedp.Call(ctx, command, params)
	must(p.t, err)
	return answer
}

// size sets the size of the window.
func (p *tab) size(width, height int64) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500})
}

// theme sets what the browser says that its user prefers.
func (p *tab) theme(name string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name},
			{Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// run does something in the page.
func (p *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	must(p.t, chromedp.Do(ctx, steps...))
}

// eval evaluates an expression of the page's script.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	must(p.t, err)
	return value
}

// await waits until an expression is true.
func (p *tab) await(expression string) time.Duration {
	p.t.Helper()
	return natstest.Eventually(p.t, natstest.Soon, func() error {
		if !eval[bool](p, fmt.Sprintf("Boolean(%s)", expression)) {
			return fmt.Errorf("%s is not true; the page shows: %s", expression,
				eval[string](p, `document.body.innerText.slice(0, 1000).replaceAll('\n', '|')`))
		}
		return nil
	})
}

// shows waits until the text of the page's visible elements contains each of some texts.
func (p *tab) shows(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		quoted, _ := json.Marshal(text)
		p.await(fmt.Sprintf("document.body.innerText.includes(%s)", quoted))
	}
}

// at goes to a place of the page.
func (p *tab) at(hash string) {
	p.t.Helper()
	quoted, _ := json.Marshal(hash)
	p.run(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("location.hash = %s", quoted)))
}

// keys types.
func (p *tab) keys(keys string) {
	p.t.Helper()
	p.run(chromedp.KeyEvent(keys))
}

// slash types the key that opens the search. A key that the page handles types nothing, but
// chromedp.KeyEvent sends the letter, too.
func (p *tab) slash() {
	p.t.Helper()
	for _, kind := range []input.DispatchKeyEventType{"rawKeyDown", "keyUp"} {
		call(p, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: "/",
			Code: "Slash"})
	}
}

// changed waits until the page's server has kept a change.
func (p *tab) changed(kind kvregistry.Kind, service, status string) {
	p.t.Helper()
	natstest.Eventually(p.t, natstest.Soon, func() error {
		there := eval[bool](p, fmt.Sprintf(`fetch('/api/changes').then((r) => r.json()).then(
			(list) => list.some((e) => e.kind === %q && e.service === %q && e.status === %q))`,
			kind, service, status))
		if !there {
			return fmt.Errorf("there is no change %s of %s", kind, service)
		}
		return nil
	})
}

// rows are the texts of the rows that are in the document, in order.
const rowsText = `[...document.querySelectorAll('.gridbox:not([hidden]) .space:not([hidden]) .row')]
	.sort((a, b) => a.number - b.number).map((e) => e.innerText.replaceAll('\n', ' '))`

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// register registers instances by a process of their own.
func register(t *testing.T, env *kvregistrytest.Env,
	list ...kvregistry.Service) *kvregistry.Registry {
	t.Helper()
	reg := env.Open(kvregistry.TTL(15 * time.Second))
	_, err := reg.RegisterAll(t.Context(), list...)
	must(t, err)
	return reg
}
