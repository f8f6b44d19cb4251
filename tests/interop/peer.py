"""Other people's stack: python3-websockets, as an echo server and as a client.

    peer.py server              prints its port, echoes in random fragments with pings between
    peer.py client PORT SEED N  N random sessions with an echo server
"""
import asyncio
import random
import sys

import websockets

SIZES = [0, 1, 5, 125, 126, 127, 300, 4096, 65535, 65536, 65537, 300000]
CHARS = "aé€😀0"


def pieces(rng, m):
    """m as it is, or cut into some fragments."""
    if rng.random() < 0.5 or len(m) < 2:
        return m
    cuts = sorted(rng.sample(range(len(m)), min(len(m) - 1, rng.randint(1, 5))))
    return [m[a:b] for a, b in zip([0] + cuts, cuts + [len(m)])]


def message(rng):
    n = rng.randrange(200) if rng.random() < 0.9 else rng.choice(SIZES)
    return "".join(rng.choices(CHARS, k=n)) if rng.random() < 0.5 else rng.randbytes(n)


async def serve():
    rng = random.Random(1)

    async def echo(ws):
        async for m in ws:
            if rng.random() < 0.3:
                asyncio.ensure_future(ws.ping(rng.randbytes(rng.randrange(126))))
            await ws.send(pieces(rng, m))

    async with websockets.serve(echo, "127.0.0.1", 0, max_size=1 << 22, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


async def session(port, rng):
    uri = f"ws://127.0.0.1:{port}/"
    compression = rng.choice([None, "deflate"])
    async with websockets.connect(uri, max_size=1 << 22, compression=compression) as ws:
        assert not ws.extensions, "an extension was accepted"
        waiting, pongs = [], []
        for _ in range(rng.randrange(12)):
            m = message(rng)
            if rng.random() < 0.3:
                pongs.append(await ws.ping(rng.randbytes(rng.randint(1, 125))))
            await ws.send(pieces(rng, m))
            waiting.append(m)
            while len(waiting) > rng.randrange(4):
                assert await ws.recv() == waiting.pop(0), "another message came back"
        for m in waiting:
            assert await ws.recv() == m, "another message came back"
        await asyncio.gather(*pongs)
        code = rng.choice([1000, 1001, 3000, 4999])
        await ws.close(code, "bye")
        assert ws.close_code == code, f"closed with {ws.close_code}, not {code}"


async def client(port, seed, n):
    for i in range(seed, seed + n):
        try:
            await asyncio.wait_for(session(port, random.Random(i)), 60)
        except Exception as e:
            sys.exit(f"session {i}: {e!r}")


if sys.argv[1] == "server":
    asyncio.run(serve())
else:
    asyncio.run(client(*map(int, sys.argv[2:5])))
