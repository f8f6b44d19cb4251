// @ts-check
/** Making elements: text is only ever set as text. */

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

const given = (x) => x !== null && x !== undefined && x !== false;

/** @param {Element} node @param {Record<string, any>} props @param {any[]} children */
function fill(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (!given(value)) continue;
    if (key === 'text') node.textContent = value;
    else if (typeof value === 'function') node.addEventListener(key, value);
    else node.setAttribute(key, value === true ? '' : String(value));
  }
  node.append(...children.filter(given));
  return node;
}

/** An element; functions among the props are listeners, `text` its text.
 *  @param {string} tag @param {Record<string, any>} [props] @param {any[]} children
 *  @returns {any} */
export const h = (tag, props = {}, ...children) => fill(document.createElement(tag), props, children);

/** @param {string} tag @param {Record<string, any>} [props] @param {any[]} children
 *  @returns {any} */
export const s = (tag, props = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children);

/** As many digits as a person wants to see. @param {any} x */
export function figure(x, digits = 3) {
  if (typeof x !== 'number' || !Number.isFinite(x)) return '–';
  if (Math.abs(x) >= 1000) return `${Number((x / 1000).toPrecision(digits))}k`;
  return Math.abs(x) >= 100 ? String(Math.round(x)) : String(Number(x.toPrecision(digits)));
}

export const duration = (ms) => (ms > 0 && ms < 0.1 ? `${figure(ms * 1000, 2)} µs` : `${figure(ms)} ms`);

export function ago(iso) {
  const minutes = (Date.now() - Date.parse(iso)) / 60000;
  if (Number.isNaN(minutes)) return '';
  if (minutes < 1) return 'now';
  const [size, unit] = minutes < 60 ? [1, 'min'] : minutes < 1440 ? [60, 'h'] : [1440, 'd'];
  return `${Math.floor(minutes / size)} ${unit} ago`;
}

/** Runs `act` once things have been quiet for `ms`. @param {() => any} act @param {number} ms */
export function calm(act, ms) {
  /** @type {any} */
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };
}
