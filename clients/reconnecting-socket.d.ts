/** States: `failed` after the last try or a final close code, `closed` by close() or code 1000. */
export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'failed' | 'closed';

export interface SocketOptions {
  serverUrl?: string | URL;
  /** First wait before the next try, ms. Default 5000. */
  reconnectInterval?: number;
  /** Tries after a break before the state is `failed`. Default 5; Infinity never gives up. */
  maxRetries?: number;
  /** Each wait is this many times the one before. Default 1.5. */
  backoffFactor?: number;
  /** Each wait is changed by up to this part of it. Default 0.2. */
  jitter?: number;
  /** Longest wait, ms. Default 30000. */
  maxInterval?: number;
  /** A request is rejected after this, time in the queue included, ms. Default 30000. */
  timeout?: number;
  /** A connection that is not open after this is tried again, ms. Default 10000. */
  connectTimeout?: number;
  /** Ping of the application while nothing is outstanding, ms. Default 20000. */
  pingInterval?: number;
  /** Without an answer to it for this long the link is dead, ms. Default 10000. */
  pingTimeout?: number;
  /** Requests held while not connected. Default 100. */
  maxQueue?: number;
  /** Open for this long, the count of tries starts anew, ms. Default 5000. */
  steadyAfter?: number;
  /** Sent as subprotocol `bearer.TOKEN`. */
  token?: string;
  /** Of what is stored; random for each client by default. */
  session?: string;
  /** The class to connect with, in Node for example that of the package `ws`. */
  WebSocket?: new (url: string, protocols?: string[]) => any;
  /** Where `Memory server connected` goes. Default console.log. */
  log?: (...words: any[]) => void;
}

export type ClientCode = 'timeout' | 'queue_full' | 'too_large' | 'broken' | 'failed' | 'closed' | 'garbage' | 'error';
export type ServerCode = 'invalid_json' | 'invalid_envelope' | 'missing_field' | 'invalid_parameter'
  | 'invalid_timestamp' | 'unknown_type' | 'bad_dimension' | 'too_large' | 'not_found' | 'store_full'
  | 'storage' | 'unknown_adapter' | 'bad_adapter' | 'rate_limited' | 'busy' | 'internal';

export class RecallError extends Error {
  constructor(message: string, code: ClientCode | ServerCode, data?: any);
  code: ClientCode | ServerCode;
  /** `data` of the server's error reply. */
  data?: any;
  /** It was sent more than once: an earlier sending may have been carried out. */
  resent: boolean;
}

export interface Metrics {
  status: State;
  /** Of the last 200 replies, ms. */
  latency: { p50: number; p95: number };
  /** Part of the requests that were rejected, 0 to 1. */
  errorRate: number;
  reconnects: number;
  queueLength: number;
  outstanding: number;
}

export interface Stats {
  server: 'memory' | 'inference';
  version: string;
  endpoints: { memory?: number; inference?: number };
  model: string;
  model_fingerprint: string;
  dimension: number;
  uptime_s: number;
  server_time: string;
  connections: { active: number; total: number; rejected: number; max: number; attempts: number };
  latency_ms: { avg: number; p50: number; p95: number; p99: number; max: number };
  loop_lag_ms: { p99: number; max: number };
  memory: { rss_mb: number; peak_rss_mb: number };
  [more: string]: any;
}

export interface Events {
  open: { url: string };
  close: { code: number; reason: string; final: boolean };
  error: RecallError;
  /** Every reply and event of the server. */
  message: any;
  status: { state: State; reason: string; delay?: number; retries: number };
  stats: Stats;
  metrics: Metrics;
}

export class ReconnectingSocket extends EventTarget {
  constructor(options?: SocketOptions);
  readonly state: State;
  /** Why the state is what it is, in a sentence. */
  readonly reason: string;
  /** The address in use, or tried last. */
  readonly url: string;
  readonly session: string;
  /** May be changed; what concerns connecting is read at the next try. */
  options: Required<SocketOptions>;
  readonly lastStats: Stats | null;
  /** Resolved once open, rejected on final failure. The first request connects by itself. */
  connect(): Promise<this>;
  /** Try at once, with all tries before it. */
  retry(): void;
  close(): void;
  /** One request; resolved with `data` of its reply. `once`: rejected by a break, not sent again. */
  request<T = any>(type: string, data?: object, how?: { timeout?: number; once?: boolean }): Promise<T>;
  stats(how?: { once?: boolean }): Promise<Stats>;
  /** Events of the server, also after each reconnection; resolved with what ends it. */
  subscribe(events: string[], hear: (data: any, message: any) => void,
    more?: { query?: { text: string; min_similarity?: number }; interval_ms?: number }): Promise<() => Promise<void>>;
  metrics(): Metrics;
  /** Returns what ends it. */
  on<K extends keyof Events>(name: K, hear: (detail: Events[K]) => void): () => void;
  /** The address of the next try. */
  locate(): string | Promise<string>;
}
