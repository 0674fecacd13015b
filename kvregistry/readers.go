package kvregistry

// subscribe gives a reader the changes of a service, beginning with what is there.
func (c *cache) subscribe(name string, q *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers[name] == nil {
		c.readers[name] = map[*queue]struct{}{}
	}
	c.readers[name][q] = struct{}{}
	if !q.Keeps() {
		return
	}
	for _, svc := range *c.services.Load() {
		if name != Everything && svc.name != name {
			continue
		}
		if snap := svc.snap.Load(); snap != nil {
			for s := range snap.All() {
				add(q, Event{Kind: Registered, Service: s, Revision: s.Revision})
			}
		}
	}
}

func (c *cache) unsubscribe(name string, q *queue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers[name], q)
	if len(c.readers[name]) == 0 {
		delete(c.readers, name)
	}
}

// ring wakes the readers of a name that keep no events. The caller holds c.mu.
func (c *cache) ring(name string) {
	for q := range c.readers[name] {
		q.Ring()
	}
}

// tell gives an event to the readers of its service. The caller holds c.mu.
func (c *cache) tell(e Event) {
	for _, name := range []string{e.Service.Name, Everything} {
		for q := range c.readers[name] {
			add(q, e)
		}
	}
}
