package browse

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
	"github.com/kvregistry/go/internal/shown"
	"github.com/kvregistry/go/kvregistry"
)

const aboutWatch = `kvregistry watch prints the changes of a service, or of all of them, as they
come. It begins with what is there. With --since it begins with what changed after that revision,
and with the ends of the last 10 minutes unless options narrow it.

With --exec it runs a command by the shell for each change, one at a time. The change is the
command's standard input, as JSON, and stands in the variables KVREGISTRY_EVENT_KIND,
KVREGISTRY_EVENT_SERVICE, KVREGISTRY_EVENT_ID, KVREGISTRY_EVENT_ADDRESS, KVREGISTRY_EVENT_STATUS
and KVREGISTRY_EVENT_REVISION. While the command runs, changes of one instance are told of as one.
When the command has ended, what it left in its process group is killed. When the watch ends, a
command that runs is killed, too.

It goes on while NATS is away. SIGINT and SIGTERM stop it.`

// watching is what "watch" is asked.
type watching struct {
	cli.Target
	cli.Output
	filters
	exec  string
	since uint64
}

// Watch is "kvregistry watch".
func Watch(std cli.Streams) *cobra.Command {
	var w watching
	c := &cobra.Command{
		Use: "watch [service]", Short: "print changes as they come, or run a command for each",
		Long: aboutWatch,
		Example: "  kvregistry watch web\n  kvregistry watch -o jsonl --since 4711\n" +
			"  kvregistry watch web --exec 'systemctl reload haproxy'",
		Args: cli.Args("[service]"),
		RunE: func(c *cobra.Command, args []string) error {
			name := kvregistry.Everything
			if len(args) > 0 {
				name = args[0]
			}
			return w.run(c.Context(), std, name)
		},
	}
	fs := c.Flags()
	fs.StringVar(&w.exec, "exec", "", "shell `command` to run for each change")
	fs.Uint64Var(&w.since, "since", 0, "only what changed after this `revision`")
	w.narrow(c)
	w.Output.Flags(c)
	w.Target.Flags(fs)
	c.ValidArgsFunction = completeName(&w.Target)
	return c
}

// run tells of changes until a signal stops it.
func (w *watching) run(ctx context.Context, std cli.Streams, name string) error {
	narrow, err := w.list()
	if err != nil {
		return err
	}
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	s, err := w.OpenLasting(ctx, std, "watch")
	if err != nil {
		return err
	}
	defer s.Close()
	events, err := s.Watch(ctx, name)
	if err != nil {
		return wrongName(err)
	}
	told := map[string]uint64{}          // the revisions of the ends that were told
	if w.since > 0 && len(narrow) == 0 { // of an end only the id is known
		if told, err = w.tellGone(ctx, std, s, name); err != nil {
			return err
		}
	}
	for e := range events {
		if e.Revision <= max(w.since, told[e.Service.Name+"/"+e.Service.ID]) ||
			!passes(narrow, e.Service) && (e.Before == nil || !passes(narrow, *e.Before)) {
			continue
		}
		if err := w.tell(ctx, std, e); err != nil {
			return err
		}
	}
	return nil
}

// tellGone tells of the ends that the bucket still knows of, and returns their revisions. The watch
// goes on already, so that no end is missed.
func (w *watching) tellGone(ctx context.Context, std cli.Streams, s *cli.Session,
	name string) (told map[string]uint64, err error) {
	if err := s.ObserveContext(ctx, name); err != nil {
		return nil, err
	}
	gone, err := readGone(ctx, s.Bucket, name, w.since)
	if err != nil {
		return nil, err
	}
	told = map[string]uint64{}
	for _, e := range gone {
		if err := w.tell(ctx, std, e); err != nil {
			return nil, err
		}
		told[e.Service.Name+"/"+e.Service.ID] = e.Revision
	}
	return told, nil
}

// tell prints a change, or runs the command for it.
func (w *watching) tell(ctx context.Context, std cli.Streams, e kvregistry.Event) error {
	if w.exec != "" {
		return runFor(ctx, std, w.exec, e)
	}
	if !w.People() {
		return cli.PrintLine(std, e)
	}
	s := e.Service
	text := fmt.Sprintf("%s  %-12s  %s/%s  %s  %s", time.Now().Format(time.TimeOnly), e.Kind,
		s.Name, s.ID, shown.Redact(where(s)), s.Status)
	if e.Before != nil && e.Kind == kvregistry.Updated {
		text += "  (" + strings.Join(differences(*e.Before, s), ", ") + ")"
	}
	_, err := fmt.Fprintln(std.Out, cli.Escape(strings.TrimRight(text, " ")))
	return err
}

// differences names what an update changed, with the old and the new value of what is short. A
// secret of a URL is not shown, but that the URL changed is.
func differences(was, is kvregistry.Service) (list []string) {
	add := func(what, a, b string) {
		if a != b {
			list = append(list, fmt.Sprintf("%s: %s → %s", what, orNone(a), orNone(b)))
		}
	}
	add("status", string(was.Status), string(is.Status))
	at := func(what, a, b string) {
		if a != b {
			list = append(list, what+": "+orNone(shown.Redact(a))+" → "+orNone(shown.Redact(b)))
		}
	}
	at("address", was.Address, is.Address)
	at("url", was.URL, is.URL)
	add("version", was.Version, is.Version)
	add("zone", was.Zone, is.Zone)
	add("host", was.Host, is.Host)
	add("tags", strings.Join(was.Tags, ","), strings.Join(is.Tags, ","))
	add("weight", fmt.Sprint(was.Weight), fmt.Sprint(is.Weight))
	if !maps.Equal(was.Endpoints, is.Endpoints) {
		list = append(list, "endpoints: "+orNone(pairs(redacted(was.Endpoints)))+" → "+
			orNone(pairs(redacted(is.Endpoints))))
	}
	if pairs(was.Metadata) != pairs(is.Metadata) {
		list = append(list, "metadata")
	}
	if len(list) == 0 && was.Owner != is.Owner {
		list = append(list, "another owner")
	}
	return list
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
