package top

import (
	"context"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/nats-io/nats.go"

	"github.com/kvregistry/go/kvregistry"
)

// What the view is told, beside keys and the size of the terminal.
type (
	catalogMsg struct{ *kvregistry.Catalog }
	failedMsg  struct{ error } // why there is no catalog
	leasesMsg  struct {
		number int
		err    error
	}
	secondMsg struct{} // a second has passed
	askMsg    struct{} // it is time to count the leases
)

// model is the state of the view. It is changed by Update alone.
type model struct {
	reg    *kvregistry.Registry
	conn   *nats.Conn // of reg
	tenant string
	server string // where conn was connected last, without a password

	width, height int
	now           time.Time
	health        kvregistry.Health
	catalog       *kvregistry.Catalog // nil before the first
	err           error               // why there is none
	leases        int                 // -1 is not known

	known     map[string]service // all services of the catalog
	by        [4]int             // their instances by status
	services  *table[service]
	instances *table[kvregistry.Service] // of the open service; nil if none is open
	open      string                     // the name of this service

	typing bool // the keys go to the filter
	help   bool
}

func newModel(reg *kvregistry.Registry, conn *nats.Conn, tenant string) *model {
	m := &model{reg: reg, conn: conn, tenant: tenant, leases: -1, now: time.Now(),
		known: map[string]service{}}
	m.services = newServices(func() time.Time { return m.now })
	m.ask()
	return m
}

// ask asks the registry how it is.
func (m *model) ask() {
	m.health = m.reg.Health()
	if at := m.conn.ConnectedUrlRedacted(); at != "" {
		m.server = at
	}
}

// Init begins what is done again and again: the clock, and the count of the leases.
func (m *model) Init() tea.Cmd { return tea.Batch(second(), m.countLeases()) }

func second() tea.Cmd {
	return tea.Tick(time.Second, func(time.Time) tea.Msg { return secondMsg{} })
}

// countLeases reads the leases.
func (m *model) countLeases() tea.Cmd {
	return func() tea.Msg {
		list, err := m.reg.Leases(context.Background()) // which bounds its time
		return leasesMsg{len(list), err}
	}
}

// leasesEvery is how long a count of leases stands.
const leasesEvery = 5 * time.Second

// Update changes the state by one message.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	m.now = time.Now()
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case tea.PasteMsg:
		m.typed(msg.Content)
	case catalogMsg:
		m.show(msg.Catalog)
	case failedMsg:
		m.err = msg.error
	case secondMsg:
		m.ask()
		return m, second()
	case leasesMsg:
		if msg.err == nil { // otherwise the last count stands, as all that is shown
			m.leases = msg.number
		}
		return m, tea.Tick(leasesEvery, func(time.Time) tea.Msg { return askMsg{} })
	case askMsg:
		return m, m.countLeases()
	}
	return m, nil
}

// show takes over a catalog. Services that did not change keep their rows.
func (m *model) show(catalog *kvregistry.Catalog) {
	began := m.catalog == nil
	m.catalog, m.err = catalog, nil
	m.ask()
	rows, known := make([]service, 0, catalog.Len()), make(map[string]service, catalog.Len())
	m.by = [4]int{}
	for snap := range catalog.All() {
		row, ok := m.known[snap.Name()]
		if !ok || row.snap != snap {
			row = service{snap: snap, by: tally(snap)}
			if !began {
				row.changed = m.now
			}
		}
		known[snap.Name()] = row
		rows = append(rows, row)
		for i, n := range row.by {
			m.by[i] += n
		}
	}
	old := m.known[m.open].snap
	m.known = known
	m.services.set(rows)
	if m.instances != nil && known[m.open].snap != old {
		m.fill()
	}
}

// fill reads the instances of the open service.
func (m *model) fill() {
	var rows []kvregistry.Service
	if snap := m.known[m.open].snap; snap != nil {
		for one := range snap.All() {
			rows = append(rows, one)
		}
	}
	m.instances.set(rows)
}
