// The page and the clients in Debian's Chromium, against the real program.
//
//   node run.mjs [PATH/TO/recalld] [--images DIR] [--only WORDS]
//
// Starts servers of its own on free ports of the loopback; closes with `N passed, N failed, N skipped`.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: flags, positionals } = parseArgs({ allowPositionals: true,
  options: { images: { type: 'string' }, only: { type: 'string' } } });
const root = fileURLToPath(new URL('../../', import.meta.url));
const recalld = path.resolve(positionals[0] ?? path.join(root, process.env.BUILD ?? 'build', 'recalld'));
const chromiumPath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const require = createRequire(import.meta.url);
const scratch = mkdtempSync(path.join(os.tmpdir(), 'recalld-browser-'));
const sleep = (ms) => new Promise((r) => { setTimeout(r, ms); });

class Skip extends Error {}

function absent(what) {
  process.stdout.write(`skipped: ${what}\n0 passed, 0 failed, 1 skipped\n`);
  process.exit(0);
}
if (!existsSync(recalld)) {
  process.stderr.write(`no program at ${recalld}\n`);
  process.exit(1);
}
if (!existsSync(chromiumPath)) absent(`no Chromium at ${chromiumPath} (Debian package chromium)`);
let chromium;
let axe;
let WebSocket;
try {
  ({ chromium } = require('playwright-core'));
  axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
  WebSocket = require('ws');
} catch {
  absent('npm packages are missing: run npm ci in tests/');
}

/* ---- servers ---- */

async function freePort() {
  const s = net.createServer().listen(0, '127.0.0.1');
  await new Promise((r) => { s.once('listening', r); });
  const { port } = s.address();
  await new Promise((r) => { s.close(r); });
  return port;
}

const running = new Set();

class Server {
  static async start(extra = [], ports = undefined) {
    const it = new Server();
    it.memory = ports?.memory ?? await freePort();
    it.inference = ports?.inference ?? await freePort();
    it.data = ports?.data ?? mkdtempSync(path.join(scratch, 'data-'));
    it.portFile = path.join(it.data, '..', `ports-${it.memory}`);
    it.extra = extra;
    await it.again();
    return it;
  }

  async again() {
    rmSync(this.portFile, { force: true });
    this.child = spawn(recalld, ['--memory-port', this.memory, '--inference-port', this.inference, '--data', this.data,
      '--port-file', this.portFile, '--log-level', 'warn', ...this.extra].map(String), { stdio: ['ignore', 'ignore', 'pipe'] });
    running.add(this.child);
    let said = '';
    this.child.stderr.on('data', (d) => { said += d; });
    const gone = new Promise((r) => { this.child.once('exit', r); });
    this.gone = gone;
    for (let i = 0; i < 400; i++) {
      if (existsSync(this.portFile) && /\n$/.test(readFileSync(this.portFile, 'utf8'))) {
        for (const line of readFileSync(this.portFile, 'utf8').trim().split('\n')) {
          const [name, port] = line.split(' ');
          this[name] = Number(port);
        }
        return;
      }
      if (this.child.exitCode === 69) throw new Skip(said.trim()); // somebody else was faster
      if (this.child.exitCode !== null) throw new Error(`recalld ended with ${this.child.exitCode}: ${said}`);
      await sleep(25);
    }
    throw new Error(`recalld did not start: ${said}`);
  }

  async stop(signal = 'SIGTERM') {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    await this.gone;
    running.delete(this.child);
    const { exitCode, signalCode } = this.child;
    if (exitCode || (signalCode && signalCode !== 'SIGKILL')) throw new Error(`recalld ended with ${exitCode ?? signalCode}`);
  }

  get page() { return `http://localhost:${this.memory}/`; }
}

/* ---- the browser ---- */

const browser = await chromium.launch({ executablePath: chromiumPath, args: ['--no-sandbox', '--disable-gpu', '--disable-quic',
  '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--host-resolver-rules=MAP foreign.test 127.0.0.1'] });

// What the browser itself says of a connection that is refused or cut.
const BROWSERS_OWN = /WebSocket connection to .* failed|Failed to load resource: net::ERR_(CONNECTION|SOCKET|EMPTY)/;

