// @ts-check
/** The page: two clients, and a person in front of them. */
import { MemoryInterface } from './memory-interface.js';
import { LoRAInterface } from './lora-interface.js';
import { $, h, figure, duration } from './page-dom.js';
import { log, shortened } from './page-log.js';
import { charts } from './page-charts.js';
import { Memories } from './page-memories.js';
import { runTests } from './page-tests.js';

/** @typedef {'memory' | 'inference'} Kind */
const POLL_MS = 2000;
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
    const { message, data: more } = /** @type {any} */ (why);
    log('error', kind, 'in', `${type}: ${message}`, more);
    throw why;
  }
}

const memories = new Memories(clients, run);

/* ---- the two connections ---- */

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
    part('.toggle').textContent = { open: 'Disconnect', connecting: 'Stop', waiting: 'Try now', failed: 'Try again' }[/** @type {string} */ (state)] ?? 'Connect';
    if (/token/i.test(reason)) $('token-form').hidden = false;
  };
  client.on('status', (status) => {
    tell(status);
    const { state, reason } = status;
    if (state !== 'connecting') log(state === 'open' ? 'success' : state === 'failed' ? 'error' : 'info', kind, 'note', reason ? `${state}: ${reason}` : state);
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

/** @param {Kind} kind @param {any} stats */
function facts(kind, stats) {
  const { latency, errorRate, reconnects, queueLength } = of(kind).metrics();
  const rows = [['latency p50', duration(latency.p50)], ['p95', duration(latency.p95)], ['errors', `${figure(100 * errorRate)} %`],
    ['reconnects', reconnects], ['queued', queueLength], ['connections', stats?.connections?.active ?? '–']];
  if (stats) {
    rows.push(...(kind === 'memory'
      ? [['stored', (stats.memory_count ?? 0).toLocaleString('en')], ['significance', figure(stats.avg_significance)], ['log', size(stats.log_bytes)]]
      : [['embedded', figure(stats.embeddings_total ?? 0)], ['average', duration(stats.avg_embedding_ms ?? 0)], ['model', stats.model]]));
  }
  $(kind).querySelector('.facts').replaceChildren(...rows.map(([k, v]) => h('div', {}, h('dt', { text: k }), h('dd', { text: v, title: v }))));
}

const size = (n) => (n < 1048576 ? `${figure(n / 1024)} KiB` : `${figure(n / 1048576)} MiB`);

/** @type {Record<string, any>} the newest stats */
const newest = { memory: null, inference: null };

async function poll() {
  if (!document.hidden) {
    const took = await Promise.all(/** @type {Kind[]} */ (['memory', 'inference']).map(async (kind) => {
      const client = of(kind);
      if (client.state !== 'open') return null;
      const began = performance.now();
      try {
        newest[kind] = await client.request('stats', {}, { once: true, timeout: 5000 });
        return performance.now() - began;
      } catch {
        return null;
      }
    }));
    const live = [clients.memory, clients.lora].map((c, i) => (c.state === 'open' ? newest[i ? 'inference' : 'memory'] : null));
    const stats = live[0] ?? live[1];
    charts.latency.push(took);
    charts.memory.push([stats?.memory?.rss_mb]);
    charts.lag.push([stats?.loop_lag_ms?.p99]);
    charts.queue.push([live[1]?.queue, clients.memory.metrics().queueLength + clients.lora.metrics().queueLength]);
    facts('memory', live[0]);
    facts('inference', live[1]);
    if (stats) $('about').textContent = `${stats.version} · ${stats.model} · ${stats.dimension} dimensions`;
  }
  setTimeout(poll, POLL_MS);
}

/* ---- requests by hand ---- */

const text = () => $('store-text').value.trim() || $('search-text').value.trim() || 'The bicycle is blue';
const id = () => memories.chosen ?? memories.shown[0]?.id ?? '';
/** What each button fills in; `waits` marks those that only Send carries out.
 *  @type {Record<Kind, Record<string, {data?: () => object, waits?: boolean}>>} */
const COMMANDS = {
  memory: {
    store: { data: () => ({ text: text(), metadata: { type: 'note' }, tags: [] }) },
    search: { data: () => ({ text: text(), limit: 5 }) },
    retrieve: { data: () => ({ count: 5, sort: 'strength' }) },
    get: { data: () => ({ id: id() }) },
    update: { data: () => ({ id: id(), tags: ['changed'] }), waits: true },
    delete: { data: () => ({ id: id() }), waits: true },
    score: { data: () => ({ text: text() }) },
    embed: { data: () => ({ text: text() }), waits: true },
    export: { data: () => ({ count: 10 }) },
    subscribe: { data: () => ({ events: ['stats'], interval_ms: 5000 }) },
    unsubscribe: { data: () => ({ events: ['stats'] }) },
    stats: {}, config: {}, health_check: {}, ping: {}, sync: {}, compact: {},
    cleanup: { waits: true },
    clear: { data: () => ({ confirm: true }), waits: true },
  },
  inference: {
    embeddings: { data: () => ({ text: [text()] }) },
    process: { data: () => ({ text: text(), context: ['The bicycle is red'], config: { top_k: 5 } }) },
    similarity: { data: () => ({ text1: text(), text2: 'A red bike' }) },
    models: {}, adapters: {},
    load_adapter: { data: () => ({ name: $('adapter-name').value || 'name', path: $('adapter-path').value || 'path' }), waits: true },
    unload_adapter: { data: () => ({ name: 'name' }), waits: true },
    stats: {}, config: {}, health_check: {}, ping: {},
  },
};

const target = (kind) => { $('target').querySelector(`[value=${kind}]`).checked = true; };
const targeted = () => /** @type {Kind} */ ($('target').querySelector(':checked').value);

for (const [kind, commands] of Object.entries(COMMANDS)) {
  $('commands').append(h('div', { class: 'commands', role: 'group', 'aria-label': `Commands of ${kind}` }, h('b', { text: kind }),
    ...Object.entries(commands).map(([type, { data, waits }]) => h('button', { type: 'button', text: type, class: waits ? 'waits' : null,
      click: () => {
        target(/** @type {Kind} */ (kind));
        $('editor').value = JSON.stringify(data ? { type, data: data() } : { type }, null, 1).replace(/\n */g, (s) => (s.length > 3 ? ' ' : s));
        if (!waits) return send();
        $('editor-note').textContent = 'Look it over, then Send.';
        $('editor').focus();
      } }))));
}
$('editor').value = '{\n "type": "search",\n "data": { "text": "bicycle", "limit": 5 }\n}';

async function send() {
  const note = $('editor-note');
  note.className = 'dim';
  note.textContent = '';
  try {
    const { type, data } = JSON.parse($('editor').value);
    if (typeof type !== 'string') throw new Error('"type" is missing: Send raw sends it all the same');
    const reply = await run(targeted(), type, data);
    note.textContent = `${type}: success`;
    if (/^(store|embed|update|delete|clear|cleanup)$/.test(type)) memories.changed();
    if (/adapter/.test(type)) listAdapters();
    return reply;
  } catch (why) {
    note.className = 'bad';
    note.textContent = /** @type {Error} */ (why).message;
  }
}

/** The text as it stands, on a connection of its own: to see what the server says to it. */
function sendRaw() {
  const kind = targeted();
  const { url, options: { token } } = of(kind);
  const ws = new WebSocket(url, token ? [`bearer.${token}`] : []);
  const late = setTimeout(() => { log('info', kind, 'note', 'raw: no reply in 5 s'); ws.close(); }, 5000);
  ws.onopen = () => {
    log('info', kind, 'out', `raw ${$('editor').value.slice(0, 200)}`);
    ws.send($('editor').value);
  };
  ws.onmessage = ({ data }) => {
    const failed = /"status":\s*"error"/.test(data);
    log(failed ? 'error' : 'success', kind, 'in', `raw ${data.slice(0, 400)}`);
    ws.close();
  };
  ws.onclose = ({ code, reason }) => {
    clearTimeout(late);
    if (code !== 1005) log('error', kind, 'note', `raw: closed with ${code} ${reason}`);
  };
}

$('request-form').addEventListener('submit', (e) => { e.preventDefault(); send(); });
$('send-raw').addEventListener('click', sendRaw);
$('editor').addEventListener('keydown', (e) => {
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); send(); }
});

