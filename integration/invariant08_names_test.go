package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// Invariant 8, isolation: a service of any name is found under that name alone, in its own tenant
// alone. Seen to fail with names that are not escaped.
func TestNoNameReachesAnother(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := open(t, s, kvregistry.Tenant("a")), open(t, s, kvregistry.Tenant("b"))
	names := []string{
		"b", "web", "web.1", "web.*", "web.>", ">", "web=2E1", "web/1", "web 1", "wéb", "网", "$KV",
		"svc", "lease", "-_", "WEB",
		"a\x00b", "\n", strings.Repeat("n", 255), strings.Repeat("é", 127),
	}
	for _, name := range names {
		if _, err := a.Register(kvregistry.Service{Name: name, ID: name,
			Address: "127.0.0.1:1"}); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
	for _, name := range names {
		list, err := a.GetServices(t.Context(), name)
		if err != nil || len(list) != 1 || list[0].Name != name || list[0].ID != name {
			t.Errorf("%q: got %v, %v", name, list, err)
		}
		if _, err := b.GetService(name); !isErr(err, kvregistry.ErrNotFound) {
			t.Errorf("%q: the other tenant got %v", name, err)
		}
	}
	got, err := a.ServiceNames()
	slices.Sort(names)
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("ServiceNames gave %q, %v", got, err)
	}
	if got, err := b.ServiceNames(); err != nil || len(got) != 0 {
		t.Errorf("the other tenant's names are %q, %v", got, err)
	}
	for _, bad := range []string{"", "*", strings.Repeat("n", 256), "\xff"} {
		if _, err := a.Register(kvregistry.Service{Name: bad,
			Address: "127.0.0.1:1"}); !isErr(err, kvregistry.ErrInvalidService) {
			t.Errorf("%.10q: Register gave %v", bad, err)
		}
	}
	for _, bad := range []string{"", "a.b", "a>", "*", "a b", "é", strings.Repeat("n", 65)} {
		if _, err := kvregistry.New(t.Context(), s.Connect(),
			kvregistry.Tenant(bad)); !isErr(err, kvregistry.ErrInvalidOption) {
			t.Errorf("tenant %.10q gave %v", bad, err)
		}
	}
}

// escapes lists names of services that try to reach beyond their own keys, and pairs of names that
// look alike.
var escapes = []string{
	"web", "Web", "b", ".", "..", "...", "_", "-", ">", "b.>", "*.b", "b.*", "**", "svc", "lease",
	"sweep", "svc.web", "lease.a", "../lease", "/", `\`,
	"%2E", "%2e", "=2E", "=2e", "=3D2E", "=", "==", "\uff0e", "\u2024", "\u00e9", "e\u0301", "a",
	"\u0430", "\u202eb", "\u200bb", "\ufeffb", "$KV.registry_other.svc.web", "$JS.API.>", "$SYS",
	"a b", " ", "a ", "a,b", `a"b`, "a\x00b", "\x00", "\n", "\r\n", "\t", "\x1b[2J", "\x7f",
	strings.Repeat("n", 254), strings.Repeat("n", 255), strings.Repeat(".", 255),
	strings.Repeat("\u00e9", 127),
}

func tokenOf(t *testing.T, name string) string {
	t.Helper()
	s, err := tenant.EncodeToken(name)
	if err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return s
}

// refusedAll waits until the server has refused a connection each of the subjects.
func (r *refusals) refusedAll(t *testing.T, who string, subjects []string) {
	t.Helper()
	natstest.Eventually(t, natstest.Soon, func() error {
		all := "\n" + strings.Join(r.all(), "\n")
		for _, subject := range subjects {
			if !strings.Contains(all, strconv.Quote(subject)) { // quoted as the server does
				return fmt.Errorf("%s may publish to %q", who, subject)
			}
		}
		return nil
	})
}

// Invariant 8: a registrar may register its own service, of any name. The server refuses it all
// other names, even those that look the same. Keys appear only below the service's own token. Seen
// to fail with '=' that is not escaped itself, with permissions for a name in lower case, and with
// permissions that end in '>'.
func TestNoRegistrarReachesAnotherName(t *testing.T) {
	t.Parallel()
	access := map[string]operator.Access{}
	for i, name := range escapes {
		a, err := operator.Permissions("acme", operator.RoleRegistrar, name)
		must(t, err)
		access[user(i)] = a
	}
	g := passwords(t, access)
	root := g.as(t, "root")
	for _, name := range []string{"acme", "other"} {
		must(t, operator.Provision(t.Context(), root, name, tenant.Config{}))
	}
	whole := t // registrations last until its end
	t.Run("each", func(t *testing.T) {
		for i, name := range escapes {
			t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
				t.Parallel()
				refused := &refusals{}
				nc := g.as(t, user(i), refused.handler())
				r := openOn(whole, nc, kvregistry.Tenant("acme"), kvregistry.TTL(time.Minute),
					kvregistry.WithoutReaping())
				registersThatAlone(t, r, name, escapes[(i+1)%len(escapes)])
				refused.refusedAll(t, fmt.Sprintf("the registrar of %q", name),
					triesOthers(t, nc, name))
			})
		}
	})
	want := []string{}
	for _, name := range escapes {
		want = append(want, "svc."+tokenOf(t, name)+"."+tokenOf(t, name))
	}
	slices.Sort(want)
	got := slices.DeleteFunc(keys(t, root, "acme", ""),
		func(key string) bool { return strings.HasPrefix(key, "lease.") })
	if !slices.Equal(got, want) {
		t.Errorf("the bucket has\n%q, want\n%q", got, want)
	}
	if got := keys(t, root, "other", ""); len(got) != 0 {
		t.Errorf("the other bucket has %q", got)
	}
}

