"""A recalld of one's own for a test, and one connection to talk to it."""
import asyncio
import base64
import json
import os
import shutil
import struct
import subprocess
import tempfile
import time

import websockets

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TINY = os.path.join(TREE, "tests", "models", "tiny")


class Server:
    """with Server("--only", "inference") as s: ...; the program is $BUILD/recalld, ports are any free ones."""

    def __init__(self, *flags):
        program = os.path.join(TREE, os.environ.get("BUILD", "build"), "recalld")
        self.dir = tempfile.mkdtemp(prefix="recalld-inference-")
        self.command = [program, "--data", os.path.join(self.dir, "data"), "--memory-port", "0", "--inference-port",
                        "0", "--port-file", os.path.join(self.dir, "ports"), "--log-level", "warn", *flags]

    def __enter__(self):
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.process = subprocess.Popen(self.command, stderr=self.log, cwd=TREE)
        end = time.monotonic() + 20
        while not os.path.exists(os.path.join(self.dir, "ports")):
            if self.process.poll() is not None or time.monotonic() > end:
                self.log.seek(0)
                raise RuntimeError(f"no server: {self.process.poll()} {self.log.read()}")
            time.sleep(0.01)
        with open(os.path.join(self.dir, "ports")) as f:
            self.ports = {name: int(port) for name, port in (line.split() for line in f)}
        return self

    def __exit__(self, *_):
        self.process.terminate()
        code = self.process.wait(20)
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        shutil.rmtree(self.dir)
        if code or "ERROR: AddressSanitizer" in text or "runtime error" in text:
            raise RuntimeError(f"the server ended with {code}\n{text}")

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
