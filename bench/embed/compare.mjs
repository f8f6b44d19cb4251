// The encoder beside onnxruntime, one thread each, taken in turn in one run; for run.py.
//
//   node compare.mjs BENCH_EMBED MODEL_DIR ONNX_DIR float32|int8 ROUNDS
//
// BENCH_EMBED is built from embed.c, ONNX_DIR holds what make_onnx.py wrote. In each round both
// sides do the same texts one after the other. Prints JSON: what each round took, in ms on the
// processor and in ms that passed, which neighbours disturb more.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const [bench, model, graphs, type, rounds] = process.argv.slice(2);
const lengths = [8, 16, 32, 128, 256];
const graph = `${graphs}/${type}.onnx`;

let ort = null;
try {
    if (existsSync(graph)) ort = createRequire(import.meta.url)('onnxruntime-node');
} catch {
    // Not installed: ours alone.
}

/** One child that answers a line for each command. */
function child() {
    const p = spawn(bench, { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: p.stdout })[Symbol.asyncIterator]();
    return {
        ask: async (command) => {
            p.stdin.write(command + '\n');
            return (await lines.next()).value.trim().split(' ');
        },
        end: () => p.stdin.end(),
    };
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const vocabulary = JSON.parse(readFileSync(model + '/config.json', 'utf8')).vocab_size;

/** The ids of embed.c. */
function ids(n) {
    const out = BigInt64Array.from({ length: n }, (_, i) => BigInt(1000 + i * 7919 % (vocabulary - 1000)));
    out[0] = 2n;
    out[n - 1] = 3n;
    return out;
}

async function session() {
    if (!ort) return null;
    const begin = performance.now(), before = process.memoryUsage().rss;
    const s = await ort.InferenceSession.create(graph, {
        intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all', logSeverityLevel: 3,
    });
    s.ready = performance.now() - begin;
    s.megabytes = (process.memoryUsage().rss - before) / 2 ** 20;
    return s;
}

/** CPU ms and median ms passed of n runs. */
async function timed(s, feed, n) {
    const ms = [], cpu = process.cpuUsage();
    for (let i = 0; i < n; i++) {
        const begin = performance.now();
        await s.run(feed);
        ms.push(performance.now() - begin);
    }
    const spent = process.cpuUsage(cpu);
    return { cpu: (spent.user + spent.system) / 1000 / n, ms: median(ms) };
}

const cosine = (a, b) => {
    let ab = 0, aa = 0, bb = 0;
    a.forEach((x, i) => { ab += x * b[i]; aa += x * x; bb += b[i] * b[i]; });
    return ab / Math.sqrt(aa * bb);
};

const us = child();
const said = { peak: Number((await us.ask('peak'))[0]), ours: {}, theirs: null, tokens: [], one: [], batch: [] };
const loads = [];
for (let i = 0; i < 5; i++) loads.push(await us.ask(`load ${model} ${type}`));
said.ours = { ready: loads.map((l) => Number(l[0])), megabytes: Number(loads[0][1]) + Number(loads[0][2]), kernels: loads[0][3] };
const s = await session();
if (s) said.theirs = { ready: [s.ready], megabytes: s.megabytes };
for (const tokens of lengths) {
    const times = Math.max(3, Math.round(400 / tokens)), row = { tokens, ours: [], theirs: [] };
    const feed = s && { input_ids: new ort.Tensor('int64', ids(tokens), [1, tokens]) };
    if (s) await timed(s, feed, 1);
    for (let r = 0; r < Number(rounds); r++) {
        const [ms, , , cpu] = (await us.ask(`run ${tokens} ${times}`)).map(Number);
        row.ours.push({ cpu, ms });
        if (s) row.theirs.push(await timed(s, feed, times));
    }
    const vector = (await us.ask(`vector ${tokens}`)).map(Number);
    if (s) row.cosine = cosine(vector, Array.from((await s.run(feed)).vector.data));
    said.tokens.push(row);
}
for (let r = 0; r < Number(rounds); r++) {
    said.one.push(Number((await us.ask('run 128 3'))[3]) / 128);
    said.batch.push(Number((await us.ask('batch 32 8'))[0]) / 256);
}
const r = await us.ask('resident');
said.ours.after = Number(r[0]) + Number(r[1]);
if (s) said.theirs.after = process.memoryUsage().rss / 2 ** 20;
us.end();
console.log(JSON.stringify(said));
