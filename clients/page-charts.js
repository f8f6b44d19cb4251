// @ts-check
import { $, h, s, figure } from './page-dom.js';

const POINTS = 150; // five minutes of one every two seconds
const FEWEST = 30; // a young chart shows one minute, drawn from the left
const W = 300;
const H = 100;

/** A line chart that grows to the right. */
class Chart {
  /** @param {string} title @param {string} unit @param {string[]} names one or two series */
  constructor(title, unit, names) {
    this.title = title;
    this.unit = unit;
    /** @type {(number | null)[][]} */
    this.series = names.map(() => []);
    this.now = h('span', { class: 'now dim', text: '–' });
    this.top = h('span', { class: 'top' });
    this.span = h('span', { class: 'span' });
    this.lines = names.map((_, i) => s('path', { class: i ? 'second' : 'first' }));
    this.area = s('path', { class: 'area' });
    this.cursor = s('line', { class: 'cursor', y1: 0, y2: H, visibility: 'hidden' });
    this.svg = s('svg', { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', role: 'img' },
      s('path', { class: 'grid', d: `M0 0H${W}M0 ${H}H${W}` }), this.area, ...this.lines, this.cursor);
    const keys = names.length > 1 ? names.map((n, i) => h('span', { class: i ? 'key second' : 'key', text: n })) : [];
    this.element = h('section', { class: 'card chart' },
      h('h2', {}, title, this.now), h('div', { class: 'plot' }, this.svg, this.top, this.span),
      h('div', { class: 'legend' }, ...keys));
    this.svg.addEventListener('pointermove', (e) => this.point(e));
    this.svg.addEventListener('pointerleave', () => this.point(null));
  }

  /** @param {(number | null | undefined)[]} values */
  push(values) {
    if (!this.series[0].length && values.every((v) => typeof v !== 'number')) return; // nothing yet
    values.forEach((v, i) => {
      this.series[i].push(typeof v === 'number' && Number.isFinite(v) ? v : null);
      if (this.series[i].length > POINTS) this.series[i].shift();
    });
    this.draw();
  }

  /** How many points the width holds. */
  shown() {
    return Math.min(POINTS, Math.max(FEWEST, this.series[0].length));
  }

  x(i) {
    return (i * W) / (this.shown() - 1);
  }

  draw() {
    const max = Math.max(...this.series.flat().map((v) => v ?? 0)) || 1;
    const unit = 10 ** Math.floor(Math.log10(max));
    const ceiling = unit * ([1, 1.5, 2, 3, 4, 5, 7.5].find((m) => m * unit >= max * 1.05) ?? 10);
    this.series.forEach((values, k) => {
      let d = '';
      let pen = false;
      values.forEach((v, i) => {
        if (v !== null) d += `${pen ? 'L' : 'M'}${this.x(i).toFixed(1)} ${(H - (v / ceiling) * H).toFixed(1)}`;
        pen = v !== null;
      });
      this.lines[k].setAttribute('d', d);
      if (k) return;
      const first = this.x(values.findIndex((v) => v !== null)).toFixed(1);
      this.area.setAttribute('d', d && `${d.replaceAll('M', 'L').replace('L', 'M')}V${H}H${first}Z`);
    });
    this.top.textContent = this.series[0].length ? figure(ceiling) : '';
    if (this.cursor.getAttribute('visibility') === 'hidden') this.show();
  }

  /** @param {number} ago which value, counted from the end */
  show(ago = 0) {
    const text = this.series[0].length ? this.series.map((v) => figure(v.at(-1 - ago), 2)).join('/') : '–';
    const seconds = 2 * (ago || this.shown());
    this.span.textContent = (seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`) + (ago ? ' ago' : '');
    this.now.textContent = `${text} ${this.unit}`;
    this.svg.setAttribute('aria-label', `${this.title}: ${text} ${this.unit}`);
  }

  /** @param {PointerEvent | null} e */
  point(e) {
    if (!e || !this.series[0].length) {
      this.cursor.setAttribute('visibility', 'hidden');
      return this.show();
    }
    const n = this.series[0].length;
    const i = Math.min(n - 1, Math.max(0, Math.round((e.offsetX / this.svg.clientWidth) * (this.shown() - 1))));
    for (const k of ['x1', 'x2']) this.cursor.setAttribute(k, this.x(i).toFixed(1));
    this.cursor.setAttribute('visibility', 'visible');
    this.show(n - 1 - i);
  }
}

export const charts = {
  latency: new Chart('Latency', 'ms', ['memory', 'inference']),
  memory: new Chart('Memory', 'MB', ['resident']),
  lag: new Chart('Loop lag', 'ms', ['p99']),
  queue: new Chart('Queue', '', ['encoder', 'page']),
};
for (const chart of Object.values(charts)) {
  $('charts').append(chart.element);
  chart.draw();
}
