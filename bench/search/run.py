#!/usr/bin/env python3
"""Exact search of the ten nearest of 384 dimensions beside others, in turn: CPU time on one core.

    bench/search/run.py [--build build] [--rounds 3] [--counts 10000,100000,1000000]

A round is QUERIES queries, each asked of all one after the other; recall is against a scan in
double precision. A count that does not fit in memory eight times over is left out and named.
usearch and sqlite-vec come from npm (bench/install), numpy and faiss from Debian.
"""
import os
import sqlite3
import subprocess
import sys
import tempfile
import time

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
import numpy  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import report  # noqa: E402

DIMENSION, QUERIES, PIECE, HERE = 384, 10, 50000, os.path.dirname(os.path.abspath(__file__))
# of recalld in ms, and of how many times faster it is than a peer
GOALS = {10000: {"recalld": "<= 0.3"}, 1000000: {"recalld": "<= 25"},
         100000: {"recalld": "<= 2.5", "usearch": ">= 3 x", "sqlite-vec": ">= 15 x"}}


class Child:
    def __init__(self, *command):
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, text=True)
        if self.p.stdout.readline() != "ready\n":
            self.end()
            raise OSError("it did not start")

    def ask(self, i):
        self.p.stdin.write("%d\n" % i)
        self.p.stdin.flush()
        parts = self.p.stdout.readline().split()
        return float(parts[1]), [int(x) for x in parts[2:]]

    def end(self):
        self.p.stdin.close()
        self.p.wait()


class Inside:
    """An engine of this process; find(query) gives the ten best rows."""

    def __init__(self, v, count):
        self.v, self.rows = v, v[:count]

    def ask(self, i):
        query, began = self.v[len(self.rows) + i], time.process_time()
        found = self.find(query)
        return (time.process_time() - began) * 1e3, found

    def end(self):
        pass


class SqliteVec(Inside):
    def __init__(self, v, count):
        super().__init__(v, count)
        self.db = sqlite3.connect(":memory:")
        self.db.enable_load_extension(True)
        machine = {"x86_64": "x64"}.get(os.uname().machine, "arm64")
        self.db.load_extension(os.path.join(HERE, "node_modules", f"sqlite-vec-linux-{machine}", "vec0"))
        self.db.execute("create virtual table t using vec0(v float[%d] distance_metric=cosine)" % DIMENSION)
        self.db.executemany("insert into t(rowid, v) values (?, ?)", ((i, v[i].tobytes()) for i in range(count)))

    def find(self, query):
        return [r[0] for r in self.db.execute("select rowid from t where v match ? and k = 10 order by distance", (query.tobytes(),))]

    def end(self):
        self.db.close()


class Numpy(Inside):
    def find(self, query):
        return numpy.argpartition(-(self.rows @ query), 10)[:10].tolist()


class Faiss(Inside):
    def __init__(self, v, count):
        import faiss
        super().__init__(v, count)
        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexFlatIP(DIMENSION)
        self.index.add(self.rows)

    def find(self, query):
        return self.index.search(query[None], 10)[1][0].tolist()


def vectors(n, kind):
    """float32[n, DIMENSION], made piece by piece: normal, or 200 clusters."""
    rng = numpy.random.default_rng(1)
    centres, out = rng.standard_normal((200, DIMENSION)), numpy.empty((n, DIMENSION), "<f4")
    for at in range(0, n, PIECE):
        m = min(PIECE, n - at)
        v = rng.standard_normal((m, DIMENSION))
        if kind == "clustered":
            v = centres[rng.integers(0, 200, m)] + 0.3 * v
        out[at:at + m] = v / numpy.linalg.norm(v, axis=1, keepdims=True)
    return out


def nearest(v, count, queries):
    """The ten nearest of each query, in double precision."""
    asked, best, rows = v[count:count + queries].astype("f8").T, None, None
    for at in range(0, count, PIECE):
        dots = v[at:min(at + PIECE, count)].astype("f8") @ asked
        top = numpy.argpartition(-dots, 10, axis=0)[:10]
        dots, top = numpy.take_along_axis(dots, top, 0), top + at
        best, rows = (dots, top) if best is None else (numpy.vstack((best, dots)), numpy.vstack((rows, top)))
    order = numpy.argsort(-best, axis=0)[:10]
    return [set(r.tolist()) for r in numpy.take_along_axis(rows, order, 0).T]


def compare(out, a, kind, count, lost):
    queries = QUERIES * a.rounds
    v = vectors(count + queries, kind)
    exact, ready = nearest(v, count, queries), {}
    with tempfile.NamedTemporaryFile(dir=f"{a.build}/bench") as f:
        v.tofile(f)
        f.flush()
        at = (f.name, str(count), str(DIMENSION))
        engines = {"recalld": lambda: Child(f"{a.build}/bench/search/serve", *at), "usearch": lambda: Child("node", "peer.mjs", *at),
                   "sqlite-vec": lambda: SqliteVec(v, count), "numpy": lambda: Numpy(v, count), "faiss": lambda: Faiss(v, count)}
        try:
            for name, make in engines.items():
                if name in lost:
                    continue
                try:
                    ready[name] = make()
                except Exception as why:
                    print(f"{name} is not measured: {why}", flush=True)
            times, hits = {n: [] for n in ready}, dict.fromkeys(ready, 0)
            for i in range(queries):
                for name, engine in ready.items():
                    ms, rows = engine.ask(i)
                    times[name].append(ms)
                    hits[name] += len(exact[i] & set(rows))
        finally:
            for engine in ready.values():
                engine.end()
    for name, t in times.items():
        out.add(f"{count:,} {kind}", name, t, "ms", (t, times["recalld"]), GOALS.get(count, {}).get(name, ""),
                f"recall {hits[name] / (10 * queries):.3f}")


def main():
    a = report.arguments(3, counts="10000,100000,1000000")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = {"usearch": report.npm("bench/search", "usearch"), "sqlite-vec": report.npm("bench/search", "sqlite-vec"),
             "numpy": numpy.__version__, "faiss": report.debian("python3-faiss")}
    out = report.Report("search", "Search: exact top 10, 384 dimensions, CPU time of one query", a.rounds, found)
    for count in map(int, a.counts.split(",")):
        need = 8 * 4 * DIMENSION * count / 2**30
        if need > report.available_gib():
            print(f"{count:,} vectors are left out: they need {need:.0f} GiB of memory", flush=True)
            continue
        for kind in ("random", "clustered"):
            compare(out, a, kind, count, [n for n, v in found.items() if not v])
    out.write()


main()
