package bridge

import "github.com/kvregistry/go/kvregistry"

// Health is the state of a bridge at one moment.
type Health struct {
	Connected bool   // the plain processes' server answers
	Leads     bool   // this bridge does the work; others stand by
	Others    int    // bridges of the same tenant and prefix that give signs of life
	Heard     int    // instances of plain processes
	Held      int    // those of them that this bridge has registered
	Told      int    // instances of the tenant that plain processes are told of
	Skipped   uint64 // messages that cannot be read, and services that cannot be registered or told
	Dropped   uint64 // registrations beyond MaxInstances

	Registry kvregistry.Health // of the bridge's registry
}

// Health returns the bridge's state. It asks no server. After Close only the registry's health is
// set.
func (b *Bridge) Health() Health {
	h := Health{Registry: b.reg.Health()}
	b.do(func() {
		h.Connected, h.Leads, h.Others = b.opt.plain.IsConnected() && !b.deaf, b.leads, len(b.peers)
		h.Heard, h.Skipped, h.Dropped = b.heard.n, b.skipped, b.dropped
		for _, one := range b.heard.all() {
			if one.held != nil {
				h.Held++
			}
		}
		for _, t := range b.told.all() {
			if t.last.Name != "" {
				h.Told++
			}
		}
	})
	return h
}
