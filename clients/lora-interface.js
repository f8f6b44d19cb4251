// @ts-check
import { ReconnectingSocket, RecallError } from './reconnecting-socket.js';

export { RecallError };

/** The inference endpoint. Without `serverUrl` its port is found: the memory endpoint knows
 *  it, else 5005 to 5014 are tried. Types stand in lora-interface.d.ts. */
export class LoRAInterface extends ReconnectingSocket {
  /** @param {Record<string, any>} [options] */
  constructor({ serverUrl, memoryUrl = 'ws://localhost:5000', discover = !serverUrl,
    ...more } = {}) {
    super({ ...more, memoryUrl, discover, serverUrl: serverUrl ?? 'ws://localhost:5005' });
  }

  /** @param {string | string[]} text @param {{adapter?: string, config?: object}} [more] */
  embeddings(text, more) {
    return this.request('embeddings', { ...more, text });
  }

  /** @param {string} text @param {object} [more] */
  process(text, more) {
    return this.request('process', { ...more, text });
  }

  /** @param {string} text1 @param {string} text2 @param {string} [adapter] */
  similarity(text1, text2, adapter) {
    return this.request('similarity', { text1, text2, adapter });
  }

  models() {
    return this.request('models');
  }

  adapters() {
    return this.request('adapters');
  }

  /** @param {string} name @param {string} path relative to the server's --adapter-dir */
  loadAdapter(name, path) {
    return this.request('load_adapter', { name, path });
  }

  /** @param {string} name */
  unloadAdapter(name) {
    return this.request('unload_adapter', { name });
  }

  async locate() {
    const { serverUrl, memoryUrl, discover } = this.options;
    if (!discover) return serverUrl;
    const at = (port) => `${memoryUrl}`.replace(/^(\w+:..[^/]*?)(:\d+)?(?=[/?]|$)/, `$1:${port}`);
    const port = (await this.#ask(memoryUrl))?.endpoints?.inference;
    if (port) return at(port);
    for (let p = 5005; p <= 5014 && this.state === 'connecting'; p++) {
      if ((await this.#ask(at(p)))?.server === 'inference') return at(p);
    }
    return serverUrl;
  }

  /** The `stats` of whoever is there, if any. @param {string} url @returns {Promise<any>} */
  #ask(url) {
    const { WebSocket = globalThis.WebSocket, token } = this.options;
    const ws = new WebSocket(url, token ? [`bearer.${token}`] : []);
    return new Promise((resolve) => {
      const done = (stats) => { clearTimeout(timer); resolve(stats); };
      const timer = setTimeout(done, 1500);
      ws.onopen = () => ws.send('{"type":"stats"}');
      ws.onerror = ws.onclose = () => done();
      ws.onmessage = ({ data }) => {
        try { done(JSON.parse(data).data); } catch { done(); }
      };
    }).finally(() => ws.close());
  }
}
