"""Search against the full scan in double precision, in small stores and in one
that is large enough for scans to be jobs; what is asked meanwhile."""
import json
import sys

import numpy

from rig import *

COUNT = 20000


def vectors(n, kind, seed):
    rng = numpy.random.default_rng(seed)
    if kind == "random":
        v = rng.standard_normal((n, DIMENSION))
    else:
        centres = numpy.random.default_rng(7).standard_normal((20, DIMENSION))
        v = centres[rng.integers(0, 20, n)] + 0.4 * rng.standard_normal((n, DIMENSION))
    return (v / numpy.linalg.norm(v, axis=1, keepdims=True)).astype(numpy.float32)


def write_lines(path, v, base):
    rng = numpy.random.default_rng(3)
    rows = []
    with open(path, "w") as f:
        for i, x in enumerate(v):
            rows.append((base - int(rng.integers(0, 90 * 86400000)), round(float(rng.random()), 6)))
            f.write(json.dumps({"text": "memory %d" % i, "timestamp": iso(rows[-1][0]), "significance": rows[-1][1],
                                "metadata": {"type": "user" if i % 2 else "assistant"}, "tags": ["t%d" % (i % 10)],
                                "embedding": base64_of(x.tolist())}) + "\n")
    return numpy.array([r[0] for r in rows]), numpy.array([r[1] for r in rows])


def strengths(sigma, times, at):
    age = numpy.maximum(0, at - times) / 86400000
    return sigma * numpy.exp(-0.1 / (0.5 + 0.5 * sigma) * age)


def same(results, keys, who, field, n):
    """The first n of the greatest keys are what was found; near ties may change places."""
    order = numpy.argsort(-keys, kind="stable")[:n]
    assert len(results) == len(order), "%d results, want %d" % (len(results), len(order))
    for r, i in zip(results, order):
        near(r[field], keys[i], 1e-5)
        near(keys[who[r["text"]]], keys[i], 1e-5)


async def compare(c, v, times, sigma, query, who):
    q = query.astype(numpy.float64)
    cosines = v.astype(numpy.float64) @ (q / numpy.linalg.norm(q))
    rows = numpy.arange(len(v))
    for limit, gate, extra, mask in (
            (10, -1, {}, rows >= 0), (100, 0.05, {}, rows >= 0), (1, 0.3, {}, rows >= 0), (10, 0.3, {}, rows >= 0),
            (10, 0, {"type": "user"}, rows % 2 == 1), (10, 0, {"tags": ["t3"]}, rows % 10 == 3),
            (10, -1, {"min_significance": 0.9}, sigma >= 0.9),
            (10, 0, {"since": iso(int(times.mean()))}, times >= int(times.mean()))):
        r = await c.ask("search", {"embedding": base64_of(query.tolist()), "limit": limit, "min_similarity": gate, **extra})
        score = 0.7 * numpy.maximum(0, cosines) + 0.3 * strengths(sigma, times, now())
        passed = mask & (cosines >= gate)
        same(r["results"], numpy.where(passed, score, -9), who, "score", min(limit, int(passed.sum())))
        assert r["searched"] == int(mask.sum()) and r["below_threshold"] == int((mask & (cosines < gate)).sum())
    r = await c.ask("retrieve", {"embedding": base64_of(query.tolist()), "count": 20})
    same(r["memories"], cosines, who, "similarity", 20)
    r = await c.ask("retrieve", {"count": 20})
    same(r["memories"], strengths(sigma, times, now()), who, "strength", 20)


async def large(server, kind, count):
    v = vectors(count, kind, 1)
    await server.halt()
    times, sigma = write_lines(server.home + "/in", v, now())
    status, out, err = run(["--data", server.data, "--import", server.home + "/in"])
    assert status == 0 and out == "imported %d memories, skipped 0 duplicates\n" % count, (out, err)
    server.start()
    return await server.client(), v, times, sigma, {"memory %d" % i: i for i in range(count)}


