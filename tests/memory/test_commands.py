"""Commands of the memory endpoint, each with good, edge and bad input (SPEC 4.2, 5)."""
import json
import sys

from rig import *

DAY = 86400000
ID = "00000000-0000-4000-8000-000000000000"


async def test_check_values_hold_over_the_wire(server):
    c, day5 = await server.client(), now()
    rows = [("red apple", axis(1), 0.5, 1, 0.117503, 0.535251), ("green apple", axis(0.8, 0.6), 0.2, 0.2, 0.096910, 0.169073),
            ("my bicycle is broken", axis(0, 0, 1), 1, 1, 0.221199, 0.766360),
            ("red apple pie", axis(0.96, 0.28), 0.350078, 0.04, 0.128959, 0.190719)]
    for day, (text, x, s, d, q, sigma) in enumerate(rows):
        r = await c.store(text, embedding=x, timestamp=iso(day5 - (5 - day) * DAY))
        k = r["components"]
        near(k["surprise"], s), near(k["diversity"], d), near(k["information"], q), near(r["significance"], sigma)
        assert r["memory_count"] == day + 1 and r["seq"] == day + 1 and r["durable"] is True
        assert r["duplicate"] is False and r["evicted"] == [] and k["floor"] == 0
    r = await c.ask("search", {"embedding": axis(1), "min_similarity": 0.3})
    assert [x["text"] for x in r["results"]] == ["red apple", "red apple pie", "green apple"]
    for got, want in zip(r["results"], (0.783714, 0.712890, 0.585586)):
        near(got["score"], want, 2e-6)
    assert r["searched"] == 4 and r["below_threshold"] == 1 and r["count"] == 3 and r["query"] is None
    near(r["results"][1]["similarity"], 0.96)


async def test_a_memory_on_the_wire_has_these_members(server):
    c = await server.client()
    r = await c.store("\t hello\u0000 world \r\n", metadata={"type": "user", "x": [1, {"y": None}]}, tags=["a", "b\"c", "\u00e4"],
                      timestamp="2024-02-29", pinned=True, significance=0.25)
    m = (await c.ask("get", {"id": r["id"]}))["memory"]
    assert list(m) == ["id", "text", "timestamp", "significance", "strength", "surprise", "diversity", "information",
                       "metadata", "tags", "pinned", "access_count", "last_access"], list(m)
    assert m["text"] == "hello\u0000 world" and m["timestamp"] == "2024-02-29T00:00:00.000Z" == r["timestamp"]
    assert m["metadata"] == {"type": "user", "x": [1, {"y": None}]} and m["tags"] == ["a", "b\"c", "\u00e4"]
    assert m["pinned"] is True and m["access_count"] == 0 and m["significance"] == 0.25 == r["significance"]
    assert 0 <= m["strength"] < 0.25
    v = (await c.ask("get", {"id": r["id"], "include_embeddings": True}))["memory"]["embedding"]
    assert len(v) == DIMENSION


