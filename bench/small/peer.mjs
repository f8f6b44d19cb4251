// JSON.parse and JSON.stringify of a vector for run.py: prints MB/s and microseconds of CPU time.
// The vector is an object's list of 384 numbers, as a client would send it.
const vector = Array.from({ length: 384 }, (_, i) => Number((Math.sin(i * 12.9898) * 0.2).toPrecision(9)));
const text = JSON.stringify({ type: 'store', embedding: vector });
let sink = 0;

/** Median of rounds of some 2 ms. */
function time(run) {
    const rounds = [];
    for (let i = 0; i < 2000; i++) run();
    for (let r = 0; r < 31; r++) {
        const calls = 100, from = process.cpuUsage();
        for (let i = 0; i < calls; i++) run();
        const spent = process.cpuUsage(from);
        rounds.push((spent.user + spent.system) / calls);
    }
    return rounds.sort((a, b) => a - b)[15];
}

const parse = time(() => { sink += JSON.parse(text).embedding.length; });
const print = time(() => { sink += JSON.stringify(vector).length; });
console.log(JSON.stringify({ parse: text.length / parse, print }));
