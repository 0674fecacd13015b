package lease

import "time"

// proof is what a process knows of the server's progress: a chain of its own committed writes, none
// of them longer than gap after the one before. While there is a chain, every process that was
// connected could renew its lease. The zero time is no write.
type proof struct {
	gap   time.Duration
	first time.Time // when the chain's first write was known to be committed
	last  time.Time // when its last write was begun
}

// add takes a write that was begun at one time and known to be committed at another.
func (p *proof) add(begun, known time.Time) {
	if p.last.IsZero() || known.Sub(p.last) > p.gap {
		p.first = known
	}
	if begun.After(p.last) {
		p.last = begun
	}
}

// lose ends the chain: there may have been an outage.
func (p *proof) lose() { p.first, p.last = time.Time{}, time.Time{} }

// holds reports whether at a time there has been a chain for d.
func (p *proof) holds(now time.Time, d time.Duration) bool {
	return !p.last.IsZero() && now.Sub(p.last) <= p.gap && now.Sub(p.first) >= d
}

// extend makes the chain as old as another process's chain that holds for d.
func (p *proof) extend(now time.Time, d time.Duration) {
	if from := now.Add(-d); from.Before(p.first) {
		p.first = from
	}
}