/* ---- adapters, standing query, events, tests ---- */

async function listAdapters() {
  if (clients.lora.state !== 'open') return;
  const { adapters } = await clients.lora.adapters().catch(() => ({ adapters: [] }));
  const rows = adapters.map((a) => h('li', {},
    h('span', {}, a.name, ' ', h('span', { class: 'dim', text: `rank ${a.rank}, alpha ${a.alpha}, ${(a.targets ?? []).join(' ')}` })),
    h('button', { text: 'unload', 'aria-label': `Unload ${a.name}`, click: () => run('inference', 'unload_adapter', { name: a.name }).then(listAdapters, () => {}) })));
  $('adapter-list').replaceChildren(...(rows.length ? rows : [h('li', { class: 'dim' }, h('span', { text: 'None: the model answers as it is.' }))]));
}

$('adapter-form').addEventListener('submit', (e) => {
  e.preventDefault();
  run('inference', 'load_adapter', { name: $('adapter-name').value, path: $('adapter-path').value }).then(listAdapters, () => {});
});

/** @type {null | (() => Promise<void>)} */
let endWatch = null;
$('watch-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  const button = $('watch-button');
  if (endWatch) {
    await endWatch().catch(() => {});
    endWatch = null;
    button.textContent = 'Watch';
    return;
  }
  const words = $('watch-text').value.trim();
  if (!words) return $('watch-text').focus();
  const note = (line, value) => {
    $('watch-list').prepend(h('li', {}, h('span', { text: line }), h('span', { class: 'value', text: value })));
    while ($('watch-list').children.length > 8) $('watch-list').lastChild.remove();
  };
  try {
    endWatch = await clients.memory.watch(words, ({ memory, similarity }) => {
      note(memory.text, figure(similarity));
      log('info', 'memory', 'event', `match ${figure(similarity)} ${memory.text}`);
    }, { min_similarity: Number($('watch-min').value) });
    button.textContent = 'Stop';
    $('watch-list').replaceChildren();
    note(`Waiting for texts like “${words}”`, '');
  } catch (why) {
    note(/** @type {Error} */ (why).message, '');
  }
});

