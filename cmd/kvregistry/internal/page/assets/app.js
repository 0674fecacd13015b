// The page: it shows the place in the address, and takes keys.

import { Detail } from './detail.js';
import { clock, el, fill, mark, refill, span } from './dom.js';
import { Feed } from './feed.js';
import { format, parse, viewKey } from './route.js';
import * as views from './views.js';
import { doctor } from './doctor.js';

const $ = (id) => document.getElementById(id);
const makers = { ...views, doctor };

const app = {
  route: parse(location.hash),
  view: null,
  news: {},
  kept: new Map(), // what was chosen in a view, and how far it was scrolled
  lostAt: 0,

  // go shows another place.
  go(route, replace) {
    const hash = format(route);
    if (hash === location.hash) return;
    if (replace) {
      history.replaceState(null, '', hash);
      this.show();
    } else location.hash = hash;
  },

  // up closes what is open: the panel, the search, the service.
  up() {
    const { view, name, id, q, status } = this.route;
    if (id !== undefined) this.go({ view, name, q, status });
    else if (q || status) this.go({ view, name });
    else if (view !== 'services') this.go({ view: 'services' });
  },

  // show makes the view of the place, if it is not the one that is there.
  show() {
    const before = this.key && { ...this.route, key: this.key };
    this.route = parse(location.hash);
    const key = viewKey(this.route);
    if (key !== this.key) {
      if (this.view) {
        const { grid } = this.view;
        if (grid) this.kept.set(this.key, [grid.selected, grid.grid.scrollTop, grid]);
        this.view.close();
      }
      this.key = key;
      this.view = makers[this.route.view](this);
      fill($('main'), this.view.root);
      this.render();
      this.again(key);
      if (before && !inField(document.activeElement)) this.focusList();
    }
    const q = $('q');
    if (q.value !== (this.route.q ?? '') && document.activeElement !== q) q.value = this.route.q ?? '';
    q.placeholder = this.route.view === 'service' ? `Search in ${this.route.name}`.slice(0, 60)
      : { changes: 'Search the changes', leases: 'Search the leases', holds: 'Search the names' }[this.route.view] ?? 'Search name, address, tag, host, metadata';
    if (key === before?.key) this.render(); // so that what opens can take the focus
    const opened = this.route.id !== undefined && (before?.id !== this.route.id || before?.name !== this.route.name);
    const { grid } = this.view;
    if (grid && this.route.id !== undefined && this.route.view === 'service') {
      const at = grid.at(this.route.id);
      if (at >= 0 && grid.selected !== this.route.id) grid.select(at);
    }
    if (opened && before && !this.stepping && !inField(document.activeElement)) $('detail').focus({ preventScroll: true });
    if (before?.id !== undefined && this.route.id === undefined) this.focusList();
    this.title();
  },

  // again puts a view back to where it was left.
  again(key) {
    const kept = this.kept.get(key), { grid } = this.view;
    if (!kept || !grid) return;
    [grid.selected] = kept;
    grid.grid.scrollTop = kept[1];
    grid.draw();
  },

  focusList() { (this.view.grid?.grid ?? $('main')).focus({ preventScroll: true }); },

  title() {
    const { view, name, id } = this.route;
    const what = id ?? name ?? view[0].toUpperCase() + view.slice(1);
    const of = this.feed.hello?.tenant;
    document.title = [what, of, 'kvregistry'].filter(Boolean).join(' · ');
  },

  // draw shows what is new. Several news before the next frame are shown together.
  draw(news) {
    this.news = { ...this.news, ...news };
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => { this.waits = false; this.render(); });
  },

  render() {
    const what = this.news;
    this.news = {};
    this.view.update(what);
    this.detail.update();
    tabs();
    state();
  },

  // ask asks whether to change an instance, and does it.
  ask(what, one, label, about) {
    const dialog = $('ask'), said = el('p', { class: 'answer', role: 'status' });
    const doIt = el('button', { type: 'button', class: 'danger', onclick: async () => {
      doIt.disabled = true;
      fill(said, 'Asked …');
      const error = await this.write(what, one);
      fill(said, error || 'Done.');
      if (!error) setTimeout(() => dialog.close(), 600);
      else doIt.disabled = false;
    } }, label);
    fill(dialog, el('h2', { id: 'ask-title' }, `${label} ${one.name} / ${one.id}?`), el('p', null, about), said,
      el('p', { class: 'buttons' }, el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'), doIt));
    dialog.showModal();
  },

  // write asks the server to change an instance. It returns an error's text.
  async write(what, one) {
    try {
      const answer = await fetch(`api/${what}`, {
        method: 'POST', body: JSON.stringify({ service: one.name, id: one.id }),
        headers: { 'Content-Type': 'application/json', 'X-Kvregistry-Token': this.feed.hello.token },
      });
      return answer.ok ? '' : (await answer.json()).error;
    } catch {
      return 'The page’s server does not answer.';
    }
  },
};

function inField(e) { return !!e && (e.tagName === 'INPUT' || e.tagName === 'TEXTAREA' || e.isContentEditable); }

// tabs draws the views that there are, and marks the one that is shown.
function tabs() {
  const { hello, health, store } = app.feed;
  const bad = health && health.state !== 'ok';
  const list = [
    ['services', 'Services', store.services.size], ['changes', 'Changes'], ['leases', 'Leases'],
    hello?.holds && ['holds', 'Holds'], ['health', 'Health'], hello?.doctor && ['doctor', 'Doctor'],
  ].filter(Boolean);
  const now = app.route.view === 'service' ? 'services' : app.route.view;
  const drawn = JSON.stringify([list, now, bad]);
  if (drawn === app.tabs) return;
  app.tabs = drawn;
  refill($('tabs'), list.map(([view, label, n]) => el('a', {
    href: `#/${view}`, 'aria-current': view === now && 'page',
  }, label, n !== undefined && el('span', { class: 'n' }, n.toLocaleString('en')),
  view === 'health' && bad && mark(health.state === 'doubt' ? 'warn' : 'bad'))));
  $('tabs').querySelector('[aria-current]')?.scrollIntoView({ inline: 'nearest', block: 'nearest' });
}

// state says in the top bar and, if something is wrong, in a banner how the page stands.
function state() {
  const { link, health, store, hello } = app.feed;
  const tenant = $('tenant');
  tenant.hidden = !hello?.tenant;
  fill(tenant, hello?.tenant);
  let kind = 'ok', word = 'Live', more = '', banner = '';
  if (link === 'lost' || link === 'connecting') {
    kind = link === 'lost' ? 'bad' : 'none';
    word = link === 'lost' ? 'Page’s server away' : 'Connecting';
    app.lostAt ||= Date.now();
    if (link === 'lost') {
      banner = `The page’s own server (kvregistry page) does not answer since ${clock(app.lostAt)}. `
        + 'What is shown is from then; the page asks again all the time.';
    }
  } else {
    app.lostAt = 0;
    if (health) {
      kind = { ok: 'ok', doubt: 'warn', trouble: 'bad' }[health.state];
      word = health.headline;
      if (health.age_seconds !== null) more = `${span(health.age_seconds)} ago`;
      if (health.state === 'trouble') banner = health.facts.find((f) => f.state === 'trouble').text;
    }
    if (store.stale) [kind, word] = ['warn', 'From the snapshot file'];
  }
  const drawn = `${kind}\n${word}\n${more}`;
  if (drawn !== app.drawnState) {
    app.drawnState = drawn;
    const e = $('state');
    e.title = 'When the server last confirmed what is shown';
    fill(e, mark(kind, word), more && el('span', { class: 'muted age' }, more));
  }
  const b = $('banner');
  if (b.textContent !== banner) fill(b, banner);
  b.hidden = !banner;
  const said = `${word}`;
  if (app.said !== undefined && app.said !== said) fill($('said'), said);
  app.said = said;
}

const keyTable = [
  ['/', 'search'], ['j or ↓', 'next'], ['k or ↑', 'previous'], ['PgDn, PgUp', 'a page further, a page back'],
  ['Home, End', 'first, last'], ['Enter', 'open'], ['Esc', 'close, clear the search, go up'],
  ['1 … 6', 'the views'], ['t', 'light or dark'], ['?', 'these keys'],
];

function help() {
  const dialog = $('keys');
  if (dialog.open) { dialog.close(); return; }
  fill(dialog, el('h2', { id: 'keys-title' }, 'Keys'),
    el('dl', { class: 'keys' }, keyTable.map(([k, what]) => el('div', null, el('dt', null, el('kbd', null, k)), el('dd', null, what)))),
    el('p', { class: 'about' }, 'The search finds instances that contain each word: names, ip:port, tag:blue, host:db1, zone:eu, version:1.2, status:critical, key=value.'),
    el('p', { class: 'buttons' }, el('button', { type: 'button', onclick: () => dialog.close() }, 'Close')));
  dialog.showModal();
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
  try { localStorage.setItem('theme', root.dataset.theme); } catch { /* it is for this visit then */ }
}

// step moves the choice, and takes an open panel along.
function step(move) {
  const { grid } = app.view;
  if (!grid) return;
  move(grid);
  if (app.route.id === undefined || grid.selected === null) return;
  app.stepping = true;
  app.go({ ...app.route, id: grid.selected }, true);
  app.stepping = false;
}

const keys = {
  '/': () => { $('q').focus(); $('q').select(); },
  '?': help, t: theme,
  j: () => step((g) => g.move(1)), ArrowDown: () => step((g) => g.move(1)),
  k: () => step((g) => g.move(-1)), ArrowUp: () => step((g) => g.move(-1)),
  PageDown: () => step((g) => g.move(g.page)), PageUp: () => step((g) => g.move(-g.page)),
  Home: () => step((g) => g.select(0)), End: () => step((g) => g.select(g.rows.length - 1)),
  Enter: () => app.view.grid?.enter(),
  Escape: () => app.up(),
};

document.addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.altKey || e.metaKey || e.isComposing) return;
  const target = e.target;
  if (document.querySelector('dialog[open]')) {
    if (e.key === '?') help();
    return;
  }
  if (inField(target)) {
    if (e.key === 'Escape') {
      e.preventDefault();
      if ($('q').value === '') app.focusList();
      else search('');
    } else if (e.key === 'Enter' || e.key === 'ArrowDown') {
      e.preventDefault();
      app.focusList();
      if (app.view.grid && app.view.grid.at(app.view.grid.selected) < 0) app.view.grid.select(0);
    }
    return;
  }
  if (e.key === 'Enter' && target.closest('a, button')) return;
  // The panel and pages scroll by themselves.
  if (/^(Arrow|Page|Home|End)/.test(e.key) && (target.closest('#detail') || !app.view.grid)) return;
  if (/^[1-6]$/.test(e.key)) {
    const tab = $('tabs').children[e.key - 1];
    if (tab) location.hash = tab.hash;
    return;
  }
  const act = keys[e.key];
  if (!act) return;
  e.preventDefault();
  act();
});

// search shows what is found. Typing replaces the place, so that the back button does not go through
// each letter.
function search(text) {
  const box = $('q');
  if (box.value !== text) box.value = text;
  const { route } = app;
  const searched = route.view !== 'health' && route.view !== 'doctor';
  const to = { ...route, view: searched ? route.view : 'services', id: undefined, q: text || undefined };
  app.go(to, !!route.q && !!text);
}

$('q').addEventListener('input', (e) => search(e.target.value));
$('help').addEventListener('click', help);
$('theme').addEventListener('click', theme);
$('skip').addEventListener('click', (e) => { e.preventDefault(); app.focusList(); });
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', (e) => { if (e.target === dialog) dialog.close(); });
}
addEventListener('hashchange', () => app.show());

app.detail = new Detail(app, $('detail'));
app.feed = new Feed((what) => app.draw({ [what]: true }));
app.show();
