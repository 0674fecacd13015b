package top

import (
	"cmp"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/kvregistry/go/cmd/kvregistry/internal/cli"
)

// column is a column of a table.
type column[R any] struct {
	title   string
	number  bool // stands to the right
	text    func(R) string
	style   func(R) ansi.Style // nil is none
	compare func(a, b R) int   // the order that a reader expects first
}

// table is a list of rows in columns, sorted and filtered, of which a part is on the screen.
type table[R any] struct {
	columns []column[R]
	key     func(R) string // tells rows apart
	matches func(row R, filter string) bool

	all      []R    // the rows in the order of their keys
	rows     []R    // those that match the filter, sorted
	by       int    // the column that they are sorted by
	reverse  bool   //
	filter   string // in lower case
	selected string // the key of the row that the cursor follows; none while it is at the top
	cursor   int    // the index of the row under the cursor
	first    int    // the index of the first row on the screen
	page     int    // how many rows are on the screen
	widths   []int  // of the columns; they do not shrink, so that the screen is calm
}

// set replaces the rows, which stand in the order of their keys.
func (t *table[R]) set(all []R) {
	t.all = all
	t.arrange()
}

// arrange filters and sorts the rows. The cursor stays on its row, or at its place if the row is
// gone.
func (t *table[R]) arrange() {
	t.rows = t.rows[:0]
	for _, row := range t.all {
		if t.filter == "" || t.matches(row, t.filter) {
			t.rows = append(t.rows, row)
		}
	}
	compare := t.columns[t.by].compare
	slices.SortStableFunc(t.rows, func(a, b R) int {
		if t.reverse {
			return compare(b, a)
		}
		return compare(a, b)
	})
	i := -1
	if t.selected != "" {
		i = slices.IndexFunc(t.rows, func(row R) bool { return t.key(row) == t.selected })
	}
	if i < 0 {
		i = t.cursor
	}
	t.place(i)
}

// place puts the cursor on a row. From the top row on it follows no row.
func (t *table[R]) place(i int) {
	t.cursor, t.selected = max(0, min(i, len(t.rows)-1)), ""
	if t.cursor > 0 {
		t.selected = t.key(t.rows[t.cursor])
	}
}

// move moves the cursor by a number of rows.
func (t *table[R]) move(by int) { t.place(t.cursor + by) }

// current is the row under the cursor.
func (t *table[R]) current() (row R, ok bool) {
	if t.cursor >= len(t.rows) {
		return row, false
	}
	return t.rows[t.cursor], true
}

// filtered is the filter.
func (t *table[R]) filtered() string { return t.filter }

// screen is how many rows were on the screen.
func (t *table[R]) screen() int { return t.page }

// counted says how many rows match the filter, and how many there are.
func (t *table[R]) counted() (rows, all int) { return len(t.rows), len(t.all) }

// narrow shows only the rows that match a filter.
func (t *table[R]) narrow(filter string) {
	t.filter = strings.ToLower(filter)
	t.arrange()
}

// sortNext sorts by the next column.
func (t *table[R]) sortNext() {
	t.by, t.reverse = (t.by+1)%len(t.columns), false
	t.arrange()
}

// sortBack reverses the order.
func (t *table[R]) sortBack() {
	t.reverse = !t.reverse
	t.arrange()
}

// The widths of a table.
const (
	gap        = 2  // between two columns, in spaces
	narrowest  = 10 // that the first column shrinks to before other columns are left out
	widestCell = 60
)

// lines returns the titles and as many rows as fit into the height.
func (t *table[R]) lines(width, height int) []string {
	t.page = max(1, height-1)
	t.first = max(0, min(t.first, t.cursor, len(t.rows)-t.page))
	t.first = max(t.first, t.cursor-t.page+1)
	shown := t.rows[t.first:min(t.first+t.page, len(t.rows))]
	cells := make([][]string, len(shown))
	if t.widths == nil {
		t.widths = make([]int, len(t.columns))
	}
	for c, col := range t.columns {
		t.widths[c] = max(t.widths[c], ansi.StringWidth(col.title))
		for i, row := range shown {
			text := cli.Escape(col.text(row))
			cells[i] = append(cells[i], text)
			t.widths[c] = max(t.widths[c], min(ansi.StringWidth(text), widestCell))
		}
	}
	widths := fit(t.widths, width)
	lines := []string{t.titles(widths, width)}
	for i, row := range shown {
		lines = append(lines, t.line(row, cells[i], widths, width, t.first+i == t.cursor))
	}
	return lines
}

// fit returns the widths of the columns that fit, from the left.
func fit(natural []int, width int) []int {
	total := -gap
	for _, w := range natural {
		total += gap + w
	}
	n := len(natural)
	for ; n > 1 && total-max(0, natural[0]-narrowest) > width; n-- {
		total -= gap + natural[n-1]
	}
	widths := slices.Clone(natural[:n])
	widths[0] = min(width, max(widths[0]-max(0, total-width), 1))
	return widths
}

// titles has an arrow in the gap behind the column that the rows are sorted by.
func (t *table[R]) titles(widths []int, width int) string {
	var b strings.Builder
	for c, w := range widths {
		b.WriteString(pad(t.columns[c].title, w, t.columns[c].number))
		switch {
		case c == t.by && t.reverse:
			b.WriteString("↑ ")
		case c == t.by:
			b.WriteString("↓ ")
		default:
			b.WriteString("  ")
		}
	}
	return titleStyle.Styled(pad(strings.TrimRight(b.String(), " "), width, false))
}

// order says what the rows are sorted by.
func (t *table[R]) order() string {
	text := "by " + strings.ToLower(t.columns[t.by].title)
	if t.reverse {
		text += ", reversed"
	}
	return text
}

// line is a row on the screen. The row under the cursor is reversed, and has no other style.
func (t *table[R]) line(row R, cells []string, widths []int, width int, under bool) string {
	var b strings.Builder
	for c, w := range widths {
		if c > 0 {
			b.WriteString("  ")
		}
		cell := pad(cells[c], w, t.columns[c].number)
		if style := t.columns[c].style; style != nil && !under {
			cell = style(row).Styled(cell)
		}
		b.WriteString(cell)
	}
	if under {
		return cursorStyle.Styled(pad(b.String(), width, false))
	}
	return b.String()
}

// byText compares rows by a text of theirs.
func byText[R any](text func(R) string) func(a, b R) int {
	return func(a, b R) int { return cmp.Compare(text(a), text(b)) }
}

// most compares rows by a number of theirs, the largest first.
func most[R any, N cmp.Ordered](number func(R) N) func(a, b R) int {
	return func(a, b R) int { return cmp.Compare(number(b), number(a)) }
}