BAD = [
    ("store", {}, "missing_field", "Missing required field: text"),
    ("store", {"text": None}, "missing_field", "Missing required field: text"),
    ("store", {"text": " \t\r\n"}, "missing_field", "Missing required field: text"),
    ("store", {"text": 5}, "invalid_parameter", "Invalid parameter: text"),
    ("store", {"text": "x" * 16385}, "too_large", "Text too long"),
    ("store", {"text": "\u00e4" * 8193}, "too_large", "Text too long"),
    ("store", {"text": "x", "metadata": []}, "invalid_parameter", "Invalid parameter: metadata"),
    ("store", {"text": "x", "metadata": {"a": "x" * 4089}}, "invalid_parameter", "Invalid parameter: metadata"),
    ("store", {"text": "x", "metadata": {"importance": 1.5}}, "invalid_parameter", "Invalid parameter: metadata.importance"),
    ("store", {"text": "x", "metadata": {"importance": "1"}}, "invalid_parameter", "Invalid parameter: metadata.importance"),
    ("store", {"text": "x", "significance": -0.1}, "invalid_parameter", "Invalid parameter: significance"),
    ("store", {"text": "x", "significance": 1.1}, "invalid_parameter", "Invalid parameter: significance"),
    ("store", {"text": "x", "significance": "1"}, "invalid_parameter", "Invalid parameter: significance"),
    ("store", {"text": "x", "embedding": [1, 2]}, "bad_dimension", "Invalid embedding dimension: got 2, expected 384"),
    ("store", {"text": "x", "embedding": [1] * 385}, "bad_dimension", "Invalid embedding dimension: got 385, expected 384"),
    ("store", {"text": "x", "embedding": []}, "invalid_parameter", "Invalid parameter: embedding"),
    ("store", {"text": "x", "embedding": [0] * 384}, "invalid_parameter", "Invalid parameter: embedding"),
    ("store", {"text": "x", "embedding": ["a"] * 384}, "invalid_parameter", "Invalid parameter: embedding"),
    ("store", {"text": "x", "embedding": "!!!!"}, "invalid_parameter", "Invalid parameter: embedding"),
    ("store", {"text": "x", "embedding": {}}, "invalid_parameter", "Invalid parameter: embedding"),
    ("store", {"text": "x", "tags": "a"}, "invalid_parameter", "Invalid parameter: tags"),
    ("store", {"text": "x", "tags": [5]}, "invalid_parameter", "Invalid parameter: tags"),
    ("store", {"text": "x", "tags": ["a"] * 17}, "invalid_parameter", "Invalid parameter: tags"),
    ("store", {"text": "x", "tags": ["a" * 65]}, "invalid_parameter", "Invalid parameter: tags"),
    ("store", {"text": "x", "timestamp": "yesterday"}, "invalid_timestamp", "Invalid timestamp"),
    ("store", {"text": "x", "timestamp": True}, "invalid_timestamp", "Invalid timestamp"),
    ("store", {"text": "x", "timestamp": "2999-01-01"}, "invalid_timestamp", "Invalid timestamp"),
    ("store", {"text": "x", "pinned": 1}, "invalid_parameter", "Invalid parameter: pinned"),
    ("retrieve", {"count": 0}, "invalid_parameter", "Invalid parameter: count"),
    ("retrieve", {"count": 1001}, "invalid_parameter", "Invalid parameter: count"),
    ("retrieve", {"count": 1.5}, "invalid_parameter", "Invalid parameter: count"),
    ("retrieve", {"count": "5"}, "invalid_parameter", "Invalid parameter: count"),
    ("retrieve", {"offset": -1}, "invalid_parameter", "Invalid parameter: offset"),
    ("retrieve", {"min_significance": 2}, "invalid_parameter", "Invalid parameter: min_significance"),
    ("retrieve", {"min_strength": -1}, "invalid_parameter", "Invalid parameter: min_strength"),
    ("retrieve", {"sort": "best"}, "invalid_parameter", "Invalid parameter: sort"),
    ("retrieve", {"sort": 1}, "invalid_parameter", "Invalid parameter: sort"),
    ("retrieve", {"order": "up"}, "invalid_parameter", "Invalid parameter: order"),
    ("retrieve", {"type": 5}, "invalid_parameter", "Invalid parameter: type"),
    ("retrieve", {"tags": {}}, "invalid_parameter", "Invalid parameter: tags"),
    ("retrieve", {"since": "x"}, "invalid_timestamp", "Invalid timestamp"),
    ("retrieve", {"until": []}, "invalid_timestamp", "Invalid timestamp"),
    ("retrieve", {"include_embeddings": "yes"}, "invalid_parameter", "Invalid parameter: include_embeddings"),
    ("retrieve", {"sort": "similarity"}, "missing_field", "Missing required field: text"),
    ("retrieve", {"embedding": [1]}, "bad_dimension", "Invalid embedding dimension: got 1, expected 384"),
    ("search", {}, "missing_field", "Missing required field: text"),
    ("search", {"text": "  "}, "missing_field", "Missing required field: text"),
    ("search", {"text": "x", "limit": 0}, "invalid_parameter", "Invalid parameter: limit"),
    ("search", {"text": "x", "limit": 101}, "invalid_parameter", "Invalid parameter: limit"),
    ("search", {"text": "x", "min_similarity": 1.01}, "invalid_parameter", "Invalid parameter: min_similarity"),
    ("search", {"text": "x", "min_similarity": -1.01}, "invalid_parameter", "Invalid parameter: min_similarity"),
    ("search", {"text": "x", "reinforce": 0}, "invalid_parameter", "Invalid parameter: reinforce"),
    ("search", {"text": "x", "adapter": "none"}, "unknown_adapter", "Unknown adapter: none"),
    ("search", {"embedding": [0] * 384}, "invalid_parameter", "Invalid parameter: embedding"),
    ("get", {}, "missing_field", "Missing required field: id"),
    ("get", {"id": 5}, "invalid_parameter", "Invalid parameter: id"),
    ("get", {"id": ID}, "not_found", "Memory not found: " + ID),
    ("get", {"id": "x"}, "not_found", "Memory not found: x"),
    ("get", {"id": "0" * 36}, "not_found", "Memory not found: 000"),
    ("update", {"text": "x"}, "missing_field", "Missing required field: id"),
    ("update", {"id": ID}, "not_found", "Memory not found: " + ID),
    ("delete", {"id": ID}, "not_found", "Memory not found: " + ID),
    ("delete", {}, "missing_field", "Missing required field: id"),
    ("score", {}, "missing_field", "Missing required field: text"),
    ("embed", {}, "missing_field", "Missing required field: text"),
    ("embed_only", {"text": ""}, "missing_field", "Missing required field: text"),
    ("clear", {}, "missing_field", "Missing required field: confirm"),
    ("clear", {"confirm": False}, "invalid_parameter", "Invalid parameter: confirm"),
    ("clear", {"confirm": "true"}, "invalid_parameter", "Invalid parameter: confirm"),
    ("export", {"count": 0}, "invalid_parameter", "Invalid parameter: count"),
    ("export", {"count": 1001}, "invalid_parameter", "Invalid parameter: count"),
    ("export", {"after": ID}, "not_found", "Memory not found: " + ID),
    ("subscribe", {"events": ["match"]}, "missing_field", "Missing required field: query"),
    ("subscribe", {"events": ["match"], "query": {}}, "missing_field", "Missing required field: query.text"),
    ("subscribe", {"events": ["match"], "query": {"text": "x", "min_similarity": 2}}, "invalid_parameter",
     "Invalid parameter: query.min_similarity"),
]


