// @ts-check
import { $, h } from './page-dom.js';

const KEPT = 400;
const MARKS = { out: '→', in: '←', event: '◦', note: '·' };
const list = $('log');

const filtered = () => {
  const wanted = $('log-filter').value;
  for (const line of list.children) {
    line.hidden = wanted && !line.classList.contains(wanted) && line.dataset.way !== wanted;
  }
};
$('log-filter').addEventListener('change', filtered);
$('log-clear').addEventListener('click', () => list.replaceChildren());

/** One line; its whole text and data stand below it once it is opened.
 *  @param {'info'|'success'|'error'} level @param {'memory'|'inference'|'page'} source
 *  @param {keyof typeof MARKS} way @param {string} what @param {any} [data] */
export function log(level, source, way, what, data) {
  const time = new Date().toTimeString().slice(0, 8);
  const brief = data === undefined ? what : `${what} ${data?.memory?.text ?? JSON.stringify(data)}`.slice(0, 200);
  const line = h('summary', {}, h('time', { text: time }), h('span', { class: 'mark', text: MARKS[way] }),
    h('span', { class: `source ${source}`, text: source }), h('span', { class: 'what', text: brief }));
  const details = h('details', { class: `log ${level}`, 'data-way': way }, line);
  details.addEventListener('toggle', () => {
    if (details.open && data !== undefined && !details.querySelector('pre')) {
      details.append(h('pre', { tabindex: 0, text: shortened(data) }));
    }
  });
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(details);
  while (list.children.length > KEPT) list.firstChild.remove();
  if ($('log-filter').value) filtered();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** Vectors would fill the screen: eight numbers of each are enough to see. @param {any} data */
export function shortened(data) {
  return JSON.stringify(data, (_, v) => (Array.isArray(v) && v.length > 16 && typeof v[0] === 'number'
    ? [...v.slice(0, 8), `… ${v.length - 8} more`] : v), 2);
}
