// Random sessions of a client, its user, its hearers and its link, in a time of our own: whatever
// comes in whatever order, every promise ends, one socket lives at most, and closed stays closed.
import test from 'node:test';
import assert from 'node:assert/strict';
import { MemoryInterface } from '../../clients/memory-interface.js';

let seed = 7;
const random = (n) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return (seed >>> 8) % n;
};
const pick = (...all) => all[random(all.length)];

let now = 0;
let count = 0;
const timers = new Map(); // by number: {at, act, every}
const add = (act, ms, every) => {
  timers.set(++count, { at: now + Math.max(1, ms), act, every });
  return count;
};
const remove = (id) => { timers.delete(id); };
const settled = () => new Promise((r) => { setImmediate(r); });

async function pass(ms) {
  for (const end = now + ms; ;) {
    const [id, timer] = [...timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
    now = Math.min(end, timer?.at ?? end);
    if (!timer || timer.at > end) return;
    if (timer.every) timer.at += timer.every;
    else timers.delete(id);
    timer.act();
    await settled();
  }
}

class Link {
  static all = [];

  readyState = 0;

  sent = [];

  constructor() {
    if (!random(40)) throw new Error('not this time');
    Link.all.push(this);
  }

  send(text) {
    assert.equal(this.readyState, 1);
    this.sent.push(JSON.parse(text));
  }

  close() { this.readyState = 2; }

  /** What the other side does next. */
  step() {
    if (this.readyState === 0) {
      this.readyState = 1;
      this.onopen({});
    } else if (this.readyState === 1 && this.sent.length) {
      const { id, type } = this.sent.shift();
      const data = type === 'config' ? { max_message: pick(60000, 1000000) } : {};
      const good = { status: 'success', id, type, data };
      const bad = { status: 'error', id, error: 'Server busy', data: { code: 'busy' } };
      this.onmessage({ data: JSON.stringify(pick(good, good, good, good, bad)) });
    }
  }

  end() {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.onclose({ code: pick(1006, 1006, 1006, 1001, 1009, 1000, 1008), reason: '' });
  }
}

async function session() {
  Link.all = [];
  timers.clear();
  const memory = new MemoryInterface({ WebSocket: Link, log() {}, maxQueue: 5, maxRetries: 3 });
  const ends = []; // how often each promise ended
  let closed = false; // by its user, and not asked for since
  let depth = 0;
  const call = () => {
    const i = ends.push(0) - 1;
    pick(
      () => memory.store('x'), () => memory.store('x'.repeat(70000)),
      () => memory.request('clear', {}, { once: true }),
      () => memory.subscribe(['memory_added'], heard),
    )().then(() => { ends[i]++; }, () => { ends[i]++; });
  };
  const close = () => { memory.close(); closed = memory.state === 'closed'; };
  const retry = () => { closed = false; memory.retry(); };
  const connect = () => { closed = false; memory.connect(); };
  function heard() {
    if (depth > 2 || random(3)) return;
    depth++;
    pick(close, retry, connect, call, call)();
    depth--;
  }
  for (const name of ['open', 'close', 'error', 'message', 'status', 'metrics', 'stats']) memory.on(name, heard);
  const step = () => Link.all.at(-1)?.step();
  for (let i = 0; i < 60; i++) {
    await pick(call, call, call, step, step, step, step, () => Link.all.at(-1)?.end(),
      () => pick(close, retry, connect)(), () => pass(pick(100, 6000, 40000)))();
    await settled();
    assert.ok(Link.all.filter((l) => l.readyState < 2).length <= 1, 'two links at a time');
    if (closed) assert.equal(memory.state, 'closed');
  }
  await pass(31000); // the time of every request is over
  depth = 9; // nobody hears any more
  memory.close();
  await settled();
  assert.ok(ends.every((n) => n === 1), `a promise hangs: ${ends}`);
  assert.equal(timers.size, 0, 'a timer goes on');
}

test('random sessions keep every promise', async (t) => {
  const { fetch } = globalThis;
  const chance = Math.random;
  const real = { setTimeout, clearTimeout, setInterval, clearInterval, fetch };
  t.after(() => Object.assign(globalThis, real) && (Math.random = chance));
  Math.random = () => random(1000) / 1000;
  Object.assign(globalThis, { setTimeout: (act, ms) => add(act, ms), clearTimeout: remove,
    setInterval: (act, ms) => add(act, ms, ms), clearInterval: remove,
    fetch: async () => ({ status: pick(200, 401, 403, 503), json: async () => ({}) }) });
  for (let i = 0; i < 300; i++) {
    const began = seed;
    await session().catch((why) => { throw new Error(`with seed ${began}: ${why.message}`); });
  }
});