async def test_bad_input_is_named_and_changes_nothing(server):
    c = await server.client()
    await c.store("the only one")
    for type, data, code, sentence in BAD:
        e = await refused(code, sentence, c.ask(type, data, id="i"))
        assert e.reply["id"] == "i" and e.reply["type"] == type
    assert (await c.ask("retrieve"))["total"] == 1
    assert (await c.ask("stats"))["memory_count"] == 1


async def test_both_sides_of_each_limit(server):
    c = await server.client()
    await c.store("x" * 16384)
    await c.store("\u00e4" * 8192)
    await c.store("  " + "y" * 16384 + "\n")
    r = await c.store("metadata", metadata={"a": "x" * 4088})
    assert (await c.ask("get", {"id": r["id"]}))["memory"]["metadata"] == {"a": "x" * 4088}
    spaced = '{"type":"store","data":{"text":"spaced","metadata":{ "a" :%s "x y" , "b" : [ 1 , 2.50 ] }}}' % (" " * 9000)
    reply = await c.raw(spaced)
    got = await c.raw('{"type":"get","data":{"id":"%s"}}' % reply["data"]["id"])
    assert got["data"]["memory"]["metadata"] == {"a": "x y", "b": [1, 2.5]}
    r = await c.store("tags", tags=["\x01" * 64] * 16)
    assert (await c.ask("get", {"id": r["id"]}))["memory"]["tags"] == ["\x01" * 64] * 16
    await c.store("a little ahead", timestamp=iso(now() + 50000))
    await c.store("seconds", timestamp=1.5)
    assert (await c.ask("retrieve", {"sort": "recent", "order": "asc", "count": 1}))["memories"][0]["timestamp"] == "1970-01-01T00:00:01.500Z"
    await c.store("significance", significance=0)
    await c.store("significance 1", significance=1)
    r = await c.ask("search", {"text": "nothing like it", "min_similarity": -1, "limit": 100})
    assert r["below_threshold"] == 0 and r["count"] == r["searched"] == 10
    assert (await c.ask("search", {"text": "x", "min_similarity": 1}))["count"] == 0


async def test_metadata_is_kept_verbatim(server):
    c = await server.client()
    metadata = '{"z":1.0,"a":1e2,"\\u0061b":"\\u00e4\\/","n":12345678901234567890,"deep":[[[{"x":null}]]]}'
    r = await c.raw('{"type":"store","data":{"text":"m","metadata":%s}}' % metadata)
    await c.ws.send('{"type":"get","data":{"id":"%s"}}' % r["data"]["id"])
    assert '"metadata":' + metadata in await c.ws.recv()


