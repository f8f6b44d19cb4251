// Fifty ways in which a server or a link can fail. Whatever happens, every promise ends, and
// what was stored was stored once and in the order of asking.
import test from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import WebSocket from 'ws';
import { MemoryInterface, RecallError } from '../../clients/memory-interface.js';
import { FakeServer } from './fake-server.mjs';

const quick = { WebSocket, log() {}, reconnectInterval: 15, maxRetries: 5, backoffFactor: 1.2, jitter: 0.1,
  timeout: 6000, connectTimeout: 1500, pingInterval: 200, pingTimeout: 1000, steadyAfter: 60000 };
const codes = ['timeout', 'queue_full', 'too_large', 'broken', 'failed', 'closed', 'error'];
const at = (k, what) => ({ script: (m, n) => (n === k ? what : 'answer') });
const always = (what) => ({ script: () => what });
const all = (end) => ({ end });

// name, how the server behaves, what is expected: `all` ended so, or nothing but that all end.
const rows = [
  ['link drops at the first request', at(0, 'drop'), all('ok')],
  ['link drops in the middle', at(3, 'drop'), all('ok')],
  ['link drops at the last request', at(6, 'drop'), all('ok')],
  ['link drops after the answer', at(2, 'answer-drop'), all('ok')],
  ['carried out, but the answer is lost', at(2, 'carry-out-drop'), all('ok')],
  ['carried out twice over, answers lost', { script: (m, n) => (n === 1 || n === 8 ? 'carry-out-drop' : 'answer') }, all('ok')],
  ['reset instead of an end', at(2, 'reset'), all('ok')],
  ['every second request drops the link', { script: (m, n) => (n % 2 && n < 9 ? 'drop' : 'answer') }],
  ['every request drops the link', always('drop'), all('failed')],
  ['FIN without a close frame', at(2, 'bare-fin'), all('ok')],
  ['half a frame, then the end', at(2, 'half-frame'), all('ok')],
  ['a frame against the protocol', at(2, 'bad-frame')],
  ['a text frame that is no UTF-8', at(2, 'bad-utf8')],
  ['close 1001, going away', at(2, 'close:1001'), all('ok')],
  ['close 1011, no pong seen', at(2, 'close:1011'), all('ok')],
  ['close 1012, restart', at(2, 'close:1012'), all('ok')],
  ['close 1013, overloaded', at(2, 'close:1013'), all('ok')],
  ['close with a code of its own', at(2, 'close:4001'), all('ok')],
  ['answer, then close 1001', at(2, 'answer-close:1001'), all('ok')],
  ['close 1001 for ever', always('close:1001'), all('failed')],
  ['close 1000 is final', at(2, 'close:1000'), { final: 'closed' }],
  ['close 1002 is final', at(2, 'close:1002'), { final: 'failed' }],
  ['close 1003 is final', at(2, 'close:1003'), { final: 'failed' }],
  ['close 1007 is final', at(2, 'close:1007'), { final: 'failed' }],
  ['close 1008 is final', at(2, 'close:1008'), { final: 'failed' }],
  ['close 1009 rejects one request', at(3, 'close:1009'), { large: 1 }],
  ['close 1009 to every store', { script: (m) => (m.type === 'store' ? 'close:1009' : 'answer') }],
  ['a request is never answered', at(2, 'silent'), { late: 1 }],
  ['nothing is ever answered', always('silent')],
  ['half-open link from the start', at(0, 'deaf'), { late: 6 }],
  ['half-open link in the middle', at(3, 'deaf')],
  ['half-open link for ever', always('deaf')],
  ['an answer comes late', at(2, 'delay:300'), all('ok')],
  ['all answers come late', always('delay:150'), all('ok')],
  ['answers overtake each other', { script: (m, n) => `delay:${(n * 37) % 90}` }, all('ok')],
  ['every answer comes twice', always('twice'), all('ok')],
  ['an answer comes after its timeout', { script: (m, n) => (n === 2 ? 'delay:7000' : 'answer') }, { late: 1 }],
  ['garbage before each answer', always('garbage'), all('ok')],
  ['garbage instead of one answer', at(2, 'garbage-only'), { late: 1 }],
  ['JSON that is no reply', always('scalar'), all('ok')],
  ['binary messages in between', always('binary'), all('ok')],
  ['replies to nobody', always('stranger'), all('ok')],
  ['a status that does not exist', at(2, 'bad-status'), { late: 1 }],
  ['replies without data', always('no-data'), all('ok')],
  ['errors without a sentence', { script: (m) => (m.type === 'store' ? 'bare-error' : 'answer') }, all('error')],
  ['an event without data', always('odd-event'), all('ok')],
  ['handshake: HTTP 503 twice, then well', { handshake: (n) => n < 2 && { status: 503 } }, all('ok')],
  ['handshake: HTTP 200 for ever', { handshake: () => ({ status: 200 }) }, all('failed')],
  ['handshake: silence once, then well', { handshake: (n) => n === 0 && 'taken' }, all('ok')],
  ['handshake: silence for ever', { handshake: () => 'taken' }],
  ['handshake: bytes that are no HTTP', { handshake: (n, rq, s) => n === 0 && (s.end('hello\r\n'), 'taken') }, all('ok')],
  ['handshake: the link is reset twice', { handshake: (n, rq, s) => n < 2 && (s.resetAndDestroy(), 'taken') }, all('ok')],
];

