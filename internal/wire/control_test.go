package wire

import (
	"strings"
	"testing"
	"time"
)

// A request and an answer are read as they were made, whatever their texts are.
func TestRequestsAndAnswers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x01", 255)
	for _, one := range [][2]string{{"web", "1"}, {"a.b *>", "网\u202e"}, {long, long}} {
		if service, id, err := ReadRequest(DrainRequest(one[0], one[1])); err != nil ||
			service != one[0] || id != one[1] {
			t.Errorf("%q: read %q, %q, %v", one, service, id, err)
		}
	}
	for _, a := range []Answer{{State: Draining}, {State: Drained}, {Failed, "no \x1b[2J"}} {
		if got, ok := ReadAnswer(a.Encode()); !ok || got != a {
			t.Errorf("%+v: read %+v, %v", a, got, ok)
		}
	}
	for name, bad := range map[string]string{
		"nothing": "", "no JSON": "{", "another type": "7", "no drain": `{"stop":{}}`,
		"no id": `{"drain":{"service":"web"}}`, "no service": `{"drain":{"id":"1"}}`,
		"names without case":  `{"drain":{"Service":"web","ID":"1"}}`,
		"an id of a type":     `{"drain":{"service":"web","id":1}}`,
		"a drain of a type":   `{"drain":"web"}`,
		"more than two names": string(DrainRequest("web", strings.Repeat("x", 5000))),
	} {
		if service, id, err := ReadRequest([]byte(bad)); err == nil {
			t.Errorf("%s: read %q, %q", name, service, id)
		}
		if a, ok := ReadAnswer([]byte(bad)); ok {
			t.Errorf("%s: read %+v", name, a)
		}
	}
}

// A lease can name inboxes only, so that its writer does not choose what others publish to. Seen
// to fail without the check of the first letter, and without that of the tokens.
func TestSubjectsOfLeases(t *testing.T) {
	t.Parallel()
	for _, inbox := range []string{"_INBOX.ABC", "_INBOX_acme.user.ABC", "mine.too.ABC"} {
		v := ReadLease(Lease("O", time.Second, time.Now(), ControlSubject(inbox)))
		if v.Control != inbox+".control" || v.Owner != "O" {
			t.Errorf("%s: %+v", inbox, v)
		}
		if !IsAnswer(AnswerSubject(inbox)) || IsAnswer(ControlSubject(inbox)) {
			t.Errorf("%s: its answers do not count, or its requests count as such", inbox)
		}
	}
	for _, bad := range []string{
		"", ".control", "control", "$KV.registry_acme.svc.web.control", "$JS.API.INFO.control",
		"_INBOX.*.control", "_INBOX.>.control", "_INBOX..control", "_INBOX.a b.control",
		"_INBOX.a\r\nPUB x 0\r\n.control", "_INBOX.\xff.control", "_INBOX.a.control.b",
		"_INBOX." + strings.Repeat("x", 2000) + ".control", "orders.new",
	} {
		if v := ReadLease(Lease("O", time.Second, time.Now(), bad)); v.Control != "" {
			t.Errorf("%q is taken as %q", bad, v.Control)
		}
	}
	if v := ReadLease([]byte(`{"format":1,"owner":"O","control":7}`)); v.Control != "" ||
		v.Owner != "O" {
		t.Errorf("%+v", v)
	}
}

// FuzzRequest reads any bytes as a request, an answer and a lease.
func FuzzRequest(f *testing.F) {
	f.Add(DrainRequest("web", "1"))
	f.Add(Answer{Failed, "x"}.Encode())
	f.Add(Lease("O", time.Second, time.Now(), "_INBOX.a.control"))
	f.Add([]byte(`{"drain":{"service":"web","service":null,"id":"\ud800"}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		if service, id, err := ReadRequest(value); err == nil && (service == "" || id == "") {
			t.Errorf("%q: service %q, id %q", value, service, id)
		}
		ReadAnswer(value)
		if c := ReadLease(value).Control; c != "" && (strings.HasPrefix(c, "$") ||
			strings.ContainsAny(c, " *>\r\n")) {
			t.Errorf("%q: control %q", value, c)
		}
	})
}