async def test_data_at_the_top_level_of_older_clients(server):
    c = await server.client()
    r = await c.raw('{"type":"store","text":"flat","significance":0.5,"id":"e","timestamp":"2020-01-01"}')
    m = (await c.ask("get", {"id": r["data"]["id"]}))["memory"]
    assert m["text"] == "flat" and m["significance"] == 0.5 and m["timestamp"] > "2026"
    r = await c.raw('{"type":"RETRIEVE","count":1,"id":7}')
    assert r["id"] == 7 and r["type"] == "retrieve" and r["data"]["count"] == 1


async def test_a_given_embedding_is_normalised_and_base64_is_the_same(server):
    c = await server.client()
    v = [((i * 37) % 11 - 5) / 4 for i in range(DIMENSION)]
    a = await c.store("list", embedding=v)
    b = await c.store("base64", embedding=base64_of(v))
    near(b["components"]["diversity"], 0, 1e-7)
    out = []
    for r in (a, b):
        out.append((await c.ask("get", {"id": r["id"], "include_embeddings": True}))["memory"]["embedding"])
    assert out[0] == out[1]
    near(sum(x * x for x in out[0]), 1)
    near(out[0][1] / out[0][0], v[1] / v[0], 1e-5)


async def test_duplicates_are_reinforced(server):
    c = await server.client()
    a = await c.store("same text", metadata={"type": "user"})
    b = await c.store("  same text ", metadata={"type": "user", "more": 1})
    assert b["duplicate"] is True and b["id"] == a["id"] and b["seq"] == 2 and b["memory_count"] == 1
    near(b["significance"], a["significance"] + 0.1 * (1 - a["significance"]), 1e-12)
    other = await c.store("same text")
    assert other["duplicate"] is False and other["memory_count"] == 2
    m = (await c.ask("get", {"id": a["id"]}))["memory"]
    assert m["access_count"] == 1 and m["metadata"] == {"type": "user"}
    assert (await c.ask("stats"))["duplicates"] == 1


async def test_floors(server):
    c = await server.client()
    for text, metadata, floor in (("remember: a", {}, 0.75), ("b", {"importance": 0.9}, 0.9), ("note: c", {"importance": 0.2}, 0.75),
                                  ("d", {"importance": 0}, 0), ("please don't forget e", {}, 0.75)):
        r = await c.store(text, metadata=metadata)
        near(r["components"]["floor"], floor), near(max(r["significance"], floor), r["significance"], 0)
    r = await c.store("important: given", significance=0.1)
    assert r["significance"] == 0.1


async def test_retrieve_sorts_filters_and_pages(server):
    c, base = await server.client(), now()
    for i in range(30):
        await c.store("text %d" % i, embedding=axis(1, i), significance=(i * 7 % 30) / 30, timestamp=iso(base - i * DAY),
                      metadata={"type": "user" if i % 3 else "assistant"}, tags=["even" if i % 2 == 0 else "odd", "all"])

    async def texts(**data):
        r = await c.ask("retrieve", {"count": 1000, **data})
        assert r["count"] == len(r["memories"])
        return [int(m["text"].split()[1]) for m in r["memories"]]

    assert await texts(sort="recent") == list(range(30))
    assert await texts(sort="recent", order="asc") == list(range(29, -1, -1))
    assert await texts(sort="significance") == sorted(range(30), key=lambda i: -(i * 7 % 30))
    assert await texts(embedding=axis(1)) == list(range(30))
    assert await texts(embedding=axis(1), order="asc") == list(range(29, -1, -1))
    assert await texts(type="assistant", sort="recent") == list(range(0, 30, 3))
    assert await texts(type="nobody") == []
    assert await texts(tags=["even"], sort="recent") == list(range(0, 30, 2))
    assert await texts(tags=["odd", "all"], sort="recent") == list(range(1, 30, 2))
    assert await texts(tags=["odd", "even"]) == []
    assert await texts(since=iso(base - 2 * DAY), sort="recent") == [0, 1, 2]
    assert await texts(until=iso(base - 28 * DAY), sort="recent") == [28, 29]
    assert await texts(since=iso(base - 5 * DAY), until=iso(base - 4 * DAY), sort="recent") == [4, 5]
    assert set(await texts(min_significance=0.5)) == {i for i in range(30) if (i * 7 % 30) / 30 >= 0.5}
    strong = (await c.ask("retrieve", {"count": 1000}))["memories"]
    assert [m["strength"] for m in strong] == sorted((m["strength"] for m in strong), reverse=True)
    middle = strong[10]["strength"]
    assert len(await texts(min_strength=middle)) in (10, 11)
    paged = []
    for offset in range(0, 35, 7):
        r = await c.ask("retrieve", {"count": 7, "offset": offset, "sort": "recent"})
        assert r["total"] == 30
        paged += [int(m["text"].split()[1]) for m in r["memories"]]
    assert paged == list(range(30))
    assert (await c.ask("retrieve", {"offset": 1000000000}))["memories"] == []
    assert len((await c.ask("retrieve"))["memories"]) == 5
    r = await c.ask("retrieve", {"text": "text 3", "count": 1})
    assert "similarity" in r["memories"][0]


