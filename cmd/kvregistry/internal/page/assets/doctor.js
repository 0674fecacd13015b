// What the doctor found.

import { el, fill } from './dom.js';
import { Fetched } from './fetched.js';

export function doctor(app) {
  const body = el('div', { class: 'page' });
  const ask = new Fetched('api/doctor', () => 20000, () => view.update());
  const view = {
    root: el('section', { class: 'view pages', tabindex: 0, 'aria-label': 'Doctor' }, el('div', { class: 'viewhead' }, el('h1', null, 'Doctor')), body),
    update() {
      if (!ask.value) fill(body, el('p', { class: 'lost' }, ask.error ? `It could not be read: ${ask.error}.` : 'Examining …'));
      else fill(body, el('pre', null, JSON.stringify(ask.value.report, null, 2)));
    },
    close() { ask.close(); },
  };
  return view;
}
