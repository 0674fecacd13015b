package operator

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kvregistry/go/internal/wire"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/internal/stream"
)

// RolesNeed is the version of nats-server that keeps the users of an account out of each other's
// tenants by their roles.
const RolesNeed = stream.RolesNeed

// Role is what a user may do in a tenant.
type Role string

// The roles. Each of them except RoleAdmin reads the whole tenant.
const (
	RoleService   Role = "service"   // registers any service, holds any name, observes and reaps
	RoleRegistrar Role = "registrar" // registers the named services, holds their names, observes
	RoleObserver  Role = "observer"  // observes
	RoleReaper    Role = "reaper"    // observes and reaps; it may write what a service may write
	RoleOperator  Role = "operator"  // does what a service does, and asks owners to drain
	RoleAdmin     Role = "admin"     // makes, changes and deletes the bucket, and reads nothing
)

// Roles returns all roles.
func Roles() []Role {
	return []Role{RoleService, RoleRegistrar, RoleObserver, RoleReaper, RoleOperator, RoleAdmin}
}

// Access is what a user of the bucket's account may publish to and subscribe to. The server
// refuses every other subject.
type Access struct {
	Publish []string // subjects, with wildcards
	Inbox   string   // the prefix of the user's answers: connect with nats.CustomInboxPrefix
}

// Permissions returns the subjects that a role needs in a tenant, and no more. A registrar needs
// the names of the services that it registers; the other roles take none. Each call invents an
// inbox that no other user can guess: see [Access.For]. The error wraps [tenant.ErrInvalidTenant],
// [tenant.ErrInvalidName] or [tenant.ErrInvalidConfig].
//
// Roles keep the tenants of one account apart with nats-server [RolesNeed].
func Permissions(name string, role Role, services ...string) (Access, error) {
	bucket, err := tenant.BucketName(name)
	if err != nil {
		return Access{}, fmt.Errorf("operator: %w", err)
	}
	if role == RoleRegistrar && len(services) == 0 {
		return Access{}, fmt.Errorf("operator: %w: a registrar needs the names of its services; "+
			"use role %s to register any", tenant.ErrInvalidConfig, RoleService)
	}
	if role != RoleRegistrar && len(services) > 0 {
		return Access{}, fmt.Errorf("operator: %w: role %s takes no names of services; "+
			"use role %s to allow some of them only", tenant.ErrInvalidConfig, role, RoleRegistrar)
	}
	a := Access{Inbox: "_INBOX_" + name + "." + rand.Text()}
	a.Publish = append([]string{stream.UserInfo, "$JS.API.INFO"}, requests(bucket, role)...)
	keys, err := writes(role, services)
	if err != nil {
		return Access{}, fmt.Errorf("operator: %w", err)
	}
	for _, key := range keys {
		a.Publish = append(a.Publish, "$KV."+bucket+"."+key)
	}
	// An inbox is _INBOX_<tenant>.<user>, and what follows it here is tenant.Bucket's Inbox.
	inboxes := "_INBOX_" + name + ".*.*"
	if keys != nil { // it may have a lease, and is asked
		a.Publish = append(a.Publish, wire.AnswerSubject(inboxes))
	}
	if role == RoleOperator {
		a.Publish = append(a.Publish, wire.ControlSubject(inboxes))
	}
	return a, nil
}

// requests returns the subjects of a role's requests about the bucket's stream.
//
// The server takes answers of flow control in two forms. The longer one begins with the names of a
// domain and an account. Each form is allowed at its own length only: otherwise the form of one
// tenant matches the other form of all tenants.
func requests(bucket string, role Role) []string {
	s := stream.Name(bucket)
	list := []string{"$JS.API.STREAM.INFO." + s}
	if role == RoleAdmin {
		return append(list, "$JS.API.STREAM.CREATE."+s, "$JS.API.STREAM.UPDATE."+s,
			"$JS.API.STREAM.DELETE."+s)
	}
	return append(list,
		"$JS.API.STREAM.MSG.GET."+s,
		"$JS.API.CONSUMER.CREATE."+s+".>", "$JS.API.CONSUMER.DELETE."+s+".*",
		"$JS.FC."+s+".*.*", "$JS.FC.*.*."+s+".*.*")
}

