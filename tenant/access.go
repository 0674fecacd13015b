package tenant

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
)

// Role is what a user may do in a tenant.
type Role string

// The roles. Each of them but RoleAdmin reads the whole tenant.
const (
	RoleService   Role = "service"   // registers any service, holds any name exclusively, observes and reaps
	RoleRegistrar Role = "registrar" // registers the services that are named, holds their names exclusively, and observes
	RoleObserver  Role = "observer"  // observes
	RoleReaper    Role = "reaper"    // observes and reaps; what it may write is what a service may
	RoleAdmin     Role = "admin"     // makes, changes and deletes the bucket, and reads nothing
)

// Roles are all of them.
func Roles() []Role { return []Role{RoleService, RoleRegistrar, RoleObserver, RoleReaper, RoleAdmin} }

// Access is what a user of the account that the tenant's bucket is in may publish to and subscribe to. What is
// not listed is not allowed.
type Access struct {
	Publish []string // subjects, with wildcards
	Inbox   string   // the prefix of the user's answers: connect with nats.CustomInboxPrefix
}

// Permissions are the subjects that a role needs in a tenant, and no more. A registrar needs the names of the services that it
// registers; the other roles take none. The inbox is made up, so that no other user can guess it: see
// [Access.For]. The error wraps [ErrInvalidTenant], [ErrInvalidName] or [ErrInvalidConfig].
//
// A server takes answers of flow control in two forms, of which the longer one begins with the names
// of a domain and an account. Each is allowed at its own length only, or the one of a tenant would
// match the other of all of them.
//
// Roles keep the tenants of one account apart with nats-server [RolesNeed].
func Permissions(tenant string, role Role, services ...string) (Access, error) {
	bucket, err := BucketName(tenant)
	if err != nil {
		return Access{}, fmt.Errorf("tenant: %w", err)
	}
	if role == RoleRegistrar && len(services) == 0 {
		return Access{}, fmt.Errorf("tenant: %w: a registrar needs the names of its services; use role %s to register any", ErrInvalidConfig, RoleService)
	}
	if role != RoleRegistrar && len(services) > 0 {
		return Access{}, fmt.Errorf("tenant: %w: role %s takes no names of services; use role %s to allow some of them only", ErrInvalidConfig, role, RoleRegistrar)
	}
	a := Access{Inbox: "_INBOX_" + tenant + "." + rand.Text()}
	stream, keys := "KV_"+bucket, "$KV."+bucket+"."
	a.Publish = []string{userInfo, "$JS.API.INFO", "$JS.API.STREAM.INFO." + stream}
	if role == RoleAdmin {
		for _, op := range []string{"CREATE", "UPDATE", "DELETE"} {
			a.Publish = append(a.Publish, "$JS.API.STREAM."+op+"."+stream)
		}
		return a, nil
	}
	a.Publish = append(a.Publish,
		"$JS.API.STREAM.MSG.GET."+stream,
		"$JS.API.CONSUMER.CREATE."+stream+".>", "$JS.API.CONSUMER.DELETE."+stream+".*", "$JS.FC."+stream+".*.*", "$JS.FC.*.*."+stream+".*.*")
	switch role {
	case RoleService, RoleReaper:
		a.Publish = append(a.Publish, keys+AllServices, keys+AllTickets, keys+LeaseKey("*"))
		for n := range Slots {
			a.Publish = append(a.Publish, keys+SlotKey(n))
		}
	case RoleObserver:
	case RoleRegistrar:
		for _, name := range services {
			if name == everything {
				return Access{}, fmt.Errorf("tenant: %w: no service is called %q, which stands for all; use role %s to allow any", ErrInvalidName, name, RoleService)
			}
			filter, err := ServiceFilter(name)
			if err != nil {
				return Access{}, fmt.Errorf("tenant: service: %w", err)
			}
			lock, _ := LockFilter(name) // the name was checked
			a.Publish = append(a.Publish, keys+filter)
			a.Publish = append(a.Publish, keys+lock)
		}
		a.Publish = append(a.Publish, keys+LeaseKey("*"))
	default:
		return Access{}, fmt.Errorf("tenant: %w: role %q; use one of %v", ErrInvalidConfig, role, Roles())
	}
	return a, nil
}

// For gives the access an inbox that is made of a user's name, for who wants to have the same one each time. It is the user's own where no two of a
// tenant's users have one name; other tenants' users have others. The error wraps [ErrInvalidName].
func (a Access) For(user string) (Access, error) {
	token, err := EncodeToken(user)
	if err != nil {
		return Access{}, fmt.Errorf("tenant: user: %w", err)
	}
	of, _, _ := strings.Cut(a.Inbox, ".")
	a.Inbox = of + "." + token
	return a, nil
}

// Subscribe are the subjects that the user may subscribe to: its answers.
func (a Access) Subscribe() []string { return []string{a.Inbox + ".>"} }

// Config is the access as the text of a user's "permissions" in a nats-server's configuration file.
func (a Access) Config() string {
	var b strings.Builder
	list := func(name string, subjects []string) {
		fmt.Fprintf(&b, "    %s: [\n", name)
		for _, s := range subjects {
			fmt.Fprintf(&b, "      %s\n", quote(s))
		}
		b.WriteString("    ]\n")
	}
	b.WriteString("permissions: {\n  publish: {\n")
	list("allow", a.Publish)
	b.WriteString("  }\n  subscribe: {\n")
	list("allow", a.Subscribe())
	b.WriteString("  }\n}\n")
	return b.String()
}

// Claims is the access as the permissions within a user's JWT, its "nats" object: "pub" and "sub",
// each with "allow".
func (a Access) Claims() []byte {
	type permission struct {
		Allow []string `json:"allow,omitempty"`
	}
	text, err := json.Marshal(struct {
		Pub permission `json:"pub"`
		Sub permission `json:"sub"`
	}{permission{Allow: a.Publish}, permission{Allow: a.Subscribe()}})
	if err != nil { // strings marshal always
		panic(err)
	}
	return text
}
