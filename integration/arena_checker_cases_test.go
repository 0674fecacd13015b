package integration

import (
	"strings"
	"testing"
	"time"
)

// said makes an entry of a history, at a time in milliseconds.
func said(ms int, who, what, id string, revision uint64, by string, value int) entry {
	return entry{At: int64(time.Hour) + int64(ms)*1e6, Who: who, What: what, Service: "s0", ID: id,
		Revision: revision, By: by, Value: value}
}

// The checker finds one violation in each of these histories, and none without the offending entry.
func TestCheckerFindsWhatIsBroken(t *testing.T) {
	tenants := map[string]string{"w1": "red", "w2": "red", "w3": "blue"}
	came := said(100, "w2", "event registered", "w1-0", 5, "w1", 1)
	look := func(ms int, answer string) entry {
		return entry{At: int64(time.Hour) + int64(ms)*1e6, Who: "w2", What: saidLook, Err: answer}
	}
	sees := func(ms int, seen map[string]seenInstance) entry {
		return entry{At: int64(time.Hour) + int64(ms)*1e6, Who: "w2", What: saidState,
			State: &state{Seen: seen}}
	}
	one := map[string]seenInstance{"s0/w1-0": {5, "w1", 1}}
	for name, test := range map[string]struct {
		invariant int
		offends   int // the index of the offending entry
		entries   []entry
	}{
		"a living process's instance expires": {2, 1, []entry{came,
			said(5000, "w2", "event expired", "w1-0", 5, "w1", 1)}},
		"an instance is unregistered that nobody took back": {2, 1, []entry{
			came, said(5000, "w2", "event unregistered", "w1-0", 5, "w1", 1),
		}},
		"it expires at once after a kill": {2, 2, []entry{
			came, said(10000, "w1", saidKilled, "", 0, "", 0),
			said(10100, "w2", "event expired", "w1-0", 5, "w1", 1),
		}},
		"a dead process stays too long": {2, 2, []entry{
			came, said(20000, "w1", saidKilled, "", 0, "", 0),
			said(23100, "w2", "event expired", "w1-0", 5, "w1", 1), look(30000, "found"),
		}},
		"a revision goes back": {6, 1,
			[]entry{came, said(200, "w2", "event updated", "w1-0", 4, "w1", 1)}},
		"a revision goes back after the bucket was made anew": {6, 3, []entry{
			came, said(500, "", saidReset, "", 0, "", 0), said(12000, "w2", "event updated", "w1-0",
				4, "w1", 1), said(12100, "w2", "event updated", "w1-0", 3, "w1", 1),
		}},
		"an instance comes twice": {6, 1, []entry{
			came, said(200, "w2", "event registered", "w1-0", 6, "w1", 2),
		}},
		"an instance changes that is not there": {6, 0,
			[]entry{said(200, "w2", "event updated", "w1-0", 6, "w1", 2)}},
		"an instance goes that is not there": {6, 0,
			[]entry{said(200, "w2", "event expired", "w1-0", 6, "w1", 2)}},
		"a change makes no event": {6, 1, []entry{came,
			sees(5000, map[string]seenInstance{"s0/w1-0": {6, "w1", 2}})}},
		"an instance goes without an event":  {6, 1, []entry{came, sees(5000, nil)}},
		"an instance comes without an event": {6, 0, []entry{sees(5000, one)}},
		"a look-up fails": {5, 1, []entry{look(100, "found"),
			look(200, "no servers")}},
		"another tenant's instance is seen": {8, 0, []entry{
			said(100, "w3", "event registered", "w1-0", 5, "w1", 1),
		}},
		"a fenced owner writes": {3, 5, []entry{
			said(100, "w1", "call register", "shared-0", 0, "w1", 1),
			said(110, "w1", "ack register", "shared-0", 0, "w1", 1),
			said(200, "w2", "call register", "shared-0", 0, "w2", 7),
			said(210, "w2", "ack register", "shared-0", 0, "w2", 7),
			said(220, "w2", "event registered", "shared-0", 9, "w2", 7),
			said(400, "w2", "event updated", "shared-0", 11, "w1", 1),
		}},
	} {
		found := check(ttl, tenants, test.entries)
		if len(found) != 1 || found[0].invariant != test.invariant || len(found[0].stretch) == 0 {
			t.Errorf("%s: found %v, want one violation of invariant %d", name, found,
				test.invariant)
		}
		whole := append([]entry(nil), test.entries[:test.offends]...)
		if found := check(ttl, tenants,
			append(whole, test.entries[test.offends+1:]...)); len(found) != 0 {
			t.Errorf("%s: without what offends it found %v", name, found)
		}
	}
}

