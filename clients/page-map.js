// @ts-check
import { $, s } from './page-dom.js';

const W = 400;
const H = 300;
const EDGE = 14;

/** Two directions in which the rows spread most, by power iteration; the last ones are the
 *  start, so that a map keeps its sides from one drawing to the next.
 *  @param {Float64Array[]} rows centred @param {Float64Array[]} last */
function directions(rows, last) {
  const n = rows[0].length;
  /** @type {Float64Array[]} */
  const found = [];
  for (let k = 0; k < 2; k++) {
    let v = last[k]?.length === n ? last[k] : Float64Array.from({ length: n }, (_, i) => Math.sin(i * (k + 1) + 1));
    for (let turn = 0; turn < 24; turn++) {
      const w = new Float64Array(n);
      for (const row of rows) add(w, dot(row, v), row);
      for (const u of found) add(w, -dot(w, u), u);
      const length = Math.sqrt(dot(w, w));
      if (length < 1e-12) break;
      v = w.map((x) => x / length);
    }
    found.push(v);
  }
  return found;
}

/** @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** w += k * v. @param {Float64Array} w @param {ArrayLike<number>} v */
function add(w, k, v) {
  for (let i = 0; i < w.length; i++) w[i] += k * v[i];
}

export class VectorMap {
  /** @param {(id: string | null) => void} choose */
  constructor(choose) {
    this.choose = choose;
    /** @type {Float64Array[]} */ this.axes = [];
    /** @type {any} */ this.project = null;
    this.points = s('g');
    this.asked = s('path', { class: 'asked', visibility: 'hidden' });
    this.svg = s('svg', { viewBox: `0 0 ${W} ${H}`, role: 'group',
      'aria-label': 'Map of the memories; arrow keys move from point to point' },
    s('path', { class: 'axis', d: `M${W / 2} 0V${H}M0 ${H / 2}H${W}` }), this.points, this.asked);
    this.svg.addEventListener('keydown', (e) => this.move(e));
    $('map').append(this.svg);
  }

  /** @param {any[]} memories each with `embedding` */
  draw(memories) {
    const held = this.points.querySelector(':focus')?.dataset.id;
    const shown = memories.filter((m) => m.embedding?.length);
    $('map-note').textContent = shown.length ? `${shown.length} newest` : '';
    this.points.replaceChildren();
    this.project = null;
    if (!shown.length) return;
    const middle = new Float64Array(shown[0].embedding.length);
    for (const m of shown) add(middle, 1 / shown.length, m.embedding);
    const centred = (v) => Float64Array.from(v, (x, i) => x - middle[i]);
    const rows = shown.map((m) => centred(m.embedding));
    this.axes = directions(rows, this.axes);
    const flat = rows.map((r) => this.axes.map((a) => dot(r, a)));
    const reach = [0, 1].map((k) => Math.max(1e-9, ...flat.map((p) => Math.abs(p[k]))));
    const place = (p) => [W / 2 + (p[0] / reach[0]) * (W / 2 - EDGE), H / 2 - (p[1] / reach[1]) * (H / 2 - EDGE)]
      .map((x, k) => Math.min((k ? H : W) - 4, Math.max(4, x)).toFixed(1));
    this.project = (v) => place(this.axes.map((a) => dot(centred(v), a)));
    shown.forEach((m, i) => {
      const [cx, cy] = place(flat[i]);
      this.points.append(s('circle', { cx, cy, r: (3 + 5 * m.significance).toFixed(1), role: 'button', 'data-id': m.id,
        tabindex: i ? -1 : 0, 'aria-label': m.text.slice(0, 120), click: () => this.choose(m.id),
        pointerenter: () => this.tell(m), focus: () => this.tell(m),
        keydown: (e) => { if (e.key === 'Enter' || e.key === ' ') { e.preventDefault(); this.choose(m.id); } } }));
    });
    if (held) this.points.querySelector(`[data-id="${CSS.escape(held)}"]`)?.focus();
  }

  tell(memory) {
    $('map-caption').textContent = memory.text;
  }

  /** @param {string | null} chosen @param {string[]} found ids of the results of a search */
  mark(chosen, found) {
    for (const c of this.points.children) {
      c.classList.toggle('chosen', c.dataset.id === chosen);
      c.classList.toggle('found', found.includes(c.dataset.id));
    }
  }

  /** The place of a question, as a cross. @param {number[] | null} vector */
  ask(vector) {
    const at = vector && this.project?.(vector);
    this.asked.setAttribute('visibility', at ? 'visible' : 'hidden');
    if (at) this.asked.setAttribute('d', `M${at[0]} ${at[1]}m-6 -6l12 12m0 -12l-12 12`);
  }

  /** To the nearest point that lies that way. @param {KeyboardEvent} e */
  move(e) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    const from = /** @type {any} */ (e.target);
    if (!way || from.tagName !== 'circle') return;
    e.preventDefault();
    const spot = (c) => [c.cx.baseVal.value, c.cy.baseVal.value];
    const [x, y] = spot(from);
    /** @type {any} */
    let best = null;
    let least = Infinity;
    for (const c of this.points.children) {
      const [dx, dy] = [spot(c)[0] - x, spot(c)[1] - y];
      const ahead = dx * way[0] + dy * way[1];
      const aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
      if (c !== from && ahead > 0 && ahead + 2 * aside < least) {
        least = ahead + 2 * aside;
        best = c;
      }
    }
    if (!best) return;
    from.setAttribute('tabindex', '-1');
    best.setAttribute('tabindex', '0');
    best.focus();
  }
}
