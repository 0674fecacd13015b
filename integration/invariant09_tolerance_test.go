package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
)

// Invariant 9, tolerance: values in the bucket that are no registration change no look-up and stop
// no process. Seen to fail with a cache that drops an instance as soon as its key can't be read.
func TestWhateverStandsInTheBucket(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s), open(t, s)
	register(t, owner, web("a"))
	if err := observer.Observe(kvregistry.Everything); err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web", "a")
	events, err := observer.Watch(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, events, "a", kvregistry.Registered)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if got := ids(t, observer, "web"); !slices.Equal(got, []string{"a"}) {
				t.Errorf("a look-up gave %v", got)
				return
			}
		}
	}()
	kv := bucket(t, s.Connect(), "default")
	good := `{"format":1,"lease":"L","instance":{"id":"x","name":"web","address":"h:1"}}`
	for key, value := range map[string]string{
		"svc.web.garbage":  "\x00\xff no json",
		"svc.web.empty":    "",
		"svc.web.list":     "[]",
		"svc.web.other-id": good,
		"svc.web.no-lease": `{"format":1` +
			`,"instance":{"id":"no-lease","name":"web","address":"h:1"}}`,
		"svc.web.newer": `{"format":2,"lease":"L","instance":"something else"}`,
		"svc.web.status": `{"format":1,"lease":"L"` +
			`,"instance":{"id":"status","name":"web","status":"odd"}}`,
		"svc.web.deep":     strings.Repeat("[", 20000),
		"svc.web":          good,
		"svc.web.too.long": good,
		"svc.web.=61":      good, // a needless escape
		"svc.=ZZ.x":        good,
		"something":        "else",
		"lease":            "x",
		"lease.odd.one":    "x",
		"svc.=2A.x": `{"format":1,"lease":"` + leaseOf(owner) +
			`","instance":{"id":"x","name":"*","address":"h:1"}}`,
		"svc.web.a":                "over a living one's registration",
		"svc.not-observed.x":       "x",
		"svc.web." + longToken():   good,
		"svc." + longToken() + ".": "",
	} {
		if _, err := kv.Put(t.Context(), key, []byte(value)); err != nil &&
			!strings.HasSuffix(key, ".") {
			t.Fatalf("%q: %v", key, err)
		}
	}
	register(t, owner, kvregistry.Service{Name: "next", ID: "b", Address: "h:1"})
	sees(t, observer, natstest.Soon, "next", "b")
	newcomer := open(t, s)
	sees(t, newcomer, natstest.Soon, "web", "a")
	for _, r := range []*kvregistry.Registry{observer, newcomer} {
		if names, err := r.ServiceNames(); err != nil || !slices.Equal(names,
			[]string{"next", "web"}) {
			t.Errorf("ServiceNames gave %q, %v", names, err)
		}
	}
	close(stop)
	<-done
	if told := toldOf(events, "a"); len(told) > 0 { // it may have been missing between two look-ups
		t.Errorf("the live instance was %v", told)
	}
}

// Invariant 9: an entry with headers that imitate the server's is an unreadable one and no more. It
// stops no view, no newcomer and no reaper. Seen to fail with a view that trusts the headers: it
// started new sessions for as long as the key was there, and showed nothing new.
func TestEntriesThatImitateTheServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s), open(t, s)
	register(t, owner, web("a"))
	sees(t, observer, natstest.Soon, "web", "a")
	nc := s.Connect()
	write := func(key, status, description string) {
		t.Helper()
		msg := nats.NewMsg("$KV.registry_default." + key)
		msg.Header = nats.Header{"Status": {status}, "Description": {description},
			"Nats-Last-Consumer": {"7"}}
		_, err := nc.RequestMsgWithContext(t.Context(), msg)
		must(t, err)
	}
	n := 0
	for _, status := range []string{"100", "404", "408", "409", "503"} {
		for _, description := range []string{"", "Idle Heartbeat", "FlowControl Request",
			"Consumer Deleted"} {
			n++
			write(fmt.Sprint("svc.web.odd", n), status, description)
		}
	}
	register(t, owner, web("b"))
	sees(t, observer, natstest.Soon, "web", "a", "b")
	newcomer := open(t, s)
	sees(t, newcomer, natstest.Soon, "web", "a", "b")
	if names, err := newcomer.ServiceNames(); err != nil || !slices.Equal(names, []string{"web"}) {
		t.Errorf("ServiceNames gave %q, %v", names, err)
	}
	// over a live registration, which its owner writes again
	write("svc.web.b", "100", "Idle Heartbeat")
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := bucket(t, nc, "default").Get(t.Context(), "svc.web.b"); err != nil {
			return err
		}
		return nil
	})
	sees(t, observer, natstest.Soon, "web", "a", "b")
	if h := observer.Health(); h.Err != nil || h.Resyncs > 0 || h.Skipped < uint64(n) {
		t.Errorf("%+v", h)
	}
}

