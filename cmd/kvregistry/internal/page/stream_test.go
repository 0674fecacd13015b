package page

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

// listener reads a stream.
type listener struct {
	t     *testing.T
	lines *bufio.Scanner
	model map[string]map[string]instance // what the stream said
}

// listen opens a stream. It ends with the test, and so does a test that waits for it in vain.
func listen(t *testing.T, url string) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*natstest.Soon)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/stream", nil)
	must(t, err)
	answer, err := http.DefaultClient.Do(r)
	must(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the stream answers %s", answer.Status)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &listener{t, lines, map[string]map[string]instance{}}
}

// next reads an event, and keeps what it says of instances.
func (l *listener) next() (kind string, data []byte) {
	l.t.Helper()
	for l.lines.Scan() {
		line := l.lines.Text()
		if text, ok := strings.CutPrefix(line, "event: "); ok {
			kind = text
		}
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			data = []byte(text)
		}
		if line == "" {
			break
		}
	}
	if kind == "" {
		l.t.Fatalf("the stream ended: %v", l.lines.Err())
	}
	if kind == "change" {
		var c change
		must(l.t, json.Unmarshal(data, &c))
		if len(c.Put) > mostPut {
			l.t.Errorf("%d instances in one event", len(c.Put))
		}
		if l.model[c.Service] == nil {
			l.model[c.Service] = map[string]instance{}
		}
		for _, one := range c.Put {
			l.model[c.Service][one.ID] = *one
		}
		for _, id := range c.Gone {
			delete(l.model[c.Service], id)
		}
		if len(l.model[c.Service]) == 0 {
			delete(l.model, c.Service)
		}
	}
	return kind, data
}

// until reads up to an event of a kind.
func (l *listener) until(kind string) []byte {
	l.t.Helper()
	for {
		if got, data := l.next(); got == kind {
			return data
		}
	}
}

// agrees reads until the stream has said what a registry shows.
func (l *listener) agrees(reg *kvregistry.Registry) {
	l.t.Helper()
	late := time.Now().Add(natstest.Soon)
	for {
		l.until("synced")
		all, err := reg.Catalog()
		must(l.t, err)
		want := map[string]map[string]uint64{}
		for s := range all.All() {
			want[s.Name()] = map[string]uint64{}
			for one := range s.All() {
				want[s.Name()][one.ID] = one.Revision
			}
		}
		got := map[string]map[string]uint64{}
		for name, list := range l.model {
			got[name] = map[string]uint64{}
			for id, one := range list {
				got[name][id] = one.Revision
			}
		}
		if maps.EqualFunc(got, want, maps.Equal) {
			return
		}
		if time.Now().After(late) {
			l.t.Fatalf("the stream says %v, want %v", got, want)
		}
	}
}

// The stream begins with everything, and then says what changes: instances that come, change and
// go, and services that go. Seen to fail with a stream that says nothing of what went.
func TestStream(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	var list []kvregistry.Service
	for i := range 3*mostPut + 1 {
		list = append(list, kvregistry.Service{Name: "many", ID: fmt.Sprint(i), Address: "h:1"})
	}
	list = append(list, kvregistry.Service{Name: "web", ID: "a", Address: "h:1",
		Tags: []string{"</script>\n\ndata: x"}})
	_, err := env.RegisterAll(t.Context(), list...)
	must(t, err)
	s := serveEnv(t, env, Config{Tenant: "acme"})
	l := listen(t, s.URL)
	if _, hello := l.next(); !strings.Contains(string(hello), `"tenant":"acme"`) {
		t.Errorf("it begins with %s", hello)
	}
	l.agrees(env.Registry)
	if got := l.model["web"]["a"].Tags; len(got) != 1 || got[0] != "</script>\n\ndata: x" {
		t.Errorf("the tags are %q", got)
	}
	if len(l.model["many"]) != len(list)-1 {
		t.Errorf("%d instances", len(l.model["many"]))
	}
	must(t, env.SetStatus("web", kvregistry.Draining))
	_, err = env.Register(kvregistry.Service{Name: "mail", ID: "m", Address: "h:2"})
	must(t, err)
	l.agrees(env.Registry)
	must(t, env.Unregister("many"))
	l.agrees(env.Registry)
	if _, there := l.model["many"]; there || l.model["web"]["a"].Status != kvregistry.Draining {
		t.Errorf("the stream says %v", l.model)
	}
}

// A page that is too many is refused, and one that closes makes room. Seen to fail with a place
// that is not given back.
func TestClients(t *testing.T) {
	t.Parallel()
	s := serveEnv(t, kvregistrytest.New(t), Config{Clients: 1})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/stream", nil)
	must(t, err)
	first, err := http.DefaultClient.Do(r)
	must(t, err)
	answer, body := get(t, s.URL+"/api/stream")
	if answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "1 pages") {
		t.Errorf("the second one: %s %s", answer.Status, body)
	}
	cancel()
	_ = first.Body.Close()
	natstest.Eventually(t, natstest.Soon, func() error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/api/stream", nil)
		must(t, err)
		again, err := http.DefaultClient.Do(r)
		must(t, err)
		defer again.Body.Close()
		if again.StatusCode != http.StatusOK {
			return errors.New(again.Status)
		}
		return nil
	})
}

// slow is a client that takes nothing until it is told to.
type slow struct {
	*httptest.ResponseRecorder
	may chan struct{}
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.may
	return s.ResponseRecorder.Write(p)
}

func (s *slow) SetWriteDeadline(time.Time) error { return nil }

// What changes while a client takes nothing is sent as its last state. Seen to fail with a client
// that is taken to have what it was not sent.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	env := kvregistrytest.New(t)
	_, err := env.Register(kvregistry.Service{Name: "web", ID: "a", Address: "h:1"})
	must(t, err)
	h := Handler(env.Registry, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/api/stream", nil)
	w := &slow{httptest.NewRecorder(), make(chan struct{}, 1000)}
	done := make(chan struct{})
	go func() { defer close(done); h.ServeHTTP(w, r) }()
	const updates = 50
	for i := range updates {
		must(t, env.Update(kvregistry.Service{Name: "web", ID: "a", Address: "h:1",
			Version: fmt.Sprint(i)}))
	}
	for range 5 {
		w.may <- struct{}{} // health, the catalog, and what followed
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if len(w.may) > 0 {
			return errors.New("it has not taken its turns")
		}
		return nil
	})
	cancel()
	close(w.may)
	<-done
	text := w.Body.String()
	if n := strings.Count(text, "event: change"); n == 0 || n > 3 {
		t.Errorf("%d changes of %d: %s", n, updates, text)
	}
	if !strings.Contains(text, fmt.Sprintf(`"version":"%d"`, updates-1)) {
		t.Errorf("the last state was not sent: %s", text)
	}
}
