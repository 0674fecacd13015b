package page

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// headers go with each answer: a page of another origin neither frames this one, nor runs a script
// in it.
var headers = map[string]string{
	"Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; " +
		"frame-ancestors 'none'; object-src 'none'",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Permissions-Policy":           "camera=(), geolocation=(), microphone=()",
	"Cache-Control":                "no-store",
}

// guard refuses requests for a host that the page is not served as. Otherwise a foreign page whose
// name resolves to this address could read everything.
func guard(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range headers {
			w.Header().Set(name, value)
		}
		if !served(hosts, r.Host) {
			http.Error(w, "this page is not served under that host name: use the address, or "+
				"name the host with --host", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// served reports whether a Host header names this server. An IP address does: nobody can make it
// resolve to another one.
func served(hosts []string, host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || slices.ContainsFunc(hosts, func(name string) bool {
		return strings.EqualFold(name, host)
	})
}

// tokenHeader carries the token of a write.
const tokenHeader = "X-Kvregistry-Token"

// mayWrite reports whether a request comes from this page: its origin is the page's, and it has the
// token that only the page can read.
func (h *handler) mayWrite(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	token := r.Header.Get(tokenHeader)
	return (origin == "http://"+r.Host || origin == "https://"+r.Host) &&
		subtle.ConstantTimeCompare([]byte(token), []byte(h.token)) == 1
}

// longestWrite bounds the body of a write, in bytes: a service and an id.
const longestWrite = 4 << 10

// write answers a request that changes an instance.
func (h *handler) write(do func(ctx context.Context, service, id string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if do == nil {
			fail(w, http.StatusForbidden, "the page only reads: start it with --allow-writes")
			return
		}
		if !h.mayWrite(r) {
			fail(w, http.StatusForbidden, "this request does not come from the page: load it again")
			return
		}
		var of struct{ Service, ID string }
		body := http.MaxBytesReader(w, r.Body, longestWrite)
		if err := json.NewDecoder(body).Decode(&of); err != nil || of.Service == "" || of.ID == "" {
			fail(w, http.StatusBadRequest, "the body is a JSON object with service and id")
			return
		}
		if err := do(r.Context(), of.Service, of.ID); err != nil {
			fail(w, http.StatusConflict, err.Error())
			return
		}
		reply(w, struct {
			Done bool `json:"done"`
		}{true})
	}
}

// reply answers with JSON.
func reply(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that is gone needs no answer
}

// fail answers with an error's text as JSON.
func fail(w http.ResponseWriter, code int, text string) {
	body, _ := json.Marshal(map[string]string{"error": text}) // a map of texts has JSON
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body) // a client that is gone needs no answer
}
