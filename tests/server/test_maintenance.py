"""Maintenance from outside: what --check tells, embedding anew, compaction; interrupted, and on a disk that is full."""
import base64
import json
import os
import pathlib
import random
import resource
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import BUILD, ROOT, SANITIZED, Client, Server, recalld, run, scratch  # noqa: E402

TINY = ROOT / "tests/models/tiny"
LONG = bool(os.environ.get("LONG"))


def memories(n):
    """Lines to import: texts of some length, vectors of the built-in embedder made on the way."""
    words = "bicycle kettle harbour winter lantern carpet violin meadow engine pepper".split()
    return "".join(json.dumps({"text": f"{i} " + " ".join(words[(i * k) % 10] for k in range(1, 2 + i % 9)), "tags": [f"t{i % 3}"],
                               "timestamp": 1700000000000 + i, "metadata": {"type": "user" if i % 2 else "note"}}) + "\n" for i in range(n))


def filled(data, n):
    p = recalld("--import", "-", "--data", data, "--sync", "never", input=memories(n))
    assert p.returncode == 0 and f"imported {n} memories" in p.stdout, p
    return data


def exported(data, *flags):
    """What --export gives, without the vectors; and the vectors."""
    p = recalld("--export", "-", "--data", data, *flags)
    assert p.returncode == 0, p
    lines = [json.loads(line) for line in p.stdout.splitlines()]
    return [{k: v for k, v in m.items() if k != "embedding"} for m in lines], [m["embedding"] for m in lines]


def floats(text):
    raw = base64.b64decode(text)
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def test_check_tells_what_is_there():
    with scratch() as d:
        p = recalld("--check", "--data", d / "none")
        assert p.returncode == 0 and f"data: no log in {d}/none yet" in p.stdout and "model: builtin-hash-384, dimension 384" in p.stdout, p
        filled(d / "a", 10)
        p = recalld("--check", "--data", d / "a")
        assert p.returncode == 0 and p.stdout.endswith("all is well\n") and "closed cleanly" in p.stdout and "memories: 10" in p.stdout, p
        p = recalld("--check", "--data", d / "a", "--model", TINY, "--adapter", f"one={TINY}/adapters/qv")
        assert p.returncode == 65 and "--reembed" in p.stderr and "adapter: one, rank 4, alpha 8" in p.stdout, p
        p = recalld("--check", "--data", d / "a" / "LOCK")
        assert p.returncode not in (0, 1) and p.stderr.count("\n") == 1, p


def test_check_tells_damage_by_kind():
    with scratch() as d:
        filled(d / "a", 10)
        log = d / "a" / "memory.log"
        whole = log.read_bytes()

        def check(data):
            log.write_bytes(data)
            return recalld("--check", "--data", d / "a")

        p = check(whole[:20] + b"\xff" + whole[21:])
        assert p.returncode == 65 and "the file header, its second copy was read" in p.stdout, p
        assert log.read_bytes()[20] == 255, "nothing is written by a check"
        at = len(whole) // 2 // 64 * 64
        p = check(whole[:at] + bytes(64) + whole[at + 64:])
        assert p.returncode == 65 and "damage: " in p.stdout and "are lost" in p.stdout and "--repair" in p.stderr, p
        p = check(whole[:-64] + whole[-192:-64])                # no close; a piece of a record behind the last
        assert p.returncode == 0 and "not closed" in p.stdout and "torn: " in p.stdout, p
        p = check(b"nonsense" * 1000)
        assert p.returncode == 65 and p.stderr.count("\n") == 1, p
        p = check(whole)
        assert p.returncode == 0 and "all is well" in p.stdout, p


def test_another_embedder_is_refused_and_reembed_is_the_way_out():
    with scratch() as d:
        before, vectors = exported(filled(d / "a", 2500))
        p = recalld("--data", d / "a", "--model", TINY, "--memory-port", "0", "--inference-port", "0")
        assert p.returncode == 65 and "--reembed" in p.stderr, p
        p = recalld("--reembed", "--data", d / "a", "--model", TINY)
        assert p.returncode == 0 and p.stdout == "embedded 2500 memories with tiny\n", p
        assert p.stderr.endswith("embedded 2500 of 2500\n") and "embedded 1000 of 2500" in p.stderr, p.stderr
        assert sorted(f.name for f in (d / "a").iterdir()) == ["LOCK", "memory.log"]
        after, others = exported(d / "a", "--model", TINY)
        assert after == before, "everything but the vectors is as it was, in the same order"
        with Server("--model", TINY, data=str(d / "a")) as s, Client(s.memory) as c, Client(s.inference) as i:
            text = after[7]["text"]
            vector = i.ok("embeddings", {"text": text, "config": {"encoding_format": "base64"}})["embeddings"][0]
            assert max(abs(x - y) for x, y in zip(floats(vector), floats(others[7]))) < 1e-6, "it is the model's own vector"
            found = c.ok("search", {"text": text, "limit": 1})["results"][0]
            assert found["similarity"] > 0.999, found
            assert c.ok("store", {"text": "one more"})["memory_count"] == 2501
        p = recalld("--reembed", "--data", d / "a", "--model", TINY)
        assert p.returncode == 0 and p.stdout == "made with this embedder already\n", p
        p = recalld("--reembed", "--data", d / "a")
        assert p.returncode == 0 and "embedded 2501 memories with builtin-hash-384" in p.stdout, p
        back, again = exported(d / "a")
        assert back[:2500] == before and again[:2500] == vectors, "and back"


