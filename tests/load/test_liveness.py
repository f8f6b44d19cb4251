"""Pings and `stats` while texts queue for an encoder without end, and while the disk is busy or slow.

LONG=1 runs 60 s with a model of MiniLM's shape, else 6 s with the tiny one. What is judged is that nobody is lost and everything is answered in order;
times are printed, and judged only coarsely (a stall, not a figure). The exception is the slow disk with LONG=1: there the figure is judged,
of the program without sanitizers.
"""
import asyncio
import json
import os
import pathlib
import struct
import subprocess
import sys
import time

import websockets

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import BUILD, Client, ROOT, SANITIZED, Server, run, scratch  # noqa: E402

LONG = bool(os.environ.get("LONG"))
SECONDS = 60 if LONG else 6
SYNC_MS = 500

# A sync that takes its time, put before libc's: it counts into a shared file mapped before the
# sandbox, and sleeps with what the sandbox lets through.
SLOW_SYNC = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic uint64_t *count;
__attribute__((constructor)) static void map(void)
{
    int fd = open(getenv("SLOW_SYNC_COUNT"), O_RDWR);
    count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
}
static int slow(int call, int fd)
{
    if (getenv("SLOW_SYNC_MS")) poll(NULL, 0, atoi(getenv("SLOW_SYNC_MS")));
    int r = (int)syscall(call, fd);
    if (count != MAP_FAILED) atomic_fetch_add(count, 1);
    return r;
}
int fdatasync(int fd) { return slow(SYS_fdatasync, fd); }
int fsync(int fd) { return slow(SYS_fsync, fd); }
"""


def slow_disk(d):
    """What to run, with which environment, that every sync takes SYNC_MS; and how many there were."""
    (d / "slow.c").write_text(SLOW_SYNC)
    (d / "count").write_bytes(bytes(4096))
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O", "-o", d / "slow.so", d / "slow.c"], check=True)
    env = {"LD_PRELOAD": str(d / "slow.so"), "SLOW_SYNC_COUNT": str(d / "count"), "SLOW_SYNC_MS": str(SYNC_MS),
           "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
    return str((BUILD.parent if SANITIZED and LONG else BUILD) / "recalld"), env, lambda: struct.unpack("Q", (d / "count").read_bytes()[:8])[0]


def p99(times):
    return sorted(times)[int(len(times) * 0.99)] * 1000


async def watch(port, seconds, clients, request, rest, ahead=1):
    """`clients` that keep asking, `ahead` requests at a time, one that pings and one that asks for stats."""
    end = time.monotonic() + seconds
    pings, stats, answered = [], [], [0]

    async def busy():
        async with websockets.connect(f"ws://127.0.0.1:{port}", max_size=None, ping_interval=None) as ws:
            n = 1
            while time.monotonic() < end:
                for k in range(ahead):
                    await ws.send(json.dumps({**request(n + k), "id": n + k}))
                for _ in range(ahead):
                    r = json.loads(await ws.recv())
                    assert r["id"] == n and (r["status"] == "success" or r["data"]["code"] == "busy"), r
                    answered[0] += r["status"] == "success"
                    n += 1
                if r["status"] != "success":
                    await asyncio.sleep(0.05)

    async def pinging():
        async with websockets.connect(f"ws://127.0.0.1:{port}", ping_interval=None) as ws:
            while time.monotonic() < end:
                began = time.monotonic()
                await (await ws.ping())
                pings.append(time.monotonic() - began)
                await asyncio.sleep(0.01)

    async def asking():
        async with websockets.connect(f"ws://127.0.0.1:{port}", ping_interval=None) as ws:
            while time.monotonic() < end:
                began = time.monotonic()
                await ws.send('{"type":"stats"}')
                await ws.recv()
                stats.append(time.monotonic() - began)
                await asyncio.sleep(0.02)

    await asyncio.gather(pinging(), asking(), *(busy() for _ in range(clients)))
    print(f"{rest}: {answered[0]} answered, ping p99 {p99(pings):.1f} ms of {len(pings)}, stats p99 {p99(stats):.1f} ms")
    return p99(pings), p99(stats), answered[0], len(pings)


def test_pings_are_answered_while_the_encoder_never_rests():
    with scratch() as d:
        if LONG:
            subprocess.run(["/usr/bin/python3", ROOT / "tests/models/make.py", d, "minilm"], check=True, capture_output=True)
        model = next(p.parent for p in (d if LONG else ROOT / "tests/models/tiny").rglob("model.safetensors"))
        with Server("--model", str(model), "--log-level", "warn", "--max-queue", "1000", "--ping-interval", "1", "--ping-timeout", "2") as s:
            words = "the quick brown fox jumps over the lazy dog and runs away from it ".split()
            ping, stats, n, _ = asyncio.run(watch(s.inference, SECONDS, 64, lambda i: {
                "type": "embeddings", "data": {"text": " ".join(words[(i + k) % len(words)] for k in range(60)), "config": {"encoding_format": "base64"}}},
                "encoder"))
            assert n > 0 and ping < (2000 if SANITIZED else 500) and stats < (4000 if SANITIZED else 1000)


def test_pings_are_answered_while_sixty_four_clients_store():
    with Server("--log-level", "warn", "--ping-interval", "1", "--ping-timeout", "2") as s:
        ping, _, n, _ = asyncio.run(watch(s.memory, SECONDS, 64, lambda i: {
            "type": "store", "data": {"text": f"number {i} {time.monotonic_ns()}"}}, "disk"))
        assert n > 0 and ping < 1000


def test_a_slow_disk_holds_up_nobody_and_its_syncs_are_shared():
    with scratch() as d:
        program, env, syncs = slow_disk(d)
        with Server("--log-level", "warn", "--sync", "always", program=program, env=env) as s:
            before, began = syncs(), time.monotonic()
            ping, stats, n, _ = asyncio.run(watch(s.memory, 20 if LONG else 4, 64, lambda i: {
                "type": "store", "data": {"text": f"number {i} {time.monotonic_ns()}"}}, f"syncs of {SYNC_MS} ms"))
            done, took = syncs() - before, time.monotonic() - began
            print(f"{n / took:.1f} stores and {done / took:.2f} syncs a second, {n / done:.1f} stores a sync")
            # The 64 are in two halves, one that is being synced and one that gathers: 32 a sync.
            assert done * SYNC_MS / 1000 <= took and n >= 0.8 * 32 * done
            assert not LONG or (ping <= 50 and stats <= 100)


def test_a_compaction_that_waits_for_a_slow_disk_costs_nothing():
    with scratch() as d:
        program, env, _ = slow_disk(d)
        with Server("--only", "memory", program=program, env=env) as s, Client(s.memory) as c:
            c.ok("store", {"text": "kept"})

            def used():
                stat = pathlib.Path(f"/proc/{s.process.pid}/stat").read_text().rpartition(")")[2].split()
                return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

            before, began = used(), time.monotonic()
            c.ok("compact")
            took, cpu = time.monotonic() - began, used() - before
            assert took >= SYNC_MS / 1000 and cpu <= 0.05, f"{cpu:.2f} s of the processor in {took:.2f} s"


def test_stores_beyond_what_a_batch_holds_wait_without_the_loop():
    with scratch() as d:
        program, env, syncs = slow_disk(d)
        with Server("--log-level", "warn", "--sync", "always", program=program, env=env) as s:
            # 40 x 17 x 17.5 KiB, where two batches have 8 MiB: the rest waits for room.
            before = syncs()
            _, _, n, pings = asyncio.run(watch(s.memory, 10 if LONG else 4, 40, lambda i: {
                "type": "store", "data": {"text": f"{i} {time.monotonic_ns()}".ljust(16000) + "."}}, "batches filled", 17))
            with Client(s.memory) as client:
                lag = client.ok("stats")["loop_lag_ms"]
            print(f"turns of the loop: p99 {lag['p99']:.1f} ms, max {lag['max']:.1f}")
            # A loop that stands still with every batch answers one ping a sync, or two.
            assert n >= 200 and pings >= 5 * (syncs() - before)
            assert not LONG or lag["max"] < SYNC_MS / 2


run(globals())
