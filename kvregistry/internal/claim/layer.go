package claim

import (
	"slices"
	"time"
)

// layer is what one call declared, and those that say the same. It lies on what was declared
// before, until one of its calls has returned: it may be refused, or its calls given up.
type layer[T any] struct {
	number  uint64 // each layer has another one
	want    T
	by      *layer[T] // the layer of the Declare that it belongs to; itself if it is one
	waiting int       // calls that wait for it
	stands  bool      // one of its calls has returned, so what lay below is gone
	refused bool      // the server does not take it: see refuse

	acks     int // writes of it that were acknowledged
	refusals int
	why      error // of the last refusal

	draft   []byte // its key's value, signed for
	drafted string // this lease
}

// dead reports whether nobody wants a layer.
func (l *layer[T]) dead() bool { return l.refused || !l.stands && l.waiting == 0 }

// Claim is what one call has of a registration. Its call owns it: it is given to Wait, and then to
// Stand or Drop.
type Claim[T any] struct {
	*Registration[T]
	Fresh bool // the call made the registration

	change         func(T) (T, error) // nil in a Declare's
	layer          *layer[T]          // nil while the change waits in the queue
	by             *layer[T]
	err            error // why the change is not made
	acks, refusals int   // the layer's when the call joined it
	left           bool  // the call returned while the change was in the queue
}

// push puts a layer on top.
func (o *Owner[T]) push(g *Registration[T], want T, by *layer[T]) *layer[T] {
	o.layers++
	l := &layer[T]{number: o.layers, want: want}
	if l.by = by; by == nil {
		l.by = l
	}
	g.stack, g.last = append(g.stack, l), want
	return l
}

// join has a call wait for a layer.
func (o *Owner[T]) join(c *Claim[T], l *layer[T]) {
	c.layer, c.by, c.acks, c.refusals = l, l.by, l.acks, l.refusals
	l.waiting++
	o.hurry(c.Registration)
}

// hurry has the loop see to a registration at once, whatever failed before.
func (o *Owner[T]) hurry(g *Registration[T]) {
	g.retry, g.tries = time.Time{}, 0
	g.changed.Send()
	o.touch(g)
}

// Stand notes that a call has returned with err, and owns what it declared: only End takes it back.
func (o *Owner[T]) Stand(c *Claim[T], err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.change == nil {
		c.confirmed = err == nil
	}
	if c.left = c.layer == nil; !c.left {
		c.layer.waiting--
		o.stand(c.Registration, c.layer)
	}
	o.uncover(c.Registration)
}

// stand drops what lies below a layer.
func (o *Owner[T]) stand(g *Registration[T], l *layer[T]) {
	l.stands = true
	if i := slices.Index(g.stack, l); i > 0 {
		g.stack = slices.Clone(g.stack[i:])
	}
}

// Drop notes that a call has returned and does not want what it declared. If no other call does,
// the registration declares what it did before.
func (o *Owner[T]) Drop(c *Claim[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c.layer != nil {
		c.layer.waiting--
	}
	c.queue = slices.DeleteFunc(c.queue, func(q *Claim[T]) bool { return q == c })
	o.uncover(c.Registration)
}

// uncover takes dead layers away, down to one that is not. It ends a registration that was taken
// back and of which nothing can be in the bucket, and makes the changes whose turn has come.
func (o *Owner[T]) uncover(g *Registration[T]) {
	for len(g.stack) > 0 && g.top().dead() {
		g.stack = g.stack[:len(g.stack)-1]
		o.hurry(g)
	}
	if len(g.stack) == 0 && !g.busy && !g.acked && !g.unsure {
		o.finish(g, ErrEnded)
	}
	o.advance(g)
	o.touch(g)
}

// takeBack has a registration declare nothing.
func (o *Owner[T]) takeBack(g *Registration[T]) {
	for _, l := range g.stack {
		l.refused = true
	}
	g.err = nil
	o.uncover(g)
}

// advance makes the changes in the queue whose turn has come. One change at a time waits for the
// server, so that one that is refused takes no other with it.
func (o *Owner[T]) advance(g *Registration[T]) {
	for len(g.queue) > 0 {
		top := g.top()
		if top != nil && top.waiting > 0 && top.acks == 0 {
			return
		}
		c := g.queue[0]
		g.queue = g.queue[1:]
		if c.err = g.over; top == nil && c.err == nil {
			c.err = ErrEnded
		}
		if c.err == nil {
			c.err = o.apply(c, top)
		}
		g.changed.Send()
	}
}

// apply makes a change of what the top layer says.
func (o *Owner[T]) apply(c *Claim[T], top *layer[T]) error {
	want, err := c.change(top.want)
	if err != nil {
		return err
	}
	l := top
	if !o.cfg.Same(&want, &top.want) {
		l = o.push(c.Registration, want, top.by)
	}
	if !c.left {
		o.join(c, l)
		return nil
	}
	o.stand(c.Registration, l)
	o.hurry(c.Registration)
	return nil
}

// refuse notes that the server does not take a layer. Its calls return why. What was written for
// earlier calls stays.
func (o *Owner[T]) refuse(g *Registration[T], l *layer[T], why error) {
	l.refusals++
	l.why = why
	l.refused = !l.stands || !g.acked
	g.changed.Send()
	o.uncover(g)
}
