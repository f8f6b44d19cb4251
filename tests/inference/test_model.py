#!/usr/bin/python3
"""The inference endpoint with a sentence encoder (tests/models/tiny): lengths, adapters,
the queue, fairness, and connections while it computes."""
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import TINY, Server, Tally, ask, data_of, dot, floats, single  # noqa: E402

check = Tally()
ADAPTERS = os.path.join(TINY, "adapters")
B64 = {"encoding_format": "base64"}


async def embed(ws, text, **more):
    data = {"text": text, "config": {**B64, **more.pop("config", {})}, **more}
    return (await data_of(ws, "embeddings", data))["embeddings"]


async def lengths(ws):
    model = (await data_of(ws, "models"))["models"][0]
    check.equal((model["name"], model["dimension"], model["max_tokens"], model["dtype"]), ("tiny", 24, 40, "F32"),
                "what the model is")
    rows = [("", 2, False), ("a", 3, False), ("abc", 5, False), ("a! b", 5, False), ("a " * 38, 40, False),
            ("a " * 39, 40, True), ("a" * 100, 40, True), ("a" * 101, 3, False), ("x " * 5000, 40, True)]
    got = await data_of(ws, "embeddings", {"text": [r[0] for r in rows]})
    check.equal(got["tokens"], [r[1] for r in rows], "tokens")
    check.equal(got["truncated"], [r[2] for r in rows], "truncated")
    check.equal(got["model"], "tiny", "model")
    for v in got["embeddings"]:
        check.near(dot(v, v), 1, 1e-6, "unit length")
    for text, tokens, cut in rows:
        reply = await ask(ws, "embeddings", {"text": ["b", text], "config": {"truncate": False}})
        if cut:
            check.refused(reply, "too_large", "Text too long", "truncate false", text[:10])
        else:
            check.equal(reply.get("data", {}).get("tokens"), [3, tokens], "truncate false", text[:10])
    one = await data_of(ws, "embeddings", {"text": rows[5][0]})
    check.equal(single(one["embeddings"][0]), single(got["embeddings"][4]), "what is over the length plays no part")
    similar = await data_of(ws, "similarity", {"text1": "hello", "text2": "a " * 99})
    check.equal((similar["tokens"], similar["truncated"]), ([7, 40], [False, True]), "similarity says so too")


async def batches(ws):
    texts = ["".join(chr(97 + (i * k) % 26) for k in range(i % 12)) + " w%d" % (i % 7) for i in range(200)]
    many = await embed(ws, texts)
    for i in range(0, 200, 7):
        check.equal((await embed(ws, texts[i]))[0], many[i], "single and batch differ", texts[i])
    plain = await embed(ws, texts[:5], config={"normalize": False})
    for p, u in zip(plain, many):
        norm = dot(floats(p), floats(p)) ** 0.5
        check(abs(norm - 1) > 1e-4, "the pooled vector is as it is", norm)
        for a, b in zip(floats(p), floats(u)):
            check.near(a / norm, b, 1e-6, "normalised it is the other")


