#!/usr/bin/env python3
"""Storing, importing, starting and the whole `search` command, over the wire (bench/ask.c).

    bench/store/run.py [--build build] [--rounds 3] [--counts 10000,100000,1000000]

For each count, random and clustered vectors are imported, then asked for and stored beside. Stores under
--sync always stand beside the syncs of the bare disk, taken before and after them. A count that does not
fit in memory is left out and named.
"""
import base64
import contextlib
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid

import numpy

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import report  # noqa: E402

DIMENSION, QUERIES, PIECE = 384, 21, 10000
SEARCH = {10000: "<= 0.6", 100000: "<= 5", 1000000: "<= 50"}
CENTRES = numpy.random.default_rng(7).standard_normal((200, DIMENSION))
rng = numpy.random.default_rng(1)
# As many words, as long and as unevenly used as those of a language.
WORDS = ["".join(w) for w in (numpy.random.default_rng(3).choice(list("etaoinshrdlu"), n) for n in 2 + numpy.arange(20000) % 9)]
OFTEN = 1 / numpy.arange(10, 10 + len(WORDS))
OFTEN /= OFTEN.sum()


def vectors(n, kind):
    """n vectors of length 1 in base64."""
    v = rng.standard_normal((n, DIMENSION))
    if kind == "clustered":
        v = CENTRES[rng.integers(0, 200, n)] + 0.3 * v
    v = (v / numpy.linalg.norm(v, axis=1, keepdims=True)).astype("<f4")
    return [base64.b64encode(x.tobytes()).decode() for x in v]


def texts(n):
    """Short ones of 6 to 14 words."""
    lengths = rng.integers(6, 15, n)
    words = iter(rng.choice(WORDS, lengths.sum(), p=OFTEN).tolist())
    return [" ".join(itertools.islice(words, k)) for k in lengths]


def lines(path, requests):
    with open(path, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in requests)
    return path


def stores(path, n, kind):
    return lines(path, ({"type": "store", "data": {"text": t, "embedding": v}} for t, v in zip(texts(n), vectors(n, kind))))


def records(path, n, kind):
    """Lines as --export writes them, with vectors and components; the bytes of the texts."""
    size = 0
    with open(path, "w") as f:
        for at in range(0, n, PIECE):
            some = texts(min(PIECE, n - at))
            size += sum(map(len, some))
            f.writelines(json.dumps({
                "id": str(uuid.UUID(int=uuid.uuid4().int)), "text": t, "timestamp": "2026-01-01T00:00:00.000Z", "significance": 0.55,
                "surprise": 0.5, "diversity": 1, "information": 0.17, "metadata": {}, "tags": [], "pinned": False, "access_count": 0,
                "last_access": "2026-01-01T00:00:00.000Z", "embedding": v}) + "\n" for t, v in zip(some, vectors(len(some), kind)))
    return size


def ask(a, server, path, *flags):
    done = subprocess.run([*report.core("load"), f"{a.build}/bench/ask", "--port", str(server.ports["memory"]), "--pid", str(server.pid),
                           "--lines", path, *map(str, flags)], capture_output=True, text=True, timeout=300)
    if done.returncode or not done.stdout:
        raise RuntimeError(done.stderr)
    got = report.key_values(done.stdout)
    if got["errors"]:
        raise RuntimeError(f"{got['errors']:.0f} errors: {done.stderr}")
    return got


def disk_syncs(directory, size):
    """Syncs a second of the bare disk, each after `size` bytes at the end of a file."""
    with open(f"{directory}/bare", "wb", buffering=0) as f:
        n, began = 0, time.perf_counter()
        while time.perf_counter() - began < 1:
            f.write(b"x" * size)
            os.fdatasync(f.fileno())
            n += 1
        return n / (time.perf_counter() - began)


