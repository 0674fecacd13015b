package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func isView(consumer string) bool { return strings.HasPrefix(consumer, "view-") }

func isReaper(consumer string) bool { return strings.HasPrefix(consumer, "reaper-") }

// fewViews is how many new views are no sign of anything.
const fewViews = 5

func flapping(f *facts) ([]Finding, error) {
	switch {
	case f.before.err != nil:
		return nil, f.before.err
	case f.scan.err != nil:
		return nil, f.scan.err
	}
	now, young, all := f.scan.value.now, 0, 0
	for _, one := range f.before.value {
		if !isView(one.Name) {
			continue
		}
		all++
		if now.Sub(one.Created) < f.cfg.young+f.cfg.Watch {
			young++
		}
	}
	old := 0 // registrations, whose processes must be as old
	for _, one := range f.scan.value.registrations {
		if now.Sub(one.at) > f.cfg.young+f.cfg.Watch {
			old++
		}
	}
	if young < fewViews || young*2 <= all || old*2 < len(f.scan.value.registrations) || old == 0 {
		return nil, nil
	}
	return finding(Warning, fmt.Sprintf("%d of %d views are younger than %s, and %d of %d "+
		"registrations "+
		"are older", young, all, f.cfg.young, old, len(f.scan.value.registrations)),
		"views are made again when connections end, when a consumer falls silent, and when the "+
			"bucket "+
			"is recreated",
		"see which: nats consumer report "+f.stream()+"; and Health().Sessions of a process"), nil
}

func slowConsumers(f *facts) ([]Finding, error) {
	if f.after.err != nil {
		return nil, f.after.err
	}
	before := map[string]*jetstream.ConsumerInfo{}
	for _, one := range f.before.value {
		before[one.Name] = one
	}
	var slow []string
	for _, one := range f.after.value {
		was := before[one.Name]
		if !isView(one.Name) && !isReaper(one.Name) { // it is somebody's own
			continue
		}
		if was == nil || was.NumPending == 0 || one.NumPending < was.NumPending ||
			one.Delivered.Consumer != was.Delivered.Consumer {
			continue
		}
		slow = append(slow, fmt.Sprintf("%s with %d", one.Name, one.NumPending))
	}
	if slow == nil {
		return nil, nil
	}
	return finding(Warning, fmt.Sprintf("messages wait for consumers that took none for %s: %s",
		f.cfg.Watch.Round(time.Millisecond), some(slow)),
		"the processes behind them show what was before",
		"see which connections are slow, with the system account: nats server report connections "+
			"--sort out-bytes"), nil
}
