"""Many connections, kills and slow neighbours against the whole daemon.

LONG=1 does more of it: 200 kills instead of 12.
"""
import base64
import json
import os
import pathlib
import random
import resource
import select
import signal
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Client, Server, run  # noqa: E402

LONG = bool(os.environ.get("LONG"))


def vector(rng, n=384):
    v = [rng.gauss(0, 1) for _ in range(n)]
    return base64.b64encode(struct.pack(f"<{n}f", *v)).decode()


def test_two_thousand_connections_store_and_search():
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with Server("--max-connections", "4000", "--sync", "never", "--log-level", "warn") as s:
        clients = []
        for i in range(2000):
            clients.append(Client(s.memory, timeout=60))
        for i, c in enumerate(clients):
            c.text(json.dumps({"type": "store", "data": {"text": f"memory {i} of its own connection"}, "id": i}))
        for i, c in enumerate(clients):
            r = c.reply()
            assert r["status"] == "success" and r["id"] == i, r
        for i, c in enumerate(clients):
            c.text(json.dumps({"type": "retrieve", "data": {"text": f"memory {i} of its own connection", "count": 1}, "id": i}))
        for i, c in enumerate(clients):
            r = c.reply()
            assert r["data"]["memories"][0]["text"] == f"memory {i} of its own connection", r
        st = clients[0].ok("stats")
        assert st["connections"]["active"] == 2000 and st["memory_count"] == 2000
        for c in clients:
            c.socket.close()


def test_above_the_limit_is_503_with_retry_after():
    with Server("--max-connections", "5") as s:
        inside = [Client(s.memory) for _ in range(5)]
        c = Client(s.memory)
        assert c.status == 503 and "retry-after:" in c.head.lower(), c.head
        inside[0].socket.close()
        time.sleep(0.2)
        assert Client(s.memory).status == 101


def kill_once(s, rng, acknowledged, serial):
    """Store from several connections until a random moment, then SIGKILL."""
    end = time.monotonic() + rng.uniform(0.02, 0.4)
    clients = [Client(s.memory) for _ in range(8)]
    asked = {}

    def ask(c):
        serial[0] += 1
        text = f"acknowledged {serial[0]} " + "x" * rng.randrange(1, 400)
        asked[c] = text
        c.text(json.dumps({"type": "store", "data": {"text": text, "metadata": {"n": serial[0]}}}))
    for c in clients:
        ask(c)
    by_socket = {c.socket: c for c in clients}
    while time.monotonic() < end:
        for sock in select.select(list(by_socket), [], [], 0.01)[0]:
            c = by_socket[sock]
            r = c.reply()
            assert r["status"] == "success" and r["data"]["durable"] is True, r
            acknowledged[r["data"]["id"]] = asked[c]
            if rng.random() < 0.3 and len(acknowledged) > 50:
                victim = rng.choice(list(acknowledged))
                text = acknowledged.pop(victim)
                c.text(json.dumps({"type": "delete", "data": {"id": victim}}))
                try:
                    r = c.reply()
                    assert r["status"] == "success", r
                except AssertionError:
                    acknowledged[victim] = text
                    raise
            ask(c)
    s.process.send_signal(signal.SIGKILL)
    s.process.wait()
    for c in clients:      # what was read before the kill counts; more may have been sent
        c.socket.close()


def test_kills_under_load_lose_nothing_that_was_acknowledged():
    rng = random.Random(20261125)
    acknowledged, serial = {}, [0]
    with Server("--log-level", "warn") as s:
        for _ in range(200 if LONG else 12):
            kill_once(s, rng, acknowledged, serial)
            s.start()
            with Client(s.memory) as c:
                found, after = {}, None
                while True:
                    page = c.ok("export", {"count": 1000, **({"after": after} if after else {})})
                    found.update((m["id"], m["text"]) for m in page["memories"])
                    after = page["next"]
                    if not after:
                        break
                for i, text in acknowledged.items():
                    assert found.get(i) == text, (i, text, found.get(i))


def test_ten_thousand_memories_survive_a_kill():
    rng = random.Random(1)
    with Server("--log-level", "warn") as s:
        clients = [Client(s.memory, timeout=60) for _ in range(32)]
        ids, n = [], 10000
        for first in range(0, n, 32 * 8):
            batch = range(first, min(n, first + 32 * 8))
            for i in batch:
                clients[i % 32].text(json.dumps({"type": "store", "data": {"text": f"number {i}", "embedding": vector(rng, 384)}}))
            for i in batch:
                r = clients[i % 32].reply()
                assert r["status"] == "success", r
                ids.append((r["data"]["id"], f"number {i}"))
        s.process.send_signal(signal.SIGKILL)
        s.process.wait()
        s.start(60)
        with Client(s.memory) as c:
            assert c.ok("stats")["memory_count"] == n
            found, after = {}, None
            while True:
                page = c.ok("export", {"count": 500, **({"after": after} if after else {})})
                found.update((m["id"], m["text"]) for m in page["memories"])
                after = page["next"]
                if not after:
                    break
            assert all(found[i] == text for i, text in ids)


run(globals())
