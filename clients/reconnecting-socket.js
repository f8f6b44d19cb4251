// @ts-check
/**
 * A WebSocket that comes back, and requests on it that are never silently lost: each is a
 * promise matched by `id`, ended by its reply, its timeout, a full queue or final failure.
 *
 * states: idle -> connecting -> open -> waiting -> connecting ... failed | closed
 * events: open close error message status stats metrics, all CustomEvents; see `on`
 *
 * @typedef {{data: {events: string[], query?: object, interval_ms?: number}, id?: string,
 *   live: boolean, hear: (data: any, message: any) => void}} Sub
 * @typedef {{text: string, on: WebSocket | null, tries: number, since: number,
 *   once: boolean, sub?: Sub, timer: any, resolve: Function, reject: Function}} Entry
 */
/** @type {Record<number, string>} */
const SENTENCE = {
  1000: 'The server ended the connection.',
  1001: 'The server is shutting down.',
  1002: 'The protocol was broken: is this the address of a recalld?',
  1003: 'The server takes no such message.',
  1006: 'The connection broke.',
  1007: 'The server got text that is not valid UTF-8.',
  1008: 'A rule of the server was broken.',
  1009: 'A message was larger than the server takes.',
  1011: 'The server heard nothing from here.',
  1013: 'The server is overloaded.',
};
/** After these the next try would end in the same way. */
const FINAL = [1000, 1002, 1003, 1007, 1008];
const DEFAULTS = {
  serverUrl: 'ws://localhost:5000', reconnectInterval: 5000, maxRetries: 5,
  backoffFactor: 1.5, jitter: 0.2, maxInterval: 30000,
  timeout: 30000, connectTimeout: 10000, pingInterval: 20000, pingTimeout: 10000, maxQueue: 100,
  steadyAfter: 5000, token: '', greeting: ['Memory server connected'],
  log: (/** @type {any[]} */ ...words) => console.log(...words),
};
const LOCAL = /^(localhost|127\.0\.0\.1|\[::1\])$/;
const random = () => [...crypto.getRandomValues(new Uint8Array(12))]
  .map((b) => b.toString(16).padStart(2, '0')).join('');
/** The longest timer, ms; a longer ends at once. */
const LONGEST = 2 ** 31 - 1;
const later = (act, ms) => setTimeout(act, Math.min(ms, LONGEST));
const size = (text) => new TextEncoder().encode(text).length;
/** Half a surrogate pair is no text, and the server would refuse it. */
const whole = (_, v) => v?.toWellFormed?.() ?? v;

/** `code`: the server's, or timeout queue_full too_large broken failed closed garbage.
 *  `resent`: an earlier sending may have been carried out already. */
export class RecallError extends Error {
  name = 'RecallError';
  resent = false;
  /** @param {string} message @param {string} code @param {any} [data] */
  constructor(message, code, data) {
    super(message);
    this.code = code;
    this.data = data;
  }
}

export class ReconnectingSocket extends EventTarget {
  /** @type {WebSocket | null} */ #socket = null;
  /** @type {Map<string, Entry>} in the order of asking: the queue too */ #pending = new Map();
  /** @type {Set<Sub>} */ #subs = new Set();
  /** @type {any} next try, or end of this one */ #timer;
  /** @type {any} */ #pinger;
  /** @type {any} */ #steady;
  /** Each attempt has its own; what an older one brings is ignored. */ #turn = {};
  #ready = false; // open, and the limit known where it had to be asked
  #limit = Infinity;
  #oversized = false;
  #retries = 0;
  #count = 0;
  #heard = 0;
  #prefix = random();
  #tally = { done: 0, errors: 0, opens: 0 };
  /** @type {number[]} */ #latency = [];

  /** @param {Record<string, any>} [options] */
  constructor(options = {}) {
    super();
    const given = Object.entries(options).filter(([, v]) => v !== undefined);
    /** @type {Record<string, any>} */
    this.options = { ...DEFAULTS, ...Object.fromEntries(given) };
    this.url = this.options.serverUrl;
    this.session = this.options.session ?? random();
    /** @type {'idle'|'connecting'|'open'|'waiting'|'failed'|'closed'} */ this.state = 'idle';
    this.reason = '';
    /** @type {any} */ this.lastStats = null;
  }

  /** Call `hear` with the detail of each event `name`; returns what ends it.
   *  @param {string} name @param {(detail: any) => void} hear */
  on(name, hear) {
    const listen = (e) => hear(e.detail);
    this.addEventListener(name, listen);
    return () => this.removeEventListener(name, listen);
  }

