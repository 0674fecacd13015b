// A list of any length of which only the rows that are in sight are in the document.

import { el, fill } from './dom.js';

const spare = 6; // rows above and below what is in sight
const narrow = matchMedia('(max-width: 720px)');

export class Grid {
  // A column has label, width (of a grid template), cell(row), and maybe sort(row), narrow (its
  // width on a narrow screen; without it, it is left out there) and kind (a class).
  constructor({ label, columns, key, open, empty }) {
    Object.assign(this, { columns, key, open, empty });
    this.rows = [];
    this.index = new Map(); // key → number, made when it is needed
    this.shown = new Map(); // number → element
    this.selected = null; // a key
    this.by = null; // the column of the order, if it is not the natural one
    this.down = false;

    this.head = el('div', { role: 'row', class: 'row head', 'aria-rowindex': 1 });
    this.space = el('div', { class: 'space', role: 'rowgroup' });
    this.grid = el('div', { role: 'grid', class: 'grid', tabindex: 0, 'aria-label': label },
      el('div', { role: 'rowgroup', class: 'headgroup' }, this.head), this.space);
    this.none = el('div', { class: 'none', hidden: true });
    this.root = el('div', { class: 'gridbox' }, this.grid, this.none);
    this.grid.style.setProperty('--cols', columns.map((c) => c.width).join(' '));
    this.grid.style.setProperty('--cols-narrow',
      columns.filter((c) => c.narrow).map((c) => c.narrow).join(' '));
    // The least width, from which on a list on a small desk scrolls sideways.
    const least = columns.reduce((sum, c) => sum + parseInt(c.width.match(/\d+/)[0], 10) + 16, 16);
    this.grid.style.setProperty('--least', `${least}px`);
    this.grid.setAttribute('aria-colcount', columns.length);
    this.drawHead();
    this.grid.addEventListener('scroll', () => this.soon(), { passive: true });
    this.space.addEventListener('click', (e) => this.clicked(e));
    this.sized = new ResizeObserver(() => this.soon());
    this.sized.observe(this.grid);
    this.resized = () => { this.forget(); this.draw(); };
    narrow.addEventListener('change', this.resized);
  }

  close() {
    this.sized.disconnect();
    narrow.removeEventListener('change', this.resized);
  }

  get height() { return narrow.matches ? 52 : 34; }

  drawHead() {
    fill(this.head, this.columns.map((c, i) => {
      const on = this.by === c;
      const sign = on ? (this.down ? ' ▾' : ' ▴') : '';
      return el('div', {
        role: 'columnheader', class: cellClass(c), 'aria-colindex': i + 1,
        'aria-sort': c.sort && (on ? (this.down ? 'descending' : 'ascending') : 'none'),
      }, c.sort
        ? el('button', { type: 'button', onclick: () => this.order(c) }, c.label, sign)
        : el('span', null, c.label));
    }));
  }

  // order sorts by a column: up, down, and then not at all.
  order(column) {
    if (this.by !== column) [this.by, this.down] = [column, !!column.down];
    else if (this.down === !!column.down) this.down = !this.down;
    else this.by = null;
    this.drawHead();
    this.set(this.given, this.why);
  }

  // set gives the grid its rows, and what to say if there are none.
  set(rows, why) {
    this.given = rows;
    this.why = why;
    if (this.by) {
      const { sort } = this.by, sign = this.down ? -1 : 1;
      rows = [...rows].sort((a, b) => {
        const x = sort(a), y = sort(b);
        return x < y ? -sign : x > y ? sign : 0;
      });
    }
    this.rows = rows;
    this.index = null;
    this.grid.setAttribute('aria-rowcount', rows.length + 1);
    this.none.hidden = rows.length > 0;
    this.space.hidden = rows.length === 0;
    if (rows.length === 0) fill(this.none, why || this.empty);
    this.draw();
  }

  at(key) {
    if (key === null) return -1;
    if (!this.index) {
      this.index = new Map();
      this.rows.forEach((row, i) => this.index.set(this.key(row), i));
    }
    return this.index.get(key) ?? -1;
  }

  soon() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => { this.waits = false; this.draw(); });
  }

  forget() {
    for (const e of this.shown.values()) e.remove();
    this.shown.clear();
  }

  // draw makes the rows that are in sight, and keeps those that say the same as before.
  draw() {
    const { height, rows, grid } = this;
    this.space.style.height = `${rows.length * height}px`;
    const first = Math.max(0, Math.floor(grid.scrollTop / height) - spare);
    const last = Math.min(rows.length, Math.ceil((grid.scrollTop + grid.clientHeight) / height) + spare);
    for (const [i, e] of this.shown) {
      if (i < first || i >= last || e.row !== rows[i]) {
        e.remove();
        this.shown.delete(i);
      }
    }
    const chosen = this.at(this.selected);
    for (let i = first; i < last; i++) {
      let e = this.shown.get(i);
      if (!e) {
        e = this.row(rows[i], i);
        this.shown.set(i, e);
        this.space.append(e);
      }
      if (i === chosen) e.setAttribute('aria-selected', 'true');
      else e.removeAttribute('aria-selected');
    }
    if (chosen >= first && chosen < last) grid.setAttribute('aria-activedescendant', `row-${chosen}`);
    else grid.removeAttribute('aria-activedescendant');
  }

  row(row, i) {
    const fresh = row.changed && performance.now() - row.changed < 1500;
    const e = el('div', {
      role: 'row', class: fresh ? 'row fresh' : 'row', id: `row-${i}`, 'aria-rowindex': i + 2,
    }, this.columns.map((c, n) => el('div', {
      role: 'gridcell', class: cellClass(c), 'aria-colindex': n + 1,
    }, c.cell(row))));
    e.style.transform = `translateY(${i * this.height}px)`;
    e.row = row;
    e.number = i;
    return e;
  }

  clicked(e) {
    const row = e.target.closest('.row');
    if (!row || e.target.closest('a, button') || String(getSelection())) return;
    this.select(row.number);
    this.open?.(this.rows[row.number]);
  }

  // select chooses a row by its number and brings it into sight.
  select(i) {
    if (this.rows.length === 0) return;
    i = Math.max(0, Math.min(this.rows.length - 1, i));
    this.selected = this.key(this.rows[i]);
    const { grid, height } = this;
    const head = this.head.offsetHeight, top = i * height;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + height > grid.scrollTop + grid.clientHeight - head) {
      grid.scrollTop = top + height - grid.clientHeight + head;
    }
    this.draw();
  }

  // move moves the choice by a number of rows.
  move(by) {
    const now = this.at(this.selected);
    this.select(now < 0 ? (by > 0 ? 0 : this.rows.length - 1) : now + by);
  }

  get page() { return Math.max(1, Math.floor(this.grid.clientHeight / this.height) - 2); }

  enter() {
    const i = this.at(this.selected);
    if (i >= 0) this.open?.(this.rows[i]);
  }
}

function cellClass(c) {
  return ['cell', c.kind, c.narrow ? '' : 'wide'].filter(Boolean).join(' ');
}
