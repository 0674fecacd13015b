package browse

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/shown"
	"github.com/kvregistry/go/kvregistry"
)

// instance is an instance as the commands print it: what it says, and by whom it is registered.
type instance struct {
	kvregistry.Service
	Revision uint64            `json:"revision"`
	Owner    string            `json:"owner,omitempty"`
	Lease    string            `json:"lease,omitempty"`
	Process  *process          `json:"process,omitempty"` // nil if the lease is not known
	lease    *kvregistry.Lease // likewise
}

// process is the owner of an instance as its lease names it.
type process struct {
	Host    string     `json:"host,omitempty"`
	PID     int        `json:"pid,omitempty"`
	Started *time.Time `json:"started,omitempty"`
	TTL     string     `json:"lease_ttl"`
	Renewed string     `json:"lease_age"`
}

// owners are the leases of a tenant by their id.
type owners map[string]*kvregistry.Lease

// readOwners reads the leases. A user that may not read them sees instances without them.
func readOwners(ctx context.Context, reg *kvregistry.Registry) owners {
	list, err := reg.Leases(ctx)
	if err != nil {
		return nil
	}
	byID := make(owners, len(list))
	for i := range list {
		byID[list[i].ID] = &list[i]
	}
	return byID
}

// instance joins an instance with its lease.
func (o owners) instance(s kvregistry.Service) instance {
	i := instance{Service: s, Revision: s.Revision, Owner: s.Owner, Lease: s.Lease,
		lease: o[s.Lease]}
	if l := i.lease; l != nil {
		i.Process = &process{Host: l.Host, PID: l.PID, TTL: l.TTL.String(),
			Renewed: l.Age.Round(time.Millisecond).String()}
		if !l.Started.IsZero() {
			i.Process.Started = &l.Started
		}
	}
	return i
}

// where is where an instance is reached first of all.
func where(s kvregistry.Service) string { return cmp.Or(s.Address, s.URL) }

// owner names the process that registered an instance.
func (i instance) owner() string {
	if l := i.lease; l != nil {
		return fmt.Sprintf("%s:%d", l.Host, l.PID)
	}
	return i.Owner
}

// up is how long the owner has run.
func (i instance) up() string {
	if i.lease == nil || i.lease.Started.IsZero() {
		return ""
	}
	return short(time.Since(i.lease.Started))
}

// short writes a duration with one or two units.
func short(d time.Duration) string {
	switch d = max(d, 0); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
}

// pairs writes a map on one line, ordered by key.
func pairs(m map[string]string) string {
	list := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, key+"="+m[key])
	}
	return strings.Join(list, " ")
}

// redacted is a map of addresses and URLs without their secrets.
func redacted(m map[string]string) map[string]string {
	clean := make(map[string]string, len(m))
	for key, at := range m {
		clean[key] = shown.Redact(at)
	}
	return clean
}

// colours are the colours of the states.
var colours = map[kvregistry.Status]cli.Colour{
	kvregistry.Passing: cli.Green, kvregistry.Warning: cli.Yellow, kvregistry.Critical: cli.Red,
	kvregistry.Draining: cli.Blue,
}

func colourOf(status kvregistry.Status) cli.Colour { return cmp.Or(colours[status], cli.Plain) }

var instances = cli.Table[instance]{
	Name: func(i instance) string { return i.Name + "/" + i.ID },
	Columns: []cli.Column[instance]{
		{Head: "instance", Cell: func(i instance) string { return i.Name + "/" + i.ID }},
		{Head: "status", Cell: func(i instance) string { return string(i.Status) },
			Colour: func(i instance) cli.Colour { return colourOf(i.Status) }},
		{Head: "address", Cell: func(i instance) string {
			return shown.Redact(where(i.Service))
		}},
		{Head: "version", Cell: func(i instance) string { return i.Version }},
		{Head: "zone", Cell: func(i instance) string { return i.Zone }},
		{Head: "tags", Cell: func(i instance) string { return strings.Join(i.Tags, ",") }},
		{Head: "up", Cell: instance.up},
		{Head: "owner", Cell: instance.owner},
		{Head: "host", Wide: true, Cell: func(i instance) string { return i.Host }},
		{Head: "endpoints", Wide: true, Cell: func(i instance) string {
			return pairs(redacted(i.Endpoints))
		}},
		{Head: "metadata", Wide: true, Cell: func(i instance) string { return pairs(i.Metadata) }},
		{Head: "lease", Wide: true, Cell: func(i instance) string { return i.Lease }},
		{Head: "revision", Wide: true, Cell: func(i instance) string {
			return fmt.Sprint(i.Revision)
		}},
	},
}
