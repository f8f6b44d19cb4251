// @ts-check
import { $, h, duration } from './page-dom.js';
import { MemoryInterface } from './memory-interface.js';
import { LoRAInterface } from './lora-interface.js';

/** @param {any} truth @param {string} words what was to be so */
function expect(truth, words) {
  if (!truth) throw new Error(words);
}

const TEXT = 'The page of recalld tries whether this sentence comes back';

/** Every test has connections of its own: those of the page go on undisturbed.
 *  @param {Record<string, any>} clients @param {Record<string, any>} sockets the newest by url
 *  @returns {[string, 'memory' | 'inference', () => Promise<any>][]} */
function plan({ memory, lora }, sockets) {
  const text = `${TEXT}, ${memory.session.slice(0, 8)}`;
  /** @type {any} */
  let stored;
  const refused = async (asked, code) => {
    const why = await asked.then(() => null, (e) => e);
    expect(why?.code === code, `expected the error ${code}, got ${why?.code ?? 'success'}`);
  };
  return [
    ['connect to memory', 'memory', () => memory.connect()],
    ['stats name the server, its ports and its model', 'memory', async () => {
      const stats = await memory.stats();
      expect(stats.server === 'memory', `server is ${stats.server}`);
      expect(stats.endpoints && stats.model, 'endpoints or model is missing');
      expect(Number.isInteger(stats.memory_count), 'memory_count is no number');
    }],
    ['store, then retrieve', 'memory', async () => {
      stored = await memory.store(text, { metadata: { type: 'selftest' } });
      expect(stored.significance >= 0 && stored.significance <= 1, `significance is ${stored.significance}`);
      const { memories } = await memory.retrieve({ count: 5, sort: 'recent', type: 'selftest' });
      expect(memories.some((m) => m.id === stored.id && m.text === text), 'the text did not come back');
    }],
    ['search finds it first', 'memory', async () => {
      const { results } = await memory.search(text, { limit: 3 });
      expect(results[0]?.id === stored?.id, `first is ${results[0]?.text ?? 'nothing'}`);
      expect(results[0].similarity > 0.99, `similarity is ${results[0].similarity}`);
    }],
    ['embeddings have unit length', 'inference', async () => {
      const { embeddings, dimension } = await lora.embeddings(['one sentence', 'and another one']);
      expect(embeddings.length === 2, `${embeddings.length} vectors`);
      for (const v of embeddings) {
        expect(v.length === dimension, `${v.length} numbers instead of ${dimension}`);
        expect(Math.abs(Math.hypot(...v) - 1) < 1e-4, `length is ${Math.hypot(...v)}`);
      }
    }],
    ['process scores a text against a context', 'inference', async () => {
      const r = await lora.process('It rains in Paris', { context: ['It rains in London', 'Cats sleep all day'] });
      for (const k of ['significance', 'surprise', 'diversity', 'information']) {
        expect(r[k] >= 0 && r[k] <= 1, `${k} is ${r[k]}`);
      }
      expect(r.context_used === 2, `context_used is ${r.context_used}`);
    }],
    ['an unknown type is refused', 'memory', () => refused(memory.request('no_such_command'), 'unknown_type')],
    ['bad JSON is refused, the connection lives on', 'memory', async () => {
      const answered = new Promise((resolve) => {
        const off = memory.on('message', (m) => {
          if (m.id !== undefined || m.event) return;
          off();
          resolve(m);
        });
      });
      sockets[memory.url].send('{"type": "stats"');
      const late = new Promise((resolve) => { setTimeout(resolve, 3000, {}); });
      const { error = 'no answer' } = await Promise.race([answered, late]);
      expect(error.startsWith('Invalid JSON format'), error);
      await memory.stats();
    }],
    ['the connection is cut and comes back, with the queue', 'memory', async () => {
      await memory.connect();
      const before = memory.metrics().reconnects;
      sockets[memory.url].close(4000, 'a test');
      await new Promise((resolve) => { const off = memory.on('close', () => { off(); resolve(0); }); });
      const late = [memory.score('asked while away'), memory.request('ping')];
      const [score, pong] = await Promise.all(late);
      expect(score.significance >= 0 && pong.pong, 'the queue was not answered');
      expect(memory.metrics().reconnects === before + 1, 'it did not reconnect once');
    }],
    ['delete removes what was stored', 'memory', async () => {
      await memory.delete(stored.id);
      await refused(memory.get(stored.id), 'not_found');
    }],
  ];
}

/** @param {{memory: any, lora: any}} page the clients of the page, for their addresses
 *  @returns {Promise<{passed: number, failed: number, skipped: number}>} */
export async function runTests(page) {
  /** @type {Record<string, any>} */
  const sockets = {};
  class Seen extends WebSocket {
    /** @param {string} url @param {string[]} [protocols] */
    constructor(url, protocols) {
      super(url, protocols);
      sockets[url] = this;
    }
  }
  const own = (client) => ({ serverUrl: client.url, token: client.options.token, WebSocket: Seen,
    reconnectInterval: 200, jitter: 0, timeout: 8000, log() {} });
  const memory = new MemoryInterface(own(page.memory));
  const lora = new LoRAInterface(own(page.lora));
  const tally = { passed: 0, failed: 0, skipped: 0 };
  const rows = plan({ memory, lora }, sockets).map(([text, kind, test]) =>
    ({ kind, test, li: h('li', {}, h('span', { text })) }));
  $('test-list').replaceChildren(...rows.map((r) => r.li));
  const away = { memory: page.memory.state === 'idle', inference: page.lora.state === 'idle' };
  for (const { kind, test, li } of rows) {
    const began = performance.now();
    const end = (how, why) => {
      li.className = how;
      if (why) li.firstChild.append(h('span', { class: 'why', text: why }));
      li.append(h('span', { class: 'value', text: duration(performance.now() - began) }));
    };
    if (away[kind]) {
      tally.skipped++;
      end('skip-test', `${kind} is not connected`);
      continue;
    }
    li.className = 'running';
    try {
      await test();
      tally.passed++;
      end('pass', '');
    } catch (why) {
      tally.failed++;
      end('fail', why.message);
    }
  }
  memory.close();
  lora.close();
  return tally;
}
