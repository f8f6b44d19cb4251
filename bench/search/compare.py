#!/usr/bin/env python3
"""Exact search of the ten nearest beside usearch and sqlite-vec, in turn in one run.

    npm install --ignore-scripts          (in this directory)
    compare.py SERVE [COUNT ...]          SERVE is built from serve.c

A figure is the median over the queries, each asked of all three one after the
other, on one core. Recall is against numpy in double precision.
"""
import os
import sqlite3
import subprocess
import sys
import tempfile
import time

import numpy

DIMENSION, QUERIES, HERE = 384, 31, os.path.dirname(os.path.abspath(__file__))


class Child:
    def __init__(self, *command):
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE, text=True)
        if self.p.stdout.readline() != "ready\n":
            raise OSError("it did not start")

    def ask(self, i):
        self.p.stdin.write("%d\n" % i)
        self.p.stdin.flush()
        parts = self.p.stdout.readline().split()
        return float(parts[0]), float(parts[1]), [int(x) for x in parts[2:]]

    def end(self):
        self.p.stdin.close()
        self.p.wait()


class SqliteVec:
    def __init__(self, v, count):
        self.v, self.count = v, count
        self.db = sqlite3.connect(":memory:")
        self.db.enable_load_extension(True)
        self.db.load_extension(os.path.join(HERE, "node_modules", "sqlite-vec-linux-" + {"x86_64": "x64"}.get(os.uname().machine, "arm64"), "vec0"))
        self.db.execute("create virtual table t using vec0(v float[%d] distance_metric=cosine)" % DIMENSION)
        self.db.executemany("insert into t(rowid, v) values (?, ?)", ((i, v[i].tobytes()) for i in range(count)))

    def ask(self, i):
        wall, cpu = time.perf_counter(), time.process_time()
        rows = self.db.execute("select rowid from t where v match ? and k = 10 order by distance",
                               (self.v[self.count + i].tobytes(),)).fetchall()
        return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3, [r[0] for r in rows]

    def end(self):
        self.db.close()


def vectors(n, kind):
    rng = numpy.random.default_rng(1)
    v = rng.standard_normal((n, DIMENSION))
    if kind == "clustered":
        v = rng.standard_normal((200, DIMENSION))[rng.integers(0, 200, n)] + 0.3 * v
    return (v / numpy.linalg.norm(v, axis=1, keepdims=True)).astype("<f4")


def compare(kind, count, serve):
    v = vectors(count + QUERIES, kind)
    with tempfile.NamedTemporaryFile() as f:
        f.write(v.tobytes())
        f.flush()
        engines = {"recalld": lambda: Child(serve, f.name, str(count), str(DIMENSION)),
                   "usearch": lambda: Child("node", "peer.mjs", f.name, str(count), str(DIMENSION)),
                   "sqlite-vec": lambda: SqliteVec(v, count)}
        ready = {}
        for name, make in engines.items():
            try:
                ready[name] = make()
            except Exception as e:
                print("%s is not measured: %s" % (name, e))
        times = {name: [] for name in ready}
        hits = dict.fromkeys(ready, 0)
        for i in range(QUERIES):
            exact = v[:count].astype("f8") @ v[count + i].astype("f8")
            best = set(numpy.argpartition(-exact, 10)[:10].tolist())
            for name, engine in ready.items():
                wall, cpu, rows = engine.ask(i)
                times[name].append((cpu, wall))
                hits[name] += len(best & set(rows))
        for engine in ready.values():
            engine.end()
    ours = sorted(t[0] for t in times["recalld"])[QUERIES // 2]
    for name, t in times.items():
        cpu, wall = sorted(x[0] for x in t)[QUERIES // 2], sorted(x[1] for x in t)[QUERIES // 2]
        print("%-9s %7d  %-10s  %8.3f ms CPU  %8.3f ms passed  %6.1f x  recall %.3f" % (
            kind, count, name, cpu, wall, cpu / ours, hits[name] / (10 * QUERIES)), flush=True)


def main():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    serve = os.path.abspath(sys.argv[1])
    for count in [int(a) for a in sys.argv[2:]] or [10000, 100000]:
        for kind in ("random", "clustered"):
            compare(kind, count, serve)


main()
