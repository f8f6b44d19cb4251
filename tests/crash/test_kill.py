#!/usr/bin/env python3
"""kill -9 of the real server at random moments, while clients store and delete and
compactions run: what was acknowledged is there byte for byte and in order, what was
deleted is gone, nothing is there that was never sent.

    tests/crash/test_kill.py [KILLS [SEED]]
"""
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Client, Server, get  # noqa: E402

CLIENTS = 6


class Ledger:
    """What was sent and what was answered, over all lives of the server."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = {}      # text -> metadata sent with it
        self.stored = {}    # id -> (text, seq)
        self.deleting = set()
        self.deleted = set()

    def victim(self, rng):
        with self.lock:
            free = [i for i in self.stored if i not in self.deleting]
            if len(free) < 60:
                return None
            pick = rng.choice(free)
            self.deleting.add(pick)
            return pick


def work(ledger, port, name, rng, stop):
    """One client until the server is gone."""
    n = 0
    try:
        with Client(port) as client:
            while not stop.is_set():
                n += 1
                gone = ledger.victim(rng) if rng.random() < 0.45 else None
                if gone:
                    client.ok("delete", {"id": gone})
                    with ledger.lock:
                        ledger.deleted.add(gone)
                elif rng.random() < 0.02:
                    client.ask("compact")
                else:
                    text = f"{name} {n} " + rng.choice("äxyz€") * rng.choice([3, 50, 900, 5000])
                    metadata = {"n": n, "by": name}
                    with ledger.lock:
                        ledger.sent[text] = metadata
                    data = client.ok("store", {"text": text, "metadata": metadata})
                    assert data["durable"], data
                    with ledger.lock:
                        ledger.stored[data["id"]] = (text, data["seq"])
    except (OSError, EOFError):
        pass


def everything(port):
    found = []
    with Client(port) as client:
        after = None
        while True:
            data = client.ok("export", {"count": 500, **({"after": after} if after else {})})
            found += data["memories"]
            after = data["next"]
            if not after:
                return found


def judge(ledger, found, life):
    ids = [m["id"] for m in found]
    assert len(set(ids)) == len(ids), f"life {life}: twice"
    there = set(ids)
    for memory in found:
        assert ledger.sent.get(memory["text"]) == memory["metadata"], f"life {life}: never sent: {memory['text'][:40]}"
        assert memory["id"] not in ledger.deleted, f"life {life}: deleted and back: {memory['id']}"
        if memory["id"] in ledger.stored:
            assert ledger.stored[memory["id"]][0] == memory["text"], f"life {life}: another text"
    for known, (text, _) in ledger.stored.items():
        assert known in there or known in ledger.deleting, f"life {life}: lost: {known} {text[:40]}"
    order = [ledger.stored[i][1] for i in ids if ledger.stored.get(i, (0, -1))[1] > 0]
    assert order == sorted(order), f"life {life}: out of order"
    for gone in ledger.deleting - there:
        ledger.stored.pop(gone, None)
        ledger.deleted.add(gone)
    ledger.deleting.clear()
    for memory in found:  # stored and not acknowledged: it is there, so it counts from now on
        ledger.stored.setdefault(memory["id"], (memory["text"], -1))
    for lost in [i for i in ledger.stored if i not in there]:
        del ledger.stored[lost]


def helper_dies():
    """A helper that is killed is a storage failure: reads go on, nothing spins, and the
    next start has what was acknowledged."""
    with Server() as server:
        with Client(server.memory) as client:
            client.ok("store", {"text": "before"})
            helper = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout
            os.kill(int(helper.split()[0]), signal.SIGKILL)
            time.sleep(0.2)
            client.fails("storage", "store", {"text": "after"})
            assert client.ok("retrieve")["count"] == 1
            began = ticks(server.process.pid)
            time.sleep(1)
            spent = ticks(server.process.pid) - began
            assert spent < 10, f"{spent} ticks of the clock in an idle second"
            assert get(server.memory, "/readyz")[0] == 503
        assert server.stop() == 74
        server.start()
        assert [m["text"] for m in everything(server.memory)] == ["before"]


def inline_answers():
    """Without a helper a single client is answered at once, in every mode, and when idle
    the server sleeps."""
    for mode in ("always", "0.2", "never"):
        with Server("--inline-sync", "--sync", mode) as server:
            with Client(server.memory, timeout=10) as client:
                for i in range(5):
                    data = client.ok("store", {"text": f"number {i}"})
                    assert data["durable"] == (mode == "always"), (mode, data)
                assert client.ok("sync")["durable"]
                client.ok("compact")
                time.sleep(1.5)
                began = ticks(server.process.pid)
                time.sleep(0.5)
                assert ticks(server.process.pid) - began < 5, "it does not sleep"


def ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().split()
    return int(fields[13]) + int(fields[14])


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    ledger, compactions = Ledger(), 0
    server = Server()
    with server:
        for life in range(kills):
            stop = threading.Event()
            threads = [threading.Thread(target=work, args=(ledger, server.memory, f"{life}-{c}",
                                                           random.Random(rng.random()), stop))
                       for c in range(CLIENTS)]
            for t in threads:
                t.start()
            time.sleep(rng.uniform(0.02, 0.4))
            server.stop(signal.SIGKILL)
            stop.set()
            for t in threads:
                t.join()
            compactions += (pathlib.Path(server.data) / "memory.log.tmp").exists()
            server.flags = ("--inline-sync",) if life % 4 == 3 else ()
            server.start()
            judge(ledger, everything(server.memory), life)
        live = len(ledger.stored)
    print(f"kill: {kills} kills, {len(ledger.sent)} stores sent, {live} live at the end, {compactions} killed "
          f"while a compaction ran: all there")
    helper_dies()
    inline_answers()
    print(f"{kills + 2} passed, 0 failed")


main()
