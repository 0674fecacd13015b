package why

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
)

// Lock says what is known of a name that one process holds at a time. The error is that of
// [cli.Nonef] if that is nothing.
func Lock(ctx context.Context, s *cli.Session, name string) (Answer, error) {
	t := &teller{Session: s, Answer: Answer{What: "lock/" + name}}
	err := t.lock(ctx, name)
	return t.Answer, err
}

func (t *teller) lock(ctx context.Context, name string) error {
	filter, err := tenant.LockFilter(name)
	if err != nil {
		return cli.Usage(err)
	}
	list, now, err := scan(ctx, t.Bucket, filter)
	if err != nil {
		return err
	}
	leases, err := t.Leases(ctx)
	if err != nil {
		return err
	}
	t.now = now
	slices.SortFunc(list, func(a, b message) int { return cmp.Compare(a.Revision, b.Revision) })
	junk := 0
	for _, m := range list {
		head := wire.HeadOf(m.Value)
		switch {
		case m.Op != tenant.Put:
			t.At = m.at // of the last one that ended
		case !head.Lives():
			junk++
		default:
			t.Waiting = append(t.Waiting, Place{ownerOf(head, leases), m.at, m.Revision})
		}
	}
	switch {
	case len(t.Waiting) > 0:
		err = t.held(ctx)
	case t.At.IsZero() && junk == 0:
		return cli.Nonef("nothing is known of %s: no process has asked for it of late", t.What)
	default:
		t.State = Free
		t.say("No process holds " + t.What + ".")
		if !t.At.IsZero() {
			t.say("The last place in its line ended at " + t.when(t.At) + ": released, given up, " +
				"reaped or removed by hand. The bucket does not tell which.")
		}
	}
	if junk > 0 {
		t.say(fmt.Sprintf("%d keys of its line have a value that is no place in it.", junk))
	}
	return err
}

// held tells of a name that is held. The first place is the holder's.
func (t *teller) held(ctx context.Context) error {
	first := t.Waiting[0]
	t.State, t.Owner, t.Waiting = Held, &first.Owner, t.Waiting[1:]
	t.At, t.Revision = first.Since, first.Revision
	t.say(fmt.Sprintf("%s is held by %s, with the fencing token %d.", t.What,
		t.Owner.process(), first.Revision))
	t.say("It has stood in line since " + t.when(first.Since) + ".")
	if t.Owner.Alive {
		t.sayOwner("The holder", t.Owner)
	} else {
		if err := t.sayEnd(ctx, t.Owner); err != nil {
			return err
		}
		t.say("The holder's process has stopped to hold the name. A reaper removes its place, " +
			"and the next in line has the name then.")
	}
	if len(t.Waiting) == 0 {
		t.say("No other process waits for it.")
	}
	for i, p := range t.Waiting {
		text := fmt.Sprintf("Waits, in place %d: %s, since %s", i+1, p.process(), t.when(p.Since))
		if !p.Alive {
			text += "; its lease has ended, and a reaper removes its place"
		}
		t.say(text + ".")
	}
	return nil
}
