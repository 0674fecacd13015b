package browse

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/kvregistry"
)

// filters are the options that narrow what a command shows.
type filters struct {
	tags, statuses      []string
	zone, host, version string
	text                string
}

var statuses = []string{string(kvregistry.Passing), string(kvregistry.Warning),
	string(kvregistry.Critical), string(kvregistry.Draining)}

// narrow adds the options.
func (f *filters) narrow(c *cobra.Command) {
	fs := c.Flags()
	fs.StringArrayVar(&f.tags, "tag", nil, "only instances with this `tag`; may be given several "+
		"times, for instances that have all")
	fs.StringArrayVar(&f.statuses, "status", nil, "only instances of this `status`: "+
		strings.Join(statuses, ", ")+"; may be given several times, for any of them")
	fs.StringVar(&f.zone, "zone", "", "only instances in this `zone`")
	fs.StringVar(&f.host, "host", "", "only instances on this `host`")
	fs.StringVar(&f.version, "version", "", "only instances of this `version`")
	fs.StringVar(&f.text, "match", "", "only instances with this `text` in the name, id, address, "+
		"host, zone, version, a tag, an endpoint or the metadata")
	_ = c.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statuses,
		cobra.ShellCompDirectiveNoFileComp)) // the option is there
}

// list returns the filters that the options stand for.
func (f *filters) list() (list []kvregistry.Filter, err error) {
	var any []kvregistry.Status
	for _, status := range f.statuses {
		if !slices.Contains(statuses, status) {
			return nil, cli.Usagef("--status %s is unknown: use "+strings.Join(statuses, ", "),
				status)
		}
		any = append(any, kvregistry.Status(status))
	}
	if any != nil {
		list = append(list, kvregistry.WithStatus(any...))
	}
	if f.tags != nil {
		list = append(list, kvregistry.WithTag(f.tags...))
	}
	if f.zone != "" {
		list = append(list, kvregistry.InZone(f.zone))
	}
	if f.host != "" {
		list = append(list, kvregistry.OnHost(f.host))
	}
	if f.version != "" {
		list = append(list, kvregistry.WithVersion(f.version))
	}
	if f.text != "" {
		text := strings.ToLower(f.text)
		list = append(list, kvregistry.Where(func(s kvregistry.Service) bool {
			return mentions(s, text)
		}))
	}
	return list, nil
}

// mentions reports whether an instance has a text, in lower case, in one of its fields.
func mentions(s kvregistry.Service, text string) bool {
	fields := []string{s.Name, s.ID, s.Address, s.URL, s.Host, s.Zone, s.Version}
	fields = append(fields, s.Tags...)
	for _, pairs := range []map[string]string{s.Endpoints, s.Metadata} {
		fields = slices.AppendSeq(fields, maps.Keys(pairs))
		fields = slices.AppendSeq(fields, maps.Values(pairs))
	}
	return slices.ContainsFunc(fields, func(field string) bool {
		return strings.Contains(strings.ToLower(field), text)
	})
}

// passes reports whether an instance passes all filters.
func passes(list []kvregistry.Filter, s kvregistry.Service) bool {
	return !slices.ContainsFunc(list, func(f kvregistry.Filter) bool { return !f.Match(s) })
}