func user(i int) string { return fmt.Sprint("u", i) }

// registersThatAlone registers a service as its registrar, and checks that another name is refused.
func registersThatAlone(t *testing.T, r *kvregistry.Registry, name, other string) {
	t.Helper()
	register(t, r, kvregistry.Service{Name: name, ID: name, Address: "a:1"})
	if list, err := r.GetServices(t.Context(), name); err != nil || len(list) != 1 ||
		list[0].Name != name || list[0].ID != name {
		t.Errorf("the service is shown as %+v, %v", list, err)
	}
	if _, err := r.Register(kvregistry.Service{Name: other, ID: name,
		Address: "a:1"}); !isErr(err, kvregistry.ErrPermission) {
		t.Errorf("registering %q gave %v", other, err)
	}
}

// triesOthers publishes what the registrar of a name may not: to the keys of the other names,
// escaped and not, and near its own. It returns the subjects.
func triesOthers(t *testing.T, nc *nats.Conn, name string) (subjects []string) {
	t.Helper()
	own := tokenOf(t, name)
	subjects = []string{
		"$KV.registry_acme.svc." + own, "$KV.registry_acme.svc." + own + ".a.b",
		"$KV.registry_acme." + own, "$KV.registry_acme.SVC." + own + ".x",
		"$KV.registry_other.svc." + own + ".x",
	}
	for _, other := range escapes {
		for _, written := range []string{tokenOf(t, other), other} {
			// no subject has it
			if written != own && !strings.ContainsAny(written, " \t\r\n\x00") {
				subjects = append(subjects, "$KV.registry_acme.svc."+written+".x")
			}
		}
	}
	for _, subject := range subjects {
		must(t, nc.Publish(subject, []byte("{}")))
	}
	must(t, nc.Flush())
	return subjects
}

