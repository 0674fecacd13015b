// The columns of the lists.

import { clock, el, mark, span, status, statusClass, statusNames, statusShape } from './dom.js';

const text = (value, kind) => el('span', { class: kind }, value || '');
const chips = (list) => (list ?? []).slice(0, 8).map((tag) => el('span', { class: 'chip' }, tag));

// place is where an instance is reached.
export const place = (one) => one.address || one.url || '';

function bar(row) {
  const parts = [...statusNames, 'other'].filter((s) => row.counts[s] > 0);
  return el('span', { class: 'bar', 'aria-hidden': 'true' }, parts.map((s) => {
    const e = el('i', { class: statusClass(s) });
    e.style.flexGrow = row.counts[s];
    return e;
  }));
}

const count = (name) => ({
  label: name[0].toUpperCase() + name.slice(1), width: '88px', kind: 'num', down: true,
  sort: (row) => row.counts[name],
  cell: (row) => (row.counts[name]
    ? el('span', { class: `count ${statusClass(name)}` }, statusShape(name), row.counts[name].toLocaleString('en'))
    : el('span', { class: 'zero' }, '0')),
});

// counts is what a service has of each status, in one cell of a narrow screen.
const counts = (row) => el('span', { class: 'counts' },
  [...statusNames, 'other'].filter((s) => row.counts[s] > 0).map((s) => el('span',
    { class: `count ${statusClass(s)}` }, statusShape(s),
    row.counts[s].toLocaleString('en'), el('span', { class: 'sr' }, ` ${s} `))));

export const serviceColumns = [
  {
    label: 'Service', width: 'minmax(160px, 1.5fr)', narrow: 'minmax(0, 1fr)', sort: (row) => row.name,
    cell: (row) => [el('a', { class: 'name', href: `#/service/${encodeURIComponent(row.name)}`, tabindex: -1 }, row.name),
      el('span', { class: 'under' }, counts(row))],
  },
  {
    label: 'Instances', width: '90px', narrow: '86px', kind: 'num', down: true, sort: (row) => row.size,
    cell: (row) => text(row.size.toLocaleString('en'), 'strong'),
  },
  { label: 'Share', width: 'minmax(80px, 160px)', cell: bar },
  ...statusNames.map(count),
  { label: 'Version', width: 'minmax(80px, 1fr)', cell: (row) => text(row.versions) },
  { label: 'Zone', width: 'minmax(80px, 1fr)', cell: (row) => text(row.zones) },
  { label: 'Tags', width: 'minmax(100px, 1.4fr)', kind: 'chips', cell: (row) => chips(row.tags) },
];

// instanceColumns are those of instances. leases is a map of the leases that are known; with
// services, each row names its service.
export function instanceColumns(leases, services) {
  const path = (one) => `#/service/${encodeURIComponent(one.name)}/${encodeURIComponent(one.id)}`;
  const list = [
    {
      label: 'Instance', width: 'minmax(120px, 1.2fr)', narrow: 'minmax(0, 1fr)', sort: (one) => one.id,
      cell: (one) => [el('a', { class: 'name mono', href: path(one), tabindex: -1 }, one.id),
        el('span', { class: 'under mono' }, services ? `${one.name} · ${place(one)}` : place(one))],
    },
    { label: 'Status', width: '108px', narrow: '104px', sort: (one) => one.status ?? '', cell: (one) => status(one.status) },
    { label: 'Address', width: 'minmax(140px, 1.4fr)', sort: place, cell: (one) => text(place(one), 'mono') },
    { label: 'Version', width: 'minmax(70px, 0.6fr)', sort: (one) => one.version ?? '', cell: (one) => text(one.version) },
    { label: 'Zone', width: 'minmax(80px, 0.7fr)', sort: (one) => one.zone ?? '', cell: (one) => text(one.zone) },
    { label: 'Host', width: 'minmax(70px, 0.9fr)', sort: (one) => one.host ?? '', cell: (one) => text(one.host) },
    { label: 'Tags', width: 'minmax(80px, 1.3fr)', kind: 'chips', cell: (one) => chips(one.tags) },
  ];
  if (services) {
    list.splice(0, 0, {
      label: 'Service', width: 'minmax(110px, 1fr)', sort: (one) => one.name, cell: (one) => text(one.name),
    });
  } else {
    list.push({
      label: 'Lease', width: '104px', kind: 'num', sort: (one) => leases.get(one.lease)?.age_seconds ?? -1,
      cell: (one) => leaseAge(leases.get(one.lease)),
    });
  }
  return list;
}

// leaseAge says how long ago a lease was renewed, of its TTL.
export function leaseAge(lease) {
  if (!lease) return text('');
  const late = lease.age_seconds > lease.ttl_seconds * 0.8;
  return el('span', { class: late ? 'late' : 'muted', title: 'since the last heartbeat, of the TTL' },
    `${span(lease.age_seconds)} of ${lease.ttl_seconds} s`);
}

