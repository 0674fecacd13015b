// The stream of the server's events, which is opened again whenever it ends.

import { Store } from './store.js';

const silentTime = 5000; // the server says something every second
const againTime = 1500;
const hiddenTime = 60000; // after which a page that nobody sees lets go of its place

export class Feed {
  // changed is called after each batch, with what is new: "data", "health" or "link".
  constructor(changed) {
    this.changed = changed;
    this.store = new Store();
    this.hello = null;
    this.health = null;
    this.link = 'connecting'; // or "open" or "lost"
    this.heard = performance.now();
    this.newest = 0; // the number of the newest change
    this.open();
    setInterval(() => this.watch(), 1000);
    document.addEventListener('visibilitychange', () => this.seen());
  }

  open() {
    this.source?.close();
    const source = this.source = new EventSource('api/stream');
    let store = this.store.synced ? new Store() : this.store = new Store();
    this.heard = performance.now();
    const on = (kind, take) => source.addEventListener(kind, (e) => {
      if (source !== this.source) return;
      this.heard = performance.now();
      take(JSON.parse(e.data));
    });
    on('hello', (hello) => {
      store = this.store.synced ? new Store() : this.store = new Store();
      this.hello = hello;
      this.set('open');
    });
    on('change', (change) => {
      store.apply(change);
      if (store === this.store) this.changed('data');
    });
    on('synced', (at) => {
      store.synced = true;
      store.revision = at.revision;
      store.stale = at.stale;
      this.store = store; // what was known until now stays on the screen until here
      this.newest = at.change;
      this.changed('data');
    });
    on('health', (health) => {
      this.health = health;
      this.newest = health.change;
      this.changed('health');
    });
    source.addEventListener('error', () => {
      if (source !== this.source) return;
      this.set('lost');
      if (source.readyState === EventSource.CLOSED) this.again();
    });
  }

  // again opens the stream after a while: the server refused it.
  again() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { if (!document.hidden) this.open(); }, againTime);
  }

  // watch notices a server that says nothing any more.
  watch() {
    if (!this.source || document.hidden || performance.now() - this.heard < silentTime) return;
    this.set('lost');
    this.open();
  }

  seen() {
    clearTimeout(this.away);
    if (document.hidden) {
      this.away = setTimeout(() => { this.source?.close(); this.source = null; }, hiddenTime);
    } else if (!this.source || performance.now() - this.heard > silentTime) this.open();
  }

  set(link) {
    if (this.link === link) return;
    this.link = link;
    this.changed('link');
  }
}
