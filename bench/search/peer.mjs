// usearch's exact search for run.py, one thread; the same lines as serve.c.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const { exactSearch, MetricKind } = createRequire(import.meta.url)('usearch');
const [file, count, dim] = process.argv.slice(2).map((a, i) => (i ? Number(a) : a));
const bytes = readFileSync(file);
const all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const rows = all.subarray(0, count * dim);
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
    const i = Number(line), query = all.slice((count + i) * dim, (count + i + 1) * dim);
    const cpu = process.cpuUsage(), wall = performance.now();
    const found = exactSearch(rows, query, dim, 10, MetricKind.IP, 1);
    const passed = performance.now() - wall, used = process.cpuUsage(cpu);
    const keys = found.keys ?? found.get(0).keys;
    console.log([passed, (used.user + used.system) / 1e3, ...keys].join(' '));
}
