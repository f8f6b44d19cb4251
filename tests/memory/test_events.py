"""Events, standing queries, what a restart finds again, export and import (SPEC 4.2, 5, 7)."""
import json
import sys

from rig import *


async def test_events_tell_what_became_durable(server):
    c, other = await server.client(), await server.client()
    r = await other.ask("subscribe", {"events": ["memory_added", "memory_updated", "memory_removed"]})
    assert r["subscribed"] == ["memory_added", "memory_updated", "memory_removed"]
    a = await c.store("one")
    e = await other.event()
    assert e["status"] == "success" and e["event"] == "memory_added" and e["data"]["memory"]["text"] == "one"
    await c.store("one")
    e = await other.event()
    assert e["event"] == "memory_updated" and e["data"]["memory"]["access_count"] == 1
    await c.ask("update", {"id": a["id"], "text": "two"})
    assert (await other.event())["data"]["memory"]["text"] == "two"
    await c.ask("delete", {"id": a["id"]})
    e = await other.event()
    assert e["event"] == "memory_removed" and e["data"] == {"id": a["id"], "reason": "deleted"}
    b = await c.store("three")
    await other.event()
    await c.ask("clear", {"confirm": True})
    assert (await other.event())["data"] == {"id": b["id"], "reason": "cleared"}


@flags("--max-memories", "1", "--when-full", "evict")
async def test_events_of_eviction(server):
    c = await server.client()
    await c.ask("subscribe", {"events": ["memory_removed"]})
    a = await c.store("one")
    await c.store("two")
    assert (await c.event())["data"] == {"id": a["id"], "reason": "evicted"}


@flags("--forget", "0.2")
async def test_events_of_forgetting(server):
    c = await server.client()
    await c.ask("subscribe", {"events": ["memory_removed"]})
    a = await c.store("one", significance=0.1)
    await c.ask("cleanup")
    assert (await c.event())["data"] == {"id": a["id"], "reason": "forgotten"}


async def test_standing_queries_for_the_same_text_match_it(server):
    c, other = await server.client(), await server.client()
    for i in range(15):
        text = " ".join("word%d" % (i * k) for k in range(1, i + 2))
        await other.ask("subscribe", {"events": ["match"], "query": {"text": text, "min_similarity": 1}})
        await c.store(text)
        e = await other.event()
        assert e["data"]["memory"]["text"] == text and e["data"]["similarity"] == 1, e


async def test_standing_queries_match_what_is_new(server):
    c, other = await server.client(), await server.client()
    await c.store("a red apple of before")
    one = await other.ask("subscribe", {"events": ["match"], "query": {"text": "red apple", "min_similarity": 0.3}})
    two = await other.ask("subscribe", {"events": ["match"], "query": {"text": "blue bicycle", "min_similarity": 0.3}})
    assert one["query_id"] != two["query_id"] and one["subscribed"] == ["match"]
    await c.store("my blue bicycle")
    e = await other.event()
    assert e["event"] == "match" and e["data"]["query_id"] == two["query_id"] and e["data"]["similarity"] >= 0.3
    assert e["data"]["memory"]["text"] == "my blue bicycle"
    await c.store("nothing of the kind at all")
    await c.store("the red apple")
    assert (await other.event())["data"]["query_id"] == one["query_id"]
    for _ in range(14):
        await other.ask("subscribe", {"events": ["match"], "query": {"text": "x"}})
    await refused("invalid_parameter", "Invalid parameter: query",
                  other.ask("subscribe", {"events": ["match"], "query": {"text": "x"}}))
    await other.ask("unsubscribe", {"events": ["match"]})
    await c.store("another red apple")
    assert (await other.ask("ping"))["pong"] and not other.events


async def everything(c):
    out, after = [], None
    while True:
        r = await c.ask("export", {"count": 100, "after": after})
        out += r["memories"]
        after = r["next"]
        if after is None:
            return out