async def test_the_same_text_reaches_the_greatest_similarity(server):
    c = await server.client()
    for i in range(30):
        text = " ".join("word%d" % (i * k) for k in range(1, i + 2))
        await c.store(text)
        r = await c.ask("search", {"text": text, "min_similarity": 1})
        assert [m["text"] for m in r["results"]] == [text] and r["results"][0]["similarity"] == 1, r
        assert r["below_threshold"] == i


async def test_search_reinforces_only_when_asked(server):
    c = await server.client()
    r = await c.store("the red apple")
    await c.ask("search", {"text": "red apple", "min_similarity": 0})
    assert (await c.ask("get", {"id": r["id"]}))["memory"]["access_count"] == 0
    found = await c.ask("search", {"text": "red apple", "min_similarity": 0, "reinforce": True})
    assert found["query"] == "red apple" and found["processing_time_ms"] >= 0
    m = (await c.ask("get", {"id": r["id"]}))["memory"]
    assert m["access_count"] == 1
    near(m["significance"], r["significance"] + 0.1 * (1 - r["significance"]), 1e-12)


async def test_update_replaces_whole_and_keeps_the_rest(server):
    c = await server.client()
    r = await c.store("one", metadata={"a": 1}, tags=["t"])
    u = await c.ask("update", {"id": r["id"], "metadata": {"type": "user"}, "pinned": True})
    assert u["memory"]["metadata"] == {"type": "user"} and u["memory"]["tags"] == ["t"] and u["memory"]["pinned"] is True
    assert u["seq"] == 2 and u["durable"] is True and u["memory"]["significance"] == r["significance"]
    before = (await c.ask("get", {"id": r["id"], "include_embeddings": True}))["memory"]["embedding"]
    u = await c.ask("update", {"id": r["id"], "text": " two ", "tags": [], "significance": 0.5, "pinned": None})
    assert u["memory"]["text"] == "two" and u["memory"]["tags"] == [] and u["memory"]["pinned"] is True
    after = (await c.ask("get", {"id": r["id"], "include_embeddings": True}))["memory"]["embedding"]
    want = (await c.ask("embed_only", {"text": "two"}))["embeddings"][0]
    assert after == want != before
    for data, code, begins in (({"text": " "}, "missing_field", "Missing required field: text"),
                               ({"pinned": "x"}, "invalid_parameter", "Invalid parameter: pinned"),
                               ({"significance": 3}, "invalid_parameter", "Invalid parameter: significance"),
                               ({"metadata": {"importance": 2}}, "invalid_parameter", "Invalid parameter: metadata.importance"),
                               ({"tags": [""]}, "invalid_parameter", "Invalid parameter: tags"),
                               ({"text": "x" * 20000}, "too_large", "Text too long")):
        await refused(code, begins, c.ask("update", {"id": r["id"], **data}))
    m = (await c.ask("get", {"id": r["id"]}))["memory"]
    near(m.pop("strength"), u["memory"].pop("strength"), 1e-3)
    assert m == u["memory"]
    assert (await c.ask("get", {"id": r["id"].upper()}))["memory"]["id"] == r["id"]


