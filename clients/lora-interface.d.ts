import { ReconnectingSocket, RecallError, SocketOptions } from './reconnecting-socket.js';

export { RecallError };

export interface EmbeddingsOptions {
  adapter?: string;
  config?: { normalize?: boolean; truncate?: boolean; encoding_format?: 'float' | 'base64' };
}

export interface Embeddings {
  /** Numbers, or with encoding_format base64 little-endian float32 in base64. */
  embeddings: number[][];
  count: number;
  dimension: number;
  model: string;
  adapter: string | null;
  normalized: boolean;
  tokens: number[];
  truncated: boolean[];
  processing_time_ms: number;
}

export interface ProcessOptions {
  context?: (string | { role?: string; text: string; timestamp?: string })[];
  embedding?: number[];
  config?: { top_k?: number; include_embeddings?: boolean; chunk?: boolean; max_length?: number; stride?: number };
}

export interface Processed {
  significance: number;
  surprise: number;
  diversity: number;
  information: number;
  shock: boolean;
  chunks: { index: number; start: number; end: number; tokens: number; significance: number; surprise: number; embedding?: number[] }[];
  context_used: number;
  context_similarity: number[];
  predictions: { text: string; score: number; source: 'memory' }[];
  processing_time_ms: number;
  embedding?: number[];
}

export interface Adapter { name: string; fingerprint: string; rank: number; alpha: number; targets: string[] }
export interface Model { name: string; fingerprint: string; dimension: number; max_tokens: number; dtype: string }

export interface LoRAOptions extends SocketOptions {
  /** Asked for the port of inference. Default ws://localhost:5000. */
  memoryUrl?: string | URL;
  /** Find the port; the default where no serverUrl is given. */
  discover?: boolean;
}

export class LoRAInterface extends ReconnectingSocket {
  constructor(options?: LoRAOptions);
  embeddings(text: string | string[], more?: EmbeddingsOptions): Promise<Embeddings>;
  process(text: string, more?: ProcessOptions): Promise<Processed>;
  similarity(text1: string, text2: string, adapter?: string): Promise<{ similarity: number }>;
  models(): Promise<{ models: Model[] }>;
  adapters(): Promise<{ adapters: Adapter[] }>;
  /** `path` is relative to the server's --adapter-dir. */
  loadAdapter(name: string, path: string): Promise<Adapter>;
  unloadAdapter(name: string): Promise<Adapter>;
}
