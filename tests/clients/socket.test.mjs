// What the clients promise, point by point, against the scripted server.
import test from 'node:test';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import WebSocket from 'ws';
import { MemoryInterface } from '../../clients/memory-interface.js';
import { LoRAInterface } from '../../clients/lora-interface.js';
import { FakeServer } from './fake-server.mjs';

const sleep = (ms) => new Promise((r) => { setTimeout(r, ms); });
const quick = { WebSocket, log() {}, reconnectInterval: 20, maxRetries: 3, backoffFactor: 1, jitter: 0,
  timeout: 10000, connectTimeout: 3000, pingInterval: 100, pingTimeout: 500, steadyAfter: 60000 };
const types = (server) => server.received.map((m) => m.type);

async function until(check, ms = 10000) {
  for (const end = performance.now() + ms; !check();) {
    if (performance.now() > end) assert.fail(`never came true: ${check}`);
    await sleep(5);
  }
}

/** A client of a fake server; both are ended with the test. */
async function pair(t, { server = {}, client = {}, Kind = MemoryInterface } = {}) {
  const fake = new FakeServer({ kind: Kind === MemoryInterface ? 'memory' : 'inference', ...server });
  Object.assign(fake, server);
  await fake.start();
  const it = new Kind({ ...quick, serverUrl: `ws://localhost:${fake.port}`, ...client });
  t.after(async () => { it.close(); await fake.stop().catch(() => {}); });
  return [fake, it];
}

test('the defaults are the published ones', () => {
  for (const [Kind, serverUrl] of [[MemoryInterface, 'ws://localhost:5000'], [LoRAInterface, 'ws://localhost:5005']]) {
    for (const given of [undefined, {}, { serverUrl: undefined, maxRetries: undefined }]) {
      const { options } = new Kind(given);
      assert.equal(options.serverUrl, serverUrl);
      assert.equal(options.reconnectInterval, 5000);
      assert.equal(options.maxRetries, 5);
    }
  }
});

test('opening logs one line, asks stats first and then sends the queue in order', async (t) => {
  const lines = [];
  const [fake, memory] = await pair(t, { client: { log: (...words) => lines.push(words) } });
  const asked = ['a', 'b', 'c'].map((x) => memory.store(x));
  assert.equal(memory.metrics().queueLength, 3);
  await Promise.all(asked);
  assert.deepEqual(lines, [['Memory server connected']]);
  assert.deepEqual(types(fake).slice(0, 4), ['stats', 'store', 'store', 'store']);
  assert.deepEqual(fake.stored.map((s) => s.text), ['a', 'b', 'c']);
  assert.equal(memory.lastStats.server, 'memory');
});