/** A page that keeps what the console said and what was asked of the network. */
async function open(url, { width = 1440, height = 1000, colorScheme = 'light', reducedMotion, ready = true } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion });
  const page = await context.newPage();
  page.said = [];
  page.asked = [];
  page.on('console', (m) => page.said.push(`${m.type()}: ${m.text()}`));
  page.on('pageerror', (e) => page.said.push(`error: ${e.message}`));
  page.on('request', (r) => page.asked.push(r.url()));
  page.on('websocket', (w) => page.asked.push(w.url()));
  await page.goto(url);
  if (ready) await page.waitForFunction(() => window.recalld?.memory.state === 'open' && window.recalld?.lora.state === 'open');
  page.quiet = () => assert.deepEqual(page.said.filter((s) => /^(error|warning)/.test(s) && !BROWSERS_OWN.test(s)), []);
  page.done = async () => { page.quiet(); await context.close(); };
  return page;
}

const until = (page, check, arg) => page.waitForFunction(check, arg, { timeout: 15000 });
const text = (page, q) => page.locator(q).textContent();

async function shot(page, name) {
  if (!flags.images) return;
  mkdirSync(flags.images, { recursive: true });
  await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
  await page.screenshot({ path: path.join(flags.images, `${name}.png`) });
}

async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  assert.deepEqual(violations.map((v) => `${what}: ${v.id}: ${v.nodes.map((n) => n.target).join(' | ')}`), []);
}

const SENTENCES = [
  ['My name is Ada and I live near the river in Lyon', 'user'], ['The bicycle is blue and its front brake squeaks', 'user'],
  ['Remember: the spare key hangs behind the cellar door', 'note'], ['I take the tram to work unless the sun shines', 'user'],
  ['You could oil the brake pads of the bicycle, or replace them for about ten euros', 'assistant'],
  ['The bicycle shop on Rue Mercière closes at six', 'user'], ['My sister Clara plays the cello in a small orchestra', 'user'],
  ['Important: no penicillin, there is an allergy', 'note'], ['The concert of my sister Clara is on the second Friday of May', 'user'],
  ['The kitchen clock runs four minutes slow', 'user'], ['The cat is called Minou and hates the vacuum cleaner', 'user'],
  ['Bread: 500 g flour, 350 g water, 10 g salt, a little yeast, a night in the fridge, then a very hot oven: twenty minutes covered, twenty-five open', 'note'],
  ['I would like to learn the cello myself one day', 'user'], ['The cat sleeps on the piano when it rains', 'user'],
];

const fillUp = (page) => page.evaluate(async (rows) => {
  for (const [words, type] of rows) await window.recalld.memory.store(words, { metadata: { type }, tags: type === 'note' ? ['home'] : [] });
}, SENTENCES);

async function runOwnTests(page) {
  await page.click('#run-tests');
  await until(page, () => /passed/.test(document.querySelector('#verdict').textContent));
  return text(page, '#verdict');
}

/* ---- the tests ---- */

const tests = [];
const test = (name, run) => tests.push([name, run]);
let shared; // one server for the tests that break nothing

test('the test run of the page itself is all green, with a quiet console and no request elsewhere', async () => {
  for (const url of [shared.page, `http://localhost:${shared.inference}/`, `http://127.0.0.1:${shared.memory}/`]) {
    const page = await open(url);
    const verdict = await runOwnTests(page);
    const why = await page.locator('#test-list .why').allTextContents();
    assert.match(verdict, /^\d+ passed, 0 failed$/, why.join('; '));
    assert.ok(parseInt(verdict, 10) >= 9);
    const own = new Set([String(shared.memory), String(shared.inference)]);
    for (const asked of page.asked.filter((u) => !u.startsWith('data:'))) {
      const { hostname, port } = new URL(asked);
      assert.ok(['localhost', '127.0.0.1'].includes(hostname) && own.has(port), `asked ${asked}`);
    }
    assert.equal(page.said.filter((s) => s === 'log: Memory server connected').length, 2);
    await page.done();
  }
});

test('first paint comes within 300 ms', async () => {
  const paints = [];
  for (let i = 0; i < 10 && !(paints.at(-1) <= 300); i++) { // a busy machine has its slow moments
    const page = await open(shared.page);
    paints.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
    await page.done();
  }
  process.stdout.write(`    first contentful paint: ${paints.map(Math.round).join(' ')} ms\n`);
  assert.ok(paints.at(-1) <= 300, 'not once');
});