def children_cpu_s():
    """CPU time of the programs that have ended."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


@contextlib.contextmanager
def scratch(a):
    d = tempfile.mkdtemp(prefix="store-", dir=f"{a.build}/bench")
    try:
        yield d
    finally:
        shutil.rmtree(d, ignore_errors=True)


def synced(out, a):
    """64 clients, --sync always: half of them are in the sync that runs, half gather for the next."""
    rates, cpu, bare, batch = [], [], [], 32
    for _ in range(a.rounds):
        with scratch(a) as d:
            path = lines(f"{d}/stores", ({"type": "store", "data": {"text": f"{t} {rng.integers(1 << 60):x}"}} for t in texts(20000)))
            before = disk_syncs(d, batch * 200)
            with report.Recalld(a.build, f"{d}/data", "--sync", "always") as s:
                got = ask(a, s, path, "--connections", 64, "--seconds", 2)
            rates.append(got["rate"])
            cpu.append(1e6 / got["cpu_us"])
            bare.append((before + disk_syncs(d, batch * 200)) / 2)
    out.add("syncs of the bare disk", "limit", bare, "/s")
    out.add("store, --sync always, 64 clients", "recalld", rates, "/s", (rates, [batch * b for b in bare]), ">= 0.8 x 32 x syncs",
            f"CPU of the loop {report.short(sorted(cpu)[len(cpu) // 2])}/s")


def stores_into_few(out, a):
    wall, cpu = [], []
    for _ in range(3 * a.rounds):
        with scratch(a) as d, report.Recalld(a.build, f"{d}/data", "--sync", "never") as s:
            got = ask(a, s, stores(f"{d}/stores", 1000, "random"), "--connections", 64, "--depth", 8)
            wall.append(got["rate"])
            cpu.append(1e6 / got["cpu_us"])
    out.add("store of given vectors, 0 to 1,000", "recalld", wall, "/s", goal=">= 30000")
    out.add("the same by CPU time", "recalld", cpu, "/s")


def filled(out, a, kind, count):
    """Import `count`, start with them, search among them, store beside them."""
    with scratch(a) as d:
        data, flags = f"{d}/data", ("--sync", "never", "--max-memories", 2 * count)
        source = f"{d}/records"
        data_each = 4 * DIMENSION + records(source, count, kind) / count + len("{}")
        with report.Recalld(a.build, f"{d}/empty", *flags) as s:
            empty = report.memory_bytes(s.pid)
        began, cpu_before = time.perf_counter(), children_cpu_s()
        subprocess.run([*report.core("server"), f"{a.build}/recalld", "--data", data, "--import", source, *map(str, flags)],
                       check=True, capture_output=True, timeout=600)
        took, used = time.perf_counter() - began, children_cpu_s() - cpu_before
        os.unlink(source)
        started, cpu, found, more, more_cpu = [], [], [], [], []
        for r in range(a.rounds):
            with report.Recalld(a.build, data, *flags) as s:
                started.append(s.start_s)
                cpu.append(s.start_cpu_s)
                if r == 0:
                    bytes_each = (report.memory_bytes(s.pid) - empty) / count
                asked = lines(f"{d}/searches", ({"type": "search", "data": {"embedding": v, "limit": 10}} for v in vectors(QUERIES, kind)))
                found.append(ask(a, s, asked)["p50_us"] / 1e3)
                got = ask(a, s, stores(f"{d}/stores", 2 * 64 if count > 100000 else 300, kind), "--connections", 64, "--depth", 2)
                more.append(got["rate"])
                more_cpu.append(1e6 / got["cpu_us"])
    at = f"{count:,} {kind}"
    out.add(f"import, {at}", "recalld", [count / took], "/s", goal=">= 50000", note=f"CPU {report.short(count / used)}/s")
    out.add(f"start, {at}", "recalld", started, "s", goal="<= 1" if count == 100000 else "", note=f"CPU {report.short(sorted(cpu)[len(cpu) // 2])} s")
    out.add(f"memory per record, {at}", "recalld", [bytes_each], "B",
            goal=f"<= {1.35 * data_each:.0f}" if count == 100000 else "",
            note=f"{bytes_each / data_each:.3f} x vector, text and metadata")
    out.add(f"search over the wire, {at}", "recalld", found, "ms", goal=SEARCH.get(count, ""))
    out.add(f"store of given vectors at {at}", "recalld", more, "/s", goal=">= 350" if count == 100000 else "",
            note=f"CPU {report.short(sorted(more_cpu)[len(more_cpu) // 2])}/s")


def main():
    a = report.arguments(3, counts="10000,100000,1000000")
    report.compile_c(a.build, "ask", ["bench/ask.c", *report.WS])
    out = report.Report("store", "Store, import, start and search over the wire", a.rounds, {})
    synced(out, a)
    stores_into_few(out, a)
    for count in map(int, a.counts.split(",")):
        if 4096 * count / 2**30 > report.available_gib():
            print(f"{count:,} memories are left out: no room for them", flush=True)
            continue
        for kind in ("random", "clustered"):
            filled(out, a, kind, count)
    out.write()


main()