async def adapters(ws, root):
    base = await embed(ws, "hello world")
    entry = await data_of(ws, "load_adapter", {"name": "a", "path": "qv"})
    check.equal((entry["name"], entry["rank"], entry["alpha"], sorted(entry["targets"])),
                ("a", 4, 8, ["query", "value"]), "the adapter's entry")
    check.equal(len(entry["fingerprint"]), 64, "its fingerprint")
    check.equal(await data_of(ws, "adapters"), {"adapters": [entry]}, "it is listed")
    other = await data_of(ws, "load_adapter", {"name": "b", "path": "./all/"})
    check.equal([a["name"] for a in (await data_of(ws, "adapters"))["adapters"]], ["a", "b"], "both are")
    check.equal((await data_of(ws, "stats"))["adapters"], ["a", "b"], "in stats too")
    with_a, with_b = await embed(ws, "hello world", adapter="a"), await embed(ws, "hello world", adapter="b")
    check(len({base[0], with_a[0], with_b[0]}) == 3, "each gives another vector")
    check.equal(await embed(ws, "hello world"), base, "absent means the base model")
    got = await data_of(ws, "embeddings", {"text": "x", "adapter": "a"})
    check.equal(got["adapter"], "a", "the reply names it")
    for kind, data in (("similarity", {"text1": "hello", "text2": "world"}),
                       ("process", {"text": "hello", "context": ["world", "hello wide"]})):
        a = await data_of(ws, kind, {**data, "adapter": "a"})
        b = await data_of(ws, kind, data)
        key = "similarity" if kind == "similarity" else "context_similarity"
        check(a[key] != b[key], kind, "takes an adapter")
    again = await data_of(ws, "load_adapter", {"name": "a", "path": "all"})
    check.equal((again["fingerprint"], await embed(ws, "hello world", adapter="a")), (other["fingerprint"], with_b),
                "one of the same name replaces it")
    outside = "there is no such directory inside"
    for path, why in (("../adapters/qv", outside), ("qv/../../adapters/qv", outside), ("..", outside),
                      ("/etc", outside), ("out", outside), ("deep/out", outside), ("none", outside),
                      ("qv/adapter_config.json", outside), ("qv/adapter_config.json/x", outside),
                      ("../" + os.path.basename(root) + "-none", outside), ("x" * 5000, "the path is too long"),
                      ("a\0b", "the path holds a NUL"), ("", ""), (".", ""), ("empty", ""), ("broken", "")):
        check.refused(await ask(ws, "load_adapter", {"name": "c", "path": path}), "bad_adapter",
                      "Cannot load adapter: " + why, repr(path)[:40])
    for path in ("in", "qv/../in/.", "deep/../qv/"):
        check.equal((await data_of(ws, "load_adapter", {"name": "c", "path": path}))["fingerprint"],
                    entry["fingerprint"], "a way that ends inside is followed", path)
    gone = await data_of(ws, "unload_adapter", {"name": "a"})
    check.equal(gone, again, "unload gives the entry")
    check.refused(await ask(ws, "embeddings", {"text": "x", "adapter": "a"}), "unknown_adapter",
                  "Unknown adapter: a", "after unload")
    for kind, data in (("embeddings", {"text": ["a text to wait for"] * 50}), ("unload_adapter", {"name": "c"}),
                       ("embeddings", {"text": "x", "adapter": "c"})):
        await ws.send(json.dumps({"type": kind, "data": data}))
    first, second, third = [json.loads(await asyncio.wait_for(ws.recv(), 30)) for _ in range(3)]
    check.equal((first["status"], second["data"]["name"]), ("success", "c"), "unload behind what waits")
    check.refused(third, "unknown_adapter", "Unknown adapter: c", "gone for what stands behind it")
    check.refused(await ask(ws, "unload_adapter", {"name": "a"}), "unknown_adapter", "Unknown adapter: a", "twice")


async def chunks(ws):
    text = "abc w0 de w1 f g h"
    got = await data_of(ws, "process", {"text": text, "context": ["w0", "f g"], "config": {
        "chunk": True, "max_length": 8, "stride": 5, "include_embeddings": True}})
    # pieces: a ##b ##c w0 d ##e w1 f g h; windows of six, every five
    check.equal([(c["start"], c["end"], c["tokens"]) for c in got["chunks"]], [(0, 9, 8), (8, 18, 7)], "windows")
    check.equal((got["tokens"], got["truncated"]), (12, False), "of the text itself")
    second = (await embed(ws, "e w1 f g h"))[0]
    check(single(got["chunks"][1]["embedding"]) != floats(second), "a window has tokens of its own")
    long = await data_of(ws, "process", {"text": "a " * 100, "config": {"chunk": True}})
    check.equal([c["tokens"] for c in long["chunks"]], [40, 40, 26], "windows of the model's length")
    check.equal([(c["start"], c["end"]) for c in long["chunks"]], [(0, 75), (76, 151), (152, 199)], "without gaps")
    check.equal((long["tokens"], long["truncated"]), (40, True), "the text itself is cut")
    for length in (7, 41, 1000):
        check.refused(await ask(ws, "process", {"text": "a", "config": {"max_length": length}}), "invalid_parameter",
                      "Invalid parameter: config.max_length", length)