test('a killed server is waited for, and what was asked meanwhile is stored in order', async () => {
  const server = await Server.start();
  const page = await open(server.page);
  await page.evaluate(() => {
    Object.assign(window.recalld.memory.options, { reconnectInterval: 300, maxRetries: 50, jitter: 0, backoffFactor: 1 });
    Object.assign(window.recalld.lora.options, { reconnectInterval: 300, maxRetries: 50, jitter: 0, backoffFactor: 1 });
    window.states = [];
    window.recalld.memory.on('status', ({ state }) => window.states.push(state));
  });
  await until(page, () => window.recalld.memory.metrics().outstanding === 0);
  await server.stop('SIGKILL');
  await until(page, () => window.recalld.memory.state === 'waiting');
  assert.match(await text(page, '#memory .state'), /again in|waiting|connecting/);
  await page.evaluate(() => {
    const room = 100 - window.recalld.memory.metrics().queueLength; // the page itself may have asked something
    window.asked = Array.from({ length: room }, (_, i) => window.recalld.memory.store(`queued sentence ${i}`, { metadata: { type: 'queued' } }));
    window.over = window.recalld.memory.store('one too many').then(() => 'stored', (e) => e.code);
    window.ends = Promise.allSettled(window.asked);
  });
  assert.equal(await page.evaluate(() => window.over), 'queue_full');
  await sleep(700);
  await server.again();
  const ends = await page.evaluate(async () => (await window.ends).map((e) => e.status));
  assert.ok(ends.length >= 95 && ends.every((e) => e === 'fulfilled'), ends.join());
  const order = await page.evaluate(async () => {
    const { memories } = await window.recalld.memory.request('export', { count: 1000 });
    return memories.filter((m) => m.metadata.type === 'queued').map((m) => m.text);
  });
  assert.deepEqual(order, Array.from({ length: ends.length }, (_, i) => `queued sentence ${i}`));
  const states = await page.evaluate(() => window.states);
  assert.deepEqual([states[0], states.at(-2), states.at(-1)], ['waiting', 'connecting', 'open']);
  await until(page, () => document.querySelector('#memory').dataset.state === 'open');
  await page.done();
  await server.stop();
});

test('a clean stop, no server for good, and a try by hand: the states say so', async () => {
  const server = await Server.start();
  const page = await open(server.page);
  await page.evaluate(() => {
    for (const c of [window.recalld.memory, window.recalld.lora]) Object.assign(c.options, { reconnectInterval: 100, maxRetries: 2, jitter: 0 });
    window.closes = [];
    window.recalld.memory.on('close', (c) => window.closes.push(c.code));
  });
  await server.stop();
  await until(page, () => document.querySelector('#memory').dataset.state === 'failed' && document.querySelector('#inference').dataset.state === 'failed');
  assert.equal((await page.evaluate(() => window.closes))[0], 1001);
  assert.match(await text(page, '#memory .reason'), new RegExp(`Nothing answers at ws://localhost:${server.memory}.*Gave up after 2`));
  await accessible(page, 'failed');
  await shot(page, 'page-failed');
  const lost = await page.evaluate(() => window.recalld.memory.store('x').then(() => 'stored', (e) => e.code));
  assert.equal(lost, 'failed');
  await server.again();
  await page.click('#memory .toggle');
  await page.click('#inference .toggle');
  await until(page, () => document.querySelector('#memory').dataset.state === 'open' && document.querySelector('#inference').dataset.state === 'open');
  assert.match(await runOwnTests(page), / 0 failed/);
  await page.done();
  await server.stop();
});

/** The published ports, or a clear line why not. */
async function usual(ports) {
  for (const port of ports) {
    const s = net.createServer();
    await new Promise((resolve, reject) => {
      s.once('error', () => reject(new Skip(`port ${port} is in use on this machine`)));
      s.listen(port, '127.0.0.1', () => s.close(resolve));
    });
  }
}

test('port 5005 is taken: the page and the clients find 5006', async () => {
  await usual([5000, 5005, 5006]);
  const taken = net.createServer((s) => s.on('error', () => {}));
  await new Promise((r) => { taken.listen(5005, '127.0.0.1', r); });
  const links = new Set();
  taken.on('connection', (s) => { links.add(s); s.on('close', () => links.delete(s)); });
  let server;
  try {
    server = await Server.start([], { memory: 5000, inference: '5005-5014' });
    assert.equal(server.inference, 5006);
    const page = await open('http://localhost:5000/');
    const found = await page.evaluate(async () => {
      const { LoRAInterface } = await import('/clients/lora-interface.js');
      const lora = new LoRAInterface();
      const { count } = await lora.embeddings('x');
      lora.close();
      return [lora.url, count, window.recalld.lora.url];
    });
    assert.deepEqual(found, ['ws://localhost:5006', 1, 'ws://localhost:5006']);
    await page.done();
    // and where no memory endpoint can tell: past the mute program on 5005
    const { LoRAInterface } = await import('../../clients/lora-interface.js');
    const lora = new LoRAInterface({ WebSocket, memoryUrl: `ws://localhost:${await freePort()}`, log() {} });
    await lora.connect();
    assert.equal(lora.url, 'ws://localhost:5006');
    lora.close();
  } finally {
    await server?.stop();
    for (const s of links) s.destroy();
    await new Promise((r) => { taken.close(r); });
  }
});