const unheard = clients.memory.on('open', () => clients.memory
  .subscribe(['memory_added', 'memory_updated', 'memory_removed'], () => memories.changed()).then(unheard, () => {}));
clients.memory.on('message', (m) => { if (m.event && m.event !== 'match') log('info', 'memory', 'event', m.event, m.data); });
clients.lora.on('message', (m) => { if (m.event) log('info', 'inference', 'event', m.event, m.data); });

document.addEventListener('securitypolicyviolation', ({ blockedURI }) =>
  log('error', 'page', 'note', `This page may only talk to the server that it came from, not to ${blockedURI}`));

async function test() {
  const button = $('run-tests');
  button.disabled = true;
  $('verdict').className = 'dim';
  $('verdict').textContent = 'Running the tests';
  const { passed, failed, skipped } = await runTests(clients);
  const line = `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`;
  $('verdict').className = failed ? 'bad' : 'good';
  $('verdict').textContent = line;
  log(failed ? 'error' : 'success', 'page', 'note', `test run: ${line}`);
  button.disabled = false;
}
$('run-tests').addEventListener('click', test);

/* ---- start ---- */

/** Where this page came from, there the endpoints are: `/stats` names both ports. */
async function start() {
  const { hostname, port, protocol } = location;
  const token = $('token').value;
  const ports = /** @type {Record<string, any>} */ ({});
  try {
    const reply = await fetch('/stats', { headers: token ? { Authorization: `Bearer ${token}` } : {} });
    if (reply.status === 401) {
      $('token-form').hidden = false;
      $('verdict').textContent = token ? 'That token is not the right one.' : 'This server wants a token.';
      return $('token').focus();
    }
    const stats = await reply.json();
    if (reply.ok) Object.assign(ports, stats.endpoints, { [stats.server]: port || (protocol === 'https:' ? 443 : 80) });
  } catch { /* served by something else: the usual addresses */ }
  const scheme = protocol === 'https:' ? 'wss' : 'ws';
  for (const kind of /** @type {Kind[]} */ (['memory', 'inference'])) {
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
  $('verdict').textContent = '';
  clients.memory.close();
  clients.lora.close();
  start();
});

panel('memory');
panel('inference');
poll();
start();
// For a look from the console, and for the tests of the page.
Object.assign(window, { recalld: { ...clients, run, runTests: test, shortened } });
