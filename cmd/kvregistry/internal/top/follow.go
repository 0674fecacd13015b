package top

import (
	"context"
	"errors"
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/kvregistry/go/kvregistry"
)

// perSecond is how many states a second the view shows at most.
const perSecond = 10

// follow tells the view of each catalog until ctx ends, and of the newest if there are more of them
// than the view shows.
func follow(ctx context.Context, reg *kvregistry.Registry, tell func(tea.Msg)) {
	for ctx.Err() == nil {
		for catalog, err := range reg.Catalogs(ctx) {
			if err != nil {
				tell(failedMsg{err})
				break
			}
			tell(catalogMsg{catalog})
			pause(ctx, time.Second/perSecond)
		}
		pause(ctx, time.Second)
	}
}

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// run shows the view until its user quits or ctx ends.
func run(ctx context.Context, m *model, opts ...tea.ProgramOption) error {
	ctx, cancel := context.WithCancel(ctx)
	p := tea.NewProgram(m, append(opts, tea.WithContext(ctx), tea.WithFPS(perSecond))...)
	ended := make(chan struct{}) // closed when follow has returned, which cancel brings about
	go func() {
		defer close(ended)
		follow(ctx, m.reg, p.Send)
	}()
	_, err := p.Run()
	cancel()
	<-ended
	if errors.Is(err, tea.ErrInterrupted) || errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	return nil
}
