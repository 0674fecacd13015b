// What the doctor found. It reads the whole bucket, so it is asked only by people.

import { clock, el, fill, many, mark, refill } from './dom.js';
import { Fetched } from './fetched.js';

const kinds = { error: 'bad', warning: 'warn', hint: 'none' };
const words = { error: 'Error', warning: 'Warning', hint: 'Hint' };

function finding(f) {
  return el('li', { class: 'finding' },
    el('div', { class: 'findinghead' }, mark(kinds[f.severity] ?? 'none', words[f.severity] ?? f.severity), el('h2', null, f.name)),
    el('p', null, f.seen), el('p', { class: 'muted' }, f.why), f.mend && el('pre', null, f.mend));
}

export function doctor(app) {
  const again = el('button', { type: 'button', class: 'filter', onclick: () => { ask.value = null; ask.ask(); view.update(); } }, 'Examine again');
  const about = el('p', { class: 'about' });
  const body = el('div', { class: 'page' });
  const ask = new Fetched('api/doctor', null, () => view.update());
  let drawn;
  const view = {
    root: el('section', { class: 'view pages', tabindex: 0, 'aria-label': 'Doctor' },
      el('div', { class: 'viewhead' }, el('h1', null, 'Doctor'), about, el('div', { class: 'filters' }, again)), body),
    update() {
      again.disabled = ask.asking;
      if (!ask.value) {
        drawn = null;
        fill(about);
        fill(body, el('p', { class: 'lost', role: 'status' }, ask.error && !ask.asking ? `It could not be examined: ${ask.error}.` : 'Examining …'));
        return;
      }
      if (drawn === ask.value) return;
      drawn = ask.value;
      const { at, report } = drawn;
      const { findings, not_checked: unchecked, passed } = report;
      const n = (severity) => findings.filter((f) => f.severity === severity).length;
      fill(about, `${many(n('error'), 'error', 'errors')}, ${many(n('warning'), 'warning', 'warnings')}, ${many(n('hint'), 'hint', 'hints')} at ${clock(at)}`);
      refill(body,
        findings.length === 0 ? el('p', { class: 'fine' }, mark('ok', 'Nothing is wrong.')) : el('ul', { class: 'findings' }, findings.map(finding)),
        unchecked.length > 0 && [el('h2', null, `Not checked: ${unchecked.length}`),
          el('dl', { class: 'fields unchecked' }, unchecked.map((u) => el('div', null, el('dt', null, u.name), el('dd', null, u.because))))],
        passed.length > 0 && [el('h2', null, `Passed: ${passed.length}`), el('p', { class: 'muted' }, passed.join(', '))],
        el('p', { class: 'about' }, `nats-server ${report.version}. kvregistry doctor finds the same on a terminal, and more with a user of the system account.`));
    },
    close() { ask.close(); },
  };
  return view;
}
