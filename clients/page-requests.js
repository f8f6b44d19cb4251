// @ts-check
import { $, h } from './page-dom.js';
import { log } from './page-log.js';

/** @typedef {'memory' | 'inference'} Kind */

/** The buttons and the editor.
 *  @param {{of: (kind: Kind) => any, run: (kind: Kind, type: string, data?: any) => Promise<any>,
 *    memories: any, changed: (type: string) => void}} page */
export function requests({ of, run, memories, changed }) {
  const text = () => $('store-text').value.trim() || $('search-text').value.trim() || 'The bicycle is blue';
  const said = () => ({ text: text() });
  const named = () => ({ id: id() });
  const id = () => memories.chosen ?? memories.shown[0]?.id ?? '';
  const adapter = () => ({ name: $('adapter-name').value || 'name', path: $('adapter-path').value || 'path' });
  /** What each button fills in; those that wait are carried out by Send only.
   *  @type {Record<Kind, Record<string, {data?: () => object, waits?: boolean}>>} */
  const COMMANDS = {
    memory: {
      store: { data: () => ({ text: text(), metadata: { type: 'note' }, tags: [] }) },
      search: { data: () => ({ text: text(), limit: 5 }) },
      retrieve: { data: () => ({ count: 5, sort: 'strength' }) },
      get: { data: named },
      update: { data: () => ({ id: id(), tags: ['changed'] }), waits: true },
      delete: { data: named, waits: true },
      score: { data: said },
      embed: { data: said, waits: true },
      export: { data: () => ({ count: 10 }) },
      subscribe: { data: () => ({ events: ['stats'], interval_ms: 5000 }) },
      unsubscribe: { data: () => ({ events: ['stats'] }) },
      stats: {}, config: {}, health_check: {}, ping: {}, sync: {}, compact: {},
      cleanup: { waits: true },
      clear: { data: () => ({ confirm: true }), waits: true },
    },
    inference: {
      embeddings: { data: () => ({ text: [text()] }) },
      process: { data: () => ({ text: text(), context: ['The bicycle is red'], config: { top_k: 5 } }) },
      similarity: { data: () => ({ text1: text(), text2: 'A red bike' }) },
      models: {}, adapters: {},
      load_adapter: { data: adapter, waits: true },
      unload_adapter: { data: () => ({ name: adapter().name }), waits: true },
      stats: {}, config: {}, health_check: {}, ping: {},
    },
  };
  const editor = $('editor');
  const note = $('editor-note');
  const targeted = () => /** @type {Kind} */ ($('target').querySelector(':checked').value);

  const say = (textContent, className = 'dim') => Object.assign(note, { textContent, className });

  async function send() {
    say('');
    try {
      const { type, data } = JSON.parse(editor.value);
      if (typeof type !== 'string') throw new Error('"type" is missing: Send raw sends it all the same');
      await run(targeted(), type, data);
      say(`${type}: success`);
      changed(type);
    } catch (why) {
      say(why.message, 'bad');
    }
  }

  /** The text as it stands, on a connection of its own: to see what the server says to it. */
  function sendRaw() {
    const kind = targeted();
    const { url, options: { token } } = of(kind);
    const ws = new WebSocket(url, token ? [`bearer.${token}`] : []);
    const late = setTimeout(() => { log('info', kind, 'note', 'raw: no reply in 5 s'); ws.close(); }, 5000);
    ws.onopen = () => {
      log('info', kind, 'out', `raw ${editor.value.slice(0, 200)}`);
      ws.send(editor.value);
    };
    ws.onmessage = ({ data }) => {
      const failed = /"status":\s*"error"/.test(data);
      log(failed ? 'error' : 'success', kind, 'in', `raw ${data.slice(0, 400)}`);
      ws.close();
    };
    ws.onclose = ({ code, reason }) => {
      clearTimeout(late);
      if (code !== 1005) log('error', kind, 'note', `raw: closed with ${code} ${reason}`);
    };
  }

  /** @param {Kind} kind @param {string} type */
  function pressed(kind, type) {
    const { data, waits } = COMMANDS[kind][type];
    $('target').querySelector(`[value=${kind}]`).checked = true;
    const json = JSON.stringify({ type, data: data?.() }, null, 1);
    editor.value = json.replace(/\n {2,}|\n {1,}(?=[}\]])/g, ' '); // one line for each of the envelope
    if (!waits) return send();
    say('Look it over, then Send.');
    editor.focus();
  }

  for (const kind of /** @type {Kind[]} */ (['memory', 'inference'])) {
    const buttons = Object.entries(COMMANDS[kind]).map(([type, { waits }]) =>
      h('button', { type: 'button', text: type, class: waits && 'waits', click: () => pressed(kind, type) }));
    $('commands').append(h('div', { class: 'commands', role: 'group', 'aria-label': `Commands of ${kind}` },
      h('b', { text: kind }), ...buttons));
  }
  editor.value = '{\n "type": "search",\n "data": { "text": "bicycle", "limit": 5 }\n}';
  $('request-form').addEventListener('submit', (e) => { e.preventDefault(); send(); });
  $('send-raw').addEventListener('click', sendRaw);
  editor.addEventListener('keydown', (e) => {
    if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); send(); }
  });
}
