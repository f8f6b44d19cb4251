#!/usr/bin/env python3
"""Pings and `stats` while 64 clients keep the encoder's queue full and 64 store on a disk whose sync takes 100 ms.

    bench/latency/run.py [--build build] [--rounds 3] [--seconds 20]

The server has one core; those who ask are programs of their own (bench/ask.c) on the other.
The slow sync is put before libc's with LD_PRELOAD (bench/latency/slow_sync.c).
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import report  # noqa: E402

WORDS = "the quick brown fox jumps over the lazy dog and runs away from it ".split()
SYNC_MS = 100


def lines(path, requests):
    with open(path, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in requests)
    return path


def ask(a, seconds, port, *flags):
    return subprocess.Popen([*report.core("load"), f"{a.build}/bench/ask", "--port", str(port), "--seconds", str(seconds),
                             *map(str, flags)], stdout=subprocess.PIPE, text=True)


def model(a):
    """Directory of a random model of MiniLM's shape."""
    if not os.path.exists(f"{a.build}/models/minilm/golden.txt"):
        subprocess.run(["/usr/bin/python3", f"{report.ROOT}/tests/models/make.py", f"{a.build}/models", "minilm"], check=True)
    return f"{a.build}/models/minilm"


def under(a, d, what):
    """What the probes, ping and stats, and the busy ones, encoder and disk, saw: name -> figures, None when one lost its connection."""
    seconds = a.seconds if what else min(a.seconds, 5)
    slow = report.compile_c(a.build, "slow_sync.so", ["bench/latency/slow_sync.c"], ["-shared", "-fPIC"])
    env = {"LD_PRELOAD": slow, "SLOW_SYNC_MS": str(SYNC_MS)} if "disk" in what else {}
    texts = lines(f"{d}/texts", ({"type": "embeddings", "data": {"text": " ".join(WORDS[(i + k) % len(WORDS)] for k in range(60)),
                                  "config": {"encoding_format": "base64"}}} for i in range(len(WORDS))))
    stores = lines(f"{d}/stores", ({"type": "store", "data": {"text": f"number {i} {random.getrandbits(60):x}"}} for i in range(100000)))
    stats = lines(f"{d}/stats", [{"type": "stats"}])
    with report.Recalld(a.build, f"{d}/data", "--sync", "always", *(["--model", model(a)] if "encoder" in what else []), env=env) as s:
        busy = {}
        if "encoder" in what:
            busy["encoder"] = ask(a, seconds, s.ports["inference"], "--lines", texts, "--connections", 64, "--depth", 1)
        if "disk" in what:
            busy["disk"] = ask(a, seconds, s.ports["memory"], "--lines", stores, "--connections", 64, "--depth", 1)
        probed = s.ports["inference" if "encoder" in what else "memory"]
        probes = {"ping": ask(a, seconds, probed, "--ping", "--every-ms", 10), "stats": ask(a, seconds, probed, "--lines", stats, "--every-ms", 20)}
        said, asking = {}, {**busy, **probes}
        try:
            for name, p in asking.items():
                text = p.communicate(timeout=seconds + 90)[0]
                said[name] = report.key_values(text) if text else None
        finally:
            for p in asking.values():
                p.kill()
        return said


def main():
    a = report.arguments(3, seconds=20.0)
    report.compile_c(a.build, "ask", ["bench/ask.c", *report.WS])
    out = report.Report("latency", "Under work: pings and stats, 99 of 100 answered within", a.rounds, {})
    cases = {"nothing else": (), "encoder": ("encoder",), f"syncs of {SYNC_MS} ms": ("disk",),
             f"encoder and syncs of {SYNC_MS} ms": ("encoder", "disk")}
    for case, what in cases.items():
        rounds = []
        for _ in range(a.rounds):
            d = tempfile.mkdtemp(prefix="latency-", dir=f"{a.build}/bench")
            try:
                rounds.append(under(a, d, what))
            finally:
                shutil.rmtree(d, ignore_errors=True)
        for probe, goal in (("ping", "<= 10"), ("stats", "<= 20")):
            got = [r[probe] for r in rounds if r[probe]]
            out.add(f"{probe} p99, {case}", "recalld", [g["p99_us"] / 1e3 for g in got], "ms", goal=goal if what else "",
                    note=f"median {report.short(max((g['p50_us'] / 1e3 for g in got), default=0))} ms, worst {report.short(max((g['max_us'] / 1e3 for g in got), default=0))} ms")
        for name in what:
            rates = [r[name]["rate"] for r in rounds if r[name]]
            if name == "disk":
                out.add(f"stores a second, {case}", "recalld", rates, "/s", (rates, [32 * 1000 / SYNC_MS] * len(rates)),
                        ">= 0.8 x 32 x syncs" if what == ("disk",) else "")
            else:
                out.add(f"texts a second, {case}", "recalld", rates, "/s")
        if what:
            out.add(f"who lost the connection, {case}", "recalld", [sum(v is None for v in r.values()) for r in rounds], "", goal="<= 0")
    out.write()


main()
