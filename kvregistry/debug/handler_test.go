package debug

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// newRegistry returns a registry for a test.
func newRegistry(t *testing.T, s *natstest.Server, opts ...kvregistry.Option) *kvregistry.Registry {
	t.Helper()
	reg, err := kvregistry.New(t.Context(), s.Connect(), append([]kvregistry.Option{
		kvregistry.Logger((&natstest.Log{}).Logger())}, opts...)...)
	must(t, err)
	t.Cleanup(func() { _ = reg.Close() })
	return reg
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ask asks a handler.
func ask(t *testing.T, h http.Handler, method, query string, header ...string) (*http.Response,
	string) {
	t.Helper()
	r := httptest.NewRequest(method, "/debug"+query, nil)
	for _, accept := range header {
		r.Header.Add("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

// onPage is the page as a reader of its JSON has it.
type onPage struct {
	Health struct {
		OK    bool
		Lease string
		Holds []struct{ Name string }
	}
	Observed       []observed
	ObservedMore   int `json:"observed_more"`
	Registered     []registered
	RegisteredMore int `json:"registered_more"`
	Events         []event
	EventsSeen     uint64 `json:"events_seen"`
}

func askJSON(t *testing.T, h http.Handler) (s onPage) {
	t.Helper()
	resp, body := ask(t, h, http.MethodGet, "?format=json")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	must(t, json.Unmarshal([]byte(body), &s))
	return s
}

// The page shows what is observed, registered and held, and the last events, in both forms, and
// also once the registry is closed. It shows no password. Seen to fail with a URL as it is.
func TestPage(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var events Events
	reg := newRegistry(t, s, kvregistry.OnEvent(events.Add))
	h := Handler(reg, WithEvents(&events))
	_, err := reg.Register(kvregistry.Service{Name: "web", ID: "1", Version: "1.2", Zone: "north",
		Address: "10.0.0.1:80", URL: "http://user:SECRET@10.0.0.1/?key=SECRET",
		Metadata:  map[string]string{"password": "SECRET"},
		Endpoints: map[string]string{"metrics": "http://:SECRET@10.0.0.1:9100"}})
	must(t, err)
	must(t, reg.ObserveContext(t.Context(), "web"))
	must(t, reg.ObserveContext(t.Context(), "none"))
	_, err = reg.Exclusive(t.Context(), "leader")
	must(t, err)
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, count := events.list(); count < 1 {
			return errors.New("no event came")
		}
		return nil
	})

	got := askJSON(t, h)
	snap, err := reg.Snapshot("web")
	must(t, err)
	for i := range got.Observed {
		if age := got.Observed[i].Age; age == nil || *age < 0 {
			t.Errorf("%q has no age", got.Observed[i].Name)
		}
		got.Observed[i].Age = nil
	}
	for i := range got.Events {
		if got.Events[i].At.IsZero() {
			t.Error("an event has no time")
		}
		got.Events[i].At = events.last[0].At
	}
	none, err := reg.Snapshot("none")
	must(t, err)
	want := onPage{
		Observed: []observed{{Name: "none", Revision: none.Revision()},
			{Name: "web", Instances: 1, Revision: snap.Revision()}},
		Registered: []registered{{Service: "web", Instance: "1", Status: kvregistry.Passing,
			Version: "1.2", Zone: "north", Address: "10.0.0.1:80",
			URL:       "http://xxxxx@10.0.0.1/?xxxxx",
			Endpoints: map[string]string{"metrics": "http://xxxxx@10.0.0.1:9100"},
			Revision:  snap.Revision()}},
		Events: []event{{At: events.last[0].At, Kind: kvregistry.Registered, Service: "web",
			Instance: "1", Status: kvregistry.Passing, Revision: snap.Revision()}},
		EventsSeen: 1,
	}
	want.Health = got.Health
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the page (-want +got):\n%s", diff)
	}
	if !got.Health.OK || got.Health.Lease != "held" || len(got.Health.Holds) != 1 {
		t.Errorf("the health is %+v", got.Health)
	}

	_, text := ask(t, h, http.MethodGet, "")
	for _, part := range []string{
		`"ok": true`, `"none"  instances 0`, `"web"   instances 1`, `"web"  "1"  passing`,
		`address "10.0.0.1:80"`, `"http://xxxxx@10.0.0.1/?xxxxx"`, `endpoint "metrics"`,
		`"leader"  token `, "the last 1 of 1", `registered  "web"  "1"  "passing"`,
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the text has no %s:\n%s", part, text)
		}
	}
	_, asJSON := ask(t, h, http.MethodGet, "", "application/json")
	if strings.Contains(text+asJSON, "SECRET") {
		t.Errorf("the page shows a password:\n%s\n%s", text, asJSON)
	}

	must(t, reg.Close())
	if _, text := ask(t, h, http.MethodGet, ""); !strings.Contains(text,
		"registry is closed") {
		t.Errorf("the page of a closed registry:\n%s", text)
	}
	if _, text := ask(t, Handler(reg), http.MethodGet, ""); !strings.Contains(text, "not kept") {
		t.Errorf("the page without events:\n%s", text)
	}
}