async def test_small_store_gives_the_true_top(server):
    for kind in ("random", "clustered"):
        c, v, times, sigma, who = await large(server, kind, 1500)
        for query in vectors(6, kind, 2):
            await compare(c, v, times, sigma, query, who)
        await c.ask("clear", {"confirm": True})


async def test_large_store_gives_the_true_top(server):
    c, v, times, sigma, who = await large(server, "clustered", COUNT)
    for query in vectors(4, "clustered", 2):
        await compare(c, v, times, sigma, query, who)


async def test_scans_of_many_clients_are_worked_off_in_turn(server):
    c, v, times, sigma, who = await large(server, "random", COUNT)
    clients = [await server.client() for _ in range(8)]
    queries = vectors(40, "random", 4)
    for i, q in enumerate(queries):
        await clients[i % 8].ws.send(json.dumps({"type": "search", "id": i, "data": {
            "embedding": base64_of(q.tolist()), "limit": 3, "min_similarity": -1}}))
    gone = await server.client()
    for i in range(10):
        await gone.ws.send(json.dumps({"type": "search", "data": {"text": "nobody waits for %d" % i, "min_similarity": -1}}))
        await gone.ws.send(json.dumps({"type": "store", "data": {"text": "stored though nobody waits %d" % i}}))
    gone.ws.transport.abort()
    for i, q in enumerate(queries):
        r = await clients[i % 8].reply()
        assert r["id"] == i
        score = 0.7 * numpy.maximum(0, v.astype(numpy.float64) @ q) + 0.3 * strengths(sigma, times, now())
        found = [x for x in r["data"]["results"] if x["text"] in who]
        near(found[0]["score"], score.max(), 1e-5)
    assert (await c.ask("ping"))["pong"] is True


async def test_stores_of_one_text_under_way_at_once_are_one_memory(server):
    c, v, times, sigma, who = await large(server, "random", COUNT)
    clients = [await server.client() for _ in range(6)]
    for k in clients:
        await k.ws.send(json.dumps({"type": "store", "data": {"text": "said by all", "embedding": base64_of(v[0].tolist())}}))
    got = [(await k.reply())["data"] for k in clients]
    assert sorted(g["duplicate"] for g in got) == [False] + [True] * 5
    assert len({g["id"] for g in got}) == 1 and max(g["memory_count"] for g in got) == COUNT + 1
    near([g for g in got if not g["duplicate"]][0]["components"]["diversity"], 0, 1e-6)
    for i, k in enumerate(clients):
        await k.ws.send(json.dumps({"type": "store", "data": {"text": "each its own %d" % i, "embedding": axis(1, 2, 3)}}))
    got = [(await k.reply())["data"]["components"]["diversity"] for k in clients]
    assert sum(d > 0.1 for d in got) == 1, "each is compared with those before it: %r" % got


async def test_a_store_sent_again_while_it_waits_is_one_store(server):
    c, v, times, sigma, who = await large(server, "random", COUNT)
    clients = [await server.client() for _ in range(4)]
    body = json.dumps({"type": "store", "id": "again", "data": {"text": "sent again", "metadata": {"session_id": "s"}}})
    for k in clients:
        await k.ws.send(body)
    got = [await k.reply() for k in clients]
    assert all(g == got[0] for g in got) and got[0]["data"]["duplicate"] is False
    assert (await c.ask("stats"))["duplicates"] == 0


async def test_clear_and_delete_while_scans_are_under_way(server):
    c, v, times, sigma, who = await large(server, "random", COUNT)
    other = await server.client()
    for round in range(3):
        for q in vectors(5, "random", 5):
            await c.ws.send(json.dumps({"type": "search", "data": {"embedding": base64_of(q.tolist()), "limit": 100, "min_similarity": -1}}))
        if round == 2:
            assert (await other.ask("clear", {"confirm": True}))["removed"] == COUNT - 200
        else:
            for m in (await other.ask("retrieve", {"count": 100}))["memories"]:
                await other.ask("delete", {"id": m["id"]})
        for _ in range(5):
            r = (await c.reply())["data"]
            assert r["count"] in (0, 100) and (r["count"] == 100 or round == 2)


main(sys.modules["__main__"])
