package demo

import (
	"fmt"
	"io"
	"time"
)

// timeline prints events, with their offset from the beginning, and counts the promises.
type timeline struct {
	out    io.Writer
	began  time.Time
	kept   int
	broken []string
}

// at prints an event of a given time.
func (t *timeline) at(when time.Time, what, format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, "%7.3f s  %-8s  %s\n", when.Sub(t.began).Seconds(), what,
		fmt.Sprintf(format, args...))
}

// say prints an event of now.
func (t *timeline) say(what, format string, args ...any) {
	t.at(time.Now(), what, format, args...)
}

// promise notes whether a promise was kept, and prints a broken one at once.
func (t *timeline) promise(kept bool, format string, args ...any) {
	if kept {
		t.kept++
		return
	}
	text := fmt.Sprintf(format, args...)
	t.broken = append(t.broken, text)
	t.say("BROKEN", "%s", text)
}

// within is the promise that something takes no longer than a limit.
func (t *timeline) within(took, limit time.Duration, what string) {
	t.promise(took <= limit, "%s after %s, promised within %s", what, ms(took), ms(limit))
}

// never is the promise that none of these things happens.
func (t *timeline) never(things []string) {
	const most = 10
	t.promise(len(things) == 0, "%s", abridged(things, most))
}

func abridged(things []string, most int) string {
	text := ""
	for i, thing := range things {
		switch {
		case i == most:
			return fmt.Sprintf("%s; and %d more", text, len(things)-most)
		case i > 0:
			text += "; "
		}
		text += thing
	}
	return text
}

// ms formats a duration in milliseconds.
func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
