package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/kvregistry/go/tenant"
)

// handOver is how many TTLs it may take until another process has a slot.
const handOver = 2

// slotState counts the slots that are held, and those whose holder purges. free is how long ago
// the last of them was held, or the bucket was made.
func (f *facts) slotState() (held, ready int, free time.Duration) {
	s := f.scan.value
	free = s.now.Sub(f.leader.value.Stream.Created)
	for n := range tenant.Slots {
		slot, seen := s.slots[tenant.SlotKey(n)]
		if !seen {
			continue
		}
		free = min(free, s.now.Sub(slot.at))
		if slot.held {
			held++
		}
		if slot.ready {
			ready++
		}
	}
	return held, ready, free
}

func noReaper(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	held, _, free := f.slotState()
	_, ttl := f.ttl()
	if held > 0 || len(f.scan.value.holds) == 0 {
		return nil, nil
	}
	s := Error
	if free < handOver*ttl { // a holder may have ended, and another come
		s = Hint
	}
	return finding(s, fmt.Sprintf("no process holds a reaper slot, for %s at least",
		free.Round(time.Second)), "what a dead process registered stays",
		"kvregistry reaper --tenant "+f.cfg.Tenant+
			", on two machines; or let one service reap: no WithoutReaping, and the role "+
			"service"), nil
}

func reaperInDoubt(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	held, ready, _ := f.slotState()
	_, ttl := f.ttl()
	dead := f.dead(handOver * max(ttl, graceLeast))
	if held == 0 || ready > 0 || len(dead) == 0 {
		return nil, nil
	}
	return finding(Warning, fmt.Sprintf("no holder of a reaper slot purges, and %s for longer "+
		"than two "+
		"TTLs", number(len(dead), "registration outlived its lease")),
		"after an outage reapers wait one TTL for the living, and purge nothing meanwhile",
		"see whether their connections last: nats consumer report "+f.stream()+
			"; if they do, restart them"), nil
}

// graceLeast is how long the registrations of a process that died stay at the most, beyond a TTL.
const graceLeast = 3 * time.Second

// dead are the registrations whose lease has been over for longer than a time.
func (f *facts) dead(longer time.Duration) (keys []string) {
	s := f.scan.value
	for _, one := range s.registrations {
		if !one.alive && one.head.Lives() && s.over(one) > longer {
			keys = append(keys, one.key)
		}
	}
	return keys
}

func deadRegistrations(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	_, ttl := f.ttl()
	dead := f.dead(ttl + graceLeast)
	if dead == nil {
		return nil, nil
	}
	return finding(Error, fmt.Sprintf("%s no living lease: %s", registrationsHave(len(dead)),
		some(dead)), "look-ups may give instances of dead processes",
		"kvregistry reaper --tenant "+f.cfg.Tenant+" removes them"), nil
}

func registrationsHave(n int) string {
	if n == 1 {
		return "1 registration has"
	}
	return fmt.Sprintf("%d registrations have", n)
}

func olderVersion(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	var left []string
	if f.scan.value.sweep {
		left = append(left, "the key "+sweepKey)
	}
	for _, one := range f.before.value {
		if one.Name == "reaper" {
			left = append(left, "the consumer reaper")
		}
	}
	if left != nil {
		return finding(Hint, "a version before the reaper slots left "+strings.Join(left, " and "),
			"the consumer keeps what nobody acknowledges; nothing else",
			"if no process of that version runs: nats consumer rm "+f.stream()+" reaper "+
				"--force"), nil
	}
	if f.before.err != nil {
		return nil, f.before.err
	}
	return nil, nil
}

func idleLeases(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	s := f.scan.value
	var idle []string
	for id, one := range s.leases {
		// a process takes its lease before it registers
		began := one.Started
		if one.alive && !s.holds[id] && !began.IsZero() &&
			s.now.Sub(began) > max(one.ttl, graceLeast) {
			idle = append(idle, fmt.Sprintf("%s of process %d on %q", id, one.PID, one.Host))
		}
	}
	if idle == nil {
		return nil, nil
	}
	return finding(Hint, number(len(idle), "lease")+" without a registration or a ticket: "+
		""+some(idle),
		"each is renewed three times in a TTL; a process that unregistered everything keeps its "+
			"lease",
		"end the process if it has nothing to register: kvregistry leases --tenant "+
			""+f.cfg.Tenant), nil
}

func ttls(f *facts) ([]Finding, error) {
	if f.scan.err != nil {
		return nil, f.scan.err
	}
	counts := map[time.Duration]int{}
	for _, one := range f.scan.value.leases {
		if one.alive {
			counts[one.ttl]++
		}
	}
	if len(counts) == 0 {
		return nil, nil
	}
	var found []Finding
	if len(counts) > 1 {
		var list []string
		for ttl, n := range counts {
			list = append(list, fmt.Sprintf("%s (%d)", ttl, n))
		}
		found = finding(Warning, "the leases have unlike TTLs: "+some(list),
			"after an outage a reaper waits for its own TTL, and purges what has a longer one",
			"give all processes one TTL: kvregistry.TTL, or --ttl; see: kvregistry leases "+
				"--tenant "+
				f.cfg.Tenant)
	}
	if least, _ := f.ttl(); least < shortTTL {
		found = append(found, finding(Hint, "there are leases with a TTL of "+least.String(),
			"nats.go waits 2 s between two tries to connect, unless a program sets less",
			"set nats.ReconnectWait below a second, as kvregistry.Dial does, or a TTL of 6 s or "+
				"more")...)
	}
	return found, nil
}

// shortTTL is a TTL that leaves room for a reconnect with the settings of nats.go.
const shortTTL = 6 * time.Second
