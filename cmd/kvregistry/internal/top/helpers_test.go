package top

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/kvregistry/go/internal/natstest"
	"github.com/kvregistry/go/kvregistry"
	"github.com/kvregistry/go/kvregistry/kvregistrytest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// seat is a view of a real tenant, without a terminal.
type seat struct {
	*model
	t    *testing.T
	env  *kvregistrytest.Env
	msgs chan tea.Msg
}

// sit follows a new tenant until the test ends.
func sit(t *testing.T, services ...kvregistry.Service) *seat {
	t.Helper()
	quiet := kvregistry.Logger(slog.New(slog.DiscardHandler))
	env := kvregistrytest.New(t, quiet)
	s := &seat{newModel(env.Registry, env.Conn(), "default"), t, env, make(chan tea.Msg)}
	if len(services) > 0 {
		if _, err := env.Open(quiet).RegisterAll(t.Context(), services...); err != nil {
			t.Fatal(err)
		}
	}
	s.size(100, 20)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // ends with the test, which waits for it
		defer close(ended)
		follow(ctx, env.Registry, func(msg tea.Msg) {
			select {
			case s.msgs <- msg:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

func (s *seat) size(width, height int) {
	s.Update(tea.WindowSizeMsg{Width: width, Height: height})
}

// lines is the screen without its styles.
func (s *seat) lines() []string {
	var plain []string
	for line := range strings.SplitSeq(s.View().Content, "\n") {
		plain = append(plain, ansi.Strip(line))
	}
	return plain
}

// line is the first line of the screen with a text, or "".
func (s *seat) line(text string) string {
	for _, line := range s.lines() {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// shows waits until a line of the screen has all these words.
func (s *seat) shows(words ...string) {
	s.t.Helper()
	natstest.Eventually(s.t, natstest.Soon, func() error {
		select {
		case msg := <-s.msgs:
			s.Update(msg)
		default:
		}
		s.Update(secondMsg{})
		for _, line := range s.lines() {
			if holds(line, words) {
				return nil
			}
		}
		return fmt.Errorf("no line has %q:\n%s", words, strings.Join(s.lines(), "\n"))
	})
}

func holds(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}

// register registers an instance, and waits until its service is on the screen.
func (s *seat) register(own *kvregistry.Registry, name, id string) {
	s.t.Helper()
	if _, err := own.Register(kvregistry.Service{Name: name, ID: id, Address: "a:1"}); err != nil {
		s.t.Fatal(err)
	}
	s.shows(name)
}

// press presses keys: words such as "enter", and single characters.
func (s *seat) press(keys ...string) (last tea.Cmd) {
	special := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "up": tea.KeyUp,
		"down": tea.KeyDown, "end": tea.KeyEnd, "home": tea.KeyHome, "pgdown": tea.KeyPgDown,
		"backspace": tea.KeyBackspace}
	for _, key := range keys {
		msg := tea.KeyPressMsg{Code: special[key]}
		if msg.Code == 0 {
			msg = tea.KeyPressMsg{Code: rune(key[0]), Text: key}
		}
		_, last = s.Update(msg)
	}
	return last
}

// order returns the first words of the rows on the screen.
func (s *seat) order() (names []string) {
	lines := s.lines()
	for i, line := range lines {
		if strings.HasPrefix(line, "SERVICE") || strings.HasPrefix(line, "INSTANCE") {
			lines = lines[i+1:]
			break
		}
	}
	for _, line := range lines {
		if line == "" {
			break
		}
		names = append(names, strings.Fields(line)[0])
	}
	return names
}

// fits checks that no line is wider than the screen, and that no text controls the terminal.
func (s *seat) fits() error {
	lines := strings.Split(s.View().Content, "\n")
	if len(lines) != s.height {
		return fmt.Errorf("%d lines on a screen of %d", len(lines), s.height)
	}
	for _, line := range lines {
		if n := ansi.StringWidth(line); n > s.width {
			return fmt.Errorf("%d columns on a screen of %d: %q", n, s.width, line)
		}
		for _, r := range ansi.Strip(line) {
			if !unicode.IsPrint(r) {
				return errors.Join(fmt.Errorf("%q on the screen: %q", r, line))
			}
		}
	}
	return nil
}
