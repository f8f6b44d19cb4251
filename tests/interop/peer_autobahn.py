"""Other people's stack: python3-autobahn, as an echo server and as a client.

    peer_autobahn.py server              prints its port, echoes in fragments with pings between
    peer_autobahn.py client PORT SEED N  N random sessions with an echo server
"""
import asyncio
import random
import sys

from autobahn.asyncio.websocket import (WebSocketClientFactory, WebSocketClientProtocol,
                                        WebSocketServerFactory, WebSocketServerProtocol)

SIZES = [0, 1, 5, 125, 126, 127, 300, 4096, 65535, 65536, 65537, 300000]
CHARS = "aé€😀0"
PATIENT = {"openHandshakeTimeout": 30, "closeHandshakeTimeout": 30}  # the default is a second


def message(rng):
    n = rng.randrange(200) if rng.random() < 0.9 else rng.choice(SIZES)
    binary = rng.random() < 0.5
    return rng.randbytes(n) if binary else "".join(rng.choices(CHARS, k=n)).encode(), binary


def fragment_size(rng, data):
    """None, or the bytes of each frame: text may be cut within a character."""
    return rng.randint(max(1, len(data) // 20), len(data)) if data and rng.random() < 0.5 else None


class Echo(WebSocketServerProtocol):
    rng = random.Random(1)

    def onMessage(self, payload, isBinary):
        if self.rng.random() < 0.3:
            self.sendPing(self.rng.randbytes(self.rng.randrange(126)))
        self.sendMessage(payload, isBinary, fragmentSize=fragment_size(self.rng, payload))


class Session(WebSocketClientProtocol):
    def onOpen(self):
        self.rng, self.done = self.factory.rng, self.factory.done
        self.left, self.waiting, self.pings = self.rng.randrange(12), [], []
        self.code = self.rng.choice([1000, 3000, 4999])
        self.more()

    def more(self):
        while self.left and len(self.waiting) < 4:
            data, binary = message(self.rng)
            if self.rng.random() < 0.3:
                self.pings.append(self.rng.randbytes(self.rng.randint(1, 125)))
                self.sendPing(self.pings[-1])
            self.waiting.append((data, binary))
            self.left -= 1
            self.sendMessage(data, binary, fragmentSize=fragment_size(self.rng, data))
        if not (self.left or self.waiting or self.pings):
            self.sendClose(self.code, "bye")

    def fail(self, why):
        if not self.factory.done.done():
            self.factory.done.set_exception(AssertionError(why))

    def onMessage(self, payload, isBinary):
        if not self.waiting or self.waiting.pop(0) != (payload, isBinary):
            self.fail("another message came back")
        self.more()

    def onPong(self, payload):
        if self.pings and self.pings[0] == payload:
            self.pings.pop(0)
        self.more()

    def onClose(self, wasClean, code, reason):
        if not wasClean or code != getattr(self, "code", None):
            self.fail(f"closed with {code}: {reason}")
        elif not self.factory.done.done():
            self.factory.done.set_result(None)


async def serve():
    factory = WebSocketServerFactory()
    factory.protocol = Echo
    factory.setProtocolOptions(echoCloseCodeReason=True, **PATIENT)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()


async def client(port, seed, n):
    loop = asyncio.get_running_loop()
    for i in range(seed, seed + n):
        factory = WebSocketClientFactory(f"ws://127.0.0.1:{port}/")
        factory.protocol, factory.rng, factory.done = Session, random.Random(i), loop.create_future()
        factory.setProtocolOptions(**PATIENT)
        transport, _ = await loop.create_connection(factory, "127.0.0.1", port)
        try:
            await asyncio.wait_for(factory.done, 60)
        except Exception as e:
            sys.exit(f"session {i}: {e!r}")
        transport.close()


if sys.argv[1] == "server":
    asyncio.run(serve())
else:
    asyncio.run(client(*map(int, sys.argv[2:5])))
