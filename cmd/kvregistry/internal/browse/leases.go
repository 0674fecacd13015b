package browse

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

const aboutLeases = `kvregistry leases lists the leases of a tenant: a lease is one process, and
all that the process registered lives by it. The exit code is 3 if there is none.`

// leaseRow is a lease as it is listed.
type leaseRow struct {
	ID            string     `json:"id"`
	Owner         string     `json:"owner"`
	Host          string     `json:"host,omitempty"`
	PID           int        `json:"pid,omitempty"`
	Started       *time.Time `json:"started,omitempty"`
	TTL           string     `json:"ttl"`
	Age           string     `json:"age"` // since the last renewal
	Registrations int        `json:"registrations"`
	lease         kvregistry.Lease
}

var leases = cli.Table[leaseRow]{
	Name: func(l leaseRow) string { return l.ID },
	Columns: []cli.Column[leaseRow]{
		{Head: "lease", Cell: func(l leaseRow) string { return l.ID }},
		{Head: "host", Cell: func(l leaseRow) string { return l.Host }},
		{Head: "pid", Cell: func(l leaseRow) string { return fmt.Sprint(l.PID) }},
		{Head: "ttl", Cell: func(l leaseRow) string { return l.TTL }},
		{Head: "renewed", Cell: func(l leaseRow) string { return short(l.lease.Age) + " ago" },
			Colour: func(l leaseRow) cli.Colour {
				if l.lease.Age > l.lease.TTL*2/3 { // two heartbeats are missing
					return cli.Yellow
				}
				return cli.Plain
			}},
		{Head: "registrations", Cell: func(l leaseRow) string {
			return fmt.Sprint(l.Registrations)
		}},
		{Head: "up", Cell: func(l leaseRow) string {
			if l.Started == nil {
				return ""
			}
			return short(time.Since(*l.Started))
		}},
		{Head: "owner", Wide: true, Cell: func(l leaseRow) string { return l.Owner }},
	},
}

// Leases is "kvregistry leases".
func Leases(std cli.Streams) *cobra.Command {
	var t cli.Target
	var o cli.Output
	c := &cobra.Command{
		Use: "leases", Short: "list the leases of a tenant, and the processes that hold them",
		Long: aboutLeases,
		Args: cli.Args(),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := t.Open(c.Context(), "leases")
			if err != nil {
				return err
			}
			defer s.Close()
			ctx, cancel := t.Bounded(c.Context())
			defer cancel()
			rows, err := readLeases(ctx, s.Registry)
			if err == nil {
				err = cli.Print(std, &o, leases, rows)
			}
			if err == nil && len(rows) == 0 {
				err = cli.Nonef("there is no lease in tenant %s", t.Tenant)
			}
			return err
		},
	}
	o.Flags(c)
	t.Flags(c.Flags())
	return c
}

// readLeases reads the leases, and counts what is registered by each.
func readLeases(ctx context.Context, reg *kvregistry.Registry) ([]leaseRow, error) {
	list, err := reg.Leases(ctx)
	if err != nil {
		return nil, err
	}
	catalog, err := reg.CatalogContext(ctx)
	if err != nil {
		return nil, err
	}
	registrations := map[string]int{}
	for snap := range catalog.All() {
		for s := range snap.All() {
			registrations[s.Lease]++
		}
	}
	rows := make([]leaseRow, len(list))
	for i, l := range list {
		rows[i] = leaseRow{ID: l.ID, Owner: l.Owner, Host: l.Host, PID: l.PID, TTL: l.TTL.String(),
			Age: l.Age.Round(time.Millisecond).String(), Registrations: registrations[l.ID],
			lease: l}
		if !l.Started.IsZero() {
			rows[i].Started = &l.Started
		}
	}
	return rows, nil
}
