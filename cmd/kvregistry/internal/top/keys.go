package top

import (
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
)

// keys are what the view says of its keys.
var keys = []struct{ key, does string }{
	{"↑ ↓  j k", "move"},
	{"PgUp PgDn", "move by a screen"},
	{"Home End", "to the first, to the last"},
	{"Enter", "the instances of the service"},
	{"Esc", "back; ends the filter first"},
	{"/", "filter: services by name, instances by all that is shown"},
	{"s", "sort by the next column"},
	{"r", "reverse the order"},
	{"?", "this help"},
	{"q", "quit"},
}

// anyTable is what all tables have.
type anyTable interface {
	move(by int)
	sortNext()
	sortBack()
	narrow(filter string)
	filtered() string
	order() string
	lines(width, height int) []string
	screen() int
	counted() (rows, all int)
}

// shown is the table on the screen.
func (m *model) shown() anyTable {
	if m.instances != nil {
		return m.instances
	}
	return m.services
}

// press does what a key says.
func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	name := key.String()
	switch name {
	case "ctrl+c":
		return tea.Quit
	case "ctrl+z":
		return tea.Suspend
	}
	if m.typing && m.edit(key) {
		return nil
	}
	t := m.shown()
	const all = 1 << 30
	switch name {
	case "q":
		return tea.Quit
	case "?":
		m.help = !m.help
	case "esc":
		m.back()
	case "enter":
		m.enter()
	case "/":
		m.typing, m.help = true, false
	case "s":
		t.sortNext()
	case "r":
		t.sortBack()
	case "up", "k":
		t.move(-1)
	case "down", "j":
		t.move(1)
	case "pgup", "ctrl+b":
		t.move(-t.screen())
	case "pgdown", "ctrl+f", "space":
		t.move(t.screen())
	case "home", "g":
		t.move(-all)
	case "end", "G":
		t.move(all)
	}
	return nil
}

// edit takes a key for the filter, and reports whether it was one.
func (m *model) edit(key tea.KeyPressMsg) bool {
	filter := m.shown().filtered()
	switch name := key.String(); {
	case name == "enter":
		m.typing = false
	case name == "esc":
		m.typing = false
		m.shown().narrow("")
	case name == "ctrl+u":
		m.shown().narrow("")
	case name == "backspace":
		_, n := utf8.DecodeLastRuneInString(filter)
		m.shown().narrow(filter[:len(filter)-n])
	case key.Text != "":
		m.typed(key.Text)
	default:
		return false
	}
	return true
}

// typed adds a text to the filter that is being typed.
func (m *model) typed(text string) {
	const longest = 255 // as a name
	if filter := m.shown().filtered() + text; m.typing && len(filter) <= longest {
		m.shown().narrow(filter)
	}
}

// enter opens the service under the cursor.
func (m *model) enter() {
	if row, ok := m.services.current(); ok && m.instances == nil && !m.help {
		m.open, m.instances = row.snap.Name(), newInstances()
		m.fill()
	}
}

// back leaves what was entered last: the help, the filter, the service.
func (m *model) back() {
	switch {
	case m.help:
		m.help = false
	case m.shown().filtered() != "":
		m.shown().narrow("")
	default:
		m.open, m.instances = "", nil
	}
}
