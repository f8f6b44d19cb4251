import { ReconnectingSocket, RecallError } from './reconnecting-socket.js';

export { RecallError };

export interface Memory {
  id: string;
  text: string;
  timestamp: string;
  significance: number;
  strength: number;
  surprise: number;
  diversity: number;
  information: number;
  metadata: Record<string, any>;
  tags: string[];
  pinned: boolean;
  access_count: number;
  last_access: string;
  embedding?: number[];
}

export interface Components { surprise: number; diversity: number; information: number; floor: number }

export interface StoreOptions {
  metadata?: Record<string, any>;
  tags?: string[];
  significance?: number;
  embedding?: number[];
  timestamp?: string;
  pinned?: boolean;
}

export interface StoreResult {
  id: string;
  seq: number;
  durable: boolean;
  significance: number;
  components: Components;
  timestamp: string;
  duplicate: boolean;
  evicted: string[];
  memory_count: number;
}

export interface Filters {
  type?: string;
  tags?: string[];
  since?: string;
  until?: string;
  min_significance?: number;
  min_strength?: number;
  include_embeddings?: boolean;
}

export interface SearchOptions extends Filters {
  limit?: number;
  min_similarity?: number;
  reinforce?: boolean;
  adapter?: string;
}

export interface SearchResult {
  query: string | null;
  results: (Memory & { similarity: number; score: number })[];
  count: number;
  searched: number;
  below_threshold: number;
  processing_time_ms: number;
  truncated?: boolean;
}

export interface RetrieveOptions extends Filters {
  text?: string;
  embedding?: number[];
  count?: number;
  offset?: number;
  sort?: 'strength' | 'recent' | 'significance' | 'similarity';
  order?: 'desc' | 'asc';
}

export interface Changes { text?: string; metadata?: Record<string, any>; tags?: string[]; significance?: number; pinned?: boolean }

export interface Match { query_id: string; memory: Memory; similarity: number }

export class MemoryInterface extends ReconnectingSocket {
  /** Safe to send again after a break: the server knows id, session and content. */
  store(text: string, more?: StoreOptions): Promise<StoreResult>;
  search(what: string | ArrayLike<number>, more?: SearchOptions): Promise<SearchResult>;
  retrieve(filters?: RetrieveOptions): Promise<{ memories: Memory[]; count: number; total: number; truncated?: boolean }>;
  get(id: string): Promise<{ memory: Memory }>;
  update(id: string, changes: Changes): Promise<{ memory: Memory; seq: number; durable: boolean }>;
  delete(id: string): Promise<{ deleted: true; seq?: number; durable?: boolean }>;
  score(text: string): Promise<{ significance: number; components: Components }>;
  /** A standing query: `hear` gets each new memory that fits. Resolved with what ends it. */
  watch(text: string, hear: (match: Match) => void, more?: { min_similarity?: number }): Promise<() => Promise<void>>;
}
