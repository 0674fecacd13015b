package top

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/kvregistry/go/kvregistry"
)

// fleet is a tenant of three services with instances of each status.
func fleet() []kvregistry.Service {
	one := func(name, id string, status kvregistry.Status) kvregistry.Service {
		return kvregistry.Service{Name: name, ID: id, Address: id + ".example:80", Status: status,
			Zone: "north", Version: "1.2", Tags: []string{"blue", id}}
	}
	return []kvregistry.Service{
		one("web", "w1", kvregistry.Passing), one("web", "w2", kvregistry.Critical),
		one("web", "w3", kvregistry.Draining), one("api", "a1", kvregistry.Warning),
		one("db", "d1", kvregistry.Passing), one("db", "d2", kvregistry.Passing),
	}
}

// The screen has each service with its instances by status, in words, and their sum. It follows
// what comes, goes and changes. Seen to fail without the comparison of snapshots.
func TestServices(t *testing.T) {
	t.Parallel()
	s := sit(t, fleet()...)
	s.shows("3 services", "6 instances", "● 3 passing", "▲ 1 warning", "✗ 1 critical",
		"○ 1 draining")
	s.shows("tenant default", s.env.URL())
	s.shows("✓ current")
	s.shows("web", "3", "● 1", "✗ 1", "○ 1")
	if line := s.line("web"); !strings.HasSuffix(strings.TrimRight(line, " "), "-") {
		t.Errorf("a change before the view: %q", line)
	}
	own := s.env.Open()
	s.register(own, "cache", "c")
	s.shows("cache", "1", "● 1", " s ago")
	if err := own.SetStatus("cache", kvregistry.Critical); err != nil {
		t.Fatal(err)
	}
	s.shows("cache", "✗ 1")
	s.env.Kill("c")
	s.shows("3 services", "6 instances")
	if line := s.line("cache"); line != "" {
		t.Errorf("a service without an instance: %q", line)
	}
	_, again := s.Update(s.countLeases()())
	if again == nil || !strings.Contains(s.lines()[1], "1 lease") {
		t.Errorf("leases: %q", s.lines()[1])
	}
}

// Keys sort, reverse, filter, open a service and go back. Seen to fail with an order that does not
// turn, and with a filter that stays behind.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := sit(t, fleet()...)
	s.shows("3 services")
	is := func(after string, want ...string) {
		t.Helper()
		if got := s.order(); !slices.Equal(got, want) {
			t.Errorf("after %s: %q, want %q, of\n%s", after, got, want,
				strings.Join(s.lines(), "\n"))
		}
	}
	is("the start", "api", "db", "web")
	s.press("r")
	is("r", "web", "db", "api")
	s.press("s")
	is("s: by instances", "web", "db", "api")
	s.press("s")
	is("s: by passing", "db", "web", "api")
	s.press("/", "W")
	is("the filter", "web")
	if line := s.lines()[3]; !strings.Contains(line, "/ w") || !strings.Contains(line, "1 of 3") {
		t.Errorf("the filter is not shown: %q", line)
	}
	s.press("q", "enter") // is part of the filter
	is("another letter", "none")
	s.press("/", "backspace", "enter", "enter")
	is("the open service", "w1", "w2", "w3")
	s.press("s")
	is("s: by status", "w3", "w2", "w1")
	for _, word := range []string{"● passing", "✗ critical", "○ draining", "w1.example:80",
		"north", "1.2", "blue w1"} {
		if s.line(word) == "" {
			t.Errorf("%q is not shown:\n%s", word, strings.Join(s.lines(), "\n"))
		}
	}
	s.press("/")
	s.Update(tea.PasteMsg{Content: "crit"})
	is("a filter by status", "w2")
	s.press("esc")
	is("no filter", "w3", "w2", "w1")
	s.press("esc")
	is("back", "web")
	s.press("esc")
	is("no filter of services", "db", "web", "api")
	s.press("?")
	if s.line("sort by the next column") == "" {
		t.Errorf("no help:\n%s", strings.Join(s.lines(), "\n"))
	}
	s.press("?", "end")
	if s.services.selected != "api" || s.press("q") == nil {
		t.Errorf("the cursor is on %s", s.services.selected)
	}
}

// The cursor stays on its row while others come and go. On the first row it stays at the top. Seen
// to fail with a cursor that keeps its place.
func TestCursorFollowsItsRow(t *testing.T) {
	t.Parallel()
	s := sit(t, fleet()...)
	s.shows("3 services")
	own := s.env.Open()
	s.register(own, "aaa", "a")
	if row, _ := s.services.current(); row.snap.Name() != "aaa" {
		t.Errorf("from the first row the cursor went to %s", row.snap.Name())
	}
	s.press("end")
	s.register(own, "zzz", "a")
	s.register(own, "aab", "a")
	if row, _ := s.services.current(); row.snap.Name() != "web" {
		t.Errorf("the cursor went to %s", row.snap.Name())
	}
	s.press("enter")
	if err := own.UnregisterContext(t.Context(), "aab"); err != nil {
		t.Fatal(err)
	}
	s.shows("5 services")
	if s.line("instances of web") == "" || len(s.order()) != 3 {
		t.Errorf("another service is open:\n%s", strings.Join(s.lines(), "\n"))
	}
}

