package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kvregistry/go/internal/shown"
)

// Output is how a command prints what it found.
type Output struct{ format format }

// format is one of the values of the option.
type format string

const (
	table format = "table"
	wide  format = "wide"
	asked format = "json"
	lines format = "jsonl"
	names format = "name"
)

var formatNames = []string{string(table), string(wide), string(asked), string(lines),
	string(names)}

func (f *format) String() string { return string(*f) }
func (f *format) Type() string   { return "format" }

func (f *format) Set(text string) error {
	for _, known := range formatNames {
		if text == known {
			*f = format(text)
			return nil
		}
	}
	return fmt.Errorf("use %s", strings.Join(formatNames, ", "))
}

// Flags adds the option.
func (o *Output) Flags(c *cobra.Command) {
	o.format = table
	c.Flags().VarP(&o.format, "output", "o", "`format`: "+strings.Join(formatNames, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formatNames,
		cobra.ShellCompDirectiveNoFileComp)) // the option is there
}

// People reports whether the output is for people: a table.
func (o *Output) People() bool { return o.format == table || o.format == wide }

// Colour is how a cell of a table looks on a terminal. It is never all that tells a state.
type Colour int

// The colours, as a terminal numbers them.
const (
	Plain  Colour = 39
	Red    Colour = 31
	Green  Colour = 32
	Yellow Colour = 33
	Blue   Colour = 34
)

// Column is a column of a table of values of type T.
type Column[T any] struct {
	Head   string
	Cell   func(T) string
	Wide   bool           // shown if the output is wide
	Colour func(T) Colour // nil is Plain for all
}

// Table says how values of type T are printed.
type Table[T any] struct {
	Columns []Column[T]
	Name    func(T) string // what "-o name" prints
}

// Print prints values: as a table, as names, or as JSON by encoding/json. Foreign text is escaped.
func Print[T any](std Streams, o *Output, t Table[T], values []T) error {
	switch o.format {
	case names:
		for _, v := range values {
			if _, err := fmt.Fprintln(std.raw, Escape(t.Name(v))); err != nil {
				return err
			}
		}
		return nil
	case asked:
		if values == nil {
			values = []T{}
		}
		return PrintJSON(std, values)
	case lines:
		for _, v := range values {
			if err := PrintLine(std, v); err != nil {
				return err
			}
		}
		return nil
	default:
		return t.write(std.raw, std.Colours(), o.format == wide, values)
	}
}

// write writes a table, with colours or without, and with all columns or the narrow ones.
func (t Table[T]) write(to io.Writer, colours, all bool, values []T) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(cell func(Column[T]) (string, Colour)) {
		var cells []string
		for _, c := range t.Columns {
			if c.Wide && !all {
				continue
			}
			text, colour := cell(c)
			text = Escape(text)
			// Each cell of a coloured column has codes of one length, so the columns align.
			if colours && c.Colour != nil {
				text = fmt.Sprintf("\x1b[%dm%s\x1b[%dm", colour, text, Plain)
			}
			cells = append(cells, text)
		}
		_, _ = fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	row(func(c Column[T]) (string, Colour) { return c.Head, Plain })
	for _, v := range values {
		row(func(c Column[T]) (string, Colour) {
			if c.Colour == nil {
				return orDash(c.Cell(v)), Plain
			}
			return orDash(c.Cell(v)), c.Colour(v)
		})
	}
	return w.Flush()
}

// orDash returns a dash for a cell that is empty.
func orDash(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}

// PrintJSON prints a value as indented JSON.
func PrintJSON(std Streams, value any) error {
	data, err := encode(value)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return err
	}
	return writeJSON(std.raw, b.Bytes())
}

// PrintLine prints a value as JSON on one line.
func PrintLine(std Streams, value any) error {
	data, err := encode(value)
	if err != nil {
		return err
	}
	return writeJSON(std.raw, data)
}

// encode is json.Marshal without the escapes that are for HTML.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// writeJSON writes JSON with escapes for what is not printable, which can stand only in strings.
func writeJSON(w io.Writer, data []byte) error {
	_, err := fmt.Fprintf(w, "%s\n", shown.Printable(data))
	return err
}
