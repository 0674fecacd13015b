package integration

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// violation is a broken invariant, with the stretch of history that shows it.
type violation struct {
	invariant int
	text      string
	stretch   []entry
}

func (v violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "invariant %d: %s", v.invariant, v.text)
	if len(v.stretch) == 0 {
		return b.String()
	}
	began := v.stretch[0].At
	for _, e := range v.stretch {
		fmt.Fprintf(&b, "\n    %9.3f s  %-10s %-20s %s %s rev %d by %s value %d %s",
			float64(e.At-began)/1e9, e.Who, e.What, e.Service, e.ID, e.Revision, e.By, e.Value,
			e.Err)
	}
	return b.String()
}

// checker reads a history once, and keeps what its checks need.
type checker struct {
	ttl      time.Duration
	entries  []entry
	tenantOf map[string]string // of each worker
	// by observer and instance: the last event, if the instance is there
	shown map[string]map[string]entry
	// by observer and instance: the event of the highest revision
	highest  map[string]map[string]entry
	resets   []int64          // when the bucket was deleted, and when it was back
	answered map[string]bool  // workers whose look-ups have answered
	killed   map[string]int64 // when it was killed
	stopped  map[string]int64 // when it was told to close
	ending   map[string]int64 // when an instance's owner began to unregister it
	// by worker, or "" for all: faults that may cost the lease
	hurt   map[string][]stretch
	bucket []stretch          // when the bucket or single keys were changed by hand
	writes map[string][]entry // the begun and acknowledged writes of each shared instance
	found  []violation
}

func (c *checker) fault(_ int, e entry) {
	if e.What == saidReset || e.What == saidHealed && strings.HasPrefix(e.ID, "bucket deleted") {
		c.resets = append(c.resets, e.At)
	}
	switch e.What {
	case saidFault:
		c.hurt[e.By] = append(c.hurt[e.By], stretch{from: e.At})
	case saidHealed:
		for i, s := range c.hurt[e.By] { // of two at once, any one
			if s.to == 0 {
				c.hurt[e.By][i].to = e.At
				break
			}
		}
	case saidReset, saidMeddled:
		c.bucket = append(c.bucket, stretch{e.At, e.At})
	case saidKilled:
		c.killed[e.Who] = e.At
	case saidStopped:
		c.stopped[e.Who] = e.At
	}
}

func (c *checker) one(i int, e entry) {
	switch {
	case e.What == saidLook:
		c.look(i, e)
	case e.What == saidCatalog:
		c.fail(6, i, "", "%s: %s", e.Who, e.Err)
	case e.What == saidState:
		c.fold(i, e)
	case e.What == saidCall+"unregister":
		c.ending[e.Service+"/"+e.ID] = e.At
		c.wrote(e)
	case strings.HasPrefix(e.What, saidAck), strings.HasPrefix(e.What, saidCall):
		c.wrote(e)
	case strings.HasPrefix(e.What, saidEvent) && e.Service != "":
		c.event(i, e)
	}
}

// look checks invariant 5: once a look-up has answered, look-ups go on answering, during every
// fault.
func (c *checker) look(i int, e entry) {
	if e.Err == "found" || e.Err == "not found" {
		c.answered[e.Who] = true
	} else if c.answered[e.Who] {
		c.fail(5, i, "", "a look-up failed that had answered before: %s", e.Err)
	}
}

func (c *checker) event(i int, e entry) {
	key := e.Service + "/" + e.ID
	if c.shown[e.Who] == nil {
		c.shown[e.Who] = map[string]entry{}
	}
	if c.highest[e.Who] == nil {
		c.highest[e.Who] = map[string]entry{}
	}
	was, there := c.shown[e.Who][key]
	if c.tenantOf[e.By] != c.tenantOf[e.Who] {
		c.fail(8, i, key, "%s saw an instance of another tenant", e.Who)
	}
	switch kind := strings.TrimPrefix(e.What, saidEvent); kind {
	case "fenced", "lease-lost":
	case "registered", "updated":
		if there == (kind == "registered") {
			c.fail(6, i, key, "%s was told %q of an instance that it already had: %v", e.Who,
				kind, there)
		}
		if high := c.highest[e.Who][key]; e.Revision <= high.Revision &&
			!c.otherLife(high.At, e.At) && !during(c.bucket, e.At, e.At, 10*time.Second) {
			c.fail(6, i, key, "%s saw revision %d after %d", e.Who, e.Revision, high.Revision)
		}
		c.shown[e.Who][key] = e
		c.highest[e.Who][key] = e
		c.overwrite(i, key, was, e)
	default:
		if !there {
			c.fail(6, i, key, "%s was told %q of an instance that was not there", e.Who, kind)
			return
		}
		delete(c.shown[e.Who], key)
		c.gone(i, key, kind, was, e)
	}
}

