package top

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
)

// View draws the screen.
func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.screen(), "\n"))
	v.AltScreen, v.WindowTitle = true, "kvregistry top: "+m.tenant
	return v
}

// screen is the lines of the screen, none of them wider than it.
func (m *model) screen() []string {
	if m.width <= 0 || m.height <= 0 {
		return nil
	}
	head := m.head()
	if m.height < 10 {
		head = head[len(head)-2:] // the state of the view, and the title
	}
	body := max(1, m.height-len(head)-1)
	lines := slices.Concat(head, m.body(body))
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, m.height-1)], m.foot())
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, m.width, "…")
	}
	return lines
}

// head says where this is, what is there, and how current that is.
func (m *model) head() []string {
	first := boldStyle.Styled("kvregistry top") + "  tenant " + boldStyle.Styled(m.tenant)
	where := cli.Escape(m.server)
	if free := m.width - ansi.StringWidth(first) - ansi.StringWidth(where); free > 1 {
		first += strings.Repeat(" ", free) + faintStyle.Styled(where)
	}
	return []string{first, m.total(), m.state(), m.title()}
}

// total counts services, instances and leases. On a narrow screen the statuses are signs alone.
func (m *model) total() string {
	if m.catalog == nil {
		return ""
	}
	leases := "leases unknown"
	if m.leases >= 0 {
		leases = count(m.leases, "lease")
	}
	all, full, signs := 0, "", ""
	for i, one := range statuses {
		all += m.by[i]
		full += "  " + one.amount(m.by[i], true)
		signs += "  " + one.amount(m.by[i], false)
	}
	services := count(len(m.known), "service")
	full = fmt.Sprintf("%s  %s:%s  %s", services, count(all, "instance"), full, leases)
	if ansi.StringWidth(full) > m.width {
		return services + signs + "  " + leases
	}
	return full
}

// state says whether the view is current, and of when it is if it is not.
func (m *model) state() string {
	switch {
	case m.catalog == nil && m.err != nil:
		return badStyle.Styled("! nothing was read yet: " + cli.Escape(m.err.Error()))
	case m.catalog == nil:
		return "reading the tenant …"
	}
	of := ago(m.catalog.Age()) + " ago"
	switch {
	case !m.health.Connected:
		return badStyle.Styled("! NATS is away: this is as it was " + of)
	case m.err != nil:
		return badStyle.Styled("! this is as it was " + of + ": " + cli.Escape(m.err.Error()))
	case m.health.Full:
		return doubtStyle.Styled("! some instances are left out: there is no room for them")
	case m.health.Err != nil:
		return doubtStyle.Styled("! confirmed " + of + ": " + cli.Escape(m.health.Err.Error()))
	}
	return goodStyle.Styled("✓") + " current, confirmed " + of
}

// title names the table, with its filter.
func (m *model) title() string {
	rows, all := m.shown().counted()
	text := "services"
	if m.instances != nil {
		text = "instances of " + boldStyle.Styled(cli.Escape(m.open))
	}
	text += faintStyle.Styled("  " + m.shown().order())
	if filter := m.shown().filtered(); m.typing || filter != "" {
		text += fmt.Sprintf("  / %s", cli.Escape(filter))
		if m.typing {
			text += cursorStyle.Styled(" ")
		}
		text += faintStyle.Styled(fmt.Sprintf("  %s of %s", thousands(rows), thousands(all)))
	}
	return text
}

// body is the table, or the help.
func (m *model) body(height int) []string {
	if m.help {
		lines := []string{""}
		for _, k := range keys {
			lines = append(lines, "  "+boldStyle.Styled(pad(k.key, 12, false))+k.does)
		}
		lines = append(lines, "", "  ")
		for _, one := range statuses {
			lines[len(lines)-1] += one.style.Styled(one.sign+" "+string(one.status)) + "  "
		}
		return lines
	}
	lines := m.shown().lines(m.width, height)
	if rows, all := m.shown().counted(); rows == 0 && m.catalog != nil {
		text := "there is none"
		if all > 0 {
			text = "none matches the filter; Esc ends it"
		}
		lines = append(lines, faintStyle.Styled("  "+text))
	}
	return lines
}

// foot names the keys.
func (m *model) foot() string {
	text := "Enter instances  / filter  s sort  r reverse  ? help  q quit"
	switch {
	case m.typing:
		text = "type a part of it  Enter done  Esc no filter"
	case m.help:
		text = "Esc back  q quit"
	case m.instances != nil:
		text = "Esc back  / filter  s sort  r reverse  ? help  q quit"
	}
	return faintStyle.Styled(text)
}
