// The panel with all of one instance.

import { el, many, plain, refill, span, status } from './dom.js';
import { leaseAge } from './columns.js';

export class Detail {
  constructor(app, root) {
    this.app = app;
    this.root = root;
    this.whole = null; // the instance as the server has it, if the stream cut it
  }

  // update shows the instance of the route, or hides the panel.
  update() {
    const { route, feed } = this.app;
    const open = route.view === 'service' && route.id !== undefined;
    if (this.root.hidden === open) {
      this.root.hidden = !open;
      document.body.classList.toggle('detailed', open);
    }
    if (!open) { this.shown = null; return; }
    const one = feed.store.find(route.name, route.id);
    const lease = this.app.view?.leases?.get(one?.lease);
    const told = [one, lease, this.whole, feed.hello, feed.store.synced, route.name, route.id];
    if (this.shown && told.every((v, i) => v === this.shown[i])) return;
    const moved = !this.shown || this.shown[5] !== route.name || this.shown[6] !== route.id;
    this.shown = told;
    if (one?.cut && this.whole?.revision !== one.revision) this.read(one);
    this.draw(one, lease, moved);
  }

  async read(one) {
    try {
      const query = new URLSearchParams({ service: one.name, id: one.id });
      const answer = await fetch(`api/instance?${query}`);
      if (answer.ok) this.whole = await answer.json();
    } catch { /* what the stream said stays */ }
    this.update();
  }

  draw(one, lease, moved) {
    const { route, feed } = this.app;
    const full = one && this.whole?.revision === one.revision && this.whole.id === one.id && this.whole.name === one.name
      ? this.whole : one;
    refill(this.root,
      el('div', { class: 'detailhead' },
        el('div', { class: 'titles' }, el('p', { class: 'about' }, route.name),
          el('h2', { class: 'mono foreign' }, route.id)),
        el('button', { type: 'button', class: 'plain', 'aria-label': 'Close', title: 'Close (Esc)', onclick: () => this.app.up() }, '✕')),
      full ? this.body(full, lease) : el('p', { class: 'lost' },
        feed.store.synced ? 'This instance is not there any more, or never was. ' : 'It was not read yet.',
        feed.store.synced && el('a', { href: `#/changes?q=${encodeURIComponent(route.id)}` }, 'Its changes')));
    if (moved) this.root.scrollTop = 0;
  }

  body(one, lease) {
    const row = (name, value, kind) => value !== undefined && value !== '' && value !== null &&
      el('div', null, el('dt', null, name), el('dd', { class: kind }, value));
    const link = one.url && /^https?:\/\//i.test(one.url) && plain(one.url) === one.url
      ? el('a', { href: one.url, rel: 'noreferrer noopener', target: '_blank' }, one.url) : one.url;
    return [
      el('dl', { class: 'fields' },
        row('Status', status(one.status)),
        row('Address', one.address, 'mono'),
        row('URL', link, 'mono'),
        row('Network', one.network, 'mono'),
        row('Version', one.version), row('Zone', one.zone), row('Host', one.host),
        row('Weight', one.weight)),
      one.tags?.length > 0 && [el('h3', null, 'Tags'),
        el('p', { class: 'taglist' }, one.tags.map((tag) => el('span', { class: 'chip' }, tag)))],
      pairs('Endpoints', one.endpoints), pairs('Metadata', one.metadata),
      el('h3', null, 'Owner and lease'),
      el('dl', { class: 'fields' },
        lease && [row('Host', lease.host), row('Process', lease.pid, 'mono'),
          row('Running for', lease.started && span(Math.max(0, (Date.now() - new Date(lease.started)) / 1000))),
          row('Heartbeat', leaseAge(lease)), row('Keeps', many(lease.registrations, 'instance', 'instances'))],
        row('Owner', one.owner, 'mono'), row('Lease', one.lease, 'mono'), row('Revision', one.revision, 'mono')),
      el('p', { class: 'links' },
        el('a', { href: `#/changes?q=${encodeURIComponent(one.id)}` }, 'Its changes'),
        one.host && el('a', { href: `#/services?q=${encodeURIComponent(`host:${one.host}`)}` }, 'All of this host'),
        one.owner && el('a', { href: `#/services?q=${encodeURIComponent(`owner:${one.owner}`)}` }, 'All of this owner')),
      this.writes(one),
    ];
  }

  writes(one) {
    const { hello } = this.app.feed;
    if (!hello?.drain && !hello?.deregister) return null;
    return el('p', { class: 'writes' },
      hello.drain && el('button', {
        type: 'button', onclick: () => this.app.ask('drain', one, 'Drain',
          'Its owner is asked to drain it: look-ups give it to nobody any more, and then the owner deregisters it.'),
      }, 'Drain …'),
      hello.deregister && el('button', {
        type: 'button', class: 'danger', onclick: () => this.app.ask('deregister', one, 'Deregister',
          'Its registration is removed. That is for the registration of a dead owner: a living one is refused.'),
      }, 'Deregister …'));
  }
}

function pairs(title, map) {
  const list = Object.entries(map ?? {});
  if (list.length === 0) return null;
  return [el('h3', null, title), el('dl', { class: 'fields pairs' },
    list.sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([k, v]) => el('div', null, el('dt', null, k), el('dd', { class: 'mono' }, v))))];
}
