// @ts-check
/** The page: two clients, and a person in front of them. */
import { MemoryInterface } from './memory-interface.js';
import { LoRAInterface } from './lora-interface.js';
import { $, h, figure, duration } from './page-dom.js';
import { log } from './page-log.js';
import { charts } from './page-charts.js';
import { Memories } from './page-memories.js';
import { requests } from './page-requests.js';
import { runTests } from './page-tests.js';

/** @typedef {'memory' | 'inference'} Kind */
const POLL_MS = 2000;
/** @type {Kind[]} */
const KINDS = ['memory', 'inference'];
const clients = { memory: new MemoryInterface(), lora: new LoRAInterface() };
const of = (kind) => (kind === 'memory' ? clients.memory : clients.lora);

/** A request that a person made: seen in the log, both ways.
 *  @param {Kind} kind @param {string} type @param {any} [data] @returns {Promise<any>} */
async function run(kind, type, data = {}) {
  const began = performance.now();
  log('info', kind, 'out', type, data);
  try {
    const reply = await of(kind).request(type, data);
    log('success', kind, 'in', `${type} ${duration(performance.now() - began)}`, reply);
    return reply;
  } catch (why) {
    const { message, data: more } = why;
    log('error', kind, 'in', `${type}: ${message}`, more);
    throw why;
  }
}

const memories = new Memories(clients, run);

const DEEDS = { open: 'Disconnect', connecting: 'Stop', waiting: 'Try now', failed: 'Try again' };
const LEVELS = { open: 'success', failed: 'error' };

/** @param {Kind} kind */
function panel(kind) {
  const client = of(kind);
  const root = $(kind);
  const part = (q) => root.querySelector(q);
  /** @type {any} */
  let ticking;
  const tell = ({ state, reason, delay } = /** @type {any} */ (client)) => {
    clearInterval(ticking);
    root.dataset.state = state;
    const until = Date.now() + (delay ?? 0);
    const words = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      part('.state').textContent = state === 'waiting' && left > 0 ? `again in ${left} s` : state;
    };
    words();
    if (state === 'waiting') ticking = setInterval(words, 500);
    part('.reason').textContent = reason;
    part('.toggle').textContent = DEEDS[state] ?? 'Connect';
    if (/token/i.test(reason)) $('token-form').hidden = false;
  };
  client.on('status', (status) => {
    tell(status);
    const { state, reason } = status;
    if (state === 'connecting') return;
    log(LEVELS[state] ?? 'info', kind, 'note', reason ? `${state}: ${reason}` : state);
  });
  client.on('open', ({ url }) => {
    part('.url').value = url;
    if (kind === 'memory') memories.changed();
    else listAdapters();
  });
  client.on('error', ({ message }) => log('error', kind, 'note', message));
  part('form').addEventListener('submit', (e) => {
    e.preventDefault();
    const url = part('.url').value.trim();
    if (client.state === 'open' || client.state === 'connecting') {
      client.close();
      if (url === client.url) return;
    }
    if (url && url !== client.options.serverUrl) Object.assign(client.options, { serverUrl: url, discover: false });
    client.retry();
  });
  part('.url').value = client.options.serverUrl;
  tell();
}

const size = (n) => (n < 1048576 ? `${figure(n / 1024)} KiB` : `${figure(n / 1048576)} MiB`);

/** @param {Kind} kind @param {any} stats */
function facts(kind, stats) {
  const { latency, errorRate, reconnects, queueLength } = of(kind).metrics();
  const rows = [
    ['latency p50', duration(latency.p50)], ['p95', duration(latency.p95)],
    ['errors', `${figure(100 * errorRate)} %`], ['reconnects', reconnects],
    ['queued', queueLength], ['connections', stats?.connections?.active ?? '–'],
  ];
  if (stats && kind === 'memory') {
    rows.push(['stored', figure(stats.memory_count)], ['significance', figure(stats.avg_significance)],
      ['log', size(stats.log_bytes)]);
  } else if (stats) {
    rows.push(['embedded', figure(stats.embeddings_total)], ['average', duration(stats.avg_embedding_ms)],
      ['model', stats.model]);
  }
  $(kind).querySelector('.facts').replaceChildren(...rows.map(([name, value]) =>
    h('div', {}, h('dt', { text: name }), h('dd', { text: value, title: value }))));
}

/** @type {Record<string, any>} the newest stats */
const newest = { memory: null, inference: null };

/** Asks one endpoint for its stats; the milliseconds it took. @param {Kind} kind */
async function ask(kind) {
  const began = performance.now();
  newest[kind] = null;
  if (of(kind).state !== 'open') return null;
  try {
    newest[kind] = await of(kind).request('stats', {}, { once: true, timeout: 5000 });
    return performance.now() - began;
  } catch {
    return null;
  }
}

async function poll() {
  if (!document.hidden) {
    const took = await Promise.all([ask('memory'), ask('inference')]);
    const { memory, inference } = newest;
    const stats = memory ?? inference;
    charts.latency.push(took);
    charts.memory.push([stats?.memory?.rss_mb]);
    charts.lag.push([stats?.loop_lag_ms?.p99]);
    charts.queue.push([inference?.queue,
      clients.memory.metrics().queueLength + clients.lora.metrics().queueLength]);
    facts('memory', memory);
    facts('inference', inference);
    if (stats) $('about').textContent = `${stats.version} · ${stats.model} · ${stats.dimension} dimensions`;
  }
  setTimeout(poll, POLL_MS);
}

