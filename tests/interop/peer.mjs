// Other people's stack: npm ws, as an echo server and as a client.
//   peer.mjs server              prints its port, echoes in random fragments with pings between
//   peer.mjs client PORT SEED N  N random sessions with an echo server
import { randomBytes } from 'node:crypto';
import WebSocket, { WebSocketServer } from 'ws';

const SIZES = [0, 1, 5, 125, 126, 127, 300, 4096, 65535, 65536, 65537, 300000];
const CHARS = ['a', 'é', '€', '😀', '0'];

/** Numbers from a seed (mulberry32). @param {number} seed */
function generator(seed) {
  let a = seed >>> 0;
  return (/** @type {number} */ n) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

/** Send as it is, or in some fragments; text may be cut within a character. */
function sendPieces(ws, data, binary, pick) {
  let at = 0;
  while (pick(2) && at < data.length) {
    const n = pick(data.length - at) + 1;
    ws.send(data.subarray(at, at + n), { binary, fin: false });
    at += n;
    if (!pick(3)) ws.ping(randomBytes(pick(126)));
  }
  ws.send(data.subarray(at), { binary, fin: true });
}

function serve() {
  const pick = generator(1);
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false, maxPayload: 1 << 22 });
  server.on('listening', () => console.log(server.address().port));
  server.on('connection', (ws) => {
    ws.on('error', (e) => { console.error(`server: ${e.message}`); process.exitCode = 1; });
    ws.on('message', (data, binary) => sendPieces(ws, data, binary, pick));
  });
}

function message(pick) {
  const binary = pick(2) === 0;
  const n = pick(10) ? pick(200) : SIZES[pick(SIZES.length)];
  if (binary) return { binary, data: randomBytes(n) };
  let text = '';
  for (let i = 0; i < n; i++) text += CHARS[pick(CHARS.length)];
  return { binary, data: Buffer.from(text) };
}

function session(port, seed) {
  return new Promise((resolve, reject) => {
    const pick = generator(seed);
    const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { perMessageDeflate: pick(2) === 0, maxPayload: 1 << 22 });
    const code = [1000, 1001, 3000, 4999][pick(4)];
    const waiting = [], pings = [];
    let left = pick(12);
    const more = () => {
      while (left && waiting.length < 4) {
        const m = message(pick);
        if (!pick(4)) { pings.push(randomBytes(pick(126))); ws.ping(pings.at(-1)); }
        waiting.push(m);
        left -= 1;
        sendPieces(ws, m.data, m.binary, pick);
      }
      if (!left && !waiting.length && !pings.length) ws.close(code, 'bye');
    };
    ws.on('open', () => { if (ws.extensions) reject(new Error('an extension was accepted')); more(); });
    ws.on('message', (data, binary) => {
      const m = waiting.shift();
      if (!m || m.binary !== binary || !m.data.equals(data)) reject(new Error('another message came back'));
      more();
    });
    ws.on('pong', (data) => {
      if (pings.length && pings[0].equals(data)) pings.shift();
      more();
    });
    ws.on('error', reject);
    ws.on('close', (got) => (got === code ? resolve() : reject(new Error(`closed with ${got}, not ${code}`))));
    setTimeout(() => reject(new Error('too slow')), 60000).unref();
  });
}

async function client(port, first, n) {
  for (let i = first; i < first + n; i++) {
    try { await session(port, i); } catch (e) { console.error(`session ${i}: ${e.message}`); process.exit(1); }
  }
}

if (process.argv[2] === 'server') serve();
else await client(...process.argv.slice(3, 6).map(Number));