@flags("--forget", "0.5", "--sync", "never")
async def test_many_are_removed_in_parts(server):
    async def fill(n, significance):
        for at in range(0, n, 15):
            for i in range(at, at + 15):
                await c.ws.send(json.dumps({"type": "store", "data": {"text": "%d %g" % (i, significance), "significance": significance}}))
            for _ in range(15):
                assert (await c.reply())["status"] == "success"

    c, other = await server.client(), await server.client()
    await fill(1500, 0.1)
    kept = await c.store("kept", significance=0.9)
    await c.ws.send(json.dumps({"type": "cleanup"}))   # one joins a sweep that is under way
    assert await other.ask("cleanup") in ({"removed": n, "memory_count": 1} for n in (0, 1500))
    assert (await c.reply())["data"]["removed"] in (0, 1500)
    assert (await other.ask("retrieve", {"sort": "recent"}))["memories"][0]["id"] == kept["id"]
    await fill(1500, 0.8)
    await c.ws.send(json.dumps({"type": "clear", "data": {"confirm": True}}))
    seqs = [(await other.store("meanwhile %d" % i))["seq"] for i in range(50)]
    r = (await c.reply())["data"]
    count = (await other.ask("stats"))["memory_count"]
    assert r["removed"] == 1501 + 50 - count and count <= 50 and seqs == sorted(seqs), (r, count)
    await server.close()
    server.stop()
    server.start()
    assert (await (await server.client()).ask("stats"))["memory_count"] == count


async def test_delete_clear_and_counts(server):
    c = await server.client()
    ids = [(await c.store("text %d" % i, pinned=i == 0))["id"] for i in range(5)]
    r = await c.ask("delete", {"id": ids[2]})
    assert r == {"deleted": True, "seq": 6, "durable": True}
    await refused("not_found", "Memory not found: " + ids[2], c.ask("delete", {"id": ids[2]}))
    assert (await c.ask("retrieve", {"sort": "recent"}))["total"] == 4
    assert await c.ask("cleanup") == {"removed": 0, "memory_count": 4}
    assert await c.ask("clear", {"confirm": True}) == {"removed": 4, "memory_count": 0}
    assert await c.ask("clear", {"confirm": True}) == {"removed": 0, "memory_count": 0}
    r = await c.store("text 0")
    assert r["components"]["surprise"] == 0.5 and r["components"]["diversity"] == 1


async def test_score_stores_nothing_and_says_what_store_will(server):
    c = await server.client()
    await c.store("the red apple")
    s = await c.ask("score", {"text": "the green apple"})
    assert s == await c.ask("score", {"text": "the green apple"})
    r = await c.store("the green apple")
    assert s == {"significance": r["significance"], "components": r["components"]}


async def test_embed_gives_the_vector_too(server):
    c = await server.client()
    r = await c.ask("embed", {"text": "one two"})
    only = await c.ask("embed_only", {"text": "one two"})
    assert only["embeddings"] == [r["embedding"]] and only["count"] == 1 and only["dimension"] == DIMENSION
    assert only["model"] == "builtin-hash-384" and only["truncated"] == [False] and only["normalized"] is True
    again = await c.ask("embed", {"text": "one two"})
    assert again["duplicate"] is True and again["embedding"] == r["embedding"]


async def test_export_pages_through_everything_in_order(server):
    c = await server.client()
    for i in range(25):
        await c.store("text %d" % i, timestamp=1600000000 - i)
    texts, after = [], None
    while True:
        r = await c.ask("export", {"count": 10, "after": after})
        texts += [m["text"] for m in r["memories"]]
        assert "strength" not in r["memories"][0] and len(vector_of(r["memories"][0]["embedding"])) == DIMENSION
        after = r["next"]
        if after is None:
            break
    assert texts == ["text %d" % i for i in range(25)]
    assert (await c.ask("export", {"count": 25}))["next"] is None


@flags("--max-reply", "20000")
async def test_lists_are_cut_and_vectors_are_refused(server):
    c = await server.client()
    for i in range(20):
        await c.store("%d " % i + "long text " * 150)
    r = await c.ask("retrieve", {"count": 20})
    assert r["truncated"] is True and 5 < r["count"] == len(r["memories"]) < 20 and r["total"] == 20
    r = await c.ask("search", {"text": "long text", "limit": 20, "min_similarity": 0})
    assert r["truncated"] is True and r["count"] == len(r["results"]) < 20 and r["searched"] == 20
    assert "truncated" not in await c.ask("retrieve", {"count": 3})
    await refused("too_large", "Reply too large", c.ask("retrieve", {"count": 20, "include_embeddings": True}))
    texts, after = set(), None
    while True:
        r = await c.ask("export", {"count": 20, "after": after})
        assert r.get("truncated", False) == (r["next"] is not None), "cut for its size alone"
        texts |= {m["text"] for m in r["memories"]}
        after = r["next"]
        if after is None:
            break
    assert len(texts) == 20


