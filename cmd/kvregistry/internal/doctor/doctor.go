package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/tenant"
	"github.com/kvregistry/go/tenant/operator"
)

// DefaultWatch is how long [Examine] watches the tenant, unless [Config.Watch] says otherwise.
const DefaultWatch = 2 * time.Second

// Config says what to examine. The zero value examines the tenant "default".
type Config struct {
	Tenant string
	// Role is what the connection's user should be able to do. If it is empty, the user should
	// have any of the roles.
	Role operator.Role
	// System is a connection of the system account. Without it some checks are not done.
	System *nats.Conn
	// Dial connects to each address that is registered. A tenant may hold any address.
	Dial  bool
	Watch time.Duration // how long changes are watched

	young time.Duration // the age of a consumer that counts as new; a minute if it is 0
}

// Severity says how bad a finding is.
type Severity string

// The severities. A hint is worth a look, and nothing is wrong yet.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Hint    Severity = "hint"
)

// severities are ordered: the worst is the first.
var severities = []Severity{Error, Warning, Hint}

// Finding is something that is wrong.
type Finding struct {
	Name     string   `json:"name"` // of the check
	Severity Severity `json:"severity"`
	Seen     string   `json:"seen"`
	Why      string   `json:"why"`  // it matters
	Mend     string   `json:"mend"` // the command that mends it, or what to do
}

// Unchecked is a check that was not done.
type Unchecked struct {
	Name    string `json:"name"`
	Because string `json:"because"`
}

// Report is the result of an examination. Its texts may quote what stands in the bucket.
type Report struct {
	Tenant     string      `json:"tenant"`
	Server     string      `json:"server"` // the name of the connection's
	Version    string      `json:"version"`
	Findings   []Finding   `json:"findings"` // the worst first
	NotChecked []Unchecked `json:"not_checked"`
	Passed     []string    `json:"passed"` // the names of the other checks
}

// Wrong reports whether there is an error or a warning.
func (r Report) Wrong() bool { return r.count(Error)+r.count(Warning) > 0 }

func (r Report) count(s Severity) (n int) {
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Examine finds what is wrong with a tenant. It changes nothing, and reads the whole bucket. It
// takes [Config.Watch], and as long as the server takes to answer. Calls may run at once.
//
// Any user of the tenant may call it. What the user may not see is listed as not checked. The error
// wraps [tenant.ErrInvalidTenant], [tenant.ErrInvalidConfig] or [tenant.ErrConnectionClosed], or is
// ctx's.
func Examine(ctx context.Context, nc *nats.Conn, cfg Config) (Report, error) {
	cfg.Tenant = cmp.Or(cfg.Tenant, kvregistry.DefaultTenant)
	cfg.Watch = cmp.Or(cfg.Watch, DefaultWatch)
	cfg.young = cmp.Or(cfg.young, time.Minute)
	b, err := tenant.New(nc, cfg.Tenant, tenant.Config{})
	if roles := operator.Roles(); err == nil && cfg.Role != "" &&
		!slices.Contains(roles, cfg.Role) {
		err = fmt.Errorf("%w: role %q; use one of %v", tenant.ErrInvalidConfig, cfg.Role, roles)
	}
	if err == nil {
		err = b.AwaitConnected(ctx)
	}
	if err != nil {
		return Report{}, fmt.Errorf("doctor: %w", err)
	}
	f := gather(ctx, b, cfg)
	if err := ctx.Err(); err != nil {
		return Report{}, fmt.Errorf("doctor: %w", err)
	}
	r := Report{Tenant: cfg.Tenant, Server: nc.ConnectedServerName(),
		Version: nc.ConnectedServerVersion(), Findings: []Finding{}, NotChecked: []Unchecked{},
		Passed: []string{}}
	for _, c := range checks {
		found, err := c.run(f)
		for _, one := range found {
			one.Name = c.name
			r.Findings = append(r.Findings, one)
		}
		switch {
		case err != nil:
			r.NotChecked = append(r.NotChecked, Unchecked{c.name, reason(err)})
		case found == nil:
			r.Passed = append(r.Passed, c.name)
		}
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(severities, a.Severity),
			slices.Index(severities, b.Severity))
	})
	return r, nil
}

// reason says why a check was not done.
func reason(err error) string {
	switch {
	case errors.Is(err, tenant.ErrPermission):
		return "this user may not ask for it"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout),
		errors.Is(err, nats.ErrNoResponders):
		return "the server did not answer"
	}
	return err.Error()
}
