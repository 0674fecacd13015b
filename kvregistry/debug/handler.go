package debug

import (
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/kvregistry/go/kvregistry"
)

// Option sets something of a [Handler].
type Option func(*handler)

// WithEvents shows what an [Events] keeps. Without it the page shows no events.
func WithEvents(events *Events) Option { return func(h *handler) { h.events = events } }

type handler struct {
	reg    *kvregistry.Registry
	events *Events // nil if none are shown
}

// Handler returns a handler that answers GET and HEAD with what a registry knows, also once it is
// closed. The answer is plain text, or JSON if the request has format=json in its query or accepts
// application/json. Texts from the bucket are quoted, so that they steer no terminal and no
// browser.
//
// The JSON has the members "health", as docs/reliability.md lists them, "observed", "registered",
// "events" and "events_seen". Lists of more than 1,000 entries are cut, and "observed_more" and
// "registered_more" say how many are left out.
func Handler(reg *kvregistry.Registry, opts ...Option) http.Handler {
	h := &handler{reg: reg}
	for _, opt := range opts {
		opt(h)
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET or HEAD", http.StatusMethodNotAllowed)
		return
	}
	write, kind := (*page).text, "text/plain; charset=utf-8"
	switch format := r.URL.Query().Get("format"); {
	case format == "json", format == "" && acceptsJSON(r.Header):
		write, kind = (*page).json, "application/json"
	case format != "" && format != "text":
		http.Error(w, fmt.Sprintf("format %.40q is unknown: use json or text", format),
			http.StatusBadRequest)
		return
	}
	body, err := write(h.page())
	if err != nil {
		http.Error(w, fmt.Sprintf("%q", err), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", kind)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept")
	_, _ = w.Write(body) // a client that is gone needs no answer
}

// acceptsJSON reports whether a request names JSON among what it accepts.
func acceptsJSON(h http.Header) bool {
	for _, line := range h.Values("Accept") {
		for kind := range strings.SplitSeq(line, ",") {
			name, params, err := mime.ParseMediaType(kind)
			if err == nil && name == "application/json" && strings.Trim(params["q"], "0.") == "" &&
				params["q"] != "" {
				continue // q=0 refuses it
			}
			if err == nil && name == "application/json" {
				return true
			}
		}
	}
	return false
}