// Invariant 9: an instance with a dead owner is removed a second after its key is first overwritten
// by unreadable bytes, even if that is repeated. Seen to fail with a doubt that begins again each
// time: the instance stayed for as long as the writes went on.
func TestJunkThatGoesOn(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	other, observer := open(t, s), open(t, s)
	register(t, other, web("a"))
	kv := bucket(t, s.Connect(), kvregistry.DefaultTenant)
	// no owner writes it again
	_, err := kv.PutString(t.Context(), "svc.web.dead", recordOf("dead", leaseOf(other), ""))
	must(t, err)
	sees(t, observer, natstest.Soon, "web", "a", "dead")
	events, err := observer.Watch(t.Context(), "web")
	must(t, err)
	awaitEvent(t, events, "dead", kvregistry.Registered)
	junk := []string{"x", "", "[]", `{"format":2}`, `{"format":1,"lease":"L"}`,
		strings.Repeat("x", 70_000)}
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; slices.Contains(ids(t, observer, "web"), "dead"); i++ {
		if time.Now().After(deadline) {
			t.Fatal("the instance is still shown")
		}
		_, err := kv.PutString(t.Context(), "svc.web.dead", junk[i%len(junk)])
		must(t, err)
		time.Sleep(50 * time.Millisecond) // the junk comes far more often than once a second
	}
	awaitEvent(t, events, "dead", kvregistry.Expired)
	if told := toldOf(events, "dead"); len(told) > 0 {
		t.Errorf("after that the instance was %v", told)
	}
}

// Invariant 9: a record whose lease is no valid key is unreadable. It prevents no process from
// starting, and no reaper from removing the dead. Seen to fail with records that may name any
// lease: New failed in every process, and no reaping ended.
func TestLeaseThatCanBeNoKey(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	if err := open(t, s).Close(); err != nil { // it makes the bucket
		t.Fatal(err)
	}
	kv := bucket(t, s.Connect(), kvregistry.DefaultTenant)
	for id, lease := range map[string]string{"space": "a b", "dot": "x.", "wild": ">",
		"dead": "NEVERWAS"} {
		doc := `{"format":1,"owner":"O","lease":"` + lease + `","instance":{"id":"` + id +
			`","name":"web","address":"127.0.0.1:1"}}`
		if _, err := kv.PutString(t.Context(), "svc.web."+id, doc); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, s)
	if _, err := r.GetService("web"); !isErr(err, kvregistry.ErrNotFound) {
		t.Errorf("a look-up gave %v, want ErrNotFound", err)
	}
	natstest.Eventually(t, natstest.Soon, func() error {
		if _, err := kv.Get(t.Context(), "svc.web.dead"); err == nil {
			return errStill
		}
		return nil
	})
}

// Invariant 9: a readable but odd record is shown as it is, except that invalid UTF-8 is replaced.
// Such records have control characters, a member twice, or a name in other letters.
func TestOddRecords(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	owner, observer := open(t, s), open(t, s)
	register(t, owner, web("a"))
	kv := bucket(t, s.Connect(), "default")
	for id, rest := range map[string]string{
		"twice":   `,"zone":"first","zone":"last"`,
		"control": `,"zone":"\u001b[2J\u0000"`,
		"bytes":   ",\"zone\":\"\xff\xfe\"",
		"half":    `,"zone":"\ud800"`,
		"null":    `,"zone":null,"tags":null,"metadata":null,"weight":null,"status":null`,
		"tags":    `,"tags":[` + strings.Repeat(`"",`, 20_000) + `""]`,
	} {
		if _, err := kv.PutString(t.Context(), "svc.web."+id,
			recordOf(id, leaseOf(owner), rest)); err != nil {
			t.Fatal(err)
		}
	}
	sees(t, observer, natstest.Soon, "web", "a", "bytes", "control", "half", "null", "tags",
		"twice")
	list, err := observer.GetServices(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"twice": "last", "control": "\x1b[2J\x00", "bytes": "\ufffd\ufffd",
		"half": "\ufffd", "null": ""}
	for _, one := range list {
		if zone, ok := want[one.ID]; ok && one.Zone != zone {
			t.Errorf("%s: zone %q, want %q", one.ID, one.Zone, zone)
		}
	}
}

// Invariant 9: unknown fields are ignored, so that a later format may add some.
func TestUnknownFieldsSurviveARead(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	observer := open(t, s)
	sees(t, observer, natstest.Soon, "web")
	kv := bucket(t, s.Connect(), "default")
	_, err := kv.PutString(t.Context(), "svc.web.x",
		`{"format":1,"lease":"L","new":{"a":[1]}`+
			`,"instance":{"id":"x","name":"web","address":"h:1","colour":"red"}}`)
	if err != nil {
		t.Fatal(err)
	}
	sees(t, observer, natstest.Soon, "web", "x")
	if err := wantAddress(observer, "h:1"); err != nil {
		t.Error(err)
	}
}

func longToken() string { return strings.Repeat("x", 300) }