// otherLife reports whether the earlier of two events of an instance may be from the deleted
// bucket, and the later one from the new bucket. Writes from before the deletion may be seen for a
// while after it.
func (c *checker) otherLife(earlier, later int64) bool {
	return slices.ContainsFunc(c.resets,
		func(at int64) bool { return earlier <= at+int64(10*time.Second) && at <= later })
}

// gone checks invariant 2: an instance is removed only if its owner unregisters it, dies, or may
// have lost its lease.
func (c *checker) gone(i int, key, kind string, was, e entry) {
	if strings.HasPrefix(e.ID, "shared") || during(c.bucket, e.At, e.At, 10*time.Second) {
		return
	}
	owner := was.By
	begun, ending := c.ending[key]
	stopped, stopping := c.stopped[owner]
	switch killed, dead := c.killed[owner]; {
	case ending && begun <= e.At, stopping && stopped <= e.At:
	case dead && killed <= e.At:
		// its last heartbeat was at most a third of a TTL earlier
		early := killed + int64(c.ttl)/2
		if kind == "expired" && e.At < early && !c.troubled(killed-int64(2*c.ttl), e.At) {
			c.fail(2, i, key, "it expired %s after its owner was killed: its lease can't have "+
				"run out", time.Duration(e.At-killed))
		}
	case during(c.hurt[owner], c.blindSince(e.Who, e.At)-int64(c.ttl), e.At, 2*c.ttl):
	default:
		c.fail(2, i, key, "%s saw %q of an instance whose owner lives and is connected", e.Who,
			kind)
	}
}

// blindSince returns the time from which an observer may have been unable to see an instance that
// it was told of at a time, because of overlapping faults of it or of the servers.
func (c *checker) blindSince(who string, at int64) int64 {
	faults := slices.Concat(c.hurt[who], c.hurt["servers"])
	slices.SortFunc(faults, func(a, b stretch) int { return cmp.Compare(b.from, a.from) })
	for _, s := range faults { // the latest fault comes first
		if s.from <= at && (s.to == 0 || s.to+int64(c.ttl) >= at) {
			at = s.from
		}
	}
	return at
}

// wrote keeps the writes of instances that several workers fight for.
func (c *checker) wrote(e entry) {
	if strings.HasPrefix(e.ID, "shared") {
		key := e.Service + "/" + e.ID
		c.writes[key] = append(c.writes[key], e)
	}
}

// overwrite checks invariant 3: an owner whose write was acknowledged before another's began does
// not overwrite that one.
func (c *checker) overwrite(i int, key string, was, e entry) {
	if was.By == "" || was.By == e.By || during(c.bucket, e.At, e.At, 10*time.Second) {
		return
	}
	var ack, begun int64
	for _, w := range c.writes[key] {
		switch {
		case w.By == e.By && w.Value == e.Value && strings.HasPrefix(w.What, saidAck) &&
			w.Err == "":
			ack = w.At
		case w.By == was.By && w.Value == was.Value && w.What == saidCall+"register":
			begun = w.At
		}
	}
	if ack != 0 && begun != 0 && ack < begun && !c.vacated(key, begun, e.At) {
		c.fail(3, i, key, "%s's value %d was written over %s's %d, which came later", e.By, e.Value,
			was.By, was.Value)
	}
}

// vacated reports whether a later owner unregistered an instance, or lost its lease, before another
// time. An older owner that saw none of this finds its key gone, and writes it again.
func (c *checker) vacated(key string, from, to int64) bool {
	newer := map[string]bool{}
	for _, w := range c.writes[key] {
		switch {
		case w.At < from || w.At > to:
		case w.What == saidCall+"register":
			newer[w.By] = true
		case w.What == saidCall+"unregister" && newer[w.By]:
			return true
		}
	}
	within := func(at int64) bool { return from < at && at < to }
	for who := range newer {
		if within(c.killed[who]) || within(c.stopped[who]) {
			return true
		}
		for _, s := range c.hurt[who] {
			if within(s.from) && (s.to == 0 || s.to-s.from > int64(c.ttl)*2/3) {
				return true
			}
		}
	}
	return false
}

