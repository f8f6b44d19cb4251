"""A recalld of one's own for a test, and one connection to talk to it."""
import asyncio
import base64
import json
import os
import struct
import sys

import websockets

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(TREE, "tests", "models", "tiny")

sys.path.insert(0, os.path.join(TREE, "tests"))
import harness  # noqa: E402


class Server(harness.Server):
    """with Server("--only", "inference") as s: ...; connections are made by connect()."""

    def __init__(self, *flags):
        super().__init__("--log-level", "warn", *flags)

    def connect(self, endpoint="inference"):
        return websockets.connect(f"ws://localhost:{self.ports[endpoint]}/", max_size=None)


async def ask(ws, kind, data=None, **envelope):
    message = {"type": kind, **envelope}
    if data is not None:
        message["data"] = data
    await ws.send(json.dumps(message))
    return json.loads(await asyncio.wait_for(ws.recv(), 60))


async def data_of(ws, kind, data=None):
    reply = await ask(ws, kind, data)
    assert reply["status"] == "success", reply
    return reply["data"]


def floats(text):
    raw = base64.b64decode(text)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def single(v):
    """Numbers as the float32 that they were printed from."""
    return list(struct.unpack(f"<{len(v)}f", struct.pack(f"<{len(v)}f", *v)))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


class Tally:
    """Counts checks; one that fails is printed."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, right, *what):
        if right:
            self.passed += 1
        else:
            self.failed += 1
            print("FAILED:", *what)

    def equal(self, got, want, *what):
        self(got == want, *what, "got", repr(got)[:100], "want", repr(want)[:100])

    def near(self, got, want, eps, *what):
        self(abs(got - want) <= eps, *what, "got", got, "want", want)

    def refused(self, reply, code, sentence, *what):
        right = (reply.get("status") == "error" and reply.get("data", {}).get("code") == code
                 and str(reply.get("error", "")).startswith(sentence))
        self(right, *what, "got", json.dumps(reply)[:300], "want", code, sentence)

    def end(self, name):
        print(f"{name}: {self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0