test('on a foreign origin the page explains the 403 and names the flag', async () => {
  const clients = new URL('../../clients/', import.meta.url);
  const types = { html: 'text/html', js: 'text/javascript', css: 'text/css' };
  const site = http.createServer((rq, rs) => {
    const name = rq.url === '/' ? 'index.html' : rq.url.replace('/clients/', '');
    if (!/^[\w.-]+$/.test(name) || !existsSync(new URL(name, clients))) return rs.writeHead(200, { 'Content-Type': 'application/json' }).end('{}');
    return rs.writeHead(200, { 'Content-Type': types[name.split('.').pop()] }).end(readFileSync(new URL(name, clients)));
  });
  await new Promise((r) => { site.listen(0, '127.0.0.1', r); });
  const origin = `http://foreign.test:${site.address().port}`;
  const page = await open(`${origin}/`, { ready: false });
  await until(page, () => window.recalld);
  await page.fill('#memory .url', `ws://localhost:${shared.memory}`);
  await page.evaluate(() => { window.recalld.memory.close(); window.recalld.lora.close(); });
  await page.click('#memory .toggle');
  await until(page, () => document.querySelector('#memory').dataset.state === 'failed');
  const reason = await text(page, '#memory .reason');
  assert.match(reason, /This Origin is not allowed/);
  assert.ok(reason.includes(`--allow-origin ${origin}`), reason);
  await shot(page, 'page-refused');
  await page.context().close();
  await new Promise((r) => { site.closeAllConnections(); site.close(r); });
});

test('a page of another site uses the clients of the server, once its origin is allowed', async () => {
  let server;
  const site = http.createServer((rq, rs) => rs.writeHead(200, { 'Content-Type': 'text/html' }).end(`<!doctype html><title>x</title>
    <script type="module">
      import { MemoryInterface } from '${server.page}clients/memory-interface.js';
      const memory = new MemoryInterface({ serverUrl: 'ws://localhost:${server.memory}' });
      window.seen = [];
      memory.addEventListener('status', (e) => window.seen.push(e.detail.state));
      await memory.store('The red apple is on the table', { tags: ['fruit'] });
      window.found = (await memory.search('apple')).results.map((m) => m.text);
    </script>`));
  await new Promise((r) => { site.listen(0, '127.0.0.1', r); });
  const { port } = site.address();
  server = await Server.start(['--allow-origin', `http://foreign.test:${port}`]);
  for (const host of ['localhost', 'foreign.test']) {
    const page = await open(`http://${host}:${port}/`, { ready: false });
    await until(page, () => window.found);
    assert.deepEqual(await page.evaluate(() => window.found), ['The red apple is on the table'], host);
    assert.deepEqual(await page.evaluate(() => window.seen), ['connecting', 'open'], host);
    assert.deepEqual(page.said.filter((s) => s.startsWith('error') && !/favicon/.test(s)), []);
    await page.context().close();
  }
  await server.stop();
  await new Promise((r) => { site.closeAllConnections(); site.close(r); });
});

test('markup in a memory stays text, everywhere it is shown', async () => {
  const server = await Server.start();
  const page = await open(server.page);
  const evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script> about a bicycle';
  await page.evaluate(async (words) => {
    await window.recalld.memory.watch('a bicycle', () => {}, { min_similarity: -1 });
    await window.recalld.run('memory', 'store', { text: words, tags: ['<b>tag</b>'], metadata: { type: '<i>type</i>' } });
  }, evil);
  await until(page, () => document.querySelector('#memory-list .text'));
  await page.fill('#watch-text', 'about a bicycle');
  await page.fill('#watch-min', '-1');
  await page.click('#watch-button');
  await until(page, () => document.querySelector('#watch-button').textContent === 'Stop');
  await page.fill('#store-text', `${evil} again`);
  await page.click('#store-form button');
  await until(page, () => document.querySelectorAll('#memory-list li').length === 2 && document.querySelector('#map circle'));
  await page.locator('#map circle').first().focus();
  await page.fill('#search-text', evil);
  await page.click('#search-form button');
  await until(page, () => document.querySelector('#memory-list .similarity'));
  const texts = await page.locator('#memory-list .text').allTextContents();
  assert.ok(texts.includes(evil));
  assert.match(await text(page, '#watch-list'), /<img src=x onerror/);
  assert.match(await text(page, '#map-caption'), /<img src=x/);
  const seen = await page.evaluate(() => [document.querySelectorAll('img, main script, main b:not(.commands b)').length, window.hit ?? 0]);
  assert.deepEqual(seen, [0, 0]);
  await page.done();
  await server.stop();
});

