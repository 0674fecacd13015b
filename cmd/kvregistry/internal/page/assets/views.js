// The views. Each has a root, takes news by update, and ends by close. Those with a list have a
// grid.

import {
  changeColumns, changeText, holdColumns, holdText, instanceColumns, leaseColumns, leaseText,
  serviceColumns,
} from './columns.js';
import { clock, el, fill, many, mark, refill, span, statusNames, statusShape } from './dom.js';
import { Fetched } from './fetched.js';
import { Grid } from './grid.js';
import { hay, matcher } from './store.js';

const unread = 'Nothing was read yet.';
const nothing = (q) => `Nothing matches “${q}”. Esc clears the search.`;

// filters are buttons that show instances of one status.
function filters(app, counts, total) {
  const of = app.route.status;
  const one = (name, n, label) => el('button', {
    type: 'button', class: 'filter', 'aria-pressed': String((of ?? '') === name), 'data-status': name,
    onclick: () => app.go({ ...app.route, id: undefined, status: name || undefined }),
  }, name && statusShape(name), el('span', null, label), el('b', null, n.toLocaleString('en')));
  return [one('', total, 'All'),
    ...statusNames.map((s) => one(s, counts[s], s[0].toUpperCase() + s.slice(1)))];
}

function sum(summaries) {
  const counts = { passing: 0, warning: 0, critical: 0, draining: 0, other: 0 };
  for (const one of summaries) for (const s in counts) counts[s] += one.counts[s];
  return counts;
}

function tally(list) {
  const counts = { passing: 0, warning: 0, critical: 0, draining: 0, other: 0 };
  for (const { status } of list) counts[Object.hasOwn(counts, status) ? status : 'other']++;
  return counts;
}

// Leases are asked for while a view is open that shows their age: seldom if there are many.
function leasesOf(taken) {
  const map = new Map();
  const asked = new Fetched('api/leases', (v) => Math.max(5000, (v?.leases.length ?? 0) * 5), (f) => {
    map.clear();
    for (const one of f.value?.leases ?? []) map.set(one.id, one);
    taken();
  });
  return { map, asked };
}

function head(title, ...more) {
  return el('div', { class: 'viewhead' }, el('h1', null, title), more);
}

export function services(app) {
  const bar = el('div', { class: 'filters', role: 'group', 'aria-label': 'Status' });
  const about = el('p', { class: 'about' });
  const all = new Grid({
    label: 'Services', columns: serviceColumns, key: (row) => row.name,
    open: (row) => app.go({ view: 'service', name: row.name }),
    empty: 'No service is registered.',
  });
  const found = new Grid({
    label: 'Instances that were found', columns: instanceColumns(new Map(), true),
    key: (one) => `${one.name}\n${one.id}`,
    open: (one) => app.go({ view: 'service', name: one.name, id: one.id }),
    empty: 'No instance has this status.',
  });
  const view = {
    root: el('section', { class: 'view' }, head('Services', about, bar), all.root, found.root),
    grid: all,
    update() {
      const { q, status } = app.route, { store } = app.feed;
      const list = store.summaries();
      const searching = !!(q || status);
      all.root.hidden = searching;
      found.root.hidden = !searching;
      view.grid = searching ? found : all;
      if (!searching) {
        refill(bar, filters(app, sum(list), store.instances));
        fill(about, `${many(list.length, 'service', 'services')}, ${many(store.instances, 'instance', 'instances')}`);
        all.set(list, store.synced ? '' : unread);
        return;
      }
      const matched = store.search(q ?? '');
      const rows = status ? matched.filter((one) => one.status === status) : matched;
      refill(bar, filters(app, tally(matched), matched.length));
      fill(about, many(rows.length, 'instance', 'instances'), ' of ', many(list.length, 'service', 'services'));
      found.set(rows, q ? nothing(q) : '');
    },
    close() { all.close(); found.close(); },
  };
  return view;
}

export function service(app) {
  const { name } = app.route;
  const bar = el('div', { class: 'filters', role: 'group', 'aria-label': 'Status' });
  const { map, asked } = leasesOf(() => { grid.forget(); view.update(); });
  const grid = new Grid({
    label: `Instances of ${name}`, columns: instanceColumns(map), key: (one) => one.id,
    open: (one) => app.go({ ...app.route, view: 'service', name, id: one.id }),
    empty: 'The service has no instance.',
  });
  const view = {
    root: el('section', { class: 'view' }, el('div', { class: 'viewhead' },
      el('a', { class: 'up', href: '#/services' }, 'Services'), el('span', { class: 'sep', 'aria-hidden': 'true' }, '/'),
      el('h1', { class: 'foreign' }, name), bar), grid.root),
    grid,
    leases: map,
    update() {
      const { q, status } = app.route, { store } = app.feed;
      const list = store.list(name);
      const matched = q ? list.filter(matcher(q, hay)) : list;
      const rows = status ? matched.filter((one) => one.status === status) : matched;
      refill(bar, filters(app, tally(matched), matched.length));
      grid.set(rows, !store.synced ? unread : q ? nothing(q) : status && list.length ? 'No instance has this status.' : '');
    },
    close() { asked.close(); grid.close(); },
  };
  return view;
}