// fold checks invariants 4 and 6: a worker's cache equals the sum of its events. Events follow the
// cache, so a difference counts only if no event of the instance comes within the next second.
func (c *checker) fold(i int, e entry) {
	for key := range mergedKeys(c.shown[e.Who], e.State.Seen) {
		event, told := c.shown[e.Who][key]
		seen, there := e.State.Seen[key]
		if told == there && event.By == seen.By && event.Value == seen.Value ||
			c.eventSoon(i, e.Who, key) {
			continue
		}
		c.fail(6, i, key, "%s sees %v of an instance, and its events said %v", e.Who, seen, event)
	}
}

func (c *checker) eventSoon(i int, who, key string) bool {
	at := c.entries[i].At // a state is printed a moment after it was taken
	for _, e := range c.entries {
		if e.At < at-int64(50*time.Millisecond) {
			continue
		}
		if e.At > at+int64(time.Second) {
			return false
		}
		if e.Who == who && strings.HasPrefix(e.What, saidEvent) && e.Service+"/"+e.ID == key {
			return true
		}
	}
	return false
}

// crashes checks invariant 2: if nothing else goes wrong, a killed process's instances are gone a
// second after its TTL.
func (c *checker) crashes() {
	for _, who := range slices.Sorted(maps.Keys(c.killed)) {
		at := c.killed[who]
		due := at + int64(c.ttl+time.Second)
		if c.troubled(at-int64(2*c.ttl), due) || c.entries[len(c.entries)-1].At < due {
			continue
		}
		for i, e := range c.entries {
			if strings.HasPrefix(e.What, saidEvent+"expired") && e.By == who && e.At > due {
				c.fail(2, i, e.Service+"/"+e.ID, "%s saw it expire %s after its owner was killed",
					e.Who, time.Duration(e.At-at))
			}
		}
	}
}

// troubled reports whether a fault was active in a time, or so shortly before it that reapers may
// still doubt.
func (c *checker) troubled(from, to int64) bool {
	for _, list := range c.hurt {
		if during(list, from, to, 2*max(c.ttl, 3*time.Second)) {
			return true
		}
	}
	return during(c.bucket, from, to, 10*time.Second)
}

// fail records a violation at an entry, with the earlier entries of the same instance and the
// faults.
func (c *checker) fail(invariant, i int, key, format string, args ...any) {
	c.found = append(c.found, violation{invariant, fmt.Sprintf(format, args...),
		before(c.entries[:i+1], key, c.entries[i].Who)})
}

// stretch is a time with a fault. Its end, to, is 0 while it lasts.
type stretch struct{ from, to int64 }

// during reports whether one of the stretches, extended by d at its end, touches the time from..to.
func during(list []stretch, from, to int64, d time.Duration) bool {
	return slices.ContainsFunc(list, func(s stretch) bool {
		return s.from <= to &&
			(s.to == 0 || s.to+int64(d) >= from)
	})
}

// check returns every broken invariant that a history shows by itself.
func check(ttl time.Duration, tenantOf map[string]string, entries []entry) []violation {
	c := &checker{
		ttl: ttl, entries: entries, tenantOf: tenantOf, shown: map[string]map[string]entry{},
		highest:  map[string]map[string]entry{},
		answered: map[string]bool{}, killed: map[string]int64{}, stopped: map[string]int64{},
		ending: map[string]int64{},
		hurt:   map[string][]stretch{}, writes: map[string][]entry{},
	}
	// faults come first, because an event may be older than the entry that ends its fault
	for i, e := range entries {
		c.fault(i, e)
	}
	for i, e := range entries {
		c.one(i, e)
	}
	c.crashes()
	return c.found
}

func mergedKeys[A, B any](a map[string]A, b map[string]B) map[string]bool {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	return keys
}

// before returns the last entry of a history, with the earlier entries of an instance and the
// faults. Events are those of the observer who, or of all observers if who is empty.
func before(entries []entry, key, who string) (stretch []entry) {
	const most = 16
	for j := len(entries) - 1; j >= 0 && len(stretch) < most; j-- {
		e := entries[j]
		about := key != "" && e.Service+"/"+e.ID == key && (who == "" || e.Who == who ||
			!strings.HasPrefix(e.What, saidEvent))
		if j == len(entries)-1 || about ||
			slices.Contains([]string{saidFault, saidHealed, saidKilled, saidStopped, saidReset,
				saidMeddled}, e.What) {
			stretch = append(stretch, e)
		}
	}
	slices.Reverse(stretch)
	return stretch
}