// writes returns the keys that a role writes, with wildcards.
func writes(role Role, services []string) (keys []string, err error) {
	switch role {
	case RoleObserver, RoleAdmin:
		return nil, nil
	case RoleService, RoleReaper, RoleOperator:
		keys = []string{tenant.AllServices, tenant.AllTickets, tenant.LeaseKey("*")}
		for n := range tenant.Slots {
			keys = append(keys, tenant.SlotKey(n))
		}
		return keys, nil
	case RoleRegistrar:
		for _, name := range services {
			filter, err := tenant.ServiceFilter(name)
			if err != nil {
				return nil, fmt.Errorf("service: %w", err)
			}
			lock, _ := tenant.LockFilter(name) // ServiceFilter checked the name
			keys = append(keys, filter)
			keys = append(keys, lock)
		}
		return append(keys, tenant.LeaseKey("*")), nil
	}
	return nil, fmt.Errorf("%w: role %q; use one of %v", tenant.ErrInvalidConfig, role, Roles())
}

// For returns the access with an inbox that is made of a user's name, so that the user has the
// same inbox each time. Users of other tenants have other inboxes; two users of a tenant need two
// names. The error wraps [tenant.ErrInvalidName].
func (a Access) For(user string) (Access, error) {
	token, err := tenant.EncodeToken(user)
	if err != nil {
		return Access{}, fmt.Errorf("operator: user: %w", err)
	}
	of, _, _ := strings.Cut(a.Inbox, ".")
	a.Inbox = of + "." + token
	return a, nil
}

// AtLeaf returns the access for a user of a leaf node whose own JetStream has a mirror of the
// tenant's bucket: it allows requests to the hub's JetStream, too. The error wraps
// [tenant.ErrInvalidConfig].
func (a Access) AtLeaf(hubDomain string) (Access, error) {
	api, err := apiOf(hubDomain)
	if err != nil {
		return Access{}, err
	}
	var all []string
	for _, subject := range a.Publish {
		all = append(all, subject)
		if rest, ok := strings.CutPrefix(subject, stream.API+"."); ok {
			all = append(all, api+"."+rest)
		} else if strings.HasPrefix(subject, "$KV.") {
			all = append(all, api+"."+subject)
		}
	}
	a.Publish = all
	return a, nil
}

// apiOf is the prefix of requests to a domain's JetStream.
func apiOf(domain string) (string, error) {
	if domain == "" || strings.ContainsAny(domain, ".*> \t\r\n") {
		return "", fmt.Errorf("operator: %w: %q is no JetStream domain",
			tenant.ErrInvalidConfig, domain)
	}
	return "$JS." + domain + ".API", nil
}

// Subscribe returns the subjects that the user may subscribe to: its answers.
func (a Access) Subscribe() []string { return []string{a.Inbox + ".>"} }

// Config returns the access as the text of a user's "permissions" in a nats-server's configuration
// file.
func (a Access) Config() string {
	var b strings.Builder
	list := func(name string, subjects []string) {
		fmt.Fprintf(&b, "  %s: {\n    allow: [\n", name)
		for _, s := range subjects {
			fmt.Fprintf(&b, "      %s\n", quote(s))
		}
		b.WriteString("    ]\n  }\n")
	}
	b.WriteString("permissions: {\n")
	list("publish", a.Publish)
	list("subscribe", a.Subscribe())
	b.WriteString("}\n")
	return b.String()
}

// Claims returns the access as the permissions within a user's JWT, its "nats" object: "pub" and
// "sub", each with "allow".
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