async function listAdapters() {
  if (clients.lora.state !== 'open') return;
  const { adapters } = await clients.lora.adapters().catch(() => ({ adapters: [] }));
  const unload = (name) => () => run('inference', 'unload_adapter', { name }).then(listAdapters, () => {});
  const rows = adapters.map(({ name, rank, alpha, targets }) => h('li', {},
    h('span', {}, name, ' ', h('span', { class: 'dim', text: `rank ${rank}, alpha ${alpha}, ${targets.join(' ')}` })),
    h('button', { text: 'unload', 'aria-label': `Unload ${name}`, click: unload(name) })));
  if (!rows.length) rows.push(h('li', { class: 'dim' }, h('span', { text: 'None: the model answers as it is.' })));
  $('adapter-list').replaceChildren(...rows);
}

$('adapter-form').addEventListener('submit', (e) => {
  e.preventDefault();
  const data = { name: $('adapter-name').value, path: $('adapter-path').value };
  run('inference', 'load_adapter', data).then(listAdapters, () => {});
});

/** @type {null | (() => Promise<void>)} */
let endWatch = null;
let asking = false;
$('watch-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const button = $('watch-button');
  if (asking) return; // two could not both be ended
  if (endWatch) {
    endWatch().catch(() => {});
    endWatch = null;
    button.textContent = 'Watch';
    return;
  }
  const words = $('watch-text').value.trim();
  if (!words) return $('watch-text').focus();
  asking = true;
  const note = (line, value) => {
    $('watch-list').prepend(h('li', {}, h('span', { text: line }), h('span', { class: 'value', text: value })));
    while ($('watch-list').children.length > 8) $('watch-list').lastChild.remove();
  };
  try {
    endWatch = await clients.memory.watch(words, ({ memory, similarity }) => note(memory.text, figure(similarity)),
      { min_similarity: Number($('watch-min').value) });
    button.textContent = 'Stop';
    $('watch-list').replaceChildren();
    note(`Waiting for texts like “${words}”`, '');
  } catch (why) {
    note(why.message, '');
  }
  asking = false;
});

const unheard = clients.memory.on('open', () => clients.memory
  .subscribe(['memory_added', 'memory_updated', 'memory_removed'], () => memories.changed()).then(unheard, () => {}));
for (const kind of KINDS) {
  of(kind).on('message', ({ event, data }) => event && log('info', kind, 'event', event, data));
}

document.addEventListener('securitypolicyviolation', ({ blockedURI }) =>
  log('error', 'page', 'note', `This page may only talk to the server that it came from, not to ${blockedURI}`));

const verdict = (textContent, className = 'dim') =>
  Object.assign($('verdict'), { textContent, className });

async function test() {
  const button = $('run-tests');
  button.disabled = true;
  verdict('Running the tests');
  const { passed, failed, skipped } = await runTests(clients);
  const line = `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
  verdict(line, failed ? 'bad' : 'good');
  log(failed ? 'error' : 'success', 'page', 'note', `test run: ${line}`);
  button.disabled = false;
}
$('run-tests').addEventListener('click', test);

/** Where this page came from, there the endpoints are: `/stats` names both ports. */
async function start() {
  const { hostname, port, protocol } = location;
  const token = $('token').value;
  const ports = /** @type {Record<string, any>} */ ({});
  try {
    const reply = await fetch('/stats', { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    if (reply.status === 401) {
      $('token-form').hidden = false;
      verdict(token ? 'That token is not the right one.' : 'This server wants a token.');
      return $('token').focus();
    }
    const stats = await reply.json();
    if (reply.ok) Object.assign(ports, stats.endpoints, { [stats.server]: port || (protocol === 'https:' ? 443 : 80) });
  } catch { /* served by something else: the usual addresses */ }
  const scheme = protocol === 'https:' ? 'wss' : 'ws';
  for (const kind of KINDS) {
    const { options } = of(kind);
    options.token = token;
    if (ports[kind]) Object.assign(options, { serverUrl: `${scheme}://${hostname}:${ports[kind]}`, discover: false });
    $(kind).querySelector('.url').value = options.serverUrl;
    const served = Object.keys(ports).length > 0;
    if (served && !ports[kind]) $(kind).querySelector('.reason').textContent = 'Not started on this server.';
    else of(kind).retry();
  }
}

$('token-form').addEventListener('submit', (e) => {
  e.preventDefault();
  verdict('');
  clients.memory.close();
  clients.lora.close();
  start();
});

panel('memory');
panel('inference');
requests({ of, run, memories, changed(type) {
  if (/^(store|embed|update|delete|clear|cleanup)$/.test(type)) memories.changed();
  if (/adapter/.test(type)) listAdapters();
} });
poll();
start();
// For the console, and for tests.
Object.assign(window, { recalld: { ...clients, run } });