def test_reembed_goes_on_with_the_numbers():
    with scratch() as d:
        filled(d / "a", 20)
        with Server(data=str(d / "a")) as s, Client(s.memory) as c:
            for m in c.ok("retrieve", {"count": 15})["memories"]:
                last = c.ok("delete", {"id": m["id"]})["seq"]
        for flags in (["--model", TINY], []):
            assert recalld("--reembed", "--data", d / "a", *flags).returncode == 0
            with Server(*flags, data=str(d / "a")) as s, Client(s.memory) as c:
                seq = c.ok("store", {"text": f"behind {last}"})["seq"]
                assert seq > last, (seq, last)
                last = seq


def test_what_needs_a_log_makes_none():
    with scratch() as d:
        for command in (["--reembed"], ["--compact"], ["--export", "-"], ["--export", d / "none/memory.log"]):
            p = recalld(*command, "--data", d / "none")
            assert p.returncode == 65 and f"{d}/none" in p.stderr and not p.stdout and not (d / "none").exists(), p


def test_reembed_of_a_damaged_log_is_65():
    with scratch() as d:
        filled(d / "a", 20)
        log = d / "a" / "memory.log"
        data = bytearray(log.read_bytes())
        data[len(data) // 2] ^= 1
        log.write_bytes(data)
        p = recalld("--reembed", "--data", d / "a", "--model", TINY)
        assert p.returncode == 65 and "--repair" in p.stderr and log.read_bytes() == data, p


def test_killed_at_any_point_reembed_leaves_the_one_or_the_other():
    with scratch() as d:
        n = 4000 if LONG else 1500
        want, _ = exported(filled(d / "a", n))
        command = [BUILD / "recalld", "--data", d / "a"]
        models = [["--model", TINY], []]
        began = time.monotonic()
        assert recalld("--reembed", "--data", d / "a", *models[0]).returncode == 0
        took, now, done = time.monotonic() - began, 0, 0
        rng = random.Random(3)
        for _ in range(100 if LONG else 4):
            p = subprocess.Popen([*command, "--reembed", *models[1 - now]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0, took * 1.1))
            p.send_signal(signal.SIGKILL)
            p.wait()
            for which in (now, 1 - now):
                check = recalld("--check", "--data", d / "a", *models[which])
                if check.returncode == 0:
                    break
            assert check.returncode == 0, check
            assert exported(d / "a", *models[which])[0] == want, "all are there, in order"
            done += which != now
            now = which
        print(f"{done} of them had taken their place before the kill")
        assert recalld("--reembed", "--data", d / "a", *models[1 - now]).returncode == 0, "what was left behind is in nobody's way"
        assert sorted(f.name for f in (d / "a").iterdir() if not f.name.startswith("memory.torn")) == ["LOCK", "memory.log"]


def test_full_disk_stops_maintenance_and_loses_nothing():
    """A file that may not grow stands for the disk."""
    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

    with scratch() as d:
        want = exported(filled(d / "a", 2000))
        for flags in (["--reembed", "--model", TINY], ["--compact"]):
            p = subprocess.run([BUILD / "recalld", "--data", d / "a", *flags], capture_output=True, text=True, preexec_fn=small)
            assert p.returncode == 74 and p.stderr.splitlines()[-1].startswith("recalld: "), p
            assert recalld("--check", "--data", d / "a").returncode == 0
            assert exported(d / "a") == want
            assert not (d / "a" / "memory.log.tmp").exists()


def test_a_limit_on_files_is_a_full_disk_to_a_server():
    for flags in ([], ["--inline-sync"]):
        with Server("--only", "memory", *flags) as s, Client(s.memory) as c:
            pid = s.process.pid
            helpers = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

            def limit(n):
                for p in [pid, *map(int, helpers)]:
                    resource.prlimit(p, resource.RLIMIT_FSIZE, (n, resource.RLIM_INFINITY))

            limit(200000)
            for i in range(300):
                reply = c.ask("store", {"text": f"t {i}"})
                if reply["status"] == "error":
                    break
                first = first if i else reply["data"]["id"]
            assert reply["error"] == "Storage failed: disk full", reply
            assert c.ok("delete", {"id": first})["deleted"] and c.ok("stats")["memory_count"] == i - 1
            limit(resource.RLIM_INFINITY)
            assert c.ok("store", {"text": "again"})["durable"]


def test_a_line_that_finds_no_memory_ends_an_import():
    def small():
        if not SANITIZED:
            resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))

    with scratch() as d:
        with open(d / "in", "w") as f:
            f.write('{"text":"one"}\n')
            f.truncate(512 << 20)                               # a line of zeros
        env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":allocator_may_return_null=1:max_allocation_size_mb=64"}
        p = subprocess.run([BUILD / "recalld", "--import", d / "in", "--data", d / "a"], capture_output=True, text=True,
                           preexec_fn=small, env=env)
        assert p.returncode == 74 and p.stderr.endswith("Cannot allocate memory\n"), p
        assert p.stdout == "imported 1 memories, skipped 0 duplicates\n" and len(exported(d / "a")[0]) == 1


