package why

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/shown"
	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
)

// Instance says what is known of an instance. The error is that of [cli.Nonef] if that is nothing.
func Instance(ctx context.Context, s *cli.Session, service, id string) (Answer, error) {
	t := &teller{Session: s, Answer: Answer{What: service + "/" + id}}
	err := t.instance(ctx, service, id)
	return t.Answer, err
}

func (t *teller) instance(ctx context.Context, service, id string) error {
	key, err := tenant.ServiceKey(service, id)
	if err != nil {
		return cli.Usage(err)
	}
	list, now, err := scan(ctx, t.Bucket, key)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return cli.Nonef("nothing is known of %s: it was never registered, or went more than %s "+
			"ago", t.What, tenant.TombstoneTTL)
	}
	leases, err := t.Leases(ctx)
	if err != nil {
		return err
	}
	m := list[0]
	t.now, t.At, t.Revision = now, m.at, m.Revision
	if m.Op != tenant.Put {
		return t.gone(ctx, m, leases)
	}
	head := wire.HeadOf(m.Value)
	if !head.Lives() {
		t.State = Unreadable
		t.say(fmt.Sprintf("%s is a key whose value is no registration: look-ups skip it.", t.What))
		t.say("The value was written at " + t.when(m.at) + ".")
		t.say("No reaper removes it, because it names no lease: kvregistry deregister does.")
		return nil
	}
	owner := ownerOf(head, leases)
	t.Owner = &owner
	return t.there(ctx, m, head, leases)
}

// there tells of an instance that is registered.
func (t *teller) there(ctx context.Context, m message, head wire.Head,
	leases []kvregistry.Lease) error {
	service, id, _ := tenant.ParseServiceKey(m.Key)
	snap, err := t.SnapshotContext(ctx, service)
	if err != nil {
		return err
	}
	passing := 0
	for one := range snap.All() {
		if one.Status == kvregistry.Passing {
			passing++
		}
		if one.ID == id {
			t.Instance = &one
		}
	}
	t.State = Registered
	alive := t.Owner.Alive
	if !alive {
		t.State = Dead
	}
	switch one := t.Instance; {
	case one != nil && alive:
		t.say(fmt.Sprintf("%s is registered, and its status is %s.", t.What, one.Status))
	case one != nil:
		t.say(fmt.Sprintf("%s is registered with the status %s, but its owner is dead.", t.What,
			one.Status))
	case head.Format > wire.Format:
		t.say(fmt.Sprintf("%s is registered in format %d, and this program reads %d: update it.",
			t.What, head.Format, wire.Format))
	case !alive:
		t.say(t.What + " is registered, but its owner is dead.")
	default:
		t.State = Unreadable
		t.say(t.What + " has a registration that can't be read: look-ups skip it.")
	}
	text := "The registration was last written at " + t.when(m.at)
	if t.Instance != nil {
		text += ": it has had its status since then, or longer"
	}
	t.say(text + ".")
	if alive {
		t.sayOwner("Its owner", t.Owner)
	} else {
		if err := t.sayEnd(ctx, t.Owner); err != nil {
			return err
		}
		text := "A reaper removes the registration; look-ups may return it until then"
		if t.Instance == nil {
			text += ", but not those of a process that starts now"
		}
		t.say(text + ".")
		if err := t.sayReapers(ctx, leases); err != nil {
			return err
		}
	}
	if t.Instance != nil {
		t.sayPlaces(t.Instance)
		t.sayLookUps(t.Instance, passing)
	}
	return nil
}

// sayPlaces tells how an instance is reached, without the secrets of its URLs.
func (t *teller) sayPlaces(s *kvregistry.Service) {
	for _, at := range []string{s.Address, s.URL} {
		if at != "" {
			t.say("It is reached at " + shown.Redact(at) + ".")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Endpoints)) {
		t.say("Its endpoint " + name + " is at " + shown.Redact(s.Endpoints[name]) + ".")
	}
}

// sayLookUps tells whether look-ups return an instance.
func (t *teller) sayLookUps(s *kvregistry.Service, passing int) {
	switch {
	case s.Status == kvregistry.Passing:
		t.say("Look-ups return it.")
	case s.Status == kvregistry.Warning && passing == 0:
		t.say("Look-ups return it, because no instance of the service passes.")
	case s.Status == kvregistry.Warning:
		t.say(fmt.Sprintf("Look-ups do not return it while others pass: %d do.", passing))
	default:
		t.say(fmt.Sprintf("Look-ups do not return it, because it is %s.", s.Status))
	}
	t.say("A caller may pass it over because calls failed. That is known in the caller's process " +
		"alone, and not in the bucket.")
}

// gone tells of an instance that is not registered any more.
func (t *teller) gone(ctx context.Context, m message, leases []kvregistry.Lease) error {
	at := t.when(m.at)
	switch {
	case m.Op == tenant.Expire: // it took the place of a delete
		t.State, t.At = Unregistered, m.at.Add(-tenant.TombstoneTTL)
		t.say(t.What + " was unregistered by its owner at " + t.when(t.At) + ".")
	case m.note.By != "":
		t.State = Removed
		o := Owner{Host: m.note.Host, PID: m.note.PID}
		t.say(fmt.Sprintf("%s was removed at %s by %s: %s.", t.What, at, m.note.By, o.process()))
	case m.byHand():
		t.State = Removed
		t.say(fmt.Sprintf("%s was removed at %s by hand: the registry's own %s has a TTL, and "+
			"this one has none.", t.What, at, m.Op))
	case m.Op == tenant.Delete:
		t.State = Unregistered
		t.say(t.What + " was unregistered by its owner at " + at + ".")
	default:
		t.State = Reaped
		t.say(t.What + " was reaped at " + at + ", because its lease had ended: its process " +
			"died, froze, or was cut off for longer than its TTL.")
		t.say("The bucket does not tell which process reaped it, nor whose it was.")
		return t.sayReapers(ctx, leases)
	}
	t.say("The bucket does not tell whose it was.")
	return nil
}