// A fault excuses its consequences, and the stretch that a violation prints shows the faults before
// it.
func TestCheckerKnowsWhatExcuses(t *testing.T) {
	tenants := map[string]string{"w1": "red", "w2": "red", "w3": "red"}
	came, went := said(100, "w2", "event registered", "w1-0", 5, "w1", 1),
		said(9000, "w2", "event expired", "w1-0", 5, "w1", 1)
	frozen, thawed := said(5000, "", saidFault, "", 0, "w1", 0),
		said(8000, "", saidHealed, "", 0, "w1", 0)
	for name, entries := range map[string][]entry{
		"its owner was frozen": {came, frozen, thawed, went},
		"its owner is frozen":  {came, frozen, went},
		"its owner was killed": {came, said(6500, "w1", saidKilled, "", 0, "", 0), went},
		"its owner takes it back": {came, said(8990, "w1", "call unregister", "w1-0", 0, "w1",
			1), went},
		"its owner is told to close": {came, said(8990, "w1", saidStopped, "", 0, "", 0), went},
		"its owner was frozen when the observer saw nothing": {
			came, frozen, thawed, said(8100, "", saidFault, "", 0, "servers", 0),
			said(15000, "", saidHealed, "", 0, "servers", 0),
			said(15100, "w2", "event expired", "w1-0", 5, "w1", 1),
		},
		"keys were removed by hand": {came, said(8990, "", saidMeddled, "", 0, "", 0), went},
		"the newer one was taken back": {
			said(100, "w1", "call register", "shared-0", 0, "w1", 1),
			said(110, "w1", "ack register", "shared-0", 0, "w1", 1),
			said(200, "w2", "call register", "shared-0", 0, "w2", 7),
			said(210, "w2", "ack register", "shared-0", 0, "w2", 7),
			said(220, "w2", "event registered", "shared-0", 9, "w2", 7),
			said(300, "w2", "call unregister", "shared-0", 0, "w2", 8),
			said(400, "w2", "event updated", "shared-0", 11, "w1", 1),
		},
		"a newer one still was taken back": {
			said(100, "w1", "call register", "shared-0", 0, "w1", 1),
			said(110, "w1", "ack register", "shared-0", 0, "w1", 1),
			said(200, "w2", "call register", "shared-0", 0, "w2", 7),
			said(210, "w2", "ack register", "shared-0", 0, "w2", 7),
			said(220, "w2", "event registered", "shared-0", 9, "w2", 7),
			said(230, "w3", "call register", "shared-0", 0, "w3", 3),
			said(300, "w3", "call unregister", "shared-0", 0, "w3", 4),
			said(400, "w2", "event updated", "shared-0", 11, "w1", 1),
		},
		"the newer one was killed": {
			said(100, "w1", "call register", "shared-0", 0, "w1", 1),
			said(110, "w1", "ack register", "shared-0", 0, "w1", 1),
			said(200, "w2", "call register", "shared-0", 0, "w2", 7),
			said(210, "w2", "ack register", "shared-0", 0, "w2", 7),
			said(220, "w3", "event registered", "shared-0", 9, "w2", 7),
			said(300, "w2", saidKilled, "", 0, "", 0),
			said(4000, "w3", "event updated", "shared-0", 11, "w1", 1),
		},
		"the bucket's life starts over, seen late": {
			came, said(8990, "", saidReset, "", 0, "", 0), said(9010, "w2", "event updated", "w1-0",
				9, "w1", 2), said(21000, "w2", "event updated", "w1-0", 2, "w1", 3),
		},
		"the bucket's life starts over": {came, said(8990, "", saidReset, "", 0, "", 0),
			said(9000, "w2", "event updated", "w1-0", 1, "w1", 1)},
	} {
		if found := check(ttl, tenants, entries); len(found) != 0 {
			t.Errorf("%s: found %v", name, found)
		}
	}
	other, healed := said(5000, "", saidFault, "", 0, "servers", 0),
		said(8000, "", saidHealed, "", 0, "servers", 0)
	found := check(ttl, tenants, []entry{came, other, healed, went})
	if len(found) != 1 || len(found[0].stretch) != 4 || !strings.Contains(found[0].String(),
		"event expired") {
		t.Errorf("a fault of the servers excuses no expiry of a living process: %v", found)
	}
}
