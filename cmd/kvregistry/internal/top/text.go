package top

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/kvregistry/go/kvregistry"
)

// The styles. None is the only sign of what it says.
var (
	boldStyle   = ansi.NewStyle().Bold()
	faintStyle  = ansi.NewStyle().Faint()
	titleStyle  = ansi.NewStyle().Bold().Underline(true)
	cursorStyle = ansi.NewStyle().Reverse(true)
	goodStyle   = ansi.NewStyle().ForegroundColor(ansi.Green)
	doubtStyle  = ansi.NewStyle().ForegroundColor(ansi.Yellow)
	badStyle    = ansi.NewStyle().ForegroundColor(ansi.Red).Bold()
	awayStyle   = ansi.NewStyle().ForegroundColor(ansi.Cyan)
)

// shape is how a status looks.
type shape struct {
	status kvregistry.Status
	sign   string
	style  ansi.Style
}

// amount is a number of instances of the status, with or without its word.
func (s shape) amount(n int, word bool) string {
	text := s.sign + " " + thousands(n)
	if word {
		text += " " + string(s.status)
	}
	if n == 0 {
		return faintStyle.Styled(text)
	}
	return s.style.Styled(text)
}

// statuses are in the order in which they are shown.
var statuses = []shape{
	{kvregistry.Passing, "●", goodStyle},
	{kvregistry.Warning, "▲", doubtStyle},
	{kvregistry.Critical, "✗", badStyle},
	{kvregistry.Draining, "○", awayStyle},
}

// rank is the place of a status in statuses.
func rank(s kvregistry.Status) int {
	for i, one := range statuses {
		if one.status == s {
			return i
		}
	}
	return 0
}

// pad makes a text as wide as a column: it cuts the text, or fills it with spaces.
func pad(text string, width int, right bool) string {
	text = ansi.Truncate(text, width, "…")
	fill := strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
	if right {
		return fill + text
	}
	return text + fill
}

// ago is a time span in one unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return thousands(n) + " " + noun + "s"
}

// thousands is a number with a comma after each three digits.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