test('requests carry type, timestamp, data and an id that no other client uses', async (t) => {
  const [fake, memory] = await pair(t);
  await memory.store('x', { tags: ['t'] });
  const m = fake.received.at(-1);
  assert.equal(m.type, 'store');
  assert.match(m.timestamp, /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(m.data, { tags: ['t'], text: 'x', metadata: { session_id: memory.session } });
  assert.match(m.id, /^[0-9a-f]{24}-[0-9a-z]+$/);
  assert.notEqual(memory.session, new MemoryInterface().session);
});

test('the hundred and first request in the queue is rejected, the hundred are sent', async (t) => {
  const [fake, memory] = await pair(t);
  const asked = Array.from({ length: 101 }, (_, i) => memory.store(`n${i}`));
  await assert.rejects(asked.pop(), { code: 'queue_full' });
  await Promise.all(asked);
  assert.deepEqual(fake.stored.map((s) => s.text), Array.from({ length: 100 }, (_, i) => `n${i}`));
});

test('a broken link goes open, waiting, connecting, open and tells so', async (t) => {
  const [, memory] = await pair(t, { server: { script: (m, n) => (n === 1 ? 'close:1001' : 'answer') } });
  const states = [];
  const closes = [];
  memory.on('status', (s) => states.push(s.state));
  memory.on('close', (c) => closes.push(c));
  await memory.store('x');
  assert.deepEqual(states, ['connecting', 'open', 'waiting', 'connecting', 'open']);
  assert.deepEqual(closes, [{ code: 1001, reason: 'The server is shutting down. (as scripted)', final: false }]);
  assert.equal(memory.metrics().reconnects, 1);
});

test('tries that fail are counted from the last steady connection on', async (t) => {
  let bad = false;
  const [fake, memory] = await pair(t, { server: { handshake: (n) => (n < 2 || bad) && { status: 503 } },
    client: { steadyAfter: 60 } });
  await memory.connect(); // two of the three tries are used up
  await sleep(120); // steady: the count is zero again
  bad = true;
  for (const ws of fake.wss.clients) ws.terminate();
  await until(() => memory.state === 'failed');
  assert.equal(fake.connections, 3 + 3);
  assert.match(memory.reason, /Gave up after 3 retries/);
});

test('a server that drops every connection at once is given up, too', async (t) => {
  const [fake, memory] = await pair(t, { server: { script: () => 'drop' }, client: { steadyAfter: 5000 } });
  await assert.rejects(memory.store('x'), { code: 'failed' });
  assert.equal(fake.connections, 1 + 3);
});

test('waits grow by the factor, keep under the maximum and are spread by the jitter', async (t) => {
  const waits = [];
  const memory = new MemoryInterface({ ...quick, serverUrl: 'ws://localhost:1', reconnectInterval: 10,
    backoffFactor: 2, maxInterval: 30, maxRetries: 4 });
  t.after(() => memory.close());
  memory.on('status', (s) => s.state === 'waiting' && waits.push(s.delay));
  await assert.rejects(memory.connect());
  assert.deepEqual(waits, [10, 20, 30, 30]);
  const spread = [];
  const shaky = new MemoryInterface({ ...quick, serverUrl: 'ws://localhost:1', jitter: 0.5, maxRetries: 8, reconnectInterval: 8 });
  shaky.on('status', (s) => s.state === 'waiting' && spread.push(s.delay));
  await assert.rejects(shaky.connect());
  assert.ok(spread.every((d) => d >= 4 && d <= 12) && new Set(spread).size > 1, spread.join());
});

test('after failure requests are rejected at once, retry() starts again', async (t) => {
  let bad = true;
  const [, memory] = await pair(t, { server: { handshake: () => bad && { status: 503 } } });
  await assert.rejects(memory.connect(), { code: 'failed' });
  await assert.rejects(memory.store('x'), { code: 'failed' });
  bad = false;
  memory.retry();
  assert.equal((await memory.store('y')).duplicate, false);
  assert.equal(memory.state, 'open');
});

test('nobody looks at connect(): its failure is no unhandled rejection', async () => {
  const memory = new MemoryInterface({ ...quick, serverUrl: 'ws://localhost:1', maxRetries: 0 });
  memory.connect(); // an unhandled rejection would fail this file
  await until(() => memory.state === 'failed');
  await sleep(10);
});

test('final close codes end with a sentence and are not tried again', async (t) => {
  for (const [code, state, words] of [[1000, 'closed', /ended/], [1002, 'failed', /protocol/], [1003, 'failed', /no such message/],
    [1007, 'failed', /UTF-8/], [1008, 'failed', /rule.*\(as scripted\)/]]) {
    const [fake, memory] = await pair(t, { server: { script: (m) => (m.type === 'store' ? `close:${code}` : 'answer') } });
    await assert.rejects(memory.store('x'), { code: state, message: words });
    await sleep(60);
    assert.equal(memory.state, state);
    assert.equal(fake.connections, 1);
  }
});

test('1009 rejects the largest request, asks for the limit and sends no larger one again', async (t) => {
  const [fake, memory] = await pair(t, { server: { maxMessage: 2000,
    script: (m) => (m.type === 'store' && m.data.text === 'hold' ? 'silent' : 'answer') } });
  await memory.connect();
  const held = memory.store('hold');
  held.catch(() => {});
  const large = memory.store('x'.repeat(3000));
  await assert.rejects(large, { code: 'too_large' });
  const before = fake.received.length;
  await assert.rejects(memory.store('y'.repeat(2500)), { code: 'too_large', message: /2000 bytes/ });
  await memory.store('small');
  assert.equal(fake.received[before].type, 'config', 'the limit is asked before anything else');
  assert.deepEqual(fake.stored.map((s) => s.text), ['small']);
  assert.equal(fake.received.filter((m) => m.data?.text === 'hold').length, 2, 'the others are sent again');
  assert.ok(!fake.received.some((m) => m.data?.text?.length > 2000));
});

test('after a reset the limit is asked for before what is large is sent again', async (t) => {
  const large = 'x'.repeat(100000);
  const [fake, memory] = await pair(t, {
    server: { script: (m) => (m.data.text === large ? 'reset' : 'answer') } });
  fake.on_config = () => ({ max_message: 65536 });
  await memory.connect();
  await until(() => memory.lastStats);
  await assert.rejects(memory.store(large), { code: 'too_large', message: /65536 bytes/ });
  assert.equal(fake.received.filter((m) => m.data.text === large).length, 1);
  await memory.store('small');
});

test('a half-open link is found by a ping and replaced', async (t) => {
  let deaf = true;
  const [fake, memory] = await pair(t, { server: { script: (m) => (m.type === 'ping' && deaf ? 'deaf' : 'answer') } });
  await memory.connect();
  await until(() => memory.state === 'waiting');
  assert.match(memory.reason, /no answer to a ping/);
  deaf = false;
  await memory.store('x');
  assert.equal(fake.connections, 2);
});

test('pings go out only while nothing is outstanding', async (t) => {
  const [fake, memory] = await pair(t, { server: { script: (m) => (m.type === 'store' ? 'delay:300' : 'answer') } });
  await memory.connect();
  await until(() => types(fake).includes('ping'));
  const before = types(fake).filter((x) => x === 'ping').length;
  await memory.store('slow');
  assert.equal(types(fake).filter((x) => x === 'ping').length, before);
  await until(() => types(fake).filter((x) => x === 'ping').length > before);
});

test('a timeout on a dead link also leads to a new one', async (t) => {
  const [fake, memory] = await pair(t, { server: { script: (m, n) => (n === 1 ? 'deaf' : 'answer') },
    client: { pingInterval: 60000 } });
  await memory.connect();
  await until(() => memory.lastStats);
  await assert.rejects(memory.request('store', { text: 'x' }, { timeout: 60 }), { code: 'timeout' });
  await until(() => fake.connections === 2);
});

test('a dead link is found, too, while requests keep coming', async (t) => {
  const [fake, memory] = await pair(t, { server: { script: (m, n) => (n === 1 ? 'deaf' : 'answer') },
    client: { pingTimeout: 200 } });
  await memory.connect();
  await until(() => memory.lastStats);
  const coming = setInterval(() => memory.request('store', { text: 'x' }, { timeout: 100 }).catch(() => {}), 20);
  t.after(() => clearInterval(coming));
  await until(() => fake.connections === 2);
});

test('what waits behind a long request finds no dead link', async (t) => {
  const [fake, memory] = await pair(t, { client: { pingTimeout: 50 },
    server: { script: (m) => (m.type === 'stats' || m.type === 'ping' ? 'answer' : 'silent') } });
  await memory.connect();
  await until(() => memory.lastStats);
  memory.request('process').catch(() => {});
  fake.script = () => 'silent'; // all answers wait for that of the first
  await assert.rejects(memory.request('stats', {}, { timeout: 50 }), { code: 'timeout' });
  await sleep(150);
  assert.ok(!types(fake).includes('ping'));
  assert.equal(memory.state, 'open');
});

test('a resent delete that finds nothing was carried out before', async (t) => {
  const [, memory] = await pair(t, { server: { script: (m, n) => (n === 2 ? 'carry-out-drop' : 'answer') } });
  const { id } = await memory.store('x');
  assert.deepEqual(await memory.delete(id), { deleted: true });
  await assert.rejects(memory.delete(id), { code: 'not_found', resent: false });
});

test('requests marked once are rejected by a break instead of being sent again', async (t) => {
  const [fake, memory] = await pair(t, { server: { script: (m) => (m.type === 'cleanup' ? 'drop' : 'answer') } });
  await memory.connect();
  await assert.rejects(memory.request('cleanup', {}, { once: true }), { code: 'broken' });
  await memory.store('x');
  assert.equal(types(fake).filter((x) => x === 'cleanup').length, 1);
});

test('subscriptions and standing queries outlive a break and end when asked', async (t) => {
  const [fake, memory] = await pair(t);
  const added = [];
  const matches = [];
  const others = [];
  await memory.watch('green tram', (d) => others.push(d.memory.text), { min_similarity: 0.9 });
  const end = await memory.subscribe(['memory_added'], (d) => added.push(d.memory.text));
  const endWatch = await memory.watch('blue bicycle', (d) => matches.push(d.memory.text), { min_similarity: 0.9 });
  await memory.store('one');
  for (const ws of fake.wss.clients) ws.terminate();
  fake.queries.clear(); // as after a restart: the answer names another query
  fake.queries.set('q-of-another', { ws: {}, vector: [], min: 2 });
  await until(() => memory.state !== 'open');
  await memory.store('blue bicycle');
  await until(() => matches.length === 1);
  assert.deepEqual(added, ['one', 'blue bicycle']);
  assert.deepEqual(others, [], 'a match goes to the query that it answers');
  await end();
  await endWatch();
  await memory.store('two');
  await memory.stats();
  assert.equal(added.length, 2);
  await memory.store('green tram');
  await until(() => others.length === 1); // the other query goes on
  assert.equal(matches.length, 1);
  assert.deepEqual(fake.received.filter((m) => m.type === 'unsubscribe').map((m) => m.data.events), [['memory_added'], ['match']]);
});

test('a standing query that is just being asked for outlives the end of another', async (t) => {
  const [, memory] = await pair(t);
  const matches = [];
  const end = await memory.watch('blue bicycle', () => {});
  const asked = memory.watch('green tram', (d) => matches.push(d.memory.text), { min_similarity: 0.9 });
  await end();
  await asked;
  await memory.store('green tram');
  await memory.stats();
  assert.deepEqual(matches, ['green tram']);
});

test('times without end are no times of a millisecond', async (t) => {
  const script = (m) => (m.type === 'store' ? 'delay:50' : 'answer');
  const client = { timeout: Infinity, connectTimeout: 2 ** 31, pingInterval: Infinity };
  const [fake, memory] = await pair(t, { server: { script }, client });
  await memory.store('x');
  await sleep(50);
  assert.deepEqual(types(fake), ['stats', 'store']);
  assert.equal(fake.connections, 1);
});

test('half a surrogate pair is sent as U+FFFD, whole ones as they are', async (t) => {
  const [fake, memory] = await pair(t);
  await memory.store('a\ud83d b😀');
  assert.equal(fake.stored[0].text, 'a\ufffd b😀');
});

test('what cannot be written as JSON is rejected, not thrown', async () => {
  const loop = {};
  loop.loop = loop;
  await assert.rejects(new MemoryInterface(quick).store('x', loop), TypeError);
});

test('garbage is told as an error event and ends nothing', async (t) => {
  const [, memory] = await pair(t, { server: { script: () => 'scalar' } });
  const errors = [];
  memory.on('error', (e) => errors.push(e.code));
  await memory.store('x');
  assert.ok(errors.length >= 7 && errors.every((c) => c === 'garbage'));
});

test('401 and 403 are final and explained by what the server says over HTTP', async (t) => {
  for (const [status, error, words] of [[401, 'A token is required', /wants a token/],
    [403, 'This Origin is not allowed', /This Origin is not allowed \(http:\/\/a\.test\)\. recalld --allow-origin http:\/\/a\.test would/]]) {
    const data = { header: 'Origin', value: 'http://a.test', flag: '--allow-origin' };
    const [fake, memory] = await pair(t, { server: { handshake: () => ({ status }), httpRefusal: { status, error, data } } });
    await assert.rejects(memory.connect(), { code: 'failed', message: words });
    await sleep(50);
    assert.equal(fake.connections, 1);
  }
});

test('an error before it is open is the end of a try, whether a close event follows or not', async () => {
  class Mute {
    constructor() { queueMicrotask(() => this.onerror({ message: 'refused' })); }

    close() { this.onerror({}); }
  }
  const memory = new MemoryInterface({ ...quick, WebSocket: Mute, serverUrl: 'ws://localhost:1', connectTimeout: 60000, maxRetries: 1 });
  const told = [];
  for (const name of ['error', 'close']) memory.on(name, (e) => told.push(name, e.message ?? e.code));
  await assert.rejects(memory.connect(), { code: 'failed', message: /Nothing answers .* 1 retries/ });
  assert.deepEqual(told, ['error', 'refused', 'close', 1006, 'error', 'refused', 'close', 1006]);
});

test('closed while it still asks why: closed it stays', async (t) => {
  const [fake, memory] = await pair(t, { server: { handshake: () => ({ status: 503 }), slowStats: 100 } });
  const opened = memory.connect();
  await until(() => fake.connections === 1);
  await sleep(30);
  memory.close();
  await assert.rejects(opened, { code: 'closed' });
  await sleep(200);
  assert.equal(memory.state, 'closed');
  assert.equal(fake.connections, 1);
});

test('closed by who hears of an event: closed it stays, and its queue is bounded', async (t) => {
  for (const event of ['open', 'close', 'metrics']) {
    const [fake, memory] = await pair(t, { client: { maxQueue: 1 },
      server: { script: (m) => (event === 'open' ? 'answer' : 'drop') } });
    const off = memory.on(event, () => { off(); memory.close(); });
    const states = [];
    memory.on('status', ({ state }) => states.push(state));
    await assert.rejects(memory.request('store', { text: 'x' }, { once: event === 'metrics' }));
    await sleep(80);
    assert.deepEqual(states, ['connecting', 'open', 'closed'], event);
    assert.equal(fake.connections, 1);
    memory.connect();
    const first = memory.store('y').catch(() => {}); // has the one place
    await assert.rejects(memory.store('z'), { code: 'queue_full' });
    memory.close();
    await first;
  }
});

test('closed while the address is asked for: its failure changes nothing', async () => {
  class Asking extends MemoryInterface {
    async locate() {
      await sleep(20);
      throw new Error('nobody knows');
    }
  }
  const memory = new Asking(quick);
  memory.connect();
  memory.close();
  await sleep(50);
  assert.equal(memory.state, 'closed');
});

test('the token is shown to no other host than that of the address', async (t) => {
  const asked = [];
  const { fetch } = globalThis;
  globalThis.fetch = async (url) => {
    asked.push(String(url));
    throw new TypeError('not from here');
  };
  t.after(() => { globalThis.fetch = fetch; });
  const [Toy] = world({});
  for (const [serverUrl, expected] of [['wss://memory.ws', 'https://memory.ws/stats'],
    ['wss://some.news/', 'https://some.news/stats'],
    ['ws://localhost:1/ws', 'http://localhost:1/stats'],
    ['ws://localhost:1/?token=T', 'http://localhost:1/stats?token=T'],
    ['wss://a.test/recall', 'https://a.test/recall/stats'],
    ['wss://a.test/recall/ws?token=T', 'https://a.test/recall/stats?token=T']]) {
    const memory = new MemoryInterface({ ...quick, WebSocket: Toy, token: 's', serverUrl, maxRetries: 0 });
    await assert.rejects(memory.connect(), { code: 'failed' });
    assert.equal(asked.pop(), expected);
  }
});

test('a page of another site is told that browsers block local addresses', async (t) => {
  globalThis.location = { hostname: 'pages.example' };
  t.after(() => { delete globalThis.location; });
  const memory = new MemoryInterface({ ...quick, serverUrl: 'ws://localhost:1', maxRetries: 0 });
  await assert.rejects(memory.connect(), /keeps pages of other sites .* http:\/\/localhost:1\//);
});

test('nothing is sent into a connection that is closing', async (t) => {
  let raw;
  class Kept extends WebSocket {
    constructor(...how) {
      super(...how);
      raw = this;
    }
  }
  const [fake, memory] = await pair(t, { client: { WebSocket: Kept } });
  await memory.connect();
  await until(() => memory.lastStats);
  raw.close(4000); // the close event comes later
  raw.send = () => assert.fail('sent into a closing connection');
  await memory.store('x');
  assert.equal(fake.connections, 2);
});

test('a token travels as a subprotocol', async (t) => {
  let offered;
  const [, memory] = await pair(t, { client: { token: 's3cret' },
    server: { handshake: (n, rq) => { offered = rq.headers['sec-websocket-protocol']; } } });
  await memory.connect();
  assert.equal(offered, 'bearer.s3cret');
});

test('an address that is no URL fails at once', async () => {
  await assert.rejects(new MemoryInterface({ ...quick, serverUrl: 'nonsense' }).connect(), { code: 'failed', message: /nonsense/ });
});

test('an address may be a URL', async () => {
  const memory = new MemoryInterface({ ...quick, serverUrl: new URL('ws://localhost:1'), maxRetries: 0 });
  await assert.rejects(memory.connect(), { code: 'failed', message: /Nothing answers at ws:\/\/localhost:1/ });
});

test('close() rejects what waits, and a second connect() starts anew', async (t) => {
  const [, memory] = await pair(t, { server: { script: (m, n) => (n === 1 ? 'silent' : 'answer') } });
  await memory.connect();
  const waiting = memory.store('x');
  memory.close();
  await assert.rejects(waiting, { code: 'closed' });
  await assert.rejects(memory.store('y'), { code: 'closed' });
  await memory.connect();
  await memory.store('z');
});

test('coming online or becoming visible tries at once', async (t) => {
  const heard = new EventTarget();
  globalThis.addEventListener = heard.addEventListener.bind(heard);
  globalThis.removeEventListener = heard.removeEventListener.bind(heard);
  globalThis.document = heard;
  t.after(() => { for (const k of ['addEventListener', 'removeEventListener', 'document']) delete globalThis[k]; });
  let bad = true;
  const [fake, memory] = await pair(t, { server: { handshake: () => bad && { status: 503 } }, client: { reconnectInterval: 60000 } });
  memory.connect();
  await until(() => memory.state === 'waiting');
  bad = false;
  heard.dispatchEvent(new Event('online'));
  await until(() => memory.state === 'open');
  bad = true;
  for (const ws of fake.wss.clients) ws.terminate();
  await until(() => memory.state === 'waiting');
  bad = false;
  heard.hidden = true;
  heard.dispatchEvent(new Event('visibilitychange'));
  assert.equal(memory.state, 'waiting', 'a hidden page stays quiet');
  heard.hidden = false;
  heard.dispatchEvent(new Event('visibilitychange'));
  await until(() => memory.state === 'open');
  memory.close();
  heard.dispatchEvent(new Event('online'));
  assert.equal(memory.state, 'closed', 'closed by its owner stays closed');
  const [, refused] = await pair(t, { server: { script: () => 'close:1008' } });
  await assert.rejects(refused.store('x'), { code: 'failed' });
  heard.dispatchEvent(new Event('online'));
  assert.equal(refused.state, 'failed', 'what is final stays final');
});

test('metrics() counts latency, errors, reconnects and the queue', async (t) => {
  const [, memory] = await pair(t, { server: { script: (m) => (m.type === 'store' ? 'delay:20' : 'answer') }, client: { pingInterval: 60000 } });
  const told = [];
  memory.on('metrics', (m) => told.push(m));
  await memory.store('x');
  await assert.rejects(memory.get('nobody'), { code: 'not_found' });
  const m = memory.metrics();
  assert.equal(m.status, 'open');
  assert.ok(m.latency.p95 >= 19 && m.latency.p50 > 0 && m.latency.p50 <= m.latency.p95);
  assert.equal(m.errorRate, 1 / 3);
  assert.equal(m.queueLength, 0);
  assert.equal(m.reconnects, 0);
  assert.ok(told.length >= 3);
});

/** A WebSocket of a world in which only `ports` answer, with the given stats. */
function world(ports) {
  const opened = [];
  class Toy {
    readyState = 1;

    constructor(url) {
      opened.push(Number(new URL(url).port));
      const stats = ports[opened.at(-1)];
      queueMicrotask(() => (stats ? this.onopen?.() : this.onclose?.({ code: 1006, reason: '' })));
      this.send = (text) => queueMicrotask(() => stats !== 'mute' && this.onmessage?.({
        data: JSON.stringify({ status: 'success', id: JSON.parse(text).id, data: stats }) }));
    }

    close() {}
  }
  return [Toy, opened];
}

test('the inference port is asked of the memory endpoint, else searched from 5005 to 5014', async () => {
  const inference = { server: 'inference' };
  for (const [name, ports, expected, tried] of [
    ['memory knows', { 5000: { server: 'memory', endpoints: { memory: 5000, inference: 5009 } }, 5009: inference }, 5009, [5000, 5009]],
    ['memory is away, 5005', { 5005: inference }, 5005, [5000, 5005, 5005]],
    ['5005 belongs to another program', { 5005: { server: 'else' }, 5006: inference }, 5006, [5000, 5005, 5006, 5006]],
    ['5005 does not speak', { 5005: 'mute', 5006: inference }, 5006, [5000, 5005, 5006, 5006]],
    ['memory runs alone', { 5000: { server: 'memory', endpoints: { memory: 5000 } }, 5014: inference }, 5014,
      [5000, 5005, 5006, 5007, 5008, 5009, 5010, 5011, 5012, 5013, 5014, 5014]],
  ]) {
    const [Toy, opened] = world(ports);
    const lora = new LoRAInterface({ ...quick, WebSocket: Toy });
    await lora.connect();
    assert.equal(lora.url, `ws://localhost:${expected}`, name);
    assert.deepEqual(opened, tried, name);
    lora.close();
  }
});

test('the port is looked for at the host of the memory endpoint, however it is written', async () => {
  for (const [memoryUrl, tried] of [['ws://[::1]:5000', 'ws://[::1]:5005'], ['ws://board', 'ws://board:5005'],
    ['ws://board:80/ws?token=a:5', 'ws://board:5005/ws?token=a:5'], ['ws://b?token=T', 'ws://b:5005?token=T'],
    [undefined, 'ws://localhost:5005']]) {
    const opened = [];
    const [Toy] = world({});
    class Seen extends Toy {
      constructor(url) {
        super('ws://localhost:1');
        opened.push(url);
      }
    }
    const lora = new LoRAInterface({ ...quick, WebSocket: Seen, memoryUrl, maxRetries: 0 });
    await assert.rejects(lora.connect());
    assert.deepEqual(opened.slice(0, 2), [memoryUrl ?? 'ws://localhost:5000', tried]);
  }
});

test('a WebSocket that tells of an error once more while it is closed, as that of Node, ends no search', async () => {
  const [Toy, opened] = world({ 5006: { server: 'inference' } });
  class Loud extends Toy {
    close() { this.onerror({}); }
  }
  const lora = new LoRAInterface({ ...quick, WebSocket: Loud });
  await lora.connect();
  assert.deepEqual(opened, [5000, 5005, 5006, 5006]);
  lora.close();
});

test('closed while it looks for the port: it looks no further', async () => {
  const [Toy, opened] = world({});
  const lora = new LoRAInterface({ ...quick, WebSocket: Toy });
  lora.connect();
  lora.close();
  await sleep(50);
  assert.deepEqual(opened, [5000]);
});

test('an address given for inference is used as it is', async (t) => {
  const [fake, lora] = await pair(t, { Kind: LoRAInterface });
  const { embeddings } = await lora.embeddings(['a', 'b'], { adapter: 'legal' });
  assert.equal(embeddings.length, 2);
  assert.deepEqual(fake.received.at(-1).data, { text: ['a', 'b'], adapter: 'legal' });
  assert.equal((await lora.similarity('a', 'a')).similarity.toFixed(3), '1.000');
  assert.equal((await lora.adapters()).adapters[0].name, 'legal');
  assert.equal((await lora.process('a', { context: ['b'] })).context_used, 1);
  await assert.rejects(lora.loadAdapter('x', 'y'), { code: 'unknown_type' });
  assert.equal(fake.connections, 1);
});

test('a program that closes its client ends by itself', () => {
  const script = `
    import WebSocket from 'ws';
    import { MemoryInterface } from '../../clients/memory-interface.js';
    import { FakeServer } from './fake-server.mjs';
    const fake = await new FakeServer().start();
    const memory = new MemoryInterface({ WebSocket, serverUrl: 'ws://localhost:' + fake.port });
    await memory.store('x');
    memory.close();
    await fake.stop();`;
  const r = spawnSync(process.execPath, ['--input-type=module', '-e', script],
    { cwd: fileURLToPath(new URL('.', import.meta.url)), timeout: 20000, encoding: 'utf8' });
  assert.equal(r.status, 0, r.stderr || 'it did not end');
  assert.equal(r.stdout, 'Memory server connected\n');
});
