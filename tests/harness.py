"""What tests of the real programs share: a server on free ports of the loopback,
requests and replies, and the closing line `N passed, N failed`.

A test is a function whose name begins with test_; run(globals()) runs them all.
BUILD names the directory of the programs (default: build).
"""
import base64
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / os.environ.get("BUILD", "build")
SANITIZED = "asan" in str(BUILD)


class Skip(Exception):
    """Raised by a test that cannot run here."""


class Server:
    """recalld with these flags. `data` is kept over restarts and removed at the end."""

    def __init__(self, *flags, data=None, program="recalld", env=None):
        self.home = tempfile.mkdtemp(prefix="recalld-test-")
        self.data = data or f"{self.home}/data"
        self.flags, self.program, self.env = flags, program, env
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def start(self, wait=15):
        ports = pathlib.Path(self.home) / "ports"
        ports.unlink(missing_ok=True)
        self.stderr = open(f"{self.home}/stderr", "ab")
        env = {k: v for k, v in os.environ.items() if not k.startswith("RECALLD_")}
        env.update(self.env or {})
        args = [BUILD / self.program, "--data", self.data, "--port-file", ports, "--memory-port", "0",
                "--inference-port", "0", *self.flags]
        self.process = subprocess.Popen(args, stderr=self.stderr, env=env)
        end = time.monotonic() + wait
        while not ports.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"did not start: {self.log()[-2000:]}")
            time.sleep(0.01)
        self.ports = dict(line.split() for line in ports.read_text().splitlines())
        self.memory = int(self.ports.get("memory", 0))
        self.inference = int(self.ports.get("inference", 0))

    def log(self):
        return pathlib.Path(f"{self.home}/stderr").read_text(errors="replace")

    def stop(self, sig=signal.SIGTERM, wait=30):
        """End it; its exit status."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(wait) if self.process else 0

    def __exit__(self, *exc):
        code = self.stop()
        self.stderr.close()
        log = self.log()
        shutil.rmtree(self.home, ignore_errors=True)
        if exc[0] is None:
            assert code in (0, -9), f"exit {code}: {log[-3000:]}"
            assert "Sanitizer" not in log and "runtime error" not in log, log[-4000:]


class Client:
    """A WebSocket client of our own, small and blocking: what it sends is exactly what is asked."""

    def __init__(self, port, path="/", headers=(), host="127.0.0.1", timeout=20):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: localhost:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.head = self.until(b"\r\n\r\n").decode()
        self.status = int(self.head.split()[1])

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError(self.buffer[:200])
        self.buffer += data

    def until(self, mark):
        while mark not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(mark)
        return head + mark

    def take(self, n):
        while len(self.buffer) < n:
            self.more()
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    @staticmethod
    def frame(op, payload=b"", fin=True, mask=b"\x01\x02\x03\x04"):
        n = len(payload)
        size = bytes([128 | n]) if n < 126 else b"\xfe" + struct.pack("!H", n) if n < 65536 else b"\xff" + struct.pack("!Q", n)
        key = int.from_bytes((mask * (n // 4 + 1))[:n], "big")
        body = (int.from_bytes(payload, "big") ^ key).to_bytes(n, "big") if n else b""
        return bytes([128 * fin | op]) + size + mask + body

    def send(self, op, payload=b"", fin=True):
        self.socket.sendall(self.frame(op, payload, fin))

    def receive(self):
        """The next frame: (op, payload)."""
        b0, b1 = self.take(2)
        n = b1 & 127
        if n == 126:
            n = struct.unpack("!H", self.take(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self.take(8))[0]
        return b0 & 15, self.take(n)

    def text(self, message):
        self.send(1, message if isinstance(message, bytes) else message.encode())

    def reply(self):
        """The next message as JSON; pings are answered on the way."""
        while True:
            op, payload = self.receive()
            if op == 1:
                return json.loads(payload)
            if op == 9:
                self.send(10, payload)
            elif op == 8:
                raise EOFError(f"closed with {struct.unpack('!H', payload[:2])[0] if payload else None} {payload[2:]}")

    def ask(self, kind, data=None, **envelope):
        """One request, its reply."""
        message = {"type": kind, **envelope}
        if data is not None:
            message["data"] = data
        self.text(json.dumps(message))
        return self.reply()

    def ok(self, kind, data=None, **envelope):
        reply = self.ask(kind, data, **envelope)
        assert reply["status"] == "success", reply
        return reply["data"]

    def fails(self, code, kind, data=None, **envelope):
        """It must fail with this code; the sentence."""
        reply = self.ask(kind, data, **envelope)
        assert reply["status"] == "error" and reply["data"]["code"] == code, (code, reply)
        return reply["error"]

    def closed(self):
        """Read to the end: (close code, reason), and TCP must be over behind it."""
        while True:
            op, payload = self.receive()
            if op == 8:
                code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                try:
                    self.more()
                except EOFError:
                    return code, payload[2:].decode()
                raise AssertionError(f"bytes behind the close: {self.buffer!r}")


def http(port, request, host="127.0.0.1", timeout=10):
    """Send bytes, read to the end of TCP or to one whole answer: (status, headers, body)."""
    with socket.create_connection((host, port), timeout=timeout) as s:
        s.sendall(request if isinstance(request, bytes) else request.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = s.recv(65536)
            if not more:
                return (0, {}, data)
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        want = int(headers.get("content-length", 0)) if not request[:4] in ("HEAD", b"HEAD") else 0
        while len(body) < want:
            more = s.recv(65536)
            if not more:
                break
            body += more
        return int(lines[0].split()[1]), headers, body


def get(port, path, *headers, method="GET", host=None):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'localhost:{port}'}", *headers, "", ""]
    return http(port, "\r\n".join(lines))


def recalld(*args, input=None, env=None, program="recalld", timeout=60):
    """Run a program to its end: the finished process, text in and out."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RECALLD_")}
    return subprocess.run([BUILD / program, *map(str, args)], input=input, capture_output=True, text=True,
                          env={**clean, **(env or {})}, timeout=timeout)


@contextlib.contextmanager
def scratch():
    path = tempfile.mkdtemp(prefix="recalld-test-")
    try:
        yield pathlib.Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def run(names):
    passed = failed = skipped = 0
    only = sys.argv[1:]
    for name, test in list(names.items()):
        if not name.startswith("test_") or not callable(test) or (only and not any(o in name for o in only)):
            continue
        try:
            test()
            passed += 1
        except Skip as why:
            skipped += 1
            print(f"skipped {name}: {why}")
        except Exception:
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(bool(failed))
