package operator

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/internal/stream"
)

// foreign returns subjects of a stream and its bucket: JetStream's API with each kind of name that
// ends a request, and acknowledgements and answers of flow control in both of their forms.
func foreign(stream, bucket string, consumers ...string) []string {
	var list []string
	for _, op := range natstest.StreamRequests {
		list = append(list, "$JS.API."+op+"."+stream)
	}
	for _, c := range consumers {
		for _, op := range natstest.ConsumerRequests {
			list = append(list, "$JS.API."+op+"."+stream+"."+c)
		}
		list = append(list, "$JS.API.CONSUMER.CREATE."+stream+"."+c+".$KV."+bucket+".svc.>")
		for _, before := range []string{"", "hub.HASH.", "_.HASH."} {
			list = append(list, "$JS.ACK."+before+stream+"."+c+".1.1.1.1.1",
				"$JS.FC."+before+stream+"."+c+".x")
		}
		list = append(list, "$JS.ACK.hub.HASH."+stream+"."+c+".1.1.1.1.1.token")
		// the sender may choose what follows the consumer's name
		for _, one := range consumers {
			list = append(list, "$JS.ACK."+stream+"."+c+"."+one+"."+c+".1.1.1",
				"$JS.ACK."+stream+"."+c+"."+c+"."+one+".1.1.1", "$JS.FC."+stream+"."+c+"."+one)
		}
	}
	for _, key := range []string{"svc.web.a", "svc.web.>", "lease.L", "lock.web.a", "sweep",
		"other"} {
		list = append(list, "$KV."+bucket+"."+key, "$JS.API.DIRECT.GET."+stream+".$KV."+bucket+"."+
			key)
	}
	inbox := "_INBOX_" + strings.TrimPrefix(bucket, "registry_")
	return append(list, "$KV."+bucket+".svc.KV_registry_acme.reaper",
		"$KV."+bucket+".svc.registry_acme", inbox+".user.x.control", inbox+".user.x.answer",
		inbox+".acme.acme.1", "_INBOX.x.control", "_INBOX.x.answer")
}

// allowed reports whether a server lets a user publish.
func (a Access) allowed(subject string) bool {
	matches := func(list []string) bool {
		for _, filter := range list {
			if server.SubjectMatchesFilter(subject, filter) {
				return true
			}
		}
		return false
	}
	return matches(a.Publish)
}

// Invariant 8: no role of a tenant may publish to a subject of another's stream, for any consumer
// name. Seen to fail with acknowledgements of any length.
func TestNoRoleReachesAnotherStream(t *testing.T) {
	for _, role := range Roles() {
		var services []string
		if role == RoleRegistrar {
			services = []string{"web", "**", ">", "registry_other"}
		}
		a, err := Permissions("acme", role, services...)
		if err != nil {
			t.Fatal(err)
		}
		if !a.allowed("$JS.API.STREAM.INFO.KV_registry_acme") {
			t.Errorf("%s may nothing", role)
		}
		for _, subject := range foreign("KV_registry_other", "registry_other", "reaper", "view-1",
			"KV_registry_acme", "registry_acme") {
			if a.allowed(subject) {
				t.Errorf("%s of acme may publish to %s", role, subject)
			}
		}
	}
}

// The word for all services is not a service's name: its registrar could register nothing.
func TestNoRegistrarOfAll(t *testing.T) {
	if a, err := Permissions("acme", RoleRegistrar, "web", "*"); !errors.Is(err,
		tenant.ErrInvalidName) || a.Publish != nil {
		t.Errorf("got %v, %v", a, err)
	}
}

// An inbox belongs to one user of one tenant. Seen to fail with inboxes of a user's name alone.
func TestInboxes(t *testing.T) {
	seen := map[string]string{}
	for _, who := range [][2]string{{"acme", "web"}, {"other", "web"}, {"acme", "web.x"},
		{"acme", "*"}, {"acme-web", "x"}, {"acme", "acme"}} {
		a, err := Permissions(who[0], RoleObserver)
		if err != nil {
			t.Fatal(err)
		}
		made := a.Inbox
		if a, err = a.For(who[1]); err != nil {
			t.Fatal(err)
		}
		for inbox, owner := range seen {
			if server.SubjectsCollide(inbox+".>", a.Inbox+".>") ||
				server.SubjectsCollide(inbox+".>", made+".>") {
				t.Errorf("%q and %s share %s", who, owner, a.Inbox)
			}
		}
		if again, err := a.For(who[1]); err != nil || again.Inbox != a.Inbox ||
			strings.ContainsAny(a.Inbox, "*> ") {
			t.Errorf("%q: %s, and again %s, %v", who, a.Inbox, again.Inbox, err)
		}
		seen[a.Inbox] = strings.Join(who[:], " ")
	}
}

// FuzzPermissions takes names of a tenant and a service. The subjects stay within the tenant for
// all names.
func FuzzPermissions(f *testing.F) {
	for _, seed := range [][2]string{{"acme", "web"}, {"*", ">"}, {"a.b", "a.b"}, {"_", "*.>"},
		{"acme", "\x00\n"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, service string) {
		a, err := Permissions(name, RoleRegistrar, service)
		if err != nil {
			return
		}
		bucket, _ := tenant.BucketName(name)
		for _, subject := range a.Publish {
			if subject != "$JS.API.INFO" && subject != stream.UserInfo &&
				!strings.Contains(subject, "."+bucket+".") &&
				!strings.Contains(subject, ".KV_"+bucket+".") &&
				subject != "_INBOX_"+name+".*.*.answer" &&
				!strings.HasSuffix(subject, ".KV_"+bucket) {
				t.Errorf("tenant %q, service %q: %q", name, service, subject)
			}
		}
		if bucket != "registry_other" &&
			slices.ContainsFunc(foreign("KV_registry_other", "registry_other", "reaper",
				"KV_"+bucket), a.allowed) {
			t.Errorf("tenant %q, service %q reaches another tenant", name, service)
		}
		if strings.ContainsAny(a.Config(), "\x00\r") {
			t.Errorf("tenant %q, service %q: control characters in %q", name, service, a.Config())
		}
	})
}