def test_a_file_of_more_than_2_gib_is_read():
    with scratch() as d:
        (d / "lines").write_text("no JSON\n")
        os.truncate(d / "lines", 3 << 30)
        p = recalld("--import", d / "lines", "--data", d / "data")
        assert p.returncode == 65 and "line 1" in p.stderr, p


def test_import_makes_room_where_the_weakest_may_go():
    with scratch() as d:
        lines = recalld("--export", "-", "--data", filled(d / "a", 20)).stdout
        for flags, status, n in ((["--when-full", "evict"], 0, 5), ([], 65, 5)):
            p = recalld("--import", "-", "--data", d / str(status), "--max-memories", "5", *flags, input=lines)
            assert p.returncode == status and ("line 6: Memory store full" in p.stderr) == (status == 65), p
            assert len(exported(d / str(status))[0]) == n


def test_export_does_not_write_upon_the_log():
    with scratch() as d:
        assert recalld("--data", d, "--import", "-", input='{"text":"kept"}\n').returncode == 0
        before = (d / "memory.log").read_bytes()
        (d / "link").symlink_to("memory.log")
        for name in ("memory.log", "link"):
            p = recalld("--data", d, "--export", d / name)
            assert p.returncode == 64 and p.stderr.count("\n") == 1, p
            assert (d / "memory.log").read_bytes() == before
        assert recalld("--data", d, "--export", d / "lines").returncode == 0


def test_a_log_that_is_a_link_is_refused():
    with scratch() as d:
        filled(d / "a", 5)
        (d / "disk").mkdir()
        log, away = d / "a" / "memory.log", d / "disk" / "log"
        log.rename(away)
        log.symlink_to(away)
        modes = (["--export", "-"], [], ["--check"], ["--compact"], ["--repair"], ["--reembed"], ["--import", "/dev/null"])
        for mode in modes:
            p = recalld("--data", d / "a", "--memory-port", "0", "--inference-port", "0", *mode)
            assert p.returncode == 65 and p.stderr.endswith("memory.log is a symbolic link, and a compaction would put a file in its place: "
                                                            "have the directory lead elsewhere, or move the log here\n"), (mode, p)
        away.unlink()                                       # as if that disk were not mounted
        for mode in modes:
            p = recalld("--data", d / "a", "--memory-port", "0", "--inference-port", "0", *mode)
            assert p.returncode == 65 and "is a symbolic link" in p.stderr and log.is_symlink(), (mode, p)


def test_export_and_check_change_nothing():
    with scratch() as d:
        want = exported(filled(d / "a", 20))
        log = d / "a" / "memory.log"
        log.write_bytes(log.read_bytes()[:-64] + bytes(100))    # as a kill leaves it, with a torn tail
        (d / "a" / "memory.log.tmp").write_text("left behind")
        before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in (d / "a").iterdir()}
        assert exported(d / "a") == want and "torn: 100 bytes" in recalld("--check", "--data", d / "a").stdout
        assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in (d / "a").iterdir()} == before
        with Server(data=str(d / "a")):
            p = recalld("--export", "-", "--data", d / "a")
            assert p.returncode == 75 and not p.stdout, p


def test_compact_drops_what_is_gone():
    with scratch() as d:
        old, _ = exported(filled(d / "a", 300))
        with Server(data=str(d / "a")) as s, Client(s.memory) as c:
            for m in old[:250]:
                c.ok("delete", {"id": m["id"]})
        size = (d / "a" / "memory.log").stat().st_size
        want = exported(d / "a")
        p = recalld("--compact", "--data", d / "a")
        now = (d / "a" / "memory.log").stat().st_size
        assert p.returncode == 0 and p.stdout.startswith("compacted: ") and now < size / 3, (p, size, now)
        assert exported(d / "a") == want and want[0] == old[250:]


if __name__ == "__main__":
    run(globals())