  /** Resolved once open, rejected on final failure. A first request connects by itself. */
  connect() {
    if (this.state === 'open') return Promise.resolve(this);
    const opened = new Promise((resolve, reject) => {
      const off = this.on('status', ({ state, reason }) => {
        if (state === 'open') resolve(this);
        else if (state === 'failed' || state === 'closed') reject(new RecallError(reason, state));
        else return;
        off();
      });
    });
    opened.catch(() => {}); // who does not look at it wants no unhandled rejection
    if (this.state !== 'waiting') this.retry();
    return opened;
  }

  /** Try at once, with all tries before it. */
  retry() {
    if (this.state === 'open' || this.state === 'connecting') return;
    this.#retries = 0;
    this.#listen('addEventListener');
    this.#attempt();
  }

  close() {
    const ws = this.#socket;
    this.#end('closed', 'Closed by this program.');
    ws?.close(1000);
    if (ws) this.#emit('close', { code: 1000, reason: this.reason, final: true });
  }

  /** One request; the promise is its reply's `data`. `once`: rejected when the connection
   *  breaks, instead of being sent again.
   *  @param {string} type @param {object} [data]
   *  @param {{timeout?: number, once?: boolean, sub?: Sub, early?: boolean}} [how]
   *  @returns {Promise<any>} */
  request(type, data = {}, { timeout = this.options.timeout, once = false, sub, early } = {}) {
    return new Promise((resolve, reject) => {
      if (this.state === 'failed' || this.state === 'closed') {
        throw new RecallError(this.reason, this.state);
      }
      if (!this.#ready && !early && this.#queued() >= this.options.maxQueue) {
        throw new RecallError(`${this.options.maxQueue} requests wait already`, 'queue_full');
      }
      const id = `${this.#prefix}-${(this.#count++).toString(36)}`;
      const text = JSON.stringify({ type, id, timestamp: new Date(), data }, whole);
      /** @type {Entry} */
      const e = { text, on: null, tries: 0, since: 0, once, sub, resolve, reject,
        timer: later(() => {
          const [oldest] = this.#pending.keys(); // later ones may wait for it
          this.#settle(id, new RecallError(`No reply to ${type} in ${timeout} ms`, 'timeout'));
          if (this.state === 'open' && id === oldest && type !== 'ping') this.#probe();
        }, timeout) };
      this.#pending.set(id, e);
      if (this.#ready || (early && this.state === 'open')) this.#deliver(id, e);
      else if (this.state === 'idle') this.connect();
    });
  }

  /** @param {{once?: boolean}} [how] */
  async stats(how) {
    const stats = this.lastStats = await this.request('stats', {}, how);
    this.#emit('stats', stats);
    return stats;
  }

  /** Events of the server, also after every reconnection; resolved with what ends it.
   *  @param {string[]} events @param {(data: any, message: any) => void} hear
   *  @param {{query?: object, interval_ms?: number}} [more] */
  async subscribe(events, hear, more = {}) {
    /** @type {Sub} */
    const sub = { data: { events, ...more }, live: false, hear };
    this.#subs.add(sub);
    const end = async () => {
      if (!this.#subs.delete(sub)) return;
      const kept = [...this.#subs].flatMap((s) => s.data.events);
      const gone = events.filter((name) => name === 'match' || !kept.includes(name));
      if (!gone.length || !this.#ready) return;
      const ended = this.request('unsubscribe', { events: gone });
      this.#renew(gone); // it ended every standing query: the others begin anew
      await ended;
    };
    try {
      await this.request('subscribe', sub.data, { sub });
    } catch (why) {
      this.#subs.delete(sub);
      throw why;
    }
    return end;
  }

  metrics() {
    const sorted = [...this.#latency].sort((a, b) => a - b);
    const at = (q) => sorted[Math.ceil(q * sorted.length) - 1] ?? 0;
    const { done, errors, opens } = this.#tally;
    const queueLength = this.#queued();
    return { status: this.state, latency: { p50: at(0.5), p95: at(0.95) },
      errorRate: done ? errors / done : 0, reconnects: Math.max(0, opens - 1),
      queueLength, outstanding: this.#pending.size - queueLength };
  }

  /** The address of the next attempt. @returns {string | Promise<string>} */
  locate() {
    return this.options.serverUrl;
  }

  #queued() {
    return [...this.#pending.values()].filter((e) => !e.on).length;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** @param {typeof this.state} state @param {string} [reason] @param {number} [delay] ms */
  #become(state, reason = '', delay) {
    this.state = state;
    this.reason = reason;
    this.#emit('status', { state, reason, delay, retries: this.#retries });
  }

  #wake = () => {
    if (globalThis.document?.hidden) return;
    if (this.state !== 'open') this.retry();
    else if (!this.#pending.size) this.#probe();
  };

  /** @param {'addEventListener' | 'removeEventListener'} how */
  #listen(how) {
    globalThis[how]?.('online', this.#wake);
    globalThis.document?.[how]('visibilitychange', this.#wake);
  }

  async #attempt() {
    clearTimeout(this.#timer);
    const turn = this.#turn = {};
    this.#become('connecting');
    const { WebSocket = globalThis.WebSocket, token, connectTimeout } = this.options;
    try {
      const url = String(await this.locate());
      if (turn !== this.#turn) return;
      this.url = url;
      const ws = this.#socket = new WebSocket(url, token ? [`bearer.${token}`] : []);
      const current = (act) => (e) => {
        if (ws === this.#socket) act(e);
      };
      ws.onopen = current(() => this.#opened());
      ws.onmessage = current((e) => this.#received(e.data));
      ws.onclose = current((e) => this.#broken(e.code, e.reason));
      ws.onerror = current((e) => {
        this.#emit('error',
          new RecallError(e.message || `The connection to ${url} failed.`, 'broken'));
        if (this.state === 'connecting') ws.onclose({ code: 1006 }); // Node: no close
      });
    } catch (why) {
      if (turn === this.#turn) this.#end('failed', `No WebSocket to ${this.url}: ${why.message}`);
      return;
    }
    this.#timer = later(() => this.#broken(1006, 'it took too long'), connectTimeout);
  }

  #opened() {
    clearTimeout(this.#timer);
    const { steadyAfter, pingInterval, log, greeting } = this.options;
    const turn = this.#turn;
    this.#tally.opens++;
    this.#steady = later(() => { this.#retries = 0; }, steadyAfter);
    const alive = () => this.#pending.size || this.#probe();
    this.#pinger = setInterval(alive, Math.min(pingInterval, LONGEST));
    log(...greeting);
    this.#become('open');
    if (turn !== this.#turn) return;
    this.#emit('open', { url: this.url });
    const flush = () => turn === this.#turn && this.#flush();
    if (!this.#oversized) return flush();
    this.request('config', {}, { once: true, early: true })
      .then((config) => { this.#limit = config.max_message ?? Infinity; }, () => {}).then(flush);
  }

  #flush() {
    this.#ready = true;
    this.stats({ once: true }).catch(() => {});
    this.#renew();
    for (const [id, e] of this.#pending) if (!e.on) this.#deliver(id, e);
  }

  /** @param {string[]} [some] only what hears one of these */
  #renew(some) {
    for (const sub of this.#subs) {
      if (some ? !sub.data.events.some((name) => some.includes(name)) : !sub.live) continue;
      this.request('subscribe', sub.data, { once: true, sub }).catch(() => {});
    }
  }

  #deliver(id, e) {
    if (size(e.text) > this.#limit) {
      const why = `The message is larger than the ${this.#limit} bytes that the server takes`;
      return this.#settle(id, new RecallError(why, 'too_large'));
    }
    const ws = this.#socket;
    if (ws?.readyState !== 1) return; // it is closing: this waits for the next one
    Object.assign(e, { on: ws, tries: e.tries + 1, since: performance.now() });
    ws.send(e.text);
  }

  #received(text) {
    let m;
    try { m = JSON.parse(text); } catch { /* told below */ }
    if (m?.status !== 'success' && m?.status !== 'error') {
      return this.#emit('error', new RecallError('The server sent what is no reply.', 'garbage'));
    }
    this.#heard++;
    this.#emit('message', m);
    if (m.event) {
      for (const { data, id, hear } of this.#subs) {
        if (!data.events.includes(m.event)) continue;
        if (m.event === 'match' && m.data?.query_id !== id) continue;
        try { hear(m.data, m); } catch (e) { Promise.reject(e); }
      }
      return;
    }
    const e = this.#pending.get(m.id);
    if (!e) return; // a second reply, or one that came too late
    this.#latency = [...this.#latency.slice(-199), performance.now() - e.since];
    if (m.status === 'error') {
      return this.#settle(m.id, new RecallError(m.error ?? 'Error', m.data?.code ?? 'error', m.data));
    }
    if (e.sub) Object.assign(e.sub, { live: true, id: m.data?.query_id });
    this.#settle(m.id, null, m.data);
  }

  /** @param {string} id @param {RecallError | null} why @param {any} [data] */
  #settle(id, why, data) {
    const e = this.#pending.get(id);
    if (!e) return;
    this.#pending.delete(id);
    clearTimeout(e.timer);
    this.#tally.done++;
    if (why) {
      this.#tally.errors++;
      why.resent = e.tries > 1;
      e.reject(why);
    } else e.resolve(data);
    this.#emit('metrics', this.metrics());
  }

  /** Is anybody there? */
  #probe() {
    const turn = this.#turn;
    const heard = this.#heard;
    this.request('ping', {}, { once: true, timeout: this.options.pingTimeout }).catch(() => {
      if (turn === this.#turn && heard === this.#heard) this.#broken(1006, 'no answer to a ping');
    });
  }

  #broken(code, said) {
    const opened = this.state === 'open';
    const why = (SENTENCE[code] ?? `The connection ended with code ${code}.`) + (said ? ` (${said})` : '');
    const ws = this.#drop();
    const turn = this.#turn;
    const sent = [...this.#pending].filter(([, e]) => e.on);
    if (code === 1009) {
      sent.sort(([, a], [, b]) => size(b.text) - size(a.text));
      if (sent[0]) this.#settle(sent[0][0], new RecallError(why, 'too_large'));
    }
    // A reset may have destroyed the 1009 to what is large.
    this.#oversized ||= code === 1009 || sent.some(([, e]) => e.text.length > 65536);
    for (const [id, e] of sent) {
      e.on = null;
      if (e.once) this.#settle(id, new RecallError(why, 'broken'));
    }
    ws?.close();
    const final = FINAL.includes(code);
    this.#emit('close', { code, reason: why, final });
    if (turn !== this.#turn) return; // closed since
    if (final) this.#end(code === 1000 ? 'closed' : 'failed', why);
    else if (opened) this.#again(why);
    else this.#refused();
  }

  /** Browsers tell a page nothing of a refused handshake; plain HTTP does. */
  async #refused() {
    const turn = this.#turn;
    const { url, options: { token } } = this;
    const stats = new URL(url.replace(/^ws/, 'http'), globalThis.location?.href);
    stats.pathname = stats.pathname.replace(/(\/ws)?\/?$/, '/stats');
    const away = globalThis.location && !LOCAL.test(location.hostname)
      ? ' Or the browser keeps pages of other sites from local addresses: open the page that the '
        + `server serves, ${new URL('.', stats)}` : '';
    let why = `Nothing answers at ${url}. Is recalld running?${away}`;
    let status = 0;
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : undefined;
      const reply = await fetch(stats, { headers, signal: AbortSignal.timeout(3000) });
      status = reply.status;
      why = `${url} opens no WebSocket (HTTP ${status}).`;
      if (status === 401) why = `${url} wants a token, or another one.`;
      const { error, data: { value, flag } } = await reply.json();
      if (status === 403) why = `${url}: ${error} (${value}). recalld ${flag} ${value} would let it in.`;
    } catch { /* nothing more is known */ }
    if (turn !== this.#turn) return;
    if (status === 401 || status === 403) this.#end('failed', why);
    else this.#again(why);
  }

  /** The next try, or the end of it. */
  #again(why) {
    const { reconnectInterval, maxRetries, backoffFactor, jitter, maxInterval } = this.options;
    if (this.#retries >= maxRetries) {
      return this.#end('failed', `${why} Gave up after ${maxRetries} retries.`, false);
    }
    const delay = Math.min(reconnectInterval * backoffFactor ** this.#retries++,
      Math.max(maxInterval, reconnectInterval) / (1 + jitter))
      * (1 + jitter * (2 * Math.random() - 1));
    this.#timer = later(() => this.#attempt(), delay);
    this.#become('waiting', why, delay);
  }

  #drop() {
    const ws = this.#socket;
    this.#turn = {};
    this.#socket = null;
    this.#ready = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#steady);
    clearInterval(this.#pinger);
    return ws;
  }

  /** @param {'failed'|'closed'} state @param {string} why */
  #end(state, why, final = true) {
    this.#drop();
    if (final) this.#listen('removeEventListener');
    const ids = [...this.#pending.keys()];
    this.#become(state, why);
    for (const id of ids) this.#settle(id, new RecallError(why, state));
  }
}
