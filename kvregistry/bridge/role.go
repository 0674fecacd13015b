package bridge

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
)

// role says whether a bridge leads. The one that leads goes on while it gives signs of life. If
// none leads, the one of the least id begins to. Two may lead for a moment if they do not hear each
// other. They then register the same ids and say the same, so that only they notice.
type role struct {
	leads bool
	from  time.Time // the bridge listens until then, and does not lead
	peers map[string]peer
}

// peer is another bridge of the same tenant and prefix.
type peer struct {
	seen  time.Time
	leads bool
}

// mostPeers bounds how many other bridges are known.
const mostPeers = 64

func newRole(now time.Time, o *options) role {
	r := role{peers: map[string]peer{}}
	r.listen(now, o)
	return r
}

// listen keeps the bridge from leading until it must have heard the others.
func (r *role) listen(now time.Time, o *options) { r.from = now.Add(o.signs() * 5 / 2) }

// patience returns how long a bridge may give no sign of life.
func (o *options) patience() time.Duration { return 3 * o.signs() }

// life is a bridge's sign of life.
type life struct {
	Bridge  string `json:"bridge"`
	Leads   bool   `json:"leads,omitempty"`
	Leaving bool   `json:"leaving,omitempty"`
}

// sign gives a sign of life, unless the bridge cannot do its work.
func (b *Bridge) sign(leaving bool) {
	if !leaving && !b.nc.IsConnected() {
		return
	}
	data, _ := json.Marshal(life{b.id, b.leads && !leaving, leaving}) // can't fail
	b.publish(beat, b.opt.tenant, data)
}

// publish sends a message under the prefix. While the connection is away the message is dropped,
// not kept until it is back.
func (b *Bridge) publish(verb, name string, data []byte) {
	if !b.opt.plain.IsConnected() {
		return
	}
	m := nats.NewMsg(b.opt.prefix + "." + verb + "." + name)
	m.Header.Set(mark, b.id)
	m.Data = data
	_ = b.opt.plain.PublishMsg(m) // what fails here is said again
}

// meet records another bridge's sign of life.
func (b *Bridge) meet(data []byte) {
	var l life
	if len(data) > 1<<10 || json.Unmarshal(data, &l) != nil || l.Bridge == "" || l.Bridge == b.id {
		return
	}
	now := time.Now()
	was, known := b.peers[l.Bridge]
	switch {
	case l.Leaving:
		delete(b.peers, l.Bridge)
	case known || len(b.peers) < mostPeers:
		b.peers[l.Bridge] = peer{now, l.Leads}
	}
	if l.Leaving || was.leads != l.Leads {
		b.decide(now)
	}
}

// decide finds out whether this bridge leads. When it begins to, it takes over all that is heard,
// and says all that is to be told.
func (b *Bridge) decide(now time.Time) {
	leads := !now.Before(b.from) && !b.deaf
	for id, p := range b.peers {
		switch {
		case now.Sub(p.seen) > b.opt.patience():
			delete(b.peers, id)
		case id < b.id && p.leads == b.leads, p.leads && !b.leads, !b.nc.IsConnected():
			leads = false
		}
	}
	if leads == b.leads {
		return
	}
	b.leads = leads
	b.opt.logger.Info("bridge: "+map[bool]string{true: "leads", false: "stands by"}[leads],
		"others", len(b.peers))
	if leads {
		b.sign(false)
		b.takeOver(now)
	}
}
