#!/usr/bin/env python3
"""Stores and searches over the wire: wire.py PATH-OF-RECALLD [COUNT ...].

Stores with vectors in base64 under --sync never, 64 connections of 8 requests
each under way; then the whole `search` command, one at a time. Prints medians.
"""
import base64
import json
import os
import random
import selectors
import socket
import struct
import subprocess
import sys
import tempfile
import time

import numpy

DIMENSION = 384


def frame(text):
    data = text.encode()
    head = bytes([0x81, 0x80 | (len(data) if len(data) < 126 else 126 if len(data) < 65536 else 127)])
    if len(data) >= 65536:
        head += struct.pack(">Q", len(data))
    elif len(data) >= 126:
        head += struct.pack(">H", len(data))
    return head + b"\0\0\0\0" + data


class Client:
    def __init__(self, port):
        self.s = socket.create_connection(("127.0.0.1", port))
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        self.buf = b""
        while b"\r\n\r\n" not in self.buf:
            self.buf += self.s.recv(4096)
        self.buf = self.buf.split(b"\r\n\r\n", 1)[1]

    def messages(self):
        out = []
        while len(self.buf) >= 2:
            n, at = self.buf[1] & 127, 2
            if n == 126:
                if len(self.buf) < 4:
                    break
                n, at = struct.unpack(">H", self.buf[2:4])[0], 4
            elif n == 127:
                if len(self.buf) < 10:
                    break
                n, at = struct.unpack(">Q", self.buf[2:10])[0], 10
            if len(self.buf) < at + n:
                break
            out.append(self.buf[at:at + n])
            self.buf = self.buf[at + n:]
        return out

    def ask(self, text):
        self.s.sendall(frame(text))
        while True:
            got = self.messages()
            if got:
                return got[0]
            self.buf += self.s.recv(1 << 20)


def vectors(n, kind, rng):
    if kind == "random":
        v = rng.standard_normal((n, DIMENSION))
    else:
        centres = numpy.random.default_rng(7).standard_normal((200, DIMENSION))
        v = centres[rng.integers(0, 200, n)] + 0.3 * rng.standard_normal((n, DIMENSION))
    return (v / numpy.linalg.norm(v, axis=1, keepdims=True)).astype("<f4")


def store_frames(v, first):
    out = []
    for i, x in enumerate(v):
        out.append(frame(json.dumps({"type": "store", "data": {
            "text": "memory number %d about topic %d" % (first + i, i % 100),
            "embedding": base64.b64encode(x.tobytes()).decode()}})))
    return out


def load(clients, frames, depth=8):
    """All frames over all connections, `depth` under way on each; seconds."""
    sel = selectors.DefaultSelector()
    for c in clients:
        sel.register(c.s, selectors.EVENT_READ, c)
    began, at, done = time.perf_counter(), 0, 0
    for c in clients:
        c.s.sendall(b"".join(frames[at:at + depth]))
        at += depth
    while done < len(frames):
        for key, _ in sel.select():
            c = key.data
            c.buf += c.s.recv(1 << 18)
            got = c.messages()
            if any(b'"status":"error"' in m for m in got):
                sys.exit("error: %r" % got[0][:300])
            done += len(got)
            if got and at < len(frames):
                c.s.sendall(b"".join(frames[at:at + len(got)]))
                at += len(got)
    return time.perf_counter() - began


def cpu_of(pid):
    f = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


def main():
    recalld = sys.argv[1]
    counts = [int(a) for a in sys.argv[2:]] or [1000, 10000, 100000]
    for kind in ("random", "clustered"):
        with tempfile.TemporaryDirectory() as d:
            ports = os.path.join(d, "ports")
            p = subprocess.Popen([recalld, "--only", "memory", "--memory-port", "0", "--data", d + "/data", "--port-file", ports,
                                  "--sync", "never", "--log-level", "error", "--max-memories", "200000"])
            while not os.path.exists(ports):
                time.sleep(0.01)
            port = int(open(ports).readline().split()[1])
            clients = [Client(port) for _ in range(64)]
            rng, have = numpy.random.default_rng(1), 0
            for count in counts:
                before = cpu_of(p.pid)
                seconds = load(clients, store_frames(vectors(count - have, kind, rng), have))
                print("%s: %d to %d stored, %.0f/s (%.0f/s by CPU time)" % (
                    kind, have, count, (count - have) / seconds, (count - have) / max(cpu_of(p.pid) - before, 0.01)), flush=True)
                have = count
                extra = store_frames(vectors(200, kind, rng), 10**6 + count)
                seconds = load(clients, extra, 2)
                have += 200
                queries = vectors(101, kind, rng)
                times = []
                for q in queries:
                    text = json.dumps({"type": "search", "data": {"embedding": base64.b64encode(q.tobytes()).decode(), "limit": 10}})
                    t = time.perf_counter()
                    reply = json.loads(clients[0].ask(text))
                    times.append((time.perf_counter() - t) * 1e3)
                    assert reply["data"]["searched"] == have, reply
                print("%s: at %d: store %.0f/s, search median %.2f ms, worst %.2f" % (
                    kind, count, 200 / seconds, sorted(times)[50], max(times)), flush=True)
            p.terminate()
            p.wait()


main()
