// Never run: compiled by tsc against the .d.ts files, as a user's program would be.
import { LoRAInterface, MemoryInterface, RecallError } from '../../clients/index.js';
import type { Memory, Metrics } from '../../clients/index.js';

const memory = new MemoryInterface({ serverUrl: 'ws://localhost:5000', maxRetries: Infinity });
const off: () => void = memory.on('metrics', (m: Metrics) => m.latency.p95.toFixed(1));
memory.on('status', ({ state, delay }) => (state === 'waiting' ? delay : 0));
// @ts-expect-error there is no such event
memory.on('stat', () => {});
// @ts-expect-error there is no such option
new MemoryInterface({ reconnect: 5 });

export async function use(): Promise<Memory | undefined> {
  const { id, components } = await memory.store('x', { tags: ['a'], pinned: true });
  await memory.update(id, { significance: components.floor });
  const end = await memory.watch('x', ({ memory: m, similarity }) => `${m.text} ${similarity}`, { min_similarity: 0.5 });
  await end();
  const { results } = await memory.search(new Float32Array(384), { limit: 1 });
  const { memories } = await memory.retrieve({ sort: 'recent', include_embeddings: true });
  // @ts-expect-error there is no such order
  await memory.retrieve({ sort: 'oldest' });
  const lora = new LoRAInterface();
  const { embeddings } = await lora.embeddings(['x', 'y'], { adapter: 'legal' });
  const { adapters } = await lora.adapters();
  try {
    await lora.process('x', { context: ['y', { text: 'z' }], config: { top_k: embeddings.length + adapters.length } });
  } catch (e) {
    if (e instanceof RecallError && e.code === 'busy') return memories[0];
  }
  off();
  return results[0];
}
