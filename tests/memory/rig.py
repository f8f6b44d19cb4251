"""A real server on a free port, clients to it, and a runner that counts.

Every function test_* of a script is run with a server of its own, with the
flags that @flags(...) gives it.
"""
import asyncio
import base64
import json
import pathlib
import signal
import struct
import subprocess
import sys
import time
import traceback

import websockets

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

RECALLD = harness.BUILD / "recalld"
DIMENSION = 384


class Failed(Exception):
    """An error reply; str() is its sentence."""

    def __init__(self, reply):
        super().__init__(reply["error"])
        self.code = reply["data"]["code"]
        self.reply = reply


class Client:
    def __init__(self, ws):
        self.ws, self.events = ws, []

    async def raw(self, text):
        await self.ws.send(text)
        return await self.reply()

    async def reply(self):
        while True:
            message = json.loads(await asyncio.wait_for(self.ws.recv(), 60))
            if "event" not in message:
                return message
            self.events.append(message)

    async def event(self):
        if self.events:
            return self.events.pop(0)
        return json.loads(await asyncio.wait_for(self.ws.recv(), 20))

    async def ask(self, type, data=None, **envelope):
        reply = await self.raw(json.dumps({"type": type, **({} if data is None else {"data": data}), **envelope}))
        if reply["status"] == "error":
            raise Failed(reply)
        return reply["data"]

    async def store(self, text, **data):
        return await self.ask("store", {"text": text, **data})

    async def close(self):
        await self.ws.close()


class Server(harness.Server):
    def __init__(self, *flags):
        super().__init__("--log-level", "error", *flags)
        self.clients = []

    async def client(self, port=None):
        ws = await websockets.connect("ws://127.0.0.1:%d" % (port or self.memory), max_size=None, compression=None,
                                      ping_interval=None)
        self.clients.append(Client(ws))
        return self.clients[-1]

    async def close(self):
        for c in self.clients:
            c.ws.transport.abort() if self.process.poll() is not None else await c.close()
        self.clients.clear()

    async def halt(self, kill=False):
        if kill:
            self.stop(signal.SIGKILL)
        await self.close()
        assert kill or self.stop() == 0

    async def restart(self, kill=False):
        await self.halt(kill)
        self.start()


def run(args, text=None):
    """recalld once, for maintenance: exit status, stdout, stderr."""
    p = subprocess.run([RECALLD, *args], input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def axis(*values):
    """A vector that begins with these numbers."""
    return list(values) + [0] * (DIMENSION - len(values))


def base64_of(vector):
    return base64.b64encode(struct.pack("<%df" % len(vector), *vector)).decode()


def vector_of(text):
    raw = base64.b64decode(text)
    return struct.unpack("<%df" % (len(raw) // 4), raw)


def iso(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms // 1000)) + ".%03dZ" % (ms % 1000)


def now():
    return int(time.time() * 1000)


def near(a, b, room=1e-6):
    assert abs(a - b) <= room, "%r is not %r" % (a, b)


async def refused(code, begins, wait):
    """The command is answered with this error."""
    try:
        got = await wait
    except Failed as e:
        assert e.code == code and str(e).startswith(begins), "%s: %s, want %s: %s" % (e.code, e, code, begins)
        return e
    raise AssertionError("no error %s but %r" % (code, got))


def flags(*values):
    def mark(f):
        f.flags = values
        return f
    return mark


async def run_one(f, server):
    try:
        await f(server)
    finally:
        await server.close()


def main(module):
    wanted = sys.argv[1:]
    passed = failed = 0
    for name, f in list(vars(module).items()):
        if not name.startswith("test_") or (wanted and not any(w in name for w in wanted)):
            continue
        try:
            with Server(*getattr(f, "flags", ())) as server:
                asyncio.run(asyncio.wait_for(run_one(f, server), 300))
            passed += 1
        except BaseException as e:
            if isinstance(e, KeyboardInterrupt):
                raise
            failed += 1
            print("FAIL %s" % name)
            traceback.print_exc(file=sys.stdout)
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)