@flags("--max-reply", "20000")
async def test_search_reinforces_what_it_tells_of_and_nothing_else(server):
    c = await server.client()
    ids = [(await c.store("%d " % i + "long text " * 150))["id"] for i in range(20)]

    async def counts():
        return {i: (await c.ask("get", {"id": i}))["memory"]["access_count"] for i in ids}

    query = {"text": "long text", "limit": 20, "min_similarity": -1, "reinforce": True}
    r = await c.ask("search", query)
    told = {m["id"] for m in r["results"]}
    assert r["truncated"] is True and 5 < r["count"] == len(told) < 20, r["count"]
    assert await counts() == {i: int(i in told) for i in ids} and all(m["access_count"] == 1 for m in r["results"])
    before = await c.ask("sync")
    await refused("too_large", "Reply too large", c.ask("search", {**query, "include_embeddings": True}))
    assert await counts() == {i: int(i in told) for i in ids} and (await c.ask("sync"))["seq"] == before["seq"]


@flags("--max-reply", "4096")
async def test_what_is_answered_with_too_large_has_changed_nothing(server):
    c = await server.client()
    r = await c.store("short", tags=["t"])
    m = (await c.ask("get", {"id": r["id"]}))["memory"]
    for data in ({"text": "long text " * 500}, {"metadata": {"a": "x" * 4000}}, {"text": "\u0001" * 700, "tags": [], "significance": 0.9}):
        await refused("too_large", "Reply too large", c.ask("update", {"id": r["id"], **data}))
    await refused("too_large", "Reply too large", c.ask("embed", {"text": "another", "embedding": [1 / i for i in range(3, 387)]}))
    now = (await c.ask("get", {"id": r["id"]}))["memory"]
    near(now.pop("strength"), m.pop("strength"), 1e-3)
    assert now == m and (await c.ask("stats"))["memory_count"] == 1 and (await c.ask("sync"))["seq"] == 1
    u = await c.ask("update", {"id": r["id"], "text": "x" * 3000})
    assert len(u["memory"]["text"]) == 3000 and u["seq"] == 2, "what fits is done"


@flags("--max-reply", "8192")
async def test_a_list_is_cut_where_the_next_one_has_no_room(server):
    c = await server.client()
    for i in range(40):
        await c.store("item number %d" % i)
    r = await c.ask("retrieve", {"count": 40})
    size, one = (len(json.dumps(v, separators=(",", ":"))) for v in (r, r["memories"][-1]))
    assert r["truncated"] is True and size < 8192 < size + one + 300, (size, one)


@flags("--max-memories", "3")
async def test_a_full_store_refuses_but_takes_duplicates(server):
    c = await server.client()
    for i in range(3):
        await c.store("text %d" % i)
    await refused("store_full", "Memory store full", c.store("text 3"))
    assert (await c.store("text 1"))["duplicate"] is True
    assert (await c.ask("stats"))["max_size"] == 3


@flags("--max-memories", "3", "--when-full", "evict")
async def test_a_full_store_evicts(server):
    c = await server.client()
    ids = [(await c.store("text %d" % i, significance=0.2 + 0.1 * i))["id"] for i in range(3)]
    r = await c.store("text 3", significance=0.01)
    assert r["evicted"] == [ids[0]] and r["memory_count"] == 3
    await refused("not_found", "Memory not found", c.ask("get", {"id": ids[0]}))
    assert (await c.ask("stats"))["evicted"] == 1


@flags("--forget", "0.1")
async def test_cleanup_forgets(server):
    c = await server.client()
    await c.store("weak", significance=0.05)
    await c.store("old", significance=0.5, timestamp="2001-01-01")
    await c.store("old but pinned", significance=0.5, timestamp="2001-01-01", pinned=True)
    await c.store("strong", significance=0.5)
    assert await c.ask("cleanup") == {"removed": 2, "memory_count": 2}
    assert (await c.ask("stats"))["forgotten"] == 2


async def test_stats_tell_what_is_there(server):
    c = await server.client()
    for i in range(10):
        await c.store("text %d" % i, significance=i / 10 + 0.05)
    s = await c.ask("stats")
    assert s["memory_count"] == 10 and s["max_size"] == 100000
    near(s["avg_significance"], 0.5)
    assert s["significance_distribution"] == {"0.0-0.2": 2, "0.2-0.4": 2, "0.4-0.6": 2, "0.6-0.8": 2, "0.8-1.0": 2}
    assert s["store_bytes"] > 10 * 4 * DIMENSION and s["log_bytes"] > 10 * 4 * DIMENSION and s["garbage_bytes"] < 1000
    assert s["sync"] == "always" and s["last_sync_ms"] >= 0
    await c.ask("clear", {"confirm": True})
    assert (await c.ask("stats"))["garbage_bytes"] > 10 * 4 * DIMENSION