// While NATS is away, the screen keeps what was read and says how old it is. A view that starts
// then says that nothing was read. Seen to fail without the line.
func TestAway(t *testing.T) {
	t.Parallel()
	s := sit(t, fleet()...)
	s.shows("✓ current")
	s.env.StopServer()
	s.shows("! NATS is away: this is as it was", "s ago")
	s.shows("6 instances")
	m := newModel(s.env.Registry, s.env.Conn(), "default")
	m.Update(tea.WindowSizeMsg{Width: 100, Height: 20})
	m.Update(failedMsg{kvregistry.ErrUnavailable})
	if text := m.View().Content; !strings.Contains(text, "nothing was read yet: ") ||
		!strings.Contains(text, kvregistry.ErrUnavailable.Error()) {
		t.Errorf("a view that has nothing:\n%s", ansi.Strip(text))
	}
	s.env.StartServer()
	s.shows("✓ current")
}

// Names of others are escaped, and rows with wide characters align. Everything fits on each size of
// the screen. Seen to fail with names as they are, and with widths in bytes.
func TestForeignNamesOnAnyScreen(t *testing.T) {
	t.Parallel()
	var hostile []kvregistry.Service
	for i, name := range []string{"\x1b[31mred", "日本語サービス", "rtl\u202eabc\u200f", "e\u0301e\u0301",
		"\u05e9\u05dc\u05d5\u05dd", "tab\tline\nnull\x00", strings.Repeat("long", 60)} {
		hostile = append(hostile, kvregistry.Service{Name: name, ID: name, Address: "a:1",
			Zone: name, Version: name, Tags: []string{name}, Host: fmt.Sprint(i)})
	}
	s := sit(t, hostile...)
	s.shows("7 services")
	s.shows(`\x1b[31mred`)
	s.shows(`rtl\u202eabc\u200f`)
	s.shows("日本語サービス")
	at := map[int]bool{}
	for _, line := range s.lines()[5:12] {
		at[ansi.StringWidth(line[:strings.Index(line, "●")])] = true
	}
	if len(at) != 1 {
		t.Errorf("the columns do not align: %v\n%s", at, strings.Join(s.lines(), "\n"))
	}
	for _, keys := range [][]string{nil, {"enter"}, {"/", "e"}, {"enter", "?"}} {
		s.press(keys...)
		for _, width := range []int{1, 2, 9, 10, 11, 30, 47, 80, 100, 300} {
			for _, height := range []int{1, 2, 3, 5, 9, 10, 24} {
				s.size(width, height)
				if err := s.fits(); err != nil {
					t.Fatalf("%d columns and %d lines: %v", width, height, err)
				}
			}
		}
	}
	s.size(0, 0) // as a terminal without a size
	_ = s.View()
}

// A view of 10,000 instances renders the rows that are on the screen, and no others. Seen to fail
// with a table that renders all of them.
func TestTenThousandInstances(t *testing.T) {
	t.Parallel()
	var many []kvregistry.Service
	for i := range 10_000 {
		many = append(many, kvregistry.Service{Name: "big", ID: fmt.Sprintf("i%05d", i),
			Address: "a:1"})
	}
	s := sit(t, many...)
	s.shows("big", "10,000", "● 10,000")
	s.press("enter", "end")
	rendered := 0
	zone := &s.instances.columns[4]
	zone.text = func(s kvregistry.Service) string { rendered++; return s.Zone }
	began := time.Now()
	if line := s.line("i09999"); line == "" || rendered == 0 || rendered > 20 {
		t.Errorf("%d rows were rendered, on a screen of 20", rendered)
	}
	s.press("/", "i", "0", "7", "7", "7", "7")
	t.Logf("the screen and the filter took %s", time.Since(began))
	if rows := s.order(); len(rows) != 1 || rows[0] != "i07777" {
		t.Errorf("the filter gives %q", rows)
	}
}

// The table of instances shows no secret of a URL. Seen to fail with url.Redacted.
func TestSecretsOfURLs(t *testing.T) {
	t.Parallel()
	s := sit(t, kvregistry.Service{Name: "web", ID: "w1", URL: "https://SECRET@h/x"},
		kvregistry.Service{Name: "web", ID: "w2", URL: "https://h/?key=SECRET"})
	s.shows("2 instances")
	s.press("enter")
	s.shows("w1", "https://xxxxx@h/x")
	s.shows("w2", "https://h/?xxxxx")
}