async function run(behaviour) {
  const server = await new FakeServer(behaviour).start();
  const memory = new MemoryInterface({ ...quick, serverUrl: `ws://localhost:${server.port}` });
  const texts = Array.from({ length: 6 }, (_, i) => `text number ${i} ${'x'.repeat(i === 2 ? 200 : 0)}`);
  const asked = [];
  for (const [i, text] of texts.entries()) { // three before the link is open, three after
    if (i === 3) await new Promise((r) => { setTimeout(r, 60); });
    asked.push(memory.store(text));
    asked[i].catch(() => {}); // looked at below
  }
  const limit = new Promise((r) => { setTimeout(r, 25000, 'unresolved').unref(); });
  const ends = await Promise.race([limit, Promise.allSettled(asked)]);
  const state = memory.state;
  memory.close();
  await server.stop();
  assert.notEqual(ends, 'unresolved', 'a promise was left hanging');
  return { ends, server, texts, state };
}

const endOf = (e) => (e.status === 'fulfilled' ? 'ok' : e.reason.code);

test('there are at least fifty scripted failures', () => assert.ok(rows.length >= 50));

test('no promise hangs', { concurrency: 8 }, async (t) => {
  await Promise.all(rows.map(([name, behaviour, expected = {}]) => t.test(name, async () => {
    const { ends, server, texts, state } = await run(behaviour);
    for (const e of ends) {
      if (e.status === 'fulfilled') continue;
      assert.ok(e.reason instanceof RecallError && codes.includes(e.reason.code), String(e.reason));
    }
    const codesSeen = ends.map(endOf);
    if (expected.end) assert.deepEqual(codesSeen, texts.map(() => expected.end));
    if (expected.final) {
      assert.equal(state, expected.final);
      assert.ok(codesSeen.every((c) => c === 'ok' || c === expected.final), codesSeen.join());
      assert.equal(server.connections, 1, 'a final close code is not tried again');
    }
    if (expected.large) assert.equal(codesSeen.filter((c) => c === 'too_large').length, expected.large);
    if (expected.late) assert.equal(codesSeen.filter((c) => c === 'timeout').length, expected.late);
    const stored = server.stored.map((s) => s.text);
    assert.deepEqual(stored, texts.filter((x) => stored.includes(x)), 'once each, in the order of asking');
    for (const [i, e] of ends.entries()) {
      if (e.status === 'fulfilled' && e.value) assert.ok(stored.includes(texts[i]), 'answered means stored');
    }
  })));
});

test('nothing listens: the last try fails with a sentence that names the address', async () => {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await new Promise((r) => { probe.once('listening', r); });
  const { port } = probe.address();
  await new Promise((r) => { probe.close(r); });
  const memory = new MemoryInterface({ ...quick, serverUrl: `ws://localhost:${port}`, maxRetries: 2 });
  await assert.rejects(memory.store('x'), { code: 'failed', message: new RegExp(`ws://localhost:${port}.*2 retries`) });
  assert.equal(memory.state, 'failed');
});