test('texts and tags of any length and kind break nothing apart', async () => {
  const server = await Server.start();
  const page = await open(server.page, { width: 320, height: 700 });
  const type = 'T'.repeat(3000);
  await page.fill('#watch-text', 'anything');
  await page.fill('#watch-min', '-1');
  await page.click('#watch-button');
  await until(page, () => document.querySelector('#watch-button').textContent === 'Stop');
  const rows = ['word '.repeat(3200), 'W'.repeat(9000), `many${'\n'.repeat(100)}lines`,
    'مرحبا (\u202eab\u202c)', '\u0000\u0007\u001b[31m'];
  await page.evaluate(async ([texts, tag]) => {
    const more = { tags: [tag.slice(0, 64), '\u202eoverride'], metadata: { type: tag } };
    for (const t of texts) await window.recalld.memory.store(t, more);
  }, [rows, type]);
  const lines = (list, n) => until(page, ([q, k]) => document.querySelectorAll(q).length === k, [list, n]);
  await lines('#memory-list li', rows.length);
  await lines('#watch-list li', rows.length + 1);
  const over = await page.evaluate(() =>
    document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(over, 0);
  const ends = await page.locator('#memory-list .text', { hasText: 'مرحبا' }).evaluate(({ firstChild: t }) => {
    const left = (i) => { // of one character
      const r = document.createRange();
      r.setStart(t, i);
      r.setEnd(t, i + 1);
      return r.getBoundingClientRect().left;
    };
    return [left(0), left(t.length - 1)];
  });
  assert.ok(ends[0] > ends[1] + 20, `a text from right to left begins at the right: ${ends}`);
  const heights = await page.locator('#memory-list .text, #watch-list li')
    .evaluateAll((all) => all.map((e) => e.clientHeight));
  assert.ok(heights.every((px) => px <= 80), heights.join());
  const long = page.locator('#memory-list .text').last();
  await long.click();
  assert.ok(await long.evaluate((e) => e.clientHeight) > 200, 'the chosen one is shown whole');
  await page.done();
  await server.stop();
});

test('the keyboard keeps its place in the list when rows change and go', async () => {
  const server = await Server.start();
  const page = await open(server.page);
  await page.evaluate(async () => {
    for (const t of ['first', 'second', 'third']) await window.recalld.memory.store(t);
  });
  await until(page, () => document.querySelectorAll('#memory-list li').length === 3);
  const at = () => page.evaluate(() => {
    const { activeElement: e } = document;
    const row = e.closest('li')?.querySelector('.text').textContent;
    return `${row ?? e.id}: ${e.className || e.textContent.trim().slice(0, 8)}`;
  });
  const press = (row, deed) => page.locator('#memory-list li', { hasText: row })
    .getByText(deed, { exact: true }).press('Enter');
  await press('second', 'pin');
  await until(page, () => document.querySelector('#memory-list').textContent.includes('pinned'));
  assert.equal(await at(), 'second: pinned');
  for (const [name, left, next] of [['second', 2, 'first: text'], ['first', 1, 'memories: card'],
    ['third', 0, 'memories: card']]) {
    await press(name, 'delete');
    await until(page, (n) => document.querySelectorAll('#memory-list li').length === n, left);
    assert.equal(await at(), next);
  }
  await page.done();
  await server.stop();
});

test('a test run without a server ends, too', async () => {
  const server = await Server.start();
  const page = await open(server.page);
  await page.evaluate(() => {
    for (const c of [window.recalld.memory, window.recalld.lora]) c.options.maxRetries = 0;
  });
  await server.stop('SIGKILL');
  for (const panel of ['#memory', '#inference']) {
    await until(page, (q) => document.querySelector(q).dataset.state === 'failed', panel);
  }
  await page.click('#run-tests');
  await page.waitForFunction(() => /passed/.test(document.querySelector('#verdict').textContent), null,
    { timeout: 60000 });
  assert.match(await text(page, '#verdict'), /^0 passed, 10 failed$/);
  assert.ok(await page.locator('#run-tests').isEnabled());
  await page.context().close(); // the browser says that it sends nothing into a closed connection
});

test('search, choose, pin, delete, more: the list and the map follow', async () => {
  const server = await Server.start();
  const page = await open(server.page);
  await fillUp(page);
  await until(page, (n) => document.querySelectorAll('#memory-list li').length === n && document.querySelectorAll('#map circle').length === n, SENTENCES.length);
  await page.fill('#search-text', 'the bicycle and its brake');
  await page.keyboard.press('Enter');
  await until(page, () => document.querySelector('#memory-list .similarity'));
  assert.match(await page.locator('#memory-list .text').first().textContent(), /bicycle/);
  await until(page, () => document.querySelector('#map .asked').getAttribute('visibility') === 'visible');
  assert.ok(await page.locator('#map circle.found').count() > 0);
  await page.locator('#memory-list .text').first().click();
  assert.equal(await page.locator('#map circle.chosen').count(), 1);
  await shot(page, 'page-search');
  await page.locator('#memory-list li').first().getByText('pin', { exact: true }).click();
  await until(page, () => document.querySelector('#memory-list [aria-pressed="true"]:not(.text)')?.textContent === 'pinned');
  await page.fill('#search-text', '');
  await until(page, () => !document.querySelector('#memory-list .similarity'));
  await page.locator('#memory-list li').first().getByText('delete', { exact: true }).click();
  await until(page, (n) => document.querySelectorAll('#memory-list li').length === n, SENTENCES.length - 1);
  await page.evaluate(async () => { for (let i = 0; i < 30; i++) await window.recalld.memory.store(`number ${i} of many`); });
  await until(page, () => document.querySelectorAll('#memory-list li').length === 20 && !document.querySelector('#more').hidden);
  await page.click('#more');
  await until(page, () => document.querySelectorAll('#memory-list li').length === 40);
  await page.done();
  await server.stop();
});

test('every command button gets an answer; the bad JSON, too', async () => {
  const server = await Server.start();
  const page = await open(server.page);
  await fillUp(page);
  await until(page, () => document.querySelector('#memory-list li'));
  for (const kind of ['memory', 'inference']) {
    const group = page.locator(`.commands[aria-label="Commands of ${kind}"] button`);
    for (const name of await group.allTextContents()) {
      await group.getByText(name, { exact: true }).click();
      if (await group.getByText(name, { exact: true }).evaluate((b) => b.classList.contains('waits'))) await page.keyboard.press('Control+Enter');
      await until(page, (t) => document.querySelector('#editor-note').textContent.startsWith(t) || document.querySelector('#editor-note').className === 'bad', name);
      const note = await text(page, '#editor-note');
      if (!/adapter$/.test(name)) assert.equal(note, `${name}: success`, kind);
    }
  }
  await page.fill('#editor', '{"type": "stats"');
  await page.click('#request-form .main');
  assert.match(await text(page, '#editor-note'), /JSON/);
  await page.click('#send-raw');
  await until(page, () => /Invalid JSON format/.test(document.querySelector('#log').textContent));
  assert.ok(await page.locator('#log .log.info').count() > 0 && await page.locator('#log .log.success').count() > 0 && await page.locator('#log .log.error').count() > 0);
  await page.selectOption('#log-filter', 'error');
  assert.equal(await page.locator('#log .log.info:visible').count(), 0);
  await page.done();
  await server.stop();
});

test('a standing query shows what is stored by somebody else', async () => {
  const page = await open(shared.page);
  const other = await open(shared.page);
  await page.fill('#watch-text', 'grandmother bakes plum cake on sundays');
  await page.fill('#watch-min', '0.5');
  await page.click('#watch-button');
  await until(page, () => document.querySelector('#watch-button').textContent === 'Stop');
  await other.evaluate(() => window.recalld.memory.store('my grandmother bakes plum cake on sundays'));
  await until(page, () => /my grandmother bakes/.test(document.querySelector('#watch-list').textContent));
  await page.click('#watch-button');
  await page.done();
  await other.done();
});

test('asked for twice at once, a standing query is one, and can be ended', async () => {
  const page = await open(shared.page);
  await page.fill('#watch-text', 'the lighthouse of the harbour');
  await page.evaluate(() => {
    for (let i = 0; i < 2; i++) document.querySelector('#watch-form').requestSubmit();
  });
  await until(page, () => document.querySelector('#watch-button').textContent === 'Stop');
  await page.click('#watch-button');
  await until(page, () => document.querySelector('#watch-button').textContent === 'Watch');
  const lines = await page.locator('#watch-list li').count();
  await page.evaluate(async () => {
    await window.recalld.memory.store('the lighthouse of the harbour');
    await window.recalld.memory.stats();
  });
  assert.equal(await page.locator('#watch-list li').count(), lines);
  await page.done();
});

test('a chart of which nothing is left is empty', async () => {
  const page = await open(shared.page);
  await until(page, () => document.querySelector('.chart .area').getAttribute('d'));
  const left = await page.evaluate(async () => {
    const { charts } = await import('/clients/page-charts.js');
    for (let i = 0; i < 150; i++) charts.latency.push([null, null]); // away for five minutes
    const [latency] = document.querySelectorAll('.chart');
    return [...latency.querySelectorAll('.area, .first')].map((p) => p.getAttribute('d'));
  });
  assert.deepEqual(left, ['', '']);
  await page.done();
});

test('a chart that is pointed at keeps its words within its card', async () => {
  const page = await open(shared.page, { width: 1280 });
  await page.evaluate(async () => {
    const { charts } = await import('/clients/page-charts.js');
    for (let i = 0; i < 30; i++) charts.latency.push([123, 98.7]);
  });
  const chart = page.locator('.chart').first();
  await chart.locator('svg').hover({ position: { x: 5, y: 20 } });
  assert.match(await chart.textContent(), /[5-9]\d s ago/);
  const over = await chart.evaluate((e) => e.querySelector('.now').getBoundingClientRect().right - e.getBoundingClientRect().right);
  assert.ok(over <= 0, `${over} px too far`);
  await page.mouse.move(0, 0);
  assert.doesNotMatch(await chart.textContent(), /ago/);
  await page.done();
});

test('no button to show more where a reply holds no more', async () => {
  const server = await Server.start(['--max-reply', '65536']);
  const page = await open(server.page);
  await page.evaluate(async () => {
    for (let i = 0; i < 8; i++) await window.recalld.memory.store(`${i} ${'long '.repeat(3200)}`);
  });
  await until(page, () => document.querySelectorAll('#memory-list li').length === 3
    && document.querySelector('#memories-count').textContent === '8');
  assert.ok(await page.locator('#more').isHidden());
  await page.done();
  await server.stop();
});

test('no button to show more where the list is as long as a reply may be', async () => {
  const server = await Server.start(['--sync', 'never']);
  const page = await open(server.page);
  await page.evaluate(async () => {
    const store = (n) => window.recalld.memory.store(`number ${n}`);
    for (let i = 0; i < 1010; i += 10) await Promise.all(Array.from({ length: 10 }, (_, k) => store(i + k)));
  });
  await until(page, () => document.querySelector('#memories-count').textContent === '1,010');
  for (let rows = 20; rows < 1000; rows += 20) {
    await page.click('#more');
    await until(page, (n) => document.querySelectorAll('#memory-list li').length === n, rows + 20);
  }
  assert.ok(await page.locator('#more').isHidden());
  await page.fill('#search-text', 'number');
  await page.keyboard.press('Enter');
  await until(page, () => document.querySelector('#memory-list .similarity'));
  assert.match(await text(page, '#memories-count'), /^20 of 1010, in /, 'those that fit are more');
  await page.done();
  await server.stop();
});

test('the charts live', async () => {
  const page = await open(shared.page);
  await until(page, () => [...document.querySelectorAll('.chart path.first')].every((p) => (p.getAttribute('d').match(/L/g) ?? []).length >= 2));
  const labels = await page.locator('.chart svg').evaluateAll((all) => all.map((s) => s.getAttribute('aria-label')));
  assert.deepEqual(labels.map((l) => l.split(':')[0]), ['Latency', 'Memory', 'Loop lag', 'Queue']);
  assert.ok(labels.slice(0, 3).every((l) => /: [\d.]+/.test(l)), labels.join(' | '));
  await page.done();
});

test('with a token: asked for, refused when wrong, let in when right', async () => {
  const { writeFileSync } = await import('node:fs');
  const file = path.join(scratch, 'token');
  writeFileSync(file, 'correct-horse\n', { mode: 0o600 });
  const server = await Server.start(['--token-file', file]);
  const page = await open(server.page, { ready: false });
  await until(page, () => /wants a token/.test(document.querySelector('#verdict').textContent));
  assert.equal(await page.evaluate(() => document.activeElement.id), 'token');
  await page.fill('#token', 'wrong');
  await page.click('#token-form button');
  await until(page, () => /not the right one/.test(document.querySelector('#verdict').textContent));
  await page.fill('#token', 'correct-horse');
  await page.click('#token-form button');
  await until(page, () => window.recalld.memory.state === 'open' && window.recalld.lora.state === 'open');
  assert.match(await runOwnTests(page), / 0 failed/);
  await page.context().close(); // the browser's lines of the 401s are expected here
  await server.stop();
});

test('one endpoint alone: the other panel says so, its tests are skipped', async () => {
  const server = await Server.start(['--only', 'memory']);
  const page = await open(server.page, { ready: false });
  await until(page, () => window.recalld?.memory.state === 'open');
  assert.match(await text(page, '#inference .reason'), /Not started/);
  assert.match(await runOwnTests(page), /^\d+ passed, 0 failed, 2 skipped$/);
  await page.done();
  await server.stop();
});

test('axe finds nothing, in light, dark and narrow, and nothing is wider than the screen', async () => {
  const server = await Server.start();
  for (const [name, options] of [['page-light', {}], ['page-dark', { colorScheme: 'dark' }],
    ['page-narrow', { width: 360, height: 800 }], ['page-tablet', { width: 820, height: 1100 }],
    ['page-narrow-dark', { width: 360, height: 800, colorScheme: 'dark', reducedMotion: 'reduce' }]]) {
    const page = await open(server.page, options);
    if (name === 'page-light') await fillUp(page);
    await runOwnTests(page);
    await page.evaluate(() => window.recalld.run('memory', 'get', { id: '00000000-0000-0000-0000-000000000000' }).catch(() => {}));
    await page.fill('#watch-text', 'somebody plays the cello');
    await page.click('#watch-button');
    if (flags.images) await sleep(name === 'page-light' || name === 'page-dark' ? 24000 : 4000); // for the charts
    await shot(page, name);
    await accessible(page, name);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(over, 0, `${name} is ${over} px too wide`);
    await page.done();
  }
  await server.stop();
});

test('everything can be reached and done by keyboard, and focus is seen', async () => {
  const page = await open(shared.page);
  await page.evaluate(() => window.recalld.memory.store('a point for the map').then(() => window.recalld.memory.store('another point for the map')));
  await until(page, () => document.querySelectorAll('#map circle').length >= 2);
  const reached = new Set();
  const unseen = [];
  for (let i = 0; i < 200; i++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      const css = getComputedStyle(e);
      const seen = (css.outlineStyle !== 'none' && parseFloat(css.outlineWidth) >= 1) || (e.tagName === 'circle' && parseFloat(css.strokeWidth) >= 2);
      return e === document.body ? null : { name: e.id || e.className?.baseVal || e.className || e.textContent.trim() || e.tagName, seen };
    });
    if (!at) break;
    reached.add(at.name);
    if (!at.seen) unseen.push(at.name);
  }
  assert.deepEqual(unseen, []);
  for (const id of ['run-tests', 'store-text', 'search-text', 'watch-text', 'editor', 'send-raw', 'log', 'log-clear']) assert.ok(reached.has(id), id);
  await page.locator('#map circle').first().focus();
  await page.keyboard.press('Enter');
  assert.equal(await page.locator('#map circle.chosen').count(), 1);
  const before = await page.evaluate(() => document.activeElement.dataset.id);
  for (const key of ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown']) await page.keyboard.press(key);
  const after = await page.evaluate(() => document.activeElement.tagName);
  assert.ok(before && after === 'circle');
  await page.done();
});

/* ---- all of them ---- */

const tally = { passed: 0, failed: 0, skipped: 0 };
try {
  shared = await Server.start();
  for (const [name, run] of tests) {
    if (flags.only && !name.includes(flags.only)) continue;
    try {
      await run();
      tally.passed++;
      process.stdout.write(`  ok       ${name}\n`);
    } catch (e) {
      if (e instanceof Skip) {
        tally.skipped++;
        process.stdout.write(`  skipped  ${name}: ${e.message}\n`);
      } else {
        tally.failed++;
        process.stdout.write(`  FAILED   ${name}\n${e.stack.replace(/^/gm, '           ')}\n`);
      }
    }
    for (const context of browser.contexts()) await context.close();
  }
  await shared.stop();
} finally {
  await browser.close();
  for (const child of running) child.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
}
process.stdout.write(`${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped\n`);
process.exit(tally.failed ? 1 : 0);