const kinds = {
  registered: ['plus', 'came'], updated: ['edit', 'changed'],
  unregistered: ['minus', 'left'], expired: ['bad', 'expired'],
};

const value = (v) => (v === '' ? '–' : v);

// what says in words what a change changed.
function what(row) {
  if (!row.was) return row.address ? `${row.address}${row.status ? `, ${row.status}` : ''}` : row.status;
  return row.was.map((f) => `${f.name}: ${value(f.before)} → ${value(f.after)}`).join('; ');
}

export const changeText = (row) => row.hay ??= [row.kind, row.service, row.instance, row.cause,
  what(row), row.address].join('\n').toLowerCase();

export const changeColumns = [
  {
    label: 'Time', width: '84px', narrow: '70px', sort: (row) => row.number,
    cell: (row) => el('time', { class: 'mono muted', datetime: row.at }, clock(row.at)),
  },
  {
    label: 'Change', width: '104px', narrow: '98px', sort: (row) => row.kind,
    cell: (row) => mark(...(Object.hasOwn(kinds, row.kind) ? kinds[row.kind] : ['none', row.kind])),
  },
  {
    label: 'Service', width: 'minmax(110px, 0.8fr)', narrow: 'minmax(0, 1fr)', sort: (row) => row.service,
    cell: (row) => [text(row.service, 'strong'), el('span', { class: 'under' }, `${row.instance} · ${what(row)}`)],
  },
  { label: 'Instance', width: 'minmax(120px, 1fr)', sort: (row) => row.instance, cell: (row) => text(row.instance, 'mono') },
  { label: 'What', width: 'minmax(180px, 2fr)', cell: (row) => text(what(row)) },
  { label: 'Cause', width: 'minmax(180px, 1.6fr)', sort: (row) => row.cause, cell: (row) => text(row.cause, 'muted') },
];

const owner = (row) => [row.host, row.pid || ''].filter(Boolean).join(' · ');

export const leaseText = (row) => row.hay ??= [row.id, row.owner, row.host, row.pid].join('\n').toLowerCase();

export const leaseColumns = [
  {
    label: 'Host', width: 'minmax(120px, 1fr)', narrow: 'minmax(0, 1fr)', sort: (row) => row.host,
    cell: (row) => [text(row.host || '–', 'strong'), el('span', { class: 'under mono' }, `pid ${row.pid}`)],
  },
  { label: 'Process', width: '90px', kind: 'num', sort: (row) => row.pid, cell: (row) => text(String(row.pid || ''), 'mono') },
  {
    label: 'Instances', width: '90px', narrow: '80px', kind: 'num', down: true, sort: (row) => row.registrations,
    cell: (row) => text(row.registrations.toLocaleString('en')),
  },
  { label: 'Heartbeat', width: '130px', narrow: '104px', kind: 'num', down: true, sort: (row) => row.age_seconds, cell: leaseAge },
  {
    label: 'Running for', width: '104px', kind: 'num', sort: (row) => row.started ?? '',
    cell: (row) => text(row.started ? span(Math.max(0, (Date.now() - new Date(row.started)) / 1000)) : ''),
  },
  { label: 'Owner', width: 'minmax(220px, 1.4fr)', sort: (row) => row.owner, cell: (row) => text(row.owner, 'mono muted') },
  { label: 'Lease', width: 'minmax(220px, 1.4fr)', sort: (row) => row.id, cell: (row) => text(row.id, 'mono muted') },
];

export const holdText = (row) => row.hay ??= [row.name, row.owner, row.lease].join('\n').toLowerCase();

export const holdColumns = (leases) => [
  {
    label: 'Name', width: 'minmax(150px, 1.4fr)', narrow: 'minmax(0, 1fr)', sort: (row) => row.name,
    cell: (row) => [text(row.name, 'strong'), el('span', { class: 'under' }, owner(leases.get(row.lease) ?? {}))],
  },
  {
    label: 'Place', width: '120px', narrow: '110px', sort: (row) => row.place,
    cell: (row) => (row.place === 1 ? mark('ok', 'holds') : mark('none', `waits, ${row.place}`)),
  },
  { label: 'Token', width: '100px', kind: 'num', sort: (row) => row.token, cell: (row) => text(String(row.token), 'mono') },
  {
    label: 'Since', width: '90px', kind: 'num', sort: (row) => row.since,
    cell: (row) => text(span(Math.max(0, (Date.now() - new Date(row.since)) / 1000))),
  },
  { label: 'Host · process', width: 'minmax(140px, 1fr)', cell: (row) => text(owner(leases.get(row.lease) ?? {})) },
  { label: 'Heartbeat', width: '130px', kind: 'num', cell: (row) => leaseAge(leases.get(row.lease)) },
  { label: 'Lease', width: 'minmax(220px, 1.4fr)', cell: (row) => text(row.lease, 'mono muted') },
];
