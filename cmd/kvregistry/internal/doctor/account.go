package doctor

import (
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// The parts of a limit, in percent, from which on there is a warning or an error.
const (
	fullWarning = 75
	fullError   = 90
)

// share reports whether so many of a limit are near it.
func share(have, most int64) (s Severity, near bool) {
	switch {
	case most <= 0 || have*100 < most*fullWarning:
		return "", false
	case have*100 < most*fullError:
		return Warning, true
	}
	return Error, true
}

func accountRoom(f *facts) ([]Finding, error) {
	a := f.leader.value.Account
	if a == nil { // the hub does not answer
		a = f.near.value.Account
	}
	if a == nil {
		return nil, f.near.err
	}
	found := tierRoom("the account", a.Tier)
	for name, tier := range a.Tiers {
		found = append(found, tierRoom("the account's tier "+name, tier)...)
	}
	return found, nil
}

// tierRoom checks the limits of an account, or of one of its tiers. The limit of streams may be
// used up: an account may be for one tenant.
func tierRoom(whose string, t jetstream.Tier) (found []Finding) {
	for _, one := range []struct {
		what       string
		have, most int64
		why        string
	}{
		{"bytes of storage", int64(t.Store), t.Limits.MaxStore,
			"in a full account the server refuses heartbeats, too, and all leases end"},
		{"consumers", int64(t.Consumers), int64(t.Limits.MaxConsumers),
			"beyond the limit no process can observe or reap"},
	} {
		s, near := share(one.have, one.most)
		if !near {
			continue
		}
		found = append(found, finding(s, fmt.Sprintf("%s has %d of %d %s", whose, one.have,
			one.most, one.what), one.why,
			"raise the account's limit; then run: nats account info")...)
	}
	return found
}
