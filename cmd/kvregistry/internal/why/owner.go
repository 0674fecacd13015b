package why

import (
	"context"
	"fmt"
	"strings"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// ownerOf returns what is known of the process with a lease.
func ownerOf(head wire.Head, leases []kvregistry.Lease) Owner {
	o := Owner{ID: head.Owner, Lease: head.Lease}
	for _, l := range leases {
		if l.ID == head.Lease {
			o.Alive, o.Host, o.PID, o.Started = true, l.Host, l.PID, l.Started
			o.TTL, o.Renewed = l.TTL.String(), short(l.Age)
			o.age, o.ttl = l.Age, l.TTL
		}
	}
	return o
}

// process says in words which process an owner is.
func (o *Owner) process() string {
	switch {
	case o.Host != "" && o.PID != 0:
		return fmt.Sprintf("process %d on %s", o.PID, o.Host)
	case o.ID != "":
		return "the registry " + o.ID
	}
	return "a process that does not say which it is"
}

// sayOwner tells of an owner that is alive.
func (t *teller) sayOwner(whose string, o *Owner) {
	text := whose + " is " + o.process()
	if !o.Started.IsZero() {
		text += ", which started at " + t.when(o.Started) + " by its own clock"
	}
	t.say(text + ".")
	text = fmt.Sprintf("Its lease %s has a TTL of %s and was renewed %s ago", o.Lease, o.TTL,
		o.Renewed)
	switch {
	case o.ttl == 0:
		text = fmt.Sprintf("Its lease %s has no TTL: it keeps nothing alive, and a reaper ends it",
			o.Lease)
	case o.age > o.ttl*2/3:
		text += ": two heartbeats are missing, so it may be dead, frozen or cut off"
	}
	t.say(text + ".")
}

// sayEnd tells how the lease of an owner ended, as far as the bucket does.
func (t *teller) sayEnd(ctx context.Context, o *Owner) error {
	list, _, err := scan(ctx, t.Bucket, tenant.LeaseKey(o.Lease))
	if err != nil {
		return err
	}
	how := "is not in the bucket: it ended more than 10 minutes ago, or the bucket was recreated"
	for _, m := range list {
		switch m.Op {
		case tenant.Expire:
			how = "ran out at " + t.when(m.at) + ": the process died, froze, or was cut off for " +
				"longer than its TTL"
		case tenant.Purge, tenant.Delete:
			how = "was given back by its process, or ended by a reaper or by hand, at " +
				t.when(m.at)
		default: // taken since the leases were listed
			how = "is there"
		}
	}
	t.say("Its lease " + o.Lease + " " + how + ".")
	return nil
}

// sayReapers tells which processes reap.
func (t *teller) sayReapers(ctx context.Context, leases []kvregistry.Lease) error {
	var names []string
	for slot := range tenant.Slots {
		entry, taken, err := t.Bucket.Get(ctx, tenant.SlotKey(slot))
		if err != nil {
			return err
		}
		if !taken {
			continue
		}
		o := Owner{ID: wire.HeadOf(entry.Value).Owner}
		for _, l := range leases {
			if l.Owner == o.ID {
				o.Host, o.PID = l.Host, l.PID
			}
		}
		names = append(names, o.process())
	}
	if len(names) == 0 {
		t.say("No process reaps in this tenant now.")
	} else {
		t.say("The tenant's reapers are now: " + strings.Join(names, ", ") + ".")
	}
	return nil
}
