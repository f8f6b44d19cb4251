// The encoder beside onnxruntime, one thread each, taken in turn in one run.
//
//   node compare.mjs BENCH_EMBED MODEL_DIR ONNX_DIR [ROUNDS] [CSV]
//
// BENCH_EMBED is built from embed.c, ONNX_DIR holds what make_onnx.py wrote. A figure is
// the median over rounds; in each round both sides do the same texts one after the other.
// Beside the time that passed stands the time on the processor, which neighbours disturb less.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

const [bench, model, graphs, rounds = '9', csv] = process.argv.slice(2);
const lengths = [8, 16, 32, 128, 256];
const goals = { float32: [1.6, 1.25, 1.2, 1.1, 1.1], int8: [1.5, 1.3, 1.3, 1.3, 1.3] };

let ort = null;
try {
    ort = createRequire(import.meta.url)('onnxruntime-node');
} catch {
    console.log('onnxruntime-node is not installed: npm install --ignore-scripts in bench/embed; ours alone');
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

async function session(type) {
    if (!ort) return null;
    const begin = performance.now();
    const s = await ort.InferenceSession.create(`${graphs}/${type}.onnx`, {
        intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all',
    });
    s.ready = performance.now() - begin;
    return s;
}

/** [median ms, CPU ms] of n runs. */
async function timed(s, feed, n) {
    const ms = [], cpu = process.cpuUsage();
    for (let i = 0; i < n; i++) {
        const begin = performance.now();
        await s.run(feed);
        ms.push(performance.now() - begin);
    }
    const spent = process.cpuUsage(cpu);
    return [median(ms), (spent.user + spent.system) / 1000 / n];
}

const cosine = (a, b) => {
    let ab = 0, aa = 0, bb = 0;
    a.forEach((x, i) => { ab += x * b[i]; aa += x * x; bb += b[i] * b[i]; });
    return ab / Math.sqrt(aa * bb);
};

const rows = [['type', 'tokens', 'ours_ms', 'onnxruntime_ms', 'ratio', 'ours_cpu_ms', 'onnxruntime_cpu_ms', 'cpu_ratio',
    'goal', 'cosine']];
const us = child();
const peak = Number((await us.ask('peak'))[0]);
console.log(`peak of this core: ${peak} GFLOP/s of fused multiply-add`);
for (const type of ['float32', 'int8']) {
    const loads = [];
    for (let i = 0; i < 5; i++) loads.push(await us.ask(`load ${model} ${type}`));
    const s = await session(type);
    console.log(`${type}: ready in ${median(loads.map((l) => Number(l[0])))} ms, ${loads[0][1]} MB anonymous + ` +
        `${loads[0][2]} MB of files (${loads[0][3]})` + (s ? `; onnxruntime ${s.ready.toFixed(0)} ms` : ''));
    for (const [k, tokens] of lengths.entries()) {
        const times = Math.max(3, Math.round(400 / tokens));
        const feed = s && { input_ids: new ort.Tensor('int64', ids(tokens), [1, tokens]) };
        const a = [], b = [];
        for (let r = 0; r < Number(rounds); r++) {
            const [ms, , , cpu] = (await us.ask(`run ${tokens} ${times}`)).map(Number);
            a.push([ms, cpu]);
            if (s) b.push(await timed(s, feed, times));
        }
        const of = (list, i) => median(list.map((x) => x[i]));
        const ratio = (i) => s ? median(a.map((x, r) => b[r][i] / x[i])).toFixed(2) : '';
        const ours = (await us.ask(`vector ${tokens}`)).map(Number);
        const same = s ? cosine(ours, Array.from((await s.run(feed)).vector.data)) : NaN;
        const cells = [of(a, 0), s ? of(b, 0) : NaN, of(a, 1), s ? of(b, 1) : NaN].map((x) => x.toFixed(3));
        rows.push([type, tokens, cells[0], cells[1], ratio(0), cells[2], cells[3], ratio(1), goals[type][k], same.toFixed(6)]);
        const flops = 2 * tokens * 6 * (4 * 384 * 384 + 2 * 384 * 1536) + 6 * 4 * tokens * tokens * 384;
        console.log(`${type} ${String(tokens).padStart(4)} tokens: ${cells[0]} ms (CPU ${cells[2]})` +
            (s ? `, onnxruntime ${cells[1]} (${cells[3]}): ${ratio(0)} x, CPU ${ratio(1)} x (goal ${goals[type][k]}), ` +
                `cosine ${same.toFixed(6)}` : '') + `, ${(flops / of(a, 1) / 1e6 / peak * 100).toFixed(0)} % of peak`);
    }
    const one = [], many = [];
    for (let r = 0; r < Number(rounds); r++) {
        one.push(Number((await us.ask('run 128 3'))[3]) / 128);
        many.push(Number((await us.ask('batch 32 8'))[0]) / 256);
    }
    console.log(`${type} 32 texts of 8 tokens in one batch: ${(median(one) / median(many)).toFixed(2)} x the tokens ` +
        'per second of one text of 128 (goal 0.8)');
    const r = await us.ask('resident');
    console.log(`${type} resident after the runs: ${r[0]} MB anonymous, ${r[1]} MB of files`);
}
us.end();
if (csv) writeFileSync(csv, rows.map((r) => r.join(',')).join('\n') + '\n');