async def fill(c):
    ids = []
    for i in range(120):
        r = await c.store("text %d of %d" % (i, i % 7), metadata={"type": "user", "session_id": "s%d" % (i % 3)}, tags=["t%d" % (i % 5)],
                          pinned=i % 10 == 0)
        ids.append(r["id"])
    for i in range(0, 120, 8):
        await c.ask("delete", {"id": ids[i]})
    for i in range(1, 120, 8):
        await c.ask("update", {"id": ids[i], "text": "changed %d" % i, "tags": ["new"]})
    for i in range(2, 120, 8):
        await c.ask("update", {"id": ids[i], "significance": 0.5, "pinned": True})
    for i in range(3, 120, 8):
        await c.store("text %d of %d" % (i, i % 7), metadata={"type": "user"})


async def test_a_restart_finds_everything_again(server):
    for kill in (False, True):
        c = await server.client()
        await fill(c)
        before, score = await everything(c), await c.ask("score", {"text": "a new text of 3"})
        await server.restart(kill)
        c = await server.client()
        assert await everything(c) == before
        # Streams come from the last fifty alone; what the others say is the same.
        again = await c.ask("score", {"text": "a new text of 3"})
        for part in ("diversity", "information", "floor"):
            assert again["components"][part] == score["components"][part], part
        await c.ask("compact")
        assert await everything(c) == before
        await server.restart(kill)
        c = await server.client()
        assert await everything(c) == before
        await c.ask("clear", {"confirm": True})


async def test_nothing_is_left_after_clear_and_restart(server):
    c = await server.client()
    await fill(c)
    await c.ask("clear", {"confirm": True})
    await server.restart(kill=True)
    c = await server.client()
    assert (await c.ask("retrieve"))["total"] == 0
    assert (await c.store("new"))["memory_count"] == 1


async def test_export_and_import_are_each_the_others_inverse(server):
    c = await server.client()
    await fill(c)
    before = await everything(c)
    await server.halt()
    file, back = server.home + "/out", server.home + "/back"
    assert run(["--data", server.data, "--export", file])[0] == 0
    lines = open(file).read().splitlines()
    assert [json.loads(line) for line in lines] == before
    status, out, err = run(["--data", server.home + "/other", "--import", file])
    assert status == 0 and out == "imported %d memories, skipped 0 duplicates\n" % len(before), (out, err)
    assert run(["--data", server.home + "/other", "--export", back])[0] == 0
    assert open(file).read() == open(back).read()
    status, out, err = run(["--data", server.home + "/other", "--import", "-"], open(file, "rb").read())
    assert status == 0 and out == "imported 0 memories, skipped %d duplicates\n" % len(before)
    status, out, err = run(["--data", server.home + "/other", "--export", "-"])
    assert out == open(file).read()


OLD = [
    ({"content": "content for text", "timestamp": 1600000000}, {"text": "content for text", "timestamp": "2020-09-13T12:26:40.000Z"}),
    ({"text": "milliseconds", "timestamp": 1600000000123}, {"timestamp": "2020-09-13T12:26:40.123Z"}),
    ({"text": "a date", "timestamp": "2020-09-13"}, {"timestamp": "2020-09-13T00:00:00.000Z"}),
    ({"text": " blanks around\n", "id": "memory_17"}, {"text": "blanks around"}),
    ({"text": "own id", "id": "00112233-4455-6677-8899-aabbccddeeff"}, {"id": "00112233-4455-6677-8899-aabbccddeeff"}),
    ({"text": "id taken", "id": "00112233-4455-6677-8899-aabbccddeeff"}, {}),
    ({"text": "all of it", "significance": 0.3, "surprise": 0.25, "diversity": 0.5, "information": 0.75, "pinned": True,
      "access_count": 7, "tags": ["x"], "metadata": {"type": "user"}, "last_access": "2024-01-01T00:00:00Z"},
     {"significance": 0.3, "surprise": 0.25, "diversity": 0.5, "information": 0.75, "pinned": True, "access_count": 7,
      "tags": ["x"], "metadata": {"type": "user"}, "last_access": "2024-01-01T00:00:00.000Z"}),
    ({"text": "rated anew", "access_count": 7, "last_access": "2024-01-01T00:00:00Z", "pinned": True},
     {"access_count": 7, "last_access": "2024-01-01T00:00:00.000Z", "pinned": True}),
    ({"text": "nulls", "timestamp": None, "id": None, "metadata": None, "tags": None, "embedding": None}, {"metadata": {}, "tags": []}),
    ({"text": "another embedder's vector", "embedding": [1, 2, 3]}, {}),
    ({"text": "unknown members", "strength": 5, "what": {}}, {}),
]
WRONG = ["{", "5", "[]", "{}", '{"text":5}', '{"text":" "}', '{"text":"x","timestamp":"soon"}', '{"text":"x","significance":2}',
         '{"text":"x","tags":"a"}', '{"text":"x","metadata":"user"}', '{"text":"x","pinned":"yes"}', '{"text":"x","access_count":-1}', '{"text":"x","surprise":1.5}', '{"text":"x","surprise":"0.9"}',
         '{"text":"%s"}' % ("x" * 16385), '{"text":"x","metadata":{"a":"%s"}}' % ("x" * 4096), '{"text":"\xff"}']