// listed is a view of a list that is asked for.
function listed(app, { title, about, grid, rows, text, ask, news }) {
  const says = el('p', { class: 'about' }, about);
  const view = {
    root: el('section', { class: 'view' }, head(title, says), grid.root), grid,
    update(what) {
      if (what && news?.(what)) ask.ask();
      const { q } = app.route;
      const list = rows();
      const match = matcher(q ?? '', text);
      grid.set(q ? list.filter(match) : list,
        ask.error ? `It could not be read: ${ask.error}.` : !ask.value ? 'Reading …' : q ? nothing(q) : '');
    },
    close() { ask.close(); grid.close(); },
  };
  return view;
}

export function changes(app) {
  let list = [];
  const grid = new Grid({
    label: 'Changes', columns: changeColumns, key: (row) => row.number,
    open: (row) => app.go({ view: 'service', name: row.service, id: row.instance }),
    empty: 'Nothing has changed since the page’s server started.',
  });
  const ask = new Fetched(() => `api/changes?after=${list[0]?.number ?? 0}`, null, (f) => {
    // The server was started again if its numbers are lower.
    if (app.feed.newest < (list[0]?.number ?? 0)) list = [];
    if (!f.error) list = [...f.value.filter((e) => e.number > (list[0]?.number ?? 0)), ...list].slice(0, 500);
    view.update();
  });
  const view = listed(app, {
    title: 'Changes', about: 'The last 500, the newest first', grid, ask, text: changeText, rows: () => list,
    news: () => app.feed.newest !== (list[0]?.number ?? 0),
  });
  return view;
}

export function leases(app) {
  const grid = new Grid({
    label: 'Leases', columns: leaseColumns, key: (row) => row.id,
    open: (row) => app.go({ view: 'services', q: `owner:${row.owner}`.toLowerCase() }),
    empty: 'No process has a lease.',
  });
  const ask = new Fetched('api/leases', (v) => Math.max(2500, (v?.leases.length ?? 0) * 5), () => view.update());
  const view = listed(app, {
    title: 'Leases', about: 'One for each process that registers or holds a name', grid, ask, text: leaseText,
    rows: () => ask.value?.leases ?? [],
  });
  return view;
}

export function holds(app) {
  const { map, asked } = leasesOf(() => { grid.forget(); view.update(); });
  const grid = new Grid({
    label: 'Exclusive names', columns: holdColumns(map), key: (row) => `${row.name}\n${row.token}`,
    empty: 'Nobody holds or waits for an exclusive name.',
  });
  const ask = new Fetched('api/holds', () => 2500, () => view.update());
  const view = listed(app, {
    title: 'Holds', about: 'Exclusive names, and the line of each', grid, ask, text: holdText,
    rows: () => ask.value ?? [],
  });
  const { close } = view;
  view.close = () => { asked.close(); close(); };
  return view;
}

const kindOf = { ok: 'ok', doubt: 'warn', trouble: 'bad' };
const wordOf = { ok: 'Fine', doubt: 'Look', trouble: 'Wrong' };

export function health(app) {
  const facts = el('ul', { class: 'facts' });
  const figures = el('dl', { class: 'figures' });
  const turns = el('ol', { class: 'turns' });
  const title = el('h1');
  const view = {
    root: el('section', { class: 'view pages', tabindex: 0, 'aria-label': 'Health' }, el('div', { class: 'viewhead' }, title),
      el('div', { class: 'page' }, facts,
        el('h2', null, 'Figures of this page’s registry'), figures,
        el('h2', null, 'When it turned'), turns)),
    update() {
      const h = app.feed.health;
      if (!h) { fill(title, 'Health'); return; }
      fill(title, mark(kindOf[h.state], h.headline));
      fill(facts, h.facts.map((f) => el('li', null, mark(kindOf[f.state], wordOf[f.state]), el('span', null, f.text))));
      const n = h.health;
      const rows = [
        ['Confirmed', h.age_seconds === null ? 'never' : `${span(h.age_seconds)} ago`],
        ['Services, instances', `${app.feed.store.services.size.toLocaleString('en')}, ${app.feed.store.instances.toLocaleString('en')}`],
        ['Revision', String(app.feed.store.revision)],
        ['View read again', many(n.resyncs, 'time', 'times')],
        ['Records left out', n.skipped.toLocaleString('en')],
        ['Reaper slot', n.reaps ? `held, ${many(n.ended, 'ended lease waits', 'ended leases wait')}` : 'not held'],
        ['Memory of the instances', `${(n.memory_bytes / 1e6).toFixed(1)} MB`],
        ['Lease of this process', n.lease],
      ];
      fill(figures, rows.map(([k, v]) => el('div', null, el('dt', null, k), el('dd', null, v))));
      fill(turns, (h.turns ?? []).map((t) => el('li', null,
        el('time', { class: 'mono muted', datetime: t.at }, clock(t.at)),
        mark(t.ok ? 'ok' : 'bad', t.ok ? 'Fine' : 'Wrong'), el('span', null, t.why))));
    },
    close() {},
  };
  return view;
}
