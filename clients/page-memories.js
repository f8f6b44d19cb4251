// @ts-check
import { $, h, duration, ago, calm } from './page-dom.js';
import { VectorMap } from './page-map.js';

const PAGE = 20;
const MAPPED = 250;

/** A bar with its figure, 0 to 1. @param {string} name @param {number} value */
function measure(name, value) {
  const fill = h('i');
  fill.style.width = `${100 * Math.min(1, Math.max(0, value || 0))}%`;
  return h('span', { class: 'measure' }, name,
    h('span', { class: `bar ${name}`, 'aria-hidden': 'true' }, fill), (value ?? 0).toFixed(2));
}

/** The list of memories, its search, and the map beside it. */
export class Memories {
  /** @param {{memory: any, lora: any}} clients
   *  @param {(kind: 'memory' | 'inference', type: string, data?: object) => Promise<any>} run */
  constructor(clients, run) {
    this.clients = clients;
    this.run = run;
    this.count = PAGE;
    this.question = '';
    /** @type {string | null} */ this.chosen = null;
    /** @type {any[]} */ this.shown = [];
    this.map = new VectorMap((id) => this.choose(id));
    this.refresh = calm(() => this.load(), 120);
    this.redraw = calm(() => this.loadMap(), 900);
    $('store-form').addEventListener('submit', (e) => this.store(e));
    $('search-form').addEventListener('submit', (e) => this.search(e));
    $('search-text').addEventListener('input', () => { if (!$('search-text').value.trim()) this.search(); });
    $('sort').addEventListener('change', () => { $('search-text').value = ''; this.search(); });
    $('more').addEventListener('click', () => { this.count += PAGE; this.load(); });
    this.say('Not connected.');
  }

  /** @param {Event} e */
  async store(e) {
    e.preventDefault();
    const text = $('store-text').value;
    if (!text.trim()) return $('store-text').focus();
    const metadata = { type: $('store-type').value, session_id: this.clients.memory.session };
    const data = { text, metadata, pinned: $('store-pinned').checked };
    const stored = await this.run('memory', 'store', data).catch(() => null);
    if (!stored) return;
    $('store-text').value = '';
    $('store-pinned').checked = false;
    this.chosen = stored.id;
    this.changed();
  }

  /** @param {Event} [e] */
  search(e) {
    e?.preventDefault();
    this.question = $('search-text').value.trim();
    this.count = PAGE;
    this.load();
    if (!this.question) return this.map.ask(null);
    if (this.clients.lora.state !== 'open') return;
    this.clients.lora.embeddings(this.question).then((r) => this.map.ask(r.embeddings[0]), () => {});
  }

  /** Something was stored, changed or removed. */
  changed() {
    this.refresh();
    this.redraw();
  }

  async load() {
    const { memory } = this.clients;
    if (memory.state !== 'open') return;
    try {
      if (this.question) {
        const found = await this.run('memory', 'search', { text: this.question, limit: PAGE });
        this.show(found.results);
        const took = duration(found.processing_time_ms);
        $('memories-count').textContent = `${found.count} of ${found.searched}, in ${took}`;
        $('more').hidden = true;
        if (!found.count) this.say(`Nothing is similar enough to “${this.question}”.`);
      } else {
        const { memories, total } = await memory.retrieve({ count: Math.min(1000, this.count), sort: $('sort').value });
        this.show(memories);
        $('memories-count').textContent = total.toLocaleString('en');
        $('more').hidden = memories.length < this.count || this.count >= Math.min(1000, total);
        if (!total) this.say('Nothing is stored yet. Store a sentence above, or run the tests.');
      }
    } catch (why) {
      this.say(why.message);
    }
  }

  async loadMap() {
    if (this.clients.memory.state !== 'open') return;
    try {
      const { memories } = await this.clients.memory
        .retrieve({ count: MAPPED, sort: 'recent', include_embeddings: true });
      this.map.draw(memories);
      this.mark();
    } catch (why) {
      $('map-caption').textContent = why.message;
    }
  }

  say(text) {
    $('memories-empty').textContent = text;
    $('memories-empty').hidden = false;
  }

  show(memories) {
    const buttons = () => [...$('memory-list').querySelectorAll('button')]; // three a row
    const at = buttons().indexOf(document.activeElement);
    const held = this.shown[Math.floor(at / 3)]?.id;
    const row = memories.findIndex((m) => m.id === held);
    this.shown = memories;
    $('memories-empty').hidden = true;
    $('memory-list').replaceChildren(...memories.map((m) => this.row(m)));
    if (at >= 0) (buttons()[row < 0 ? at - (at % 3) : 3 * row + (at % 3)] ?? $('memories')).focus();
    this.mark();
  }

  row(m) {
    const deed = (text, type, data, pressed) => h('button', { text, 'aria-pressed': pressed,
      click: () => this.run('memory', type, { id: m.id, ...data }).then(() => this.changed(), () => {}) });
    const tags = [m.metadata?.type, ...m.tags].filter((t) => typeof t === 'string');
    return h('li', { 'data-id': m.id },
      h('button', { class: 'text', text: m.text, click: () => this.choose(m.id) }),
      h('span', { class: 'deeds' },
        deed(m.pinned ? 'pinned' : 'pin', 'update', { pinned: !m.pinned }, String(m.pinned)),
        deed('delete', 'delete')),
      h('span', { class: 'meta' },
        m.similarity !== undefined && measure('similarity', m.similarity),
        measure('significance', m.significance), measure('strength', m.strength),
        h('span', { class: 'spring' }, ...tags.flatMap((t) => [h('span', { class: 'tag', text: t }), ' ']),
          h('time', { datetime: m.timestamp, title: m.timestamp, text: ago(m.timestamp) }))));
  }

  /** @param {string | null} id */
  choose(id) {
    this.chosen = this.chosen === id ? null : id;
    this.mark();
    const row = $('memory-list').querySelector('.chosen');
    row?.scrollIntoView({ block: 'nearest' });
    const m = this.shown.find((x) => x.id === this.chosen);
    if (m) this.map.tell(m);
  }

  mark() {
    for (const li of $('memory-list').children) {
      li.classList.toggle('chosen', li.dataset.id === this.chosen);
      li.querySelector('.text').setAttribute('aria-pressed', String(li.dataset.id === this.chosen));
    }
    this.map.mark(this.chosen, this.question ? this.shown.map((m) => m.id) : []);
  }
}