// Invariant 8: a tenant's name that could be read as several tokens, or as another name, is refused
// by every function that takes one. Seen to fail with dots that are let through.
func TestTenantNamesThatAreRefused(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t).Connect()
	for _, name := range []string{
		"", ".", "..", "b.>", "*", ">", "a.b", "a*", "a b", " a", "a\x00", "\n", "a\r\nb",
		"\x1b[2J", "%2E", "=2E", "a/b", "../a", `a\b`, "$G", "$KV", "a,b", `"`, "a:b", "é",
		"e\u0301",
		"\u0430", "\uff41\uff43\uff4d\uff45", "\uff0e", "a\u200b", "\u202ea", "\ufeffa", "\xff",
		strings.Repeat("n", 65), strings.Repeat("n", 1<<20), strings.Repeat("é", 40),
	} {
		_, open := kvregistry.New(t.Context(), nc, kvregistry.Tenant(name))
		_, permissions := operator.Permissions(name, operator.RoleService)
		_, account := operator.AccountConfig(name, operator.AccountLimits{MaxBytes: 1, Replicas: 1,
			Connections: 1}, operator.User("u", "p"))
		for what, err := range map[string]error{
			"New": open, "Permissions": permissions, "AccountConfig": account,
			"Provision": operator.Provision(t.Context(), nc, name, tenant.Config{}),
			"Remove":    operator.Remove(t.Context(), nc, name),
		} {
			want := tenant.ErrInvalidTenant
			if what == "New" {
				want = kvregistry.ErrInvalidOption
			}
			if !isErr(err, want) || !strings.Contains(err.Error(), "; use ") ||
				len(err.Error()) > 500 {
				t.Errorf("%s of %.80q gave %.200v", what, name, err)
			}
			if err != nil && strings.ContainsFunc(err.Error(),
				func(r rune) bool { return !strconv.IsPrint(r) }) {
				t.Errorf("%s of %.80q: the error holds control characters: %q", what, name,
					err.Error())
			}
		}
	}
	if list, err := operator.List(t.Context(), nc); err != nil || len(list) != 0 {
		t.Errorf("the list of tenants is %+v, %v", list, err)
	}
}

// Invariant 8: tenants whose names look alike have a bucket each, and the most powerful role of one
// reaches none of the others. Seen to fail with a bucket's name in lower case, and with a role that
// gets $KV.*.svc.>.
func TestTenantsThatLookAlike(t *testing.T) {
	t.Parallel()
	tenants := []string{
		"a", "A", "acme", "Acme", "ACME", "acme_", "acme-", "_acme", "-acme", "acme2", "acme_svc",
		"_", "-", "__", "registry_acme", "KV_registry_acme", "reaper", "0", "00",
		strings.Repeat("n", 63), strings.Repeat("n", 64),
	}
	access := map[string]operator.Access{}
	for _, name := range tenants {
		a, err := operator.Permissions(name, operator.RoleService)
		must(t, err)
		access[name] = a
	}
	g := passwords(t, access)
	root := g.as(t, "root")
	for _, name := range tenants {
		must(t, operator.Provision(t.Context(), root, name, tenant.Config{}))
	}
	whole := t // registrations last until its end
	t.Run("each", func(t *testing.T) {
		for _, name := range tenants {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				refused := &refusals{}
				nc := g.as(t, name, refused.handler())
				r := openOn(whole, nc, kvregistry.Tenant(name), kvregistry.TTL(time.Minute))
				register(t, r, kvregistry.Service{Name: "web", ID: name, Address: "a:1"})
				var subjects []string
				for _, other := range tenants {
					if other != name {
						subjects = append(subjects, foreignTo("registry_"+other, name)...)
					}
				}
				for _, subject := range subjects {
					must(t, nc.Publish(subject, []byte("{}")))
				}
				must(t, nc.Flush())
				refused.refusedAll(t, name, subjects)
				for _, other := range tenants[:3] {
					if _, err := kvregistry.New(t.Context(), nc, kvregistry.Tenant(other),
						quiet()); other != name && !isErr(err, kvregistry.ErrPermission) {
						t.Errorf("tenant %s opened %s: %v", name, other, err)
					}
				}
			})
		}
	})
	for _, name := range tenants {
		if got, want := keys(t, root, name, "svc."), []string{"svc.web." + name}; !slices.Equal(got,
			want) {
			t.Errorf("tenant %s has %q", name, got)
		}
	}
}

// foreignTo returns the subjects by which a bucket is written and read, as a user of another tenant
// would try them.
func foreignTo(bucket, user string) (subjects []string) {
	for _, key := range []string{"svc.web." + user, "svc.web.x", "lease.x", "sweep"} {
		subjects = append(subjects, "$KV."+bucket+"."+key)
	}
	for _, op := range []string{
		"STREAM.INFO.KV_" + bucket, "STREAM.DELETE.KV_" + bucket, "STREAM.MSG.GET.KV_" + bucket,
		"DIRECT.GET.KV_" + bucket + ".$KV." + bucket + ".svc.web.x",
		"CONSUMER.CREATE.KV_" + bucket + ".view-x", "CONSUMER.DELETE.KV_" + bucket + ".reaper",
		"CONSUMER.MSG.NEXT.KV_" + bucket + ".reaper",
	} {
		subjects = append(subjects, "$JS.API."+op)
	}
	return subjects
}
