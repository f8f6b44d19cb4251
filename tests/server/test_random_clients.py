#!/usr/bin/env python3
"""Random clients of both servers at once: requests and frames, whole, wrong and cut, in random pieces;
some never read, some end half of their connection or reset it amid of whatever was going on. Signals
come, too, and turns that take long.

The server lives, forgets them all and ends with 0, and no sanitizer speaks up. SEED=N repeats one session.
"""
import json
import os
import random
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import ROOT, Client, Server, get, run  # noqa: E402

LONG = bool(os.environ.get("LONG"))
MOST = 120                     # clients at a time
TINY = ROOT / "tests/models/tiny"
MODEL = ["--model", TINY, "--adapter-dir", TINY / "adapters", "--adapter", f"a={TINY}/adapters/all", "--max-queue", "20"]
FULL = ["--max-memories", "300", "--when-full", "evict", "--forget", "0.2"]
UPGRADE = (b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
STATS = b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n"
frame = Client.frame


class Swarm:
    """The clients of one session: [socket, bytes to be sent, whether it never reads] each."""

    def __init__(self, ports, seed):
        self.ports, self.random, self.clients = ports, random.Random(seed), []

    def request(self):
        r = self.random
        kind, data = r.choice([
            ("ping", {}), ("stats", {}), ("export", {"count": 1000}), ("sync", {}), ("compact", {}), ("clear", {"confirm": True}),
            ("store", {"text": f"word{r.randrange(10**6)} " + "y " * r.randrange(5000)}),
            ("store", {"text": f"note: w{r.randrange(400)}", "adapter": "a"}),
            ("search", {"text": "word", "limit": 100}), ("retrieve", {"count": 1000, "include_embeddings": True}),
            ("subscribe", {"events": ["memory_added", "stats"], "interval_ms": 100}), ("unsubscribe", {}),
            ("subscribe", {"events": ["match"], "query": {"text": "word", "min_similarity": -1}}),
            ("embeddings", {"text": ["a b c " * r.randrange(2000) for _ in range(r.randrange(1, 60))]}),
            ("embeddings", {"text": "hello", "adapter": r.choice("ab")}), ("adapters", {}),
            ("load_adapter", {"name": r.choice("ab"), "path": r.choice(["all", "qv", "none"])}),
            ("unload_adapter", {"name": r.choice("ab")}),
            ("process", {"text": "hello " * r.randrange(1000), "context": ["a", "b"]})])
        return frame(1, json.dumps({"type": kind, "id": "x" * r.randrange(128), "data": data}).encode())

    def odd(self):
        r = self.random
        return r.choice([frame(9, r.randbytes(r.randrange(126))), frame(1, b'{"type":', False), frame(0, b"abc"),
                         frame(1, b"\xff"), frame(8, b"\x03\xe8"), b"\x82\xff\0\0\0\0\0\x0f\0\0\0\0\0\0abc"])

    def opening(self):
        r = self.random
        if r.random() < 0.1:
            return STATS * r.randrange(500)
        sent = UPGRADE + b"".join(self.odd() if r.random() < 0.2 else self.request() for _ in range(r.randrange(8)))
        return sent[:r.randrange(len(sent))] if r.random() < 0.3 else sent

    def come(self):
        s = socket.socket()
        if self.random.random() < 0.5:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect(("127.0.0.1", self.random.choice(self.ports)))
        s.setblocking(False)
        self.clients.append([s, self.opening(), self.random.random() < 0.4])

    def send(self, c):
        if not c[1] and self.random.random() < 0.5:
            c[1] = self.request() * self.random.randrange(1, 4)
        c[1] = c[1][c[0].send(c[1][:self.random.choice([1, 10, 1000, 10**6])]):] if c[1] else b""

    def receive(self, c):
        if not c[2] and not c[0].recv(self.random.choice([100, 10**6])):
            self.leave(c)

    def leave(self, c):
        if self.random.random() < 0.5:               # a reset instead of an end
            c[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c[0].close()
        self.clients.remove(c)

    def step(self):
        r = self.random
        what = r.randrange(24)
        if what < 10 and len(self.clients) < MOST:
            self.come()
            return
        if not self.clients:
            return
        c = r.choice(self.clients)
        try:
            if what < 16:
                self.send(c)
            elif what < 22:
                self.receive(c)
            elif what < 23:
                if r.random() < 0.3:
                    c[0].shutdown(r.choice([socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR]))
            elif r.random() < 0.8:
                self.leave(c)
        except BlockingIOError:
            pass
        except OSError:
            c[0].close()
            self.clients.remove(c)


def connected(port):
    return json.loads(get(port, "/stats")[2])["connections"]["active"]


def session(seed, steps):
    r = random.Random(seed)
    times = [x for name in ("ping-interval", "ping-timeout", "close-timeout", "handshake-timeout") for x in (f"--{name}", "1")]
    with Server(*times, "--message-timeout", "2", "--log-level", "warn", "--max-connections", "150",
                *r.choice([[], MODEL]), *r.choice([[], FULL]), "--sync", r.choice(["never", "always", "0.05"]),
                "--buffer-memory", r.choice(["70000", "300000", "2000000", "20000000"]),
                "--max-message", r.choice(["70000", "1048576", "4000000"]),
                "--max-reply", r.choice(["65536", "4194304"])) as s:
        swarm = Swarm((s.memory, s.inference), seed)
        for n in range(steps):
            swarm.step()
            if n % 50 == 0:
                s.process.send_signal(r.choice([signal.SIGSTOP, signal.SIGHUP, signal.SIGUSR1] + [signal.SIGCONT] * 9))
                time.sleep(r.random() * 0.02)
                s.process.send_signal(signal.SIGCONT)
                assert s.process.poll() is None, f"SEED={seed}: ended with {s.process.poll()}\n{s.log()[-4000:]}"
        while swarm.clients:
            swarm.leave(swarm.clients[-1])
        end = time.monotonic() + 30
        while max(connected(s.memory), connected(s.inference)) > 0:
            assert time.monotonic() < end, f"SEED={seed}: connections that are gone are still there"
            time.sleep(0.1)


def test_random_clients_leave_no_trace():
    first = int(os.environ.get("SEED", random.SystemRandom().randrange(10**9)))
    for seed in [first] if "SEED" in os.environ else range(first, first + (6 if LONG else 1)):
        print(f"SEED={seed}", flush=True)
        session(seed, 20000 if LONG else 4000)


run(globals())