async def test_compact_and_sync(server):
    c = await server.client()
    assert await c.ask("compact") == {"removed": 0, "memory_count": 0}
    assert await c.ask("sync") == {"seq": 0, "durable": True}
    for i in range(50):
        await c.store("text %d" % i)
    for m in (await c.ask("retrieve", {"count": 40}))["memories"]:
        await c.ask("delete", {"id": m["id"]})
    before = await c.ask("stats")
    assert await c.ask("compact") == {"removed": 0, "memory_count": 10}
    after = await c.ask("stats")
    assert after["log_bytes"] < before["log_bytes"] and after["garbage_bytes"] < 1000
    r = await c.ask("sync")
    assert r["durable"] is True and r["seq"] >= 90
    r = await c.store("after")
    assert r["seq"] > 90


@flags("--sync", "never")
async def test_without_sync_nothing_is_called_durable_but_sync_makes_it_so(server):
    c = await server.client()
    r = await c.store("text")
    assert r["durable"] is False
    assert await c.ask("sync") == {"seq": 1, "durable": True}
    assert (await c.ask("stats"))["sync"] == "never"


async def test_a_repeated_store_gets_the_first_answer(server):
    c, other = await server.client(), await server.client()
    body = json.dumps({"type": "store", "id": "e1", "data": {"text": "once", "metadata": {"session_id": "s"}}})
    a = await c.raw(body)
    b = await c.raw(body)
    again = await other.raw(body)
    assert a == b == again and a["data"]["duplicate"] is False
    assert (await c.ask("stats"))["duplicates"] == 0
    r = await c.ask("store", {"text": "once", "metadata": {"session_id": "s"}}, id="e2")
    assert r["duplicate"] is True, "another id is another store"
    r = await c.ask("store", {"text": "once ", "metadata": {"session_id": "s"}}, id="e1")
    assert r["duplicate"] is True, "another content is another store"
    body = json.dumps({"type": "store", "id": 5, "data": {"text": "no session"}})
    a = await c.raw(body)
    assert await c.raw(body) == a
    b = await other.raw(body)
    assert b["data"]["duplicate"] is True, "without a session it is the connection's"
    await refused("missing_field", "Missing", c.ask("store", {"text": ""}, id="e3"))
    for i in range(256):
        await c.ask("store", {"text": "filler %d" % i, "metadata": {"session_id": "s"}}, id="f%d" % i)
    r = await c.ask("store", {"text": "once", "metadata": {"session_id": "s"}}, id="e1")
    assert r["duplicate"] is True, "only the last 256 are remembered"


async def test_a_repeated_embed_gets_the_first_answer_whatever_became_of_it(server):
    c = await server.client()
    body = json.dumps({"type": "embed", "id": "e", "data": {"text": "first text", "metadata": {"session_id": "s"}}})

    async def again():
        await c.ws.send(body)
        return await c.ws.recv()

    first = await again()
    i = json.loads(first)["data"]["id"]
    assert await again() == first and len(json.loads(first)["data"]["embedding"]) == DIMENSION
    await c.ask("update", {"id": i, "text": "wholly other words"})
    assert await again() == first
    await c.ask("delete", {"id": i})
    assert await again() == first and (await c.ask("stats"))["memory_count"] == 0


async def test_embed_of_a_duplicate_gives_the_vector_of_the_request_then_and_again(server):
    c = await server.client()
    await c.store("red apple", embedding=axis(1))
    vector = (await c.ask("embed_only", {"text": "red apple"}))["embeddings"][0]
    for n, (more, want) in enumerate((({}, vector), ({"embedding": axis(0, 2)}, axis(0, 1)))):
        ask = {"text": "red apple", **more}
        first = await c.ask("embed", ask, id=n)
        assert first["duplicate"] is True and first["embedding"] == want, first["embedding"]
        assert await c.ask("embed", ask, id=n) == first
    assert (await c.ask("retrieve", {"include_embeddings": True}))["memories"][0]["embedding"] == axis(1)


main(sys.modules["__main__"])
