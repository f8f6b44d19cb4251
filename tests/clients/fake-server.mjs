// A scripted stand-in for recalld: speaks enough of its protocol for the clients and the page,
// and misbehaves where a test says so.
//
//   const server = await new FakeServer({ kind: 'memory', script: (m, n) => 'drop' }).start();
//
// `script(message, n)` is asked for every request, n counting from 0 over all connections;
// it names what happens instead of (or besides) the answer; see `act`.
import http from 'node:http';
import { readFile } from 'node:fs/promises';
import { WebSocketServer } from 'ws';

const DIMENSION = 16;
const TYPES = { html: 'text/html', js: 'text/javascript', css: 'text/css' };
const CLIENTS = new URL('../../clients/', import.meta.url);
export const CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
  + "connect-src 'self' ws://localhost:* http://localhost:* ws://127.0.0.1:* http://127.0.0.1:*; "
  + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

function embed(text) {
  const v = new Array(DIMENSION).fill(0);
  for (const word of text.toLowerCase().match(/\w+/g) ?? ['']) {
    let h = 2166136261;
    for (const c of word) h = Math.imul(h ^ c.charCodeAt(0), 16777619);
    v[(h >>> 8) % DIMENSION] += h & 1 ? 1 : -1;
    v[(h >>> 16) % DIMENSION] += 0.5;
  }
  const norm = Math.hypot(...v) || 1;
  return v.map((x) => x / norm);
}

const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

class Refusal extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

export class FakeServer {
  constructor({ kind = 'memory', script = () => 'answer', handshake = () => null, peers = {} } = {}) {
    Object.assign(this, { kind, script, handshake, peers });
    this.received = []; // every request, in order
    this.stored = []; // {id, session, text} once each
    this.memories = [];
    this.answers = new Map(); // session and envelope id -> first result of a store
    this.connections = 0;
    this.count = 0;
    this.sockets = new Set();
    this.queries = new Map();
    this.asked = 0;
  }

