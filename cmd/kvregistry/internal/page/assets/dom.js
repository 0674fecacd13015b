// Elements and texts. Foreign text only ever becomes a text node: nothing on this page parses HTML.

const unseen = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

// plain returns a text in which what is not visible, or turns the direction of the text, is written
// as an escape.
export function plain(text) {
  return String(text).replace(unseen, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// el makes an element. A property that starts with "on" is a listener; false, null and undefined
// leave a property out.
export function el(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) e.addEventListener(name.slice(2), value);
    else if (name === 'class') e.className = value;
    else e.setAttribute(name, value === true ? '' : value);
  }
  add(e, children);
  return e;
}

function add(e, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === '') continue;
    e.append(child instanceof Node ? child : plain(child));
  }
}

// fill replaces what an element holds.
export function fill(e, ...children) {
  e.replaceChildren();
  add(e, children);
  return e;
}

// refill is fill, and leaves the focus where it was: at the link or button of the same number.
export function refill(e, ...children) {
  const stops = () => [...e.querySelectorAll('a, button')];
  const at = stops().indexOf(document.activeElement);
  fill(e, ...children);
  if (at >= 0) (stops()[at] ?? e).focus({ preventScroll: true });
  return e;
}

const shapes = {
  ok: ['M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2Z', 'M4.9 8.3l2.1 2.1 4.1-4.6'],
  warn: ['M8 1.6 15.2 14.4H.8Z', 'M8 6.2v3.9M8 11.7v.9'],
  bad: ['M5.2 1.2h5.6l4 4v5.6l-4 4H5.2l-4-4V5.2Z', 'M5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8'],
  drain: ['M8 1.2a6.8 6.8 0 1 0 0 13.6A6.8 6.8 0 0 0 8 1.2Z', 'M8 4.4v6.4M5.2 8.4 8 11.2l2.8-2.8'],
  none: ['M8 1.2 14.8 8 8 14.8 1.2 8Z', 'M8 5v3.4M8 10.2v.9'],
  plus: ['M2 2h12v12H2Z', 'M8 5v6M5 8h6'],
  minus: ['M2 2h12v12H2Z', 'M5 8h6'],
  edit: ['M8 1.2 14.8 8 8 14.8 1.2 8Z', 'M5.6 8h4.8'],
};

// shape is a small filled form with a sign in it: it tells a state apart without its colour.
export function shape(kind) {
  drawn[kind] ??= draw(kind);
  return drawn[kind].cloneNode(true);
}

const drawn = {};

function draw(kind) {
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', 'shape');
  svg.setAttribute('aria-hidden', 'true');
  for (const [i, d] of shapes[kind].entries()) {
    const path = document.createElementNS(ns, 'path');
    path.setAttribute('d', d);
    path.setAttribute('class', i === 0 ? 'form' : 'sign');
    svg.append(path);
  }
  return svg;
}

// A map, because a status may have any name, also one that each object has a property for.
const statuses = new Map([['passing', 'ok'], ['warning', 'warn'], ['critical', 'bad'], ['draining', 'drain']]);
export const statusNames = [...statuses.keys()];

// status shows a status by shape, word and colour.
export function status(name) {
  const kind = statuses.get(name) ?? 'none';
  return el('span', { class: `status is-${kind}` }, shape(kind), el('span', null, name || 'unknown'));
}

// mark is a state of the health, a change or a finding.
export function mark(kind, word) {
  return el('span', { class: `status is-${kind}` }, shape(kind), word && el('span', null, word));
}

export function statusShape(name) { return shape(statuses.get(name) ?? 'none'); }
export function statusClass(name) { return `is-${statuses.get(name) ?? 'none'}`; }

// clock is the time of day, by this browser's clock and zone.
export function clock(at) {
  const d = new Date(at);
  return [d.getHours(), d.getMinutes(), d.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

// span is a time in seconds, as people read it.
export function span(s) {
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export function many(n, one, more) { return `${n.toLocaleString('en')} ${n === 1 ? one : more}`; }