async def order(ws):
    """Replies come in the order of requests, whatever takes long; pings are answered meanwhile."""
    kinds = [("embeddings", {"text": ["word %d" % k for k in range(100)]}), ("ping", None),
             ("similarity", {"text1": "a", "text2": "b"}), ("models", None), ("embeddings", {}),
             ("process", {"text": "x", "context": ["y"]}), ("stats", None), ("embeddings", {"text": "z"})] * 3
    for i, (kind, data) in enumerate(kinds):
        await ws.send(json.dumps({"type": kind, "id": i, **({"data": data} if data is not None else {})}))
    pong = await ws.ping()
    ids = [json.loads(await asyncio.wait_for(ws.recv(), 30))["id"] for _ in kinds]
    check.equal(ids, list(range(len(kinds))), "order of replies")
    await asyncio.wait_for(pong, 10)


async def busy(server):
    """Above --max-queue: Server busy, with retry_after_ms; the connection stays open."""
    texts = ["many %d words" % i for i in range(250)]
    connections = [await server.connect() for _ in range(6)]
    for ws in connections:
        await ws.send(json.dumps({"type": "embeddings", "data": {"text": texts, "config": B64}}))
    replies = [json.loads(await asyncio.wait_for(ws.recv(), 60)) for ws in connections]
    refused = [r for r in replies if r["status"] == "error"]
    check(0 < len(refused) < 6, "some were busy", len(refused))
    for r in refused:
        check.equal((r["error"], r["data"]["code"]), ("Server busy", "busy"), "the sentence")
        check(isinstance(r["data"]["retry_after_ms"], int) and r["data"]["retry_after_ms"] >= 1, "retry_after_ms", r)
    for ws in connections:
        check.equal((await ask(ws, "embeddings", {"text": texts}))["status"], "success", "an empty queue takes any")
        check.equal((await data_of(ws, "stats"))["queue"], 0, "nothing waits")
        await ws.close()


async def fair(server):
    """One text of a second client does not wait for all of the first one's."""
    async with server.connect() as greedy, server.connect() as modest:
        texts = ["a greedy client %d " % i * 6 for i in range(250)]
        for _ in range(8):
            await greedy.send(json.dumps({"type": "embeddings", "data": {"text": texts, "config": B64}}))
        for kind in ["stats"] + ["embeddings"] * 5 + ["stats"]:     # what the server did meanwhile, however late we read it
            await modest.send(json.dumps({"type": kind, "data": {"text": "one"} if kind != "stats" else {}}))
        replies = [json.loads(await modest.recv())["data"] for _ in range(7)]
        done = replies[-1]["embeddings_total"] - replies[0]["embeddings_total"]
        check(5 <= done <= 5 + 3 * 250, "one request of many was waited for by each of few", done)
        for _ in range(8):
            await greedy.recv()


async def dead(server):
    """Work of clients that are gone is dropped."""
    for _ in range(5):
        ws = await server.connect()
        for _ in range(10):
            await ws.send(json.dumps({"type": "embeddings", "data": {"text": ["left alone " * 10] * 250}}))
        ws.transport.abort()
    async with server.connect() as ws:
        end = time.monotonic() + 5
        while time.monotonic() < end and (await data_of(ws, "stats"))["queue"]:
            await asyncio.sleep(0.02)
        stats = await data_of(ws, "stats")
        check.equal(stats["queue"], 0, "the queue is empty")
        check.equal((await ask(ws, "embeddings", {"text": "still here"}))["status"], "success", "it serves")
        check.equal(stats["connections"]["active"], 1, "nobody else is there")


async def dead_loader(server):
    """A client that asks for an adapter and goes: it is loaded all the same, and nobody is told."""
    for _ in range(5):
        ws = await server.connect()
        await ws.send(json.dumps({"type": "load_adapter", "data": {"name": "left", "path": "all"}}))
        ws.transport.abort()
    async with server.connect() as ws:
        end, found = time.monotonic() + 5, False
        while time.monotonic() < end and not found:
            found = "left" in (await data_of(ws, "stats"))["adapters"]
        check(found, "it is loaded")