  async start(port = 0) {
    this.http = http.createServer((rq, rs) => this.page(rq, rs));
    this.wss = new WebSocketServer({ noServer: true, maxPayload: this.maxMessage ?? 1 << 20 });
    this.http.on('connection', (s) => { this.sockets.add(s); s.on('close', () => this.sockets.delete(s)); });
    this.http.on('upgrade', (rq, socket, head) => {
      const refusal = this.handshake(this.connections++, rq, socket);
      if (refusal === 'taken') return;
      if (refusal) {
        socket.end(`HTTP/1.1 ${refusal.status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
        return;
      }
      this.wss.handleUpgrade(rq, socket, head, (ws) => this.accept(ws));
    });
    await new Promise((resolve, reject) => {
      this.http.once('error', reject);
      this.http.listen(port, '127.0.0.1', resolve);
    });
    this.port = this.http.address().port;
    this.peers[this.kind] = this.port;
    return this;
  }

  stop() {
    for (const s of this.sockets) s.destroy();
    return new Promise((resolve) => { this.http.close(resolve); });
  }

  async page(rq, rs) {
    const cors = { 'Access-Control-Allow-Origin': '*', 'Access-Control-Allow-Headers': '*, Authorization' };
    const refusal = rq.url !== '/' && !rq.url.startsWith('/clients/') && this.httpRefusal;
    if (refusal) {
      rs.writeHead(refusal.status, { ...cors, 'Content-Type': 'application/json' });
      rs.end(JSON.stringify({ status: 'error', error: refusal.error, data: refusal.data ?? {} }));
      return;
    }
    const { pathname } = new URL(rq.url, 'http://x');
    if (pathname === '/stats') {
      if (this.slowStats) await new Promise((r) => { setTimeout(r, this.slowStats); });
      rs.writeHead(200, { ...cors, 'Content-Type': 'application/json' });
      rs.end(JSON.stringify(this.stats()));
      return;
    }
    try {
      const name = pathname === '/' ? 'index.html' : /^\/clients\/([\w-]+\.\w+)$/.exec(pathname)[1];
      const body = await readFile(new URL(name, CLIENTS));
      rs.writeHead(200, { 'Content-Type': TYPES[name.split('.').pop()], 'Content-Security-Policy': CSP });
      rs.end(body);
    } catch {
      rs.writeHead(404).end();
    }
  }

  accept(ws) {
    ws.on('error', () => {});
    ws.on('message', (raw, binary) => {
      if (ws.deaf) return;
      if (binary) { ws.close(1003); return; }
      let m;
      try { m = JSON.parse(raw); } catch {
        ws.send('{"status":"error","error":"Invalid JSON format at byte 0","data":{"code":"invalid_json"}}');
        return;
      }
      this.received.push(m);
      this.act(ws, m, this.script(m, this.count++) ?? 'answer');
    });
  }

  act(ws, m, what) {
    const [verb, arg] = String(what).split(':');
    const carryOut = () => JSON.stringify(this.reply(m, ws));
    const answer = (text = carryOut()) => ws.readyState === 1 && ws.send(text);
    const end = (act) => { ws.deaf = true; act(); }; // what the peer sent behind this is lost
    const verbs = {
      answer: () => answer(),
      drop: () => end(() => ws._socket.destroy()), // without a close frame
      'answer-drop': () => end(() => { answer(); setImmediate(() => ws._socket?.destroy()); }),
      'carry-out-drop': () => end(() => { carryOut(); ws._socket.destroy(); }),
      reset: () => end(() => ws._socket.resetAndDestroy()),
      close: () => end(() => ws.close(Number(arg), 'as scripted')),
      'answer-close': () => end(() => { answer(); ws.close(Number(arg)); }),
      silent: () => {}, // this one request is never answered
      deaf: () => { ws.deaf = true; ws._socket.pause(); }, // a half-open link
      delay: () => setTimeout(answer, Number(arg), carryOut()),
      twice: () => { answer(); answer(); },
      garbage: () => { ws.send('}{ not JSON'); answer(); },
      'garbage-only': () => ws.send('not JSON'),
      scalar: () => { for (const t of ['null', '7', '"x"', '[]', '{}', 'true', '']) ws.send(t); answer(); },
      binary: () => { ws.send(Buffer.from([0, 1, 255])); answer(); },
      stranger: () => { ws.send('{"status":"success","id":"nobody","type":"stats","data":{}}'); answer(); },
      'bad-status': () => ws.send(JSON.stringify({ status: 'fine', id: m.id, data: {} })),
      'no-data': () => ws.send(JSON.stringify({ status: 'success', id: m.id })),
      'bare-error': () => ws.send(JSON.stringify({ status: 'error', id: m.id })),
      'odd-event': () => { ws.send('{"status":"success","event":"match"}'); answer(); },
      'bad-frame': () => end(() => ws._socket.write(Buffer.from([0xff, 0x00, 0x12]))),
      'bad-utf8': () => end(() => ws._socket.write(Buffer.from([0x81, 0x02, 0xc3, 0x28]))),
      'half-frame': () => end(() => ws._socket.end(Buffer.from([0x81, 0x7e, 0x10]))),
      'bare-fin': () => end(() => ws._socket.end()),
    };
    verbs[verb]();
  }

  reply(m, ws) {
    const head = m.id === undefined ? {} : { id: m.id, type: m.type };
    try {
      const run = this[`on_${m.type}`];
      if (!run) throw new Refusal(`Unknown command type: ${m.type}`, 'unknown_type');
      return { status: 'success', ...head, data: run.call(this, m.data ?? {}, ws, m) };
    } catch (e) {
      if (!(e instanceof Refusal)) throw e;
      return { status: 'error', ...head, error: e.message, data: { code: e.code } };
    }
  }

  tell(event, data) {
    for (const ws of this.wss.clients) {
      if (ws.events?.has(event)) ws.send(JSON.stringify({ status: 'success', event, data }));
    }
  }

  stats() {
    return { server: this.kind, version: '0.0.0', endpoints: this.peers, model: 'fake-16', dimension: DIMENSION,
      device: 'cpu', uptime_s: process.uptime(), memory_count: this.memories.length, max_size: 100000,
      connections: { active: this.wss.clients.size, max: 1024 }, queue: Math.round(3 * Math.random()),
      messages: { received: this.count, sent: this.count, errors: 0, rate_limited: 0 },
      latency_ms: { avg: 0.2, p50: 0.1 + Math.random() / 10, p95: 0.4, p99: 0.6, max: 2 },
      loop_lag_ms: { p99: 0.3 + Math.random() / 3, max: 1 }, avg_significance: 0.5,
      memory: { rss_mb: process.memoryUsage().rss / 1048576, peak_rss_mb: 90 } };
  }

  on_stats() { return this.stats(); }
  on_ping() { return { pong: true, server_time: new Date() }; }
  on_health_check() { return { state: 'ok', uptime_s: 1 }; }
  on_config() { return { max_message: this.maxMessage ?? 1 << 20, max_connections: 1024 }; }

  on_subscribe({ events, query }, ws) {
    ws.events ??= new Set();
    for (const e of events) ws.events.add(e);
    const query_id = query && `q${++this.asked}`;
    if (query) this.queries.set(query_id, { ws, vector: embed(query.text), min: query.min_similarity ?? 0.2 });
    return { subscribed: [...ws.events], query_id };
  }

  on_unsubscribe({ events }, ws) {
    for (const e of events ?? [...ws.events]) ws.events?.delete(e);
    if (events?.includes('match')) for (const [id, q] of this.queries) if (q.ws === ws) this.queries.delete(id);
    return { subscribed: [...(ws.events ?? [])] };
  }

  on_store(data, ws, m) {
    if (!data.text?.trim()) throw new Refusal('Missing required field: text', 'missing_field');
    const key = `${data.metadata?.session_id} ${m.id}`;
    if (this.answers.has(key)) return this.answers.get(key);
    this.stored.push({ id: m.id, text: data.text });
    const id = crypto.randomUUID();
    const vector = embed(data.text);
    const diversity = 1 - Math.max(0, ...this.memories.map((x) => dot(x.vector, vector)));
    const now = new Date().toISOString();
    const memory = { id, text: data.text.trim(), timestamp: now, significance: 0.3 + 0.5 * diversity,
      strength: 0.2 + 0.5 * diversity, surprise: diversity, diversity, information: 0.4,
      metadata: data.metadata ?? {}, tags: data.tags ?? [], pinned: data.pinned ?? false,
      access_count: 0, last_access: now };
    this.memories.push({ ...memory, vector });
    this.tell('memory_added', { memory });
    for (const [query_id, q] of this.queries) {
      const similarity = dot(q.vector, vector);
      if (similarity >= q.min && q.ws.readyState === 1) {
        q.ws.send(JSON.stringify({ status: 'success', event: 'match', data: { query_id, memory, similarity } }));
      }
    }
    const result = { id, seq: this.stored.length, durable: true, significance: memory.significance,
      components: { surprise: diversity, diversity, information: 0.4, floor: 0 }, timestamp: now,
      duplicate: false, evicted: [], memory_count: this.memories.length };
    this.answers.set(key, result);
    return result;
  }

  find(id) {
    const found = this.memories.find((x) => x.id === id);
    if (!found) throw new Refusal(`Memory not found: ${id}`, 'not_found');
    return found;
  }

  on_retrieve({ count = 5, offset = 0, include_embeddings }) {
    const memories = [...this.memories].reverse().slice(offset, offset + count)
      .map(({ vector, ...m }) => (include_embeddings ? { ...m, embedding: vector } : m));
    return { memories, count: memories.length, total: this.memories.length };
  }

  on_search({ text, limit = 5, min_similarity = 0.1 }) {
    const q = embed(text ?? '');
    const results = this.memories
      .map(({ vector, ...m }) => ({ ...m, similarity: dot(vector, q), score: 0.7 * dot(vector, q) + 0.3 * m.strength }))
      .filter((m) => m.similarity >= min_similarity).sort((a, b) => b.score - a.score).slice(0, limit);
    return { query: text, results, count: results.length, searched: this.memories.length, below_threshold: 0, processing_time_ms: 0.1 };
  }

  on_get({ id }) { const { vector, ...memory } = this.find(id); return { memory }; }

  on_update({ id, ...changes }) {
    const { vector, ...memory } = Object.assign(this.find(id), changes);
    this.tell('memory_updated', { memory });
    return { memory, seq: 1, durable: true };
  }

  on_delete({ id }) {
    this.memories.splice(this.memories.indexOf(this.find(id)), 1);
    this.tell('memory_removed', { id, reason: 'deleted' });
    return { deleted: true, seq: 1, durable: true };
  }

  on_score() { return { significance: 0.5, components: {} }; }

  on_embeddings({ text, adapter }) {
    const texts = [text].flat();
    return { embeddings: texts.map(embed), count: texts.length, dimension: DIMENSION, model: 'fake-16',
      adapter: adapter ?? null, normalized: true, tokens: texts.map(() => 5), truncated: texts.map(() => false), processing_time_ms: 1 };
  }

  on_process({ text, context = [] }) {
    return { significance: 0.6, surprise: 0.5, diversity: 1, information: 0.2, shock: false, predictions: [],
      chunks: [{ index: 0, start: 0, end: text.length, tokens: 4, significance: 0.6, surprise: 0.5 }], context_used: context.length, context_similarity: context.map((c) => dot(embed(c), embed(text))), processing_time_ms: 1 };
  }

  on_similarity({ text1, text2 }) { return { similarity: dot(embed(text1), embed(text2)) }; }
  on_models() { return { models: [{ name: 'fake-16', fingerprint: 'f00d', dimension: 16, max_tokens: 256, dtype: 'f32' }] }; }
  on_adapters() { return { adapters: [{ name: 'legal', fingerprint: 'beef', rank: 8, alpha: 16, targets: ['query', 'value'] }] }; }
}

// node fake-server.mjs [PORT [PORT]]: both endpoints, for working on the page by hand.
if (process.argv[1] === new URL(import.meta.url).pathname) {
  const peers = {};
  const [memory = 0, inference = 0] = process.argv.slice(2).map(Number);
  const a = await new FakeServer({ kind: 'memory', peers }).start(memory);
  const b = await new FakeServer({ kind: 'inference', peers }).start(inference);
  process.stdout.write(`http://localhost:${a.port}/ and inference on ${b.port}\n`);
}
