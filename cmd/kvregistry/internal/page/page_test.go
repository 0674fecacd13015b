package page

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serveEnv serves the page of a tenant, as a registry of its own sees it.
func serveEnv(t *testing.T, env *kvregistrytest.Env, cfg Config) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(Handler(env.Open(kvregistry.WithoutReaping()), cfg))
	t.Cleanup(func() {
		s.CloseClientConnections() // the streams
		s.Close()
	})
	return s
}

// get reads an answer.
func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	answer, err := http.Get(url)
	must(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	return answer, string(body)
}

// read reads JSON from an address until it is as it should be.
func read[T any](t *testing.T, url string, check func(T) error) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		answer, body := get(t, url)
		var value T
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			return fmt.Errorf("%d %s: %w", answer.StatusCode, body, err)
		}
		return check(value)
	})
}
