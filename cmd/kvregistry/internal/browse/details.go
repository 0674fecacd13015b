package browse

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/shown"
	"github.com/kvregistry/go/kvregistry"
)

// details prints all that is known of the instances of a service that pass.
func (l *listing) details(ctx context.Context, std cli.Streams, reg *kvregistry.Registry,
	name, asked string, narrow []kvregistry.Filter) error {
	list, err := find(ctx, reg, name, narrow)
	if err != nil {
		return err
	}
	if l.People() {
		for n, i := range list {
			if n > 0 {
				_, _ = fmt.Fprintln(std.Out)
			}
			if err := i.print(std); err != nil {
				return err
			}
		}
	} else if err := cli.Print(std, &l.Output, instances, list); err != nil {
		return err
	}
	return l.none(len(list), "there is no %s in tenant %s", asked, l.Tenant)
}

// print prints what is known of an instance, a fact per line, without the secrets of its URLs.
func (i instance) print(std cli.Streams) error {
	w := tabwriter.NewWriter(std.Out, 0, 0, 2, ' ', 0)
	say := func(what, text string) {
		if text != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", what, cli.Escape(text))
		}
	}
	say("instance", i.Name+"/"+i.ID)
	say("status", string(i.Status))
	say("address", shown.Redact(i.Address))
	say("network", i.Network)
	say("url", shown.Redact(i.URL))
	for _, name := range slices.Sorted(maps.Keys(i.Endpoints)) {
		say("endpoint "+cli.Escape(name), shown.Redact(i.Endpoints[name]))
	}
	say("version", i.Version)
	say("zone", i.Zone)
	say("host", i.Host)
	say("tags", strings.Join(i.Tags, ", "))
	for _, key := range slices.Sorted(maps.Keys(i.Metadata)) {
		say("metadata "+cli.Escape(key), i.Metadata[key])
	}
	if i.Weight != 0 {
		say("weight", fmt.Sprint(i.Weight))
	}
	say("owner", i.Owner)
	say("lease", i.Lease)
	if v := i.lease; v != nil {
		say("lease ttl", v.TTL.String())
		say("renewed", short(v.Age)+" ago")
		say("process", fmt.Sprintf("%d on %s", v.PID, v.Host))
		if !v.Started.IsZero() {
			say("started", v.Started.Local().Format(time.DateTime)+", "+i.up()+" ago")
		}
	}
	say("revision", fmt.Sprint(i.Revision))
	return w.Flush()
}
