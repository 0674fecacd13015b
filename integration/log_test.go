package integration

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// bareHandler is a handler that prints attributes as they are.
type bareHandler struct{ to *natstest.Log }

func (h bareHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h bareHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h bareHandler) WithGroup(string) slog.Handler            { return h }

func (h bareHandler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	_, err := fmt.Fprintln(h.to, text)
	return err
}

// What stands in the bucket can't steer the terminal that log lines are read at, be it in keys or in records, whatever the handler prints. Seen to fail with a key that is logged as it is.
func TestLogLinesAreCalm(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	const evil = "\x1b[2J\u202e\a"
	r := open(t, s, kvregistry.Logger(slog.New(bareHandler{log})))
	if err := r.Observe(kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	register(t, r, kvregistry.Service{Name: evil, ID: evil, Address: "a:1"})
	other := open(t, s)
	register(t, other, kvregistry.Service{Name: evil, ID: evil, Address: "a:2"}) // which fences it
	nc := s.Connect()
	for n, value := range []string{
		"no JSON " + evil, `{"format":1,"lease":"` + evil + `"}`, `{"format":1,"lease":"L","instance":{"id":"` + evil + `"}}`,
		`{"format":1,"lease":"\u001b[2J","owner":"\u001b","instance":{"id":"\u001b[2J","name":"\u001b[2J","status":"\u001b[2J"}}`, `{"format":"` + evil + `"}`,
	} {
		for _, key := range []string{"svc.web." + evil, "svc." + evil + ".x", "lease." + evil, evil, "svc.web."} {
			if err := nc.Publish(fmt.Sprint("$KV.registry_default.", key, n), []byte(value)); err != nil { // each key once: a snapshot tells of the last value alone
				t.Fatal(err)
			}
		}
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if log.Count("can't be read") < 4 || log.Count("took over") < 1 {
			return fmt.Errorf("it was not logged: %d skipped, %q", r.Health().Skipped, log.String())
		}
		return nil
	})
	if text := log.String(); strings.ContainsAny(text, "\x1b\u202e\a") {
		t.Errorf("%q", text)
	}
}

// Each line names the tenant, what is about an instance names that and its service, and what has a cause says it. Seen to fail without the logger's own attribute.
func TestLogLinesNameWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	log := &natstest.Log{}
	logger := kvregistry.Logger(slog.New(slog.NewJSONHandler(log, nil)))
	r := open(t, s, logger, kvregistry.Tenant("acme"))
	register(t, r, web("a"))
	register(t, open(t, s, kvregistry.Tenant("acme")), web("a")) // which fences it
	if err := r.Observe(kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	if err := s.Connect().Publish("$KV.registry_acme.svc.web.b", []byte("no record")); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`"msg":"kvregistry: a newer registration of the same id took over","tenant":"acme","service":"web","instance":"a"`,
		`"msg":"kvregistry: skipped a record that can't be read","tenant":"acme","key":"svc.web.b","service":"web","instance":"b","revision":`, `"cause":"`,
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		for _, text := range want {
			if log.Count(text) == 0 {
				return fmt.Errorf("no line has %s: %s", text, log.String())
			}
		}
		return nil
	})
}

// Each line that the library logs stands in the page on operations. Seen to fail without the lines of the snapshot file, which were missing.
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
					t.Errorf("%s: %q is not there", file, said[1])
				}
			}
		}
	}
	if found < 45 {
		t.Errorf("%d lines were found, want all that there are", found)
	}
}

var logs = regexp.MustCompile(`\.(Debug|Info|Warn|Error|log|Say|SayLater)\(|^\tline[A-Z]\w+ += "`)
