package top

import (
	"cmp"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/kvregistry/go/internal/shown"
	"github.com/kvregistry/go/kvregistry"
)

// service is a row of the table of services.
type service struct {
	snap    *kvregistry.Snapshot
	by      [4]int    // instances by status, as in statuses
	changed time.Time // when this program saw the last change; zero if it saw none
}

// tally counts the instances of a snapshot.
func tally(snap *kvregistry.Snapshot) (by [4]int) {
	for one := range snap.All() {
		by[rank(one.Status)]++
	}
	return by
}

// newServices makes the table of services. now is the time that is on the screen.
func newServices(now func() time.Time) *table[service] {
	name := func(s service) string { return s.snap.Name() }
	size := func(s service) int { return s.snap.Len() }
	columns := []column[service]{
		{title: "SERVICE", text: name, compare: byText(name)},
		{title: "INSTANCES", number: true, compare: most(size),
			text: func(s service) string { return thousands(size(s)) }},
	}
	for i, one := range statuses {
		number := func(s service) int { return s.by[i] }
		columns = append(columns, column[service]{
			title: strings.ToUpper(string(one.status)), number: true, compare: most(number),
			text: func(s service) string {
				if s.by[i] == 0 {
					return "-"
				}
				return one.sign + " " + thousands(s.by[i])
			},
			style: func(s service) ansi.Style {
				if s.by[i] == 0 {
					return faintStyle
				}
				return one.style
			},
		})
	}
	columns = append(columns, column[service]{title: "CHANGED", number: true,
		compare: func(a, b service) int { return b.changed.Compare(a.changed) },
		text: func(s service) string {
			if s.changed.IsZero() {
				return "-"
			}
			return ago(now().Sub(s.changed)) + " ago"
		},
	})
	return &table[service]{columns: columns, key: name,
		matches: func(s service, filter string) bool {
			return strings.Contains(strings.ToLower(name(s)), filter)
		}}
}

// newInstances makes the table of a service's instances.
func newInstances() *table[kvregistry.Service] {
	field := func(title string, text func(kvregistry.Service) string) column[kvregistry.Service] {
		return column[kvregistry.Service]{title: title, text: text, compare: byText(text)}
	}
	id := func(s kvregistry.Service) string { return s.ID }
	status := field("STATUS", func(s kvregistry.Service) string {
		return statuses[rank(s.Status)].sign + " " + string(s.Status)
	})
	status.style = func(s kvregistry.Service) ansi.Style { return statuses[rank(s.Status)].style }
	status.compare = most(func(s kvregistry.Service) int { return rank(s.Status) })
	t := &table[kvregistry.Service]{key: id, columns: []column[kvregistry.Service]{
		field("INSTANCE", id), status, field("ADDRESS", place),
		field("VERSION", func(s kvregistry.Service) string { return s.Version }),
		field("ZONE", func(s kvregistry.Service) string { return s.Zone }),
		field("HOST", func(s kvregistry.Service) string { return s.Host }),
		field("TAGS", func(s kvregistry.Service) string { return strings.Join(s.Tags, " ") }),
	}}
	t.matches = func(s kvregistry.Service, filter string) bool {
		for _, c := range t.columns {
			if strings.Contains(strings.ToLower(c.text(s)), filter) {
				return true
			}
		}
		return false
	}
	return t
}

// place is an instance's address, or its URL, without a secret.
func place(s kvregistry.Service) string { return shown.Redact(cmp.Or(s.Address, s.URL)) }