async def test_import_takes_older_forms(server):
    await server.halt()
    text = "\n".join(json.dumps(row) for row, _ in OLD) + "\n\n"
    status, out, err = run(["--data", server.data, "--import", "-"], text.encode())
    assert status == 0 and out.startswith("imported %d memories" % len(OLD)), (out, err)
    server.start()
    c = await server.client()
    got = await everything(c)
    for (row, want), m in zip(OLD, got):
        for key, value in want.items():
            assert m[key] == value, "%s of %r is %r" % (key, row, m[key])
    assert len({m["id"] for m in got}) == len(OLD)
    vector = (await c.ask("embed_only", {"text": "another embedder's vector"}))["embeddings"][0]
    assert got[9]["embedding"] == base64_of(vector), "is embedded anew"


async def test_a_floor_is_that_of_text_and_metadata_after_an_import_too(server):
    await server.halt()
    rows = [{"text": text, "metadata": {"importance": importance}, "significance": 0.9}
            for text, importance in (("note: one", 0.2), ("two", 0.3), ("don't forget three", 0.8), ("four", 0))]
    status, out, err = run(["--data", server.data, "--import", "-"], "\n".join(map(json.dumps, rows)).encode())
    assert status == 0, err
    server.start()
    c = await server.client()
    told = [await c.store(row["text"]) for row in rows]
    assert all(r["duplicate"] for r in told)
    for r, floor in zip(told, (0.75, 0.3, 0.8, 0)):
        near(r["components"]["floor"], floor, 1e-7)


async def test_import_names_the_line_that_is_wrong(server):
    await server.halt()
    for i, line in enumerate(WRONG):
        good = json.dumps({"text": "good %d" % i})
        status, out, err = run(["--data", server.data, "--import", "-"], (good + "\n").encode() + line.encode("latin-1") + b"\n")
        assert status == 65 and "line 2" in err, (line[:50], status, err)
        assert out == "imported 1 memories, skipped 0 duplicates\n", out
    server.start()
    assert (await (await server.client()).ask("retrieve"))["total"] == len(WRONG)


async def test_a_memory_of_the_greatest_size_is_kept_and_told_of(server):
    c = await server.client()
    await c.ask("subscribe", {"events": ["memory_added"]})
    r = await c.store("\x01" * 16384, metadata={"a": "\x02" * 681}, tags=["\x03" * 64] * 16)
    e = await c.event()
    assert e["data"]["memory"]["text"] == "\x01" * 16384 and e["data"]["memory"]["tags"] == ["\x03" * 64] * 16
    before = await everything(c)
    await server.halt()
    status, out, err = run(["--data", server.data, "--export", "-"])
    assert status == 0 and json.loads(out) == before[0]
    status, out, err = run(["--data", server.home + "/other", "--import", "-"], out.encode())
    assert status == 0, err
    server.start()


async def test_another_process_is_kept_out(server):
    status, out, err = run(["--data", server.data, "--export", "-"])
    assert status == 75, err


main(sys.modules["__main__"])