// A request changes nothing of what is observed, and waits for nothing: neither for a name that was
// not read yet nor for everything. Seen to fail with Snapshot and Catalog in place of their twins
// with a context.
func TestRequestWatchesNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg := newRegistry(t, s, kvregistry.OnEvent(new(Events).Add))
	h := Handler(reg, WithEvents(new(Events)))
	ask(t, h, http.MethodGet, "")
	if names := reg.ObservedServices(); len(names) > 0 {
		t.Errorf("after a request the registry observes %q", names)
	}
	if names := natstest.Consumers(t, s.Connect(), "KV_registry_default"); len(names) > 1 {
		t.Errorf("after a request there are the consumers %q, want the reaper's alone", names)
	}

	s.Down()
	nc, err := kvregistry.Dial(s.URL())
	must(t, err)
	t.Cleanup(nc.Close)
	late, err := kvregistry.New(t.Context(), nc, kvregistry.Timeout(natstest.Soon),
		kvregistry.Logger((&natstest.Log{}).Logger()))
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = late.Leave(ctx)
	})
	must(t, late.Observe("web"))
	must(t, late.Observe(kvregistry.Everything))
	got := askJSON(t, Handler(late)) // Timeout is as long as the test may take
	want := []observed{{Name: "web", Error: "not read yet"},
		{Name: kvregistry.Everything, Error: "not read yet"}}
	if diff := cmp.Diff(want, got.Observed); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
}

// Names from the bucket that have control characters, terminal escapes, HTML and marks of direction
// are quoted in both forms. Seen to fail with names as they are.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	var events Events
	reg := newRegistry(t, s, kvregistry.OnEvent(events.Add))
	other := newRegistry(t, s)
	hostile := "a\x1b[2J\u009b31m\u202e\x07\r\n<script>alert(1)</script>"
	must(t, reg.ObserveContext(t.Context(), kvregistry.Everything))
	for i, owner := range []*kvregistry.Registry{other, reg} {
		_, err := owner.Register(kvregistry.Service{Name: fmt.Sprint(hostile, i), ID: hostile,
			Version: hostile, Address: "h:1"})
		must(t, err)
	}
	_, err := reg.Exclusive(t.Context(), hostile)
	must(t, err)
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, count := events.list(); count < 2 {
			return fmt.Errorf("%d events, want 2", count)
		}
		return nil
	})
	h := Handler(reg, WithEvents(&events))
	for _, format := range []string{"text", "json"} {
		resp, body := ask(t, h, http.MethodGet, "?format="+format)
		wantPrintable(t, body)
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Error("a browser may guess what the page is")
		}
	}
	got := askJSON(t, h)
	if len(got.Observed) != 3 || got.Observed[0].Instances != 2 ||
		got.Registered[0].Version != hostile || got.Events[0].Instance != hostile {
		t.Errorf("the page does not show all: %+v", got)
	}
}

// A long list is cut, and says by how much. Seen to fail without the cut.
func TestLongLists(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	reg := newRegistry(t, s)
	list := make([]kvregistry.Service, most+5)
	for i := range list {
		list[i] = kvregistry.Service{Name: fmt.Sprint(i), ID: "1", Address: "h:1"}
	}
	_, err := reg.RegisterAll(t.Context(), list...)
	must(t, err)
	must(t, reg.ObserveContext(t.Context(), kvregistry.Everything))
	h := Handler(reg)
	natstest.Eventually(t, natstest.Soon, func() error {
		got := askJSON(t, h)
		if len(got.Observed) != most || got.ObservedMore != 6 || len(got.Registered) != most ||
			got.RegisteredMore != 5 || got.Observed[0].Instances != len(list) {
			return fmt.Errorf("%d and %d observed, %d and %d registered", len(got.Observed),
				got.ObservedMore, len(got.Registered), got.RegisteredMore)
		}
		return nil
	})
	if _, text := ask(t, h, http.MethodGet, ""); !strings.Contains(text, "and 6 more\n") {
		t.Errorf("the text does not say how many are left out:\n%.2000s", text)
	}
}

// The form follows format in the query, and else the Accept header. Only GET and HEAD are answered.
// Seen to fail with a search for the text "application/json" in the header.
func TestForms(t *testing.T) {
	t.Parallel()
	h := Handler(newRegistry(t, natstest.Start(t)))
	const text, asJSON = "text/plain; charset=utf-8", "application/json"
	for _, tc := range []struct {
		query  string
		accept []string
		want   string
	}{
		{"", nil, text},
		{"", []string{"text/html,application/xhtml+xml,*/*;q=0.8"}, text},
		{"", []string{"application/json"}, asJSON},
		{"", []string{"text/html, application/json;q=0.5"}, asJSON},
		{"", []string{"text/html", "Application/JSON"}, asJSON},
		{"", []string{"application/json;q=0.0"}, text},
		{"", []string{"application/json-seq"}, text},
		{"?format=json", nil, asJSON},
		{"?format=json", []string{"text/plain"}, asJSON},
		{"?format=text", []string{"application/json"}, text},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			resp, _ := ask(t, h, method, tc.query, tc.accept...)
			if got := resp.Header.Get("Content-Type"); got != tc.want || resp.StatusCode != 200 {
				t.Errorf("%s %q with %q is answered with %s, %q, want %q", method, tc.query,
					tc.accept, resp.Status, got, tc.want)
			}
		}
	}
	if resp, _ := ask(t, h, http.MethodGet, "?format=xml"); resp.StatusCode != 400 {
		t.Errorf("an unknown format: %s", resp.Status)
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodOptions} {
		resp, _ := ask(t, h, method, "")
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s, allowed %q", method, resp.Status, resp.Header.Get("Allow"))
		}
	}
}
