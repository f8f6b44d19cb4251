// @ts-check
import { ReconnectingSocket, RecallError } from './reconnecting-socket.js';

export { RecallError };
/** A text, or a vector. */
const query = (q) =>
  (typeof q === 'string' ? { text: q } : { embedding: Array.from(q) });

/** The memory endpoint: ws://localhost:5000. Every method is one command of the protocol and
 *  resolves to its `data`; types stand in memory-interface.d.ts. */
export class MemoryInterface extends ReconnectingSocket {
  /** Safe to send again after a break: the server knows id, session and content.
   *  @param {string} text @param {Record<string, any>} [more] */
  store(text, more = {}) {
    const metadata = { session_id: this.session, ...more.metadata };
    return this.request('store', { ...more, text, metadata });
  }

  /** @param {string | ArrayLike<number>} what @param {object} [more] */
  search(what, more) {
    return this.request('search', { ...more, ...query(what) });
  }

  /** @param {object} [filters] */
  retrieve(filters) {
    return this.request('retrieve', filters);
  }

  /** @param {string} id */
  get(id) {
    return this.request('get', { id });
  }

  /** @param {string} id @param {object} changes */
  update(id, changes) {
    return this.request('update', { ...changes, id });
  }

  /** @param {string} id @returns {Promise<any>} */
  delete(id) {
    return this.request('delete', { id }).catch((why) => {
      if (why.resent && why.code === 'not_found') return { deleted: true };
      throw why;
    });
  }

  /** @param {string} text */
  score(text) {
    return this.request('score', { text });
  }

  /** Standing query: `hear` gets each new memory that fits; resolves to what ends it.
   *  @param {string} text @param {(match: any) => void} hear @param {object} [more] */
  watch(text, hear, more) {
    return this.subscribe(['match'], hear, { query: { ...more, text } });
  }
}
