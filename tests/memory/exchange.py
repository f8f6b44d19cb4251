#!/usr/bin/env python3
"""One log moved between two machines and back: what one program wrote, the other reads and
exports byte for byte alike, and goes on with.

    tests/memory/exchange.py RECALLD OTHER [EMULATOR]

OTHER is the program for another machine, run by EMULATOR (qemu-user). Both serve, store with the
builtin embedder, delete, compact and export; what is compared are the exports, vectors included.
"""
import base64
import json
import pathlib
import random
import shutil
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Client, Server, scratch  # noqa: E402

WORDS = ["apple", "Grün", "naïve", "東京", "κόσμος", "Ёлка", "🦊", "e\u0301", "tree", "\u0000", "\"quoted\"", "back\\slash", "line\nbreak", "𝔘"]


def texts(rng, n):
    for i in range(n):
        yield f"{i} " + " ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 4, 12, 200])))


def live(program, data, seed, n):
    """One life of a server: stores of many kinds, changes, deletions, a clean stop."""
    rng = random.Random(seed)
    with Server("--log-level", "error", data=str(data), program=program) as s, Client(s.memory, timeout=60) as c:
        ids = []
        for text in texts(rng, n):
            data = {"text": f"{seed} {text}", "metadata": {"type": rng.choice(["user", "assistant", "ä"]), "n": rng.random(), "deep": [{"x": None}]},
                    "tags": rng.sample(["a", "ü", "tag \"three\""], rng.randrange(4)), "pinned": rng.random() < 0.1}
            if rng.random() < 0.2:
                data["embedding"] = [rng.gauss(0, 1) for _ in range(384)]
            if rng.random() < 0.2:
                data["timestamp"] = f"20{rng.randrange(10, 20)}-01-02T03:04:05.678Z"
            if rng.random() < 0.2:
                data["significance"] = rng.random()
            ids.append(c.ok("store", data)["id"])
        for i in rng.sample(ids, n // 5):
            c.ok("delete", {"id": i})
            ids.remove(i)
        for i in rng.sample(ids, n // 5):
            c.ok("update", {"id": i, **rng.choice([{"pinned": True}, {"text": f"{seed} anew {i} 東"}, {"tags": ["x"]}, {"significance": 1 / 3}])})
        c.ok("search", {"text": "apple 東京", "min_similarity": -1, "reinforce": True})
        return c.ok("stats")["memory_count"]


def tool(program, data, *args):
    p = subprocess.run([program, "--data", data, *args], capture_output=True, timeout=300)
    assert p.returncode == 0, (program, args, p.stderr.decode(errors="replace")[-2000:])
    return p.stdout


def alike(first, second, data, count, what):
    """Both export a copy of this directory, each its own, byte for byte alike."""
    out = []
    for program in (first, second):
        shutil.rmtree(f"{data}.copy", ignore_errors=True)
        shutil.copytree(data, f"{data}.copy")
        tool(program, f"{data}.copy", "--check")
        out.append(tool(program, f"{data}.copy", "--export", "-"))
    assert out[0] == out[1], f"{what}: exports of {len(out[0])} and {len(out[1])} bytes differ"
    assert out[0].count(b"\n") == count, (what, out[0].count(b"\n"), count)
    return out[0]


def vectors(export):
    return {m["text"]: base64.b64decode(m["embedding"]) for m in map(json.loads, export.splitlines())}


def main():
    native, other = (str(pathlib.Path(p).resolve()) for p in sys.argv[1:3])
    with scratch() as d:
        if len(sys.argv) > 3:
            script = d / "other"
            script.write_text(f"#!/bin/sh\nexec {sys.argv[3]} {other} \"$@\"\n")
            script.chmod(0o755)
            other = str(script)
        here = d / "log"
        count = live(native, here, 1, 300)
        first = alike(native, other, here, count, "written here")
        count = live(other, here, 2, 100)
        second = alike(native, other, here, count, "gone on with there")
        tool(other, here, "--compact")
        assert alike(native, other, here, count, "compacted there") == second, "a compaction changed something"
        count = live(native, here, 3, 50)
        third = alike(native, other, here, count, "and here again")
        (d / "lines").write_bytes(third)
        tool(other, d / "new", "--import", d / "lines")
        assert tool(native, d / "new", "--export", "-") == third, "imported there, exported here"
        live(native, d / "a", 4, 40)
        live(other, d / "b", 4, 40)
        a, b = vectors(tool(native, d / "a", "--export", "-")), vectors(tool(native, d / "b", "--export", "-"))
        worst = max(abs(x - y) for t in a if t in b for x, y in zip(struct.unpack("<384f", a[t]), struct.unpack("<384f", b[t])))
        assert worst <= 2e-6 and len(a.keys() & b.keys()) >= 20, f"vectors of the same texts differ by {worst}"
        print(f"exchange: exports of {len(first)}, {len(second)} and {len(third)} bytes alike, vectors within {worst:.1e}")
        print("1 passed, 0 failed")


main()