async def stop(server):
    """SIGTERM while texts wait and are computed: 1001, and exit 0 (the server's end is checked)."""
    clients = [await server.connect() for _ in range(8)]
    for ws in clients:
        await ws.send(json.dumps({"type": "embeddings", "data": {"text": ["stop me %d " % i * 8 for i in range(200)]}}))
    await clients[0].ping()
    server.process.terminate()
    for ws in clients:
        try:
            while True:
                await asyncio.wait_for(ws.recv(), 20)
        except Exception:
            check.equal(ws.close_code, 1001, "close code")


async def pings(server):
    """A queue that never empties holds up no ping."""
    async with server.connect() as ws, server.connect() as load:
        async def flood():
            for _ in range(40):
                await ask(load, "embeddings", {"text": ["load %d " % i * 8 for i in range(200)]})

        task, late = asyncio.create_task(flood()), []
        while not task.done():
            began = time.monotonic()
            await asyncio.wait_for(await ws.ping(), 10)
            late.append(time.monotonic() - began)
            await asyncio.sleep(0.002)
        late.sort()
        check(late[int(len(late) * 0.99)] < 0.1, "p99 of pings", late[int(len(late) * 0.99)], "of", len(late))


async def memory(server):
    """The same encoder behind the memory endpoint."""
    async with server.connect("memory") as ws, server.connect() as inference:
        stored = [await data_of(ws, "store", {"text": t}) for t in ("w0 w1", "abc def", "w0 w1 w2")]
        check.equal(len({s["id"] for s in stored}), 3, "three memories")
        found = await data_of(ws, "search", {"text": "w0 w1", "min_similarity": -1})
        check.equal(found["results"][0]["text"], "w0 w1", "search finds it")
        vectors = (await data_of(inference, "embeddings", {"text": ["w0 w1", "abc def"]}))["embeddings"]
        by_text = {r["text"]: r["similarity"] for r in found["results"]}
        check.near(by_text["abc def"], dot(*vectors), 1e-6, "with the encoder's vectors")
        with_adapter = await data_of(ws, "search", {"text": "w0 w1", "min_similarity": -1, "adapter": "start"})
        check(with_adapter["results"][0]["similarity"] != found["results"][0]["similarity"], "search takes an adapter")
        check.refused(await ask(ws, "search", {"text": "x", "adapter": "none"}), "unknown_adapter",
                      "Unknown adapter: none", "search")


def adapter_dir():
    root = os.path.realpath(tempfile.mkdtemp(prefix="recalld-adapters-"))
    for name in ("qv", "all"):
        shutil.copytree(os.path.join(ADAPTERS, name), os.path.join(root, name))
    os.mkdir(os.path.join(root, "empty"))
    os.mkdir(os.path.join(root, "deep"))
    shutil.copytree(os.path.join(ADAPTERS, "qv"), os.path.join(root, "broken"))
    with open(os.path.join(root, "broken", "adapter_model.safetensors"), "r+b") as f:
        f.truncate(100)
    os.symlink("qv", os.path.join(root, "in"))
    os.symlink(ADAPTERS, os.path.join(root, "out"))
    os.symlink(os.path.join(ADAPTERS, "qv"), os.path.join(root, "deep", "out"))
    return root


async def main():
    root = adapter_dir()
    model = ("--model", TINY)
    with Server(*model, "--only", "inference", "--adapter-dir", root) as server:
        async with server.connect() as ws:
            for part in (lengths, batches, chunks, order):
                await part(ws)
            await adapters(ws, root)
        await pings(server)
        await dead(server)
        await dead_loader(server)
    with Server(*model, "--only", "inference", "--max-queue", "8") as server:
        await busy(server)
    with Server(*model, "--only", "inference", "--max-queue", "4000") as server:
        await fair(server)
    with Server(*model, "--adapter", "start=" + os.path.join(ADAPTERS, "qv")) as server:
        await memory(server)
    with Server(*model, "--only", "inference", "--max-queue", "4000") as server:
        await stop(server)
    shutil.rmtree(root)
    return check.end("model")


sys.exit(asyncio.run(main()))
