package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kvregistry/go/integration/bench/internal/natsproc"
)

// patience is how long the last changes may take to reach the observers, beyond a TTL.
const patience = time.Minute

// carry measures a tenant under load for some time.
func carry(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns, err := b.connectSeveral()
	if err != nil {
		return err
	}
	f, err := newFleet(ctx, conns, b.services, b.ttl)
	if err != nil {
		return err
	}
	defer f.wg.Wait()
	defer cancel() // before it is waited for
	if err := f.start(ctx, b.leases); err != nil {
		return err
	}
	// Otherwise the bucket would be as it never is again: registrations side by side, no lease
	// renewed.
	if err := sleep(ctx, b.ttl); err != nil {
		return err
	}
	w := &watch{fleet: f}
	all, err := w.observe(ctx, b)
	if err != nil {
		return err
	}
	if ghosts, missing, err := all.differences(f.registered()); err != nil || ghosts+missing > 0 {
		return errors.Join(err, fmt.Errorf("scale: at the start observers lack %d and have %d "+
			"too many", missing, ghosts))
	}
	stop := f.churn(ctx, b.churnTime())
	defer stop()
	// Until the first leases run out, and the heartbeats are spread.
	if err := sleep(ctx, b.ttl+time.Second); err != nil {
		return err
	}
	m, err := b.measure(ctx, f, w)
	if err != nil {
		return err
	}
	stop()
	late := await(ctx, b.ttl+patience, "all observers know of all changes", func() bool {
		came, went := all.untold(f)
		return came+went == 0
	})
	if late != nil && !errors.Is(late, errLate) {
		return late
	}
	m.print(b)
	return report(f, m, w, all)
}

// churnTime returns the time from one crash to the next; 0 if there are none.
func (s settings) churnTime() time.Duration {
	rate := float64(s.leases) * s.churn
	if rate == 0 {
		return 0
	}
	return time.Duration(float64(s.ttl) / rate)
}

// measured is what was recorded during the measurement.
type measured struct {
	length time.Duration
	// Of each server and each reaper, and last this process: the difference, and Memory and Peak at
	// the end.
	used   []natsproc.Usage
	moved  []natsproc.Traffic
	stored []int64
	beats  int
	events int64
	deaths int
}

// measure lets the load run for its time.
func (b *bench) measure(ctx context.Context, f *fleet, w *watch) (*measured, error) {
	used, moved, err := b.state()
	if err != nil {
		return nil, err
	}
	began, beats, events, deaths := time.Now(), f.beats.took.count(), w.told.Load(), len(f.ended())
	timed, cancel := context.WithTimeout(ctx, b.length)
	defer cancel()
	m := &measured{}
	<-timed.Done()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	m.length, m.beats, m.events, m.deaths = time.Since(began), f.beats.took.count()-beats,
		w.told.Load()-events, len(f.ended())-deaths
	if m.used, m.moved, err = b.state(); err != nil {
		return nil, err
	}
	for i := range m.used {
		m.used[i].Processor -= used[i].Processor
		m.used[i].Written -= used[i].Written
	}
	for i := range m.moved {
		m.moved[i] = m.moved[i].Since(moved[i])
		m.stored = append(m.stored, b.servers.List[i].Stored())
	}
	return m, nil
}

// state returns what each server, and last this process, has used so far.
func (b *bench) state() (used []natsproc.Usage, moved []natsproc.Traffic, err error) {
	for _, s := range b.servers.List {
		traffic, err := s.Traffic()
		if err != nil {
			return nil, nil, err
		}
		used, moved = append(used, natsproc.UsageOf(s.PID)), append(moved, traffic)
	}
	for _, r := range b.reapers {
		used = append(used, natsproc.UsageOf(r.cmd.Process.Pid))
	}
	return append(used, natsproc.UsageOf(os.Getpid())), moved, nil
}

func (m *measured) print(b *bench) {
	seconds := m.length.Seconds()
	fmt.Printf("%d leases of %s, %d services, %d observers of %d services each, %d reapers, %s\n\n",
		b.leases, b.ttl, b.services, b.observers, b.observed, len(b.reapers),
		m.length.Round(time.Second))
	fmt.Printf("%.0f heartbeats, %.2f crashes and as many that came, %.1f events in observers a "+
		"second\n\n",
		float64(m.beats)/seconds, float64(m.deaths)/seconds, float64(m.events)/seconds)
	fmt.Print("| process | of a core | memory | at most | written to disk | on disk | messages " +
		"in | out | bytes in | out |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | " +
		"--- |\n")
	for i, u := range m.used {
		name := "the load"
		if i < len(m.moved) {
			name = "server " + b.servers.List[i].Name
		} else if n := i - len(m.moved); n < len(b.reapers) {
			name = fmt.Sprint("reaper ", n)
		}
		fmt.Printf("| %s | %.1f %% | %d MB | %d MB | %.2f MB/s |", name,
			100*u.Processor.Seconds()/seconds, u.Memory>>20, u.Peak>>20,
			float64(u.Written)/seconds/1e6)
		if i >= len(m.moved) {
			fmt.Print(" | | | | |\n")
			continue
		}
		t := m.moved[i]
		fmt.Printf(" %d MB | %.0f/s | %.0f/s | %.2f MB/s | %.2f MB/s |\n", m.stored[i]>>20,
			float64(t.InMsgs)/seconds, float64(t.OutMsgs)/seconds, float64(t.InBytes)/seconds/1e6,
			float64(t.OutBytes)/seconds/1e6)
	}
}

// report prints how late everything was, and the counts that must be 0. It returns an error if one
// is not.
func report(f *fleet, m *measured, w *watch, all *observers) error {
	fmt.Print("\n", sampleHead)
	fmt.Print(w.began.row("observer: from Observe to its first snapshot"))
	fmt.Print(f.beats.took.row("heartbeat: from its write to the answer"))
	fmt.Print(w.came.row("registration: from its write to the event"))
	fmt.Print(w.went.row("expiry: from the TTL's end to the event"))
	fmt.Printf("\n%d heartbeats were not answered in time, and sent again\n", f.beats.failed.Load())
	came, went := all.untold(f)
	ghosts, missing, err := all.differences(f.registered())
	if err != nil {
		return err
	}
	faults := []struct {
		what string
		n    int64
	}{
		{"expiries before the TTL's end", w.early.Load()},
		{"living instances that vanished from a cache", w.vanished.Load()},
		{"expiries that an observer was not told", went},
		{"registrations that an observer was not told", came},
		{"dead instances in caches at the end", int64(ghosts)},
		{"living instances that caches lack at the end", int64(missing)},
		{"leases that were lost", f.beats.lost.Load()},
		{"processes that could not register", f.failed.Load()},
		{"instances that were never registered", w.unknown.Load()},
	}
	fmt.Print("\n| what must be 0 | |\n| --- | --- |\n")
	sum := int64(0)
	for _, fault := range faults {
		fmt.Printf("| %s | %d |\n", fault.what, fault.n)
		sum += fault.n
	}
	if sum > 0 {
		return errors.New("scale: what must be 0 is not")
	}
	return nil
}
