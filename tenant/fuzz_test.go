package tenant

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// FuzzKeys takes two names and a key. No name reaches another's keys, and what is read from a key
// leads back to the key.
func FuzzKeys(f *testing.F) {
	for _, seed := range [][3]string{
		{"web", "1", "svc.web.1"}, {"a.b", "*", "svc.a=2Eb.=2A"}, {">", "\x00", "svc.>"},
		{"=2E", "ä", "svc.a.b.c"}, {"_", "..", "lease.L"}, {"", " ", "sweep"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, service, id, key string) {
		made, err := ServiceKey(service, id)
		if err == nil {
			if strings.Count(made, ".") != 2 || strings.ContainsAny(made, "*> \t\r\n\x00") ||
				!strings.HasPrefix(made, "svc.") {
				t.Errorf("ServiceKey(%q, %q) = %q", service, id, made)
			}
			if s, i, ok := ParseServiceKey(made); !ok || s != service || i != id {
				t.Errorf("ParseServiceKey(%q) = %q, %q, %v; want %q, %q",
					made, s, i, ok, service, id)
			}
			filter, err := ServiceFilter(service)
			if err != nil || strings.TrimSuffix(filter, "*") != made[:strings.LastIndexByte(made,
				'.')+1] {
				t.Errorf("ServiceFilter(%q) = %q, %v; does not have %q", service, filter, err, made)
			}
		}
		if s, i, ok := ParseServiceKey(key); ok {
			if again, err := ServiceKey(s, i); err != nil || again != key {
				t.Errorf("%q is read as %q, %q, whose key is %q, %v", key, s, i, again, err)
			}
		}
		if id, ok := ParseLeaseKey(key); ok && LeaseKey(id) != key {
			t.Errorf("%q is read as lease %q", key, id)
		}
	})
}

// FuzzContent takes headers as the bucket may have them. An entry that is no put has no value, and
// an answer of the server has none either.
func FuzzContent(f *testing.F) {
	for _, seed := range [][2]string{
		{"KV-Operation", "DEL"}, {"KV-Operation", "PURGE"}, {"Nats-Marker-Reason", "MaxAge"},
		{"Nats-Stream", "KV_x"}, {"kv-operation", "del"}, {"", ""},
	} {
		f.Add(seed[0], seed[1], true, []byte("value"))
	}
	f.Fuzz(func(t *testing.T, name, text string, answer bool, data []byte) {
		h := nats.Header{name: []string{text}}
		if answer {
			h.Set(jetstream.StreamHeader, "KV_other")
		}
		value, op := content(h, data)
		if op != Put && value != nil || op > Expire {
			t.Errorf("%v has op %d and value %q", h, op, value)
		}
		if answer && (op != Put || value != nil) {
			t.Errorf("an answer is a %s of %q", op, value)
		}
	})
}
