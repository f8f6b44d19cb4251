#!/usr/bin/python3
"""Every command of the inference endpoint with the builtin embedder, SPEC 4.3."""
import asyncio
import math
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import Server, Tally, ask, data_of, dot, floats, single  # noqa: E402

check = Tally()
WORDS = "red apple green pear my bicycle is broken again the train leaves at seven remember milk".split()
SPACES = "\u0009\u000a\u000b\u000c\u000d\u0020\u0085\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"


async def embeddings(ws):
    one = await data_of(ws, "embeddings", {"text": "red apple"})
    check.equal(sorted(one), sorted(["embeddings", "count", "dimension", "model", "adapter", "normalized", "tokens",
                                     "truncated", "processing_time_ms"]), "keys of embeddings")
    check.equal((one["count"], one["dimension"], one["model"], one["adapter"], one["normalized"]),
                (1, 384, "builtin-hash-384", None, True), "what one text gives")
    check.equal((one["tokens"], one["truncated"]), ([2], [False]), "words are tokens")
    check(len(one["embeddings"]) == 1 and len(one["embeddings"][0]) == 384, "always a list of vectors")
    check.near(dot(one["embeddings"][0], one["embeddings"][0]), 1, 1e-6, "unit length")
    check(one["processing_time_ms"] >= 0, "time")

    texts = [" ".join(WORDS[i % len(WORDS)] for i in range(k, 2 * k + 1)) for k in range(40)] + ["", "!?", "日本"]
    for fmt, read in (("float", single), ("base64", floats), ("BASE64", floats)):
        many = await data_of(ws, "embeddings", {"text": texts, "config": {"encoding_format": fmt}})
        check.equal(many["count"], len(texts), "count")
        for i, text in enumerate(texts):
            alone = await data_of(ws, "embeddings", {"text": [text], "config": {"encoding_format": "base64"}})
            check.equal(read(many["embeddings"][i]), floats(alone["embeddings"][0]), "single and batch differ", text)
            check.equal(many["tokens"][i], alone["tokens"][0], "tokens", text)

    plain = await data_of(ws, "embeddings", {"text": "red apple", "config": {"normalize": False}})
    norm = math.sqrt(dot(plain["embeddings"][0], plain["embeddings"][0]))
    check(norm > 1.5 and plain["normalized"] is False, "the pooled vector as it is", norm)
    for a, b in zip(plain["embeddings"][0], one["embeddings"][0]):
        check.near(a / norm, b, 1e-6, "a multiple of the unit vector")

    trimmed = await data_of(ws, "embeddings", {"text": SPACES + "red apple" + SPACES})
    check.equal(trimmed["embeddings"], one["embeddings"], "all of Unicode's white space is trimmed")
    for zero in ("", " ", SPACES, "..."):
        blank = await data_of(ws, "embeddings", {"text": zero})
        check.equal((blank["count"], blank["tokens"]), (1, [0]), "a text without words", repr(zero))
        check.near(dot(blank["embeddings"][0], blank["embeddings"][0]), 1, 1e-6, "has a vector", repr(zero))
    check.equal((await data_of(ws, "embeddings", {"text": []}))["embeddings"], [], "no texts at all")
    check.equal((await data_of(ws, "embeddings", {"text": ["a"] * 256}))["count"], 256, "256 texts")
    for size in (65535, 65536):
        long = await data_of(ws, "embeddings", {"text": " " + "ab " * (size // 3) + "c" * (size % 3) + "\u3000 "})
        check.equal(long["truncated"], [False], "nothing is truncated at", size)
    nul = await data_of(ws, "embeddings", {"text": "red\0apple"})
    check.equal(nul["tokens"], [2], "NUL parts words")
    flat = await ask(ws, "embeddings", None, text="red apple", id=7)
    check.equal(flat.get("data", {}).get("embeddings"), one["embeddings"], "fields at the top level, no data")
    check.equal((flat.get("id"), flat.get("type")), (7, "embeddings"), "id and type come back")
    null = await data_of(ws, "embeddings", {"text": "red apple", "adapter": None, "config": None})
    check.equal(null["embeddings"], one["embeddings"], "null counts as absent")


SURROGATE = "INVALID"
BAD = [
    ("embeddings", {}, "missing_field", "Missing required field: text"),
    ("embeddings", {"text": None}, "missing_field", "Missing required field: text"),
    ("embeddings", {"text": 7}, "invalid_parameter", "Invalid parameter: text (a string, or a list"),
    ("embeddings", {"text": {"a": 1}}, "invalid_parameter", "Invalid parameter: text"),
    ("embeddings", {"text": True}, "invalid_parameter", "Invalid parameter: text"),
    ("embeddings", {"text": ["a", 7]}, "invalid_parameter", "Invalid parameter: text"),
    ("embeddings", {"text": ["a", None]}, "invalid_parameter", "Invalid parameter: text"),
    ("embeddings", {"text": [["a"]]}, "invalid_parameter", "Invalid parameter: text"),
    ("embeddings", {"text": ["a"] * 257}, "invalid_parameter", "Invalid parameter: text"),
    ("embeddings", {"text": ["a"] * 1000}, "invalid_parameter", "Invalid parameter: text"),
    ("embeddings", {"text": "x" * 65537}, "too_large", "Text too long: text has 65537 bytes"),
    ("embeddings", {"text": ["a", "x" * 65537]}, "too_large", "Text too long: text has 65537 bytes"),
    ("embeddings", {"text": "é" * 32769}, "too_large", "Text too long: text has 65538 bytes"),
    ("embeddings", {"text": "a", "adapter": "none"}, "unknown_adapter", "Unknown adapter: none"),
    ("embeddings", {"text": "a", "adapter": ""}, "unknown_adapter", "Unknown adapter: "),
    ("embeddings", {"text": "a", "adapter": 3}, "invalid_parameter", "Invalid parameter: adapter"),
    ("embeddings", {"text": "a", "config": 3}, "invalid_parameter", "Invalid parameter: config"),
    ("embeddings", {"text": "a", "config": []}, "invalid_parameter", "Invalid parameter: config"),
    ("embeddings", {"text": "a", "config": {"normalize": 1}}, "invalid_parameter",
     "Invalid parameter: config.normalize"),
    ("embeddings", {"text": "a", "config": {"truncate": "yes"}}, "invalid_parameter",
     "Invalid parameter: config.truncate"),
    ("embeddings", {"text": "a", "config": {"encoding_format": "hex"}}, "invalid_parameter",
     "Invalid parameter: config.encoding_format"),
    ("embeddings", {"text": "a", "config": {"encoding_format": 1}}, "invalid_parameter",
     "Invalid parameter: config.encoding_format"),
    ("similarity", {}, "missing_field", "Missing required field: text1"),
    ("similarity", {"text1": "a"}, "missing_field", "Missing required field: text2"),
    ("similarity", {"text2": "a"}, "missing_field", "Missing required field: text1"),
    ("similarity", {"text1": 1, "text2": "a"}, "invalid_parameter", "Invalid parameter: text1"),
    ("similarity", {"text1": "a", "text2": ["a"]}, "invalid_parameter", "Invalid parameter: text2"),
    ("similarity", {"text1": "a", "text2": "x" * 65537}, "too_large", "Text too long: text2"),
    ("similarity", {"text1": "a", "text2": "b", "adapter": "x"}, "unknown_adapter", "Unknown adapter: x"),
    ("process", {}, "missing_field", "Missing required field: text"),
    ("process", {"text": 5}, "invalid_parameter", "Invalid parameter: text"),
    ("process", {"text": "x" * 65537}, "too_large", "Text too long: text"),
    ("process", {"text": "a", "adapter": "x"}, "unknown_adapter", "Unknown adapter: x"),
    ("process", {"text": "a", "context": "b"}, "invalid_parameter", "Invalid parameter: context"),
    ("process", {"text": "a", "context": [1]}, "invalid_parameter", "Invalid parameter: context"),
    ("process", {"text": "a", "context": [None]}, "invalid_parameter", "Invalid parameter: context"),
    ("process", {"text": "a", "context": [{}]}, "invalid_parameter", "Invalid parameter: context"),
    ("process", {"text": "a", "context": [{"text": 3}]}, "invalid_parameter", "Invalid parameter: context"),
    ("process", {"text": "a", "context": [{"text": "b", "role": 3}]}, "invalid_parameter",
     "Invalid parameter: context"),
    ("process", {"text": "a", "context": [{"text": "b", "timestamp": "noon"}]}, "invalid_timestamp",
     "Invalid timestamp"),
    ("process", {"text": "a", "context": [{"text": "b", "timestamp": []}]}, "invalid_timestamp", "Invalid timestamp"),
    ("process", {"text": "a", "context": ["x" * 65537]}, "too_large", "Text too long: context"),
    ("process", {"text": "a", "context": ["b"] * 65}, "invalid_parameter", "Invalid parameter: context"),
    ("process", {"embedding": [1, 2]}, "bad_dimension", "Invalid embedding dimension: got 2, expected 384"),
    ("process", {"embedding": [0] * 384}, "invalid_parameter", "Invalid parameter: embedding"),
    ("process", {"embedding": []}, "invalid_parameter", "Invalid parameter: embedding"),
    ("process", {"embedding": ["a"]}, "invalid_parameter", "Invalid parameter: embedding"),
    ("process", {"embedding": "AAAA"}, "invalid_parameter", "Invalid parameter: embedding"),
    ("process", {"embedding": "AACAPw=="}, "bad_dimension", "Invalid embedding dimension: got 1, expected 384"),
    ("process", {"embedding": [1] * 10000}, "bad_dimension", "Invalid embedding dimension: got 10000, expected 384"),
    ("process", {"text": "a", "config": "x"}, "invalid_parameter", "Invalid parameter: config"),
    *[("process", {"text": "a", "config": {"top_k": v}}, "invalid_parameter", "Invalid parameter: config.top_k")
      for v in (-1, 65, 1.5, "5", True, [])],
    *[("process", {"text": "a", "config": {"max_length": v}}, "invalid_parameter",
       "Invalid parameter: config.max_length" + why) for v, why in (
           *[(v, " (an integer from 8 to 32768)") for v in (7, 0, -1, 32769, 40000)], ("8", ""), (8.5, ""))],
    *[("process", {"text": "a", "config": {"max_length": 16, "stride": v}}, "invalid_parameter",
       "Invalid parameter: config.stride" + why) for v, why in (
           *[(v, " (an integer from 1 to max_length)") for v in (0, 17, -3)], ("2", ""), (1.5, ""))],
    ("process", {"text": "a", "config": {"chunk": 1}}, "invalid_parameter", "Invalid parameter: config.chunk"),
    ("process", {"text": "a", "config": {"include_embeddings": "no"}}, "invalid_parameter",
     "Invalid parameter: config.include_embeddings"),
    ("process", {"text": "a b " * 200, "config": {"chunk": True, "max_length": 8, "stride": 1}}, "too_large",
     "Text too long: 393 chunks"),
    ("load_adapter", {}, "missing_field", "Missing required field: name"),
    ("load_adapter", {"name": "x"}, "missing_field", "Missing required field: path"),
    ("load_adapter", {"name": 1, "path": "x"}, "invalid_parameter", "Invalid parameter: name"),
    ("load_adapter", {"name": "", "path": "x"}, "invalid_parameter", "Invalid parameter: name"),
    ("load_adapter", {"name": "x" * 65, "path": "x"}, "invalid_parameter", "Invalid parameter: name"),
    ("load_adapter", {"name": "a\0b", "path": "x"}, "invalid_parameter", "Invalid parameter: name"),
    ("load_adapter", {"name": "x", "path": 1}, "invalid_parameter", "Invalid parameter: path"),
    ("load_adapter", {"name": "x", "path": "y"}, "bad_adapter", "Cannot load adapter: no --adapter-dir was given"),
    ("unload_adapter", {}, "missing_field", "Missing required field: name"),
    ("unload_adapter", {"name": 3}, "invalid_parameter", "Invalid parameter: name"),
    ("unload_adapter", {"name": "x"}, "unknown_adapter", "Unknown adapter: x"),
    ("store", {"text": "x"}, "unknown_type", "Unknown command type: store"),
    ("embed", {"text": "x"}, "unknown_type", "Unknown command type: embed"),
]


async def bad_input(ws):
    for kind, data, code, sentence in BAD:
        check.refused(await ask(ws, kind, data), code, sentence, kind, repr(data)[:80])
    doubled = '{"type":"embeddings","data":{"text":"a","text":"b"}}'
    await ws.send(doubled)
    check("invalid_envelope" in await ws.recv(), "a duplicate key in data")


async def similarity(ws):
    for a, b in (("red apple", "red apple"), ("red apple", "green pear"), ("", "x"), ("My dog is Rex", "my DOG")):
        got = (await data_of(ws, "similarity", {"text1": a, "text2": b}))["similarity"]
        back = (await data_of(ws, "similarity", {"text1": b, "text2": a}))["similarity"]
        v = (await data_of(ws, "embeddings", {"text": [a, b]}))["embeddings"]
        check.near(got, dot(v[0], v[1]), 1e-6, "the cosine of", a, b)
        check.equal(got, back, "symmetry of", a, b)
        check(-1 <= got <= 1, "within bounds", got)
        if a == b:
            check.near(got, 1, 1e-6, "of a text with itself")


def clamp(x):
    return min(1.0, max(0.0, x))


def words_of(text):
    return {w.lower() for w in re.findall(rb"[A-Za-z0-9\x80-\xff]+", text.encode())}


def floor_of(text):
    low = text.lower()
    return 0.75 if low.startswith(("remember:", "important:", "note:", "fact:")) or "don't forget" in low else 0


def reference(x, text, context, vectors):
    """s, d, q and sigma of SPEC 5 against a context, in Python's doubles."""
    c, w = [0.0] * len(x), 0.0
    for m in vectors:
        s = 0.5 if w == 0 else clamp(1 - dot(m, c) / w)
        g = 0.1 * min(1, 0.8 / s) if s else 0.1
        c = [(1 - g) * a + g * b for a, b in zip(c, m)]
        w = (1 - g) * w + g
    s = 0.5 if w == 0 else clamp(1 - dot(x, c) / w)
    d = clamp(1 - max((dot(x, m) for m in vectors), default=0))
    n = len(context)
    df = {}
    for t in context:
        for word in words_of(t):
            df[word] = df.get(word, 0) + 1
    u = sum(math.log2(1 + (n + 1) / (df.get(word, 0) + 1)) for word in words_of(text)) / math.log2(n + 2)
    q = 1 - math.exp(-u / 16)
    return s, d, q, max(0.4 * s + 0.3 * q + 0.3 * d, floor_of(text))


PROCESS = [
    ("my bicycle is broken", []),
    ("red apple", ["red apple"]),
    ("red apple pie", ["red apple", "green apple", "my bicycle is broken"]),
    ("Remember: buy milk", ["we need milk"]),
    ("please don't forget the milk", ["we need milk", "we need milk", "we need milk"]),
    ("note: x", ["a"]),
    ("", ["a", ""]),
    ("the train leaves at seven", [" ".join(WORDS[i:i + 4]) for i in range(12)]),
    ("Zürich ist schön", ["schön war es in Zürich", "ZÜRICH"]),
    ("a", ["b"] * 64),
    ("no session q", ["no session q"]),      # its vector's square is a little above 1
]


async def process(ws):
    for text, context in PROCESS:
        vectors = (await data_of(ws, "embeddings", {"text": context + [text]}))["embeddings"]
        got = await data_of(ws, "process", {"text": text, "context": context})
        s, d, q, sigma = reference(vectors[-1], text, context, vectors[:-1])
        for key, want in (("surprise", s), ("diversity", d), ("information", q), ("significance", sigma)):
            check.near(got[key], want, 1e-6, "process", key, "of", repr(text))
        check.equal(got["shock"], got["surprise"] > 0.8, "shock")
        check.equal(got["context_used"], len(context), "context_used")
        for i, m in enumerate(vectors[:-1]):
            check.near(got["context_similarity"][i], dot(vectors[-1], m), 1e-6, "context_similarity", i)
            check(got["context_similarity"][i] <= 1, "no cosine is above 1", text, got["context_similarity"][i])
        check.equal(got["predictions"], [], "nothing is invented")
        check.equal([sorted(c) for c in got["chunks"]],
                    [sorted(["index", "start", "end", "tokens", "significance", "surprise"])], "one chunk")
        chunk = got["chunks"][0]
        check.equal((chunk["index"], chunk["start"], chunk["end"]), (0, 0, len(text.encode())), "the chunk is all")
        check.equal((chunk["significance"], chunk["surprise"]), (got["significance"], got["surprise"]), "its figures")
        check("embedding" not in got and "embedding" not in chunk, "no vectors unless asked for")
        as_objects = [{"role": "user", "text": t, "timestamp": "2026-01-01"} for t in context]
        again = await data_of(ws, "process", {"text": text, "context": as_objects})
        for key in ("significance", "surprise", "diversity", "information", "context_similarity"):
            check.equal(again[key], got[key], "strings and objects agree on", key)


async def process_vectors(ws):
    text, context = "red apple pie", ["red apple", "green pear"]
    vector = (await data_of(ws, "embeddings", {"text": text}))["embeddings"][0]
    plain = await data_of(ws, "process", {"text": text, "context": context,
                                          "config": {"include_embeddings": True, "top_k": 0}})
    check.equal(plain["embedding"], vector, "the vector in data")
    check.equal(plain["chunks"][0]["embedding"], vector, "and in the chunk")
    for given in (vector, [3 * x for x in vector]):
        by_vector = await data_of(ws, "process", {"embedding": given, "context": context})
        for key in ("surprise", "diversity"):
            check.near(by_vector[key], plain[key], 1e-6, "a given vector is normalised:", key)
        check.equal(by_vector["information"], 0, "no text, no words")
        check.equal((by_vector["chunks"][0]["end"], by_vector["chunks"][0]["tokens"]), (0, 0), "its chunk is empty")
    both = await data_of(ws, "process", {"text": text, "embedding": vector, "context": context})
    for key in ("surprise", "diversity", "information", "significance"):
        check.near(both[key], plain[key], 1e-6, "text and vector together:", key)
    nothing = await data_of(ws, "process", {"embedding": vector})
    check.equal((nothing["surprise"], nothing["diversity"], nothing["shock"]), (0.5, 1, False), "no context")


async def process_chunks(ws):
    text = "one two three, four five six seven! eight nine ten eleven twelve thirteen"
    context = ["one two three", "nine ten"]
    words = [(m.start(), m.end()) for m in re.finditer(r"\w+", text)]
    vectors = (await data_of(ws, "embeddings", {"text": context}))["embeddings"]
    for length, stride in ((8, 8), (8, 4), (8, 1), (12, 5), (13, 13), (100, 7), (8, None), (None, None)):
        config = {"chunk": True, "include_embeddings": True}
        if length:
            config["max_length"] = length
        if stride:
            config["stride"] = stride
        got = (await data_of(ws, "process", {"text": text, "context": context, "config": config}))["chunks"]
        size = length or 32768
        want, first = [], 0
        while True:
            part = words[first:first + size]
            want.append((part[0][0], part[-1][1], len(part)))
            if first + size >= len(words):
                break
            first += stride or size
        if len(want) == 1:
            want = [(0, len(text), len(words))]
        check.equal([(c["start"], c["end"], c["tokens"]) for c in got], want, "windows", length, stride)
        check.equal([c["index"] for c in got], list(range(len(got))), "index")
        for c in got:
            part = text[c["start"]:c["end"]]
            x = (await data_of(ws, "embeddings", {"text": part}))["embeddings"][0]
            s, _, _, sigma = reference(x, part, context, vectors)
            check.equal(c["embedding"], x, "the vector of a chunk")
            check.near(c["surprise"], s, 1e-6, "surprise of a chunk")
            check.near(c["significance"], sigma, 1e-6, "significance of a chunk")
    edge = await data_of(ws, "process", {"text": "a b " * 132, "config": {"chunk": True, "max_length": 9, "stride": 1}})
    check.equal(len(edge["chunks"]), 256, "256 chunks are computed")
    blank = await data_of(ws, "process", {"text": " ", "config": {"chunk": True}})
    check.equal([(c["start"], c["end"], c["tokens"]) for c in blank["chunks"]], [(0, 0, 0)], "a blank text")


async def lists(ws):
    models = (await data_of(ws, "models"))["models"]
    check.equal(len(models), 1, "one model")
    check.equal(sorted(models[0]), sorted(["name", "fingerprint", "dimension", "max_tokens", "dtype"]), "its keys")
    check(re.fullmatch("[0-9a-f]{64}", models[0]["fingerprint"]), "its fingerprint")
    check.equal((models[0]["name"], models[0]["dimension"]), ("builtin-hash-384", 384), "its name")
    check.equal(await data_of(ws, "adapters"), {"adapters": []}, "no adapters")
    before = await data_of(ws, "stats")
    await data_of(ws, "embeddings", {"text": ["one two", "three"]})
    after = await data_of(ws, "stats")
    check.equal(after["embeddings_total"] - before["embeddings_total"], 2, "embeddings_total")
    check.equal(after["tokens_total"] - before["tokens_total"], 3, "tokens_total")
    check.equal((after["queue"], after["adapters"]), (0, []), "queue and adapters")
    check(isinstance(after["avg_embedding_ms"], (int, float)), "avg_embedding_ms")
    check.equal((after["server"], after["model"], after["dimension"]), ("inference", "builtin-hash-384", 384), "stats")


async def small_replies(server):
    async with server.connect() as ws:
        check.refused(await ask(ws, "embeddings", {"text": ["a"] * 10}), "too_large", "Reply too large", "ten vectors")
        check.equal((await ask(ws, "embeddings", {"text": "a", "config": {"encoding_format": "base64"}}))["status"],
                    "success", "one in base64 fits")
        config = {"include_embeddings": True, "chunk": True, "max_length": 8}
        check.refused(await ask(ws, "process", {"text": " ".join(WORDS), "config": config}), "too_large",
                      "Reply too large", "process with vectors")


async def predictions(server):
    async with server.connect("memory") as memory, server.connect() as ws:
        said = [("s1", "user", "how do I bake bread"), ("s2", "user", "where is my bicycle"),
                ("s1", "assistant", "With flour, water, salt and yeast."), ("s2", "user", "where is the car"),
                ("s2", "assistant", "In the garage."), ("s3", "user", "how do I bake bread rolls")]
        for session, kind, text in said:
            await data_of(memory, "store", {"text": text, "metadata": {"session_id": session, "type": kind}})
        got = await data_of(ws, "process", {"text": "how do I bake bread"})
        check.equal([p["text"] for p in got["predictions"]], ["With flour, water, salt and yeast.", "In the garage."],
                    "what the assistant said next")
        check.equal({p["source"] for p in got["predictions"]}, {"memory"}, "their source")
        check.near(got["predictions"][0]["score"], 1, 1e-6, "the score is the similarity")
        for text in ("no session q", "red apple", "w x y z q"):
            await data_of(memory, "store", {"text": text, "metadata": {"session_id": text, "type": "user"}})
            await data_of(memory, "store", {"text": "to " + text, "metadata": {"session_id": text, "type": "assistant"}})
            best = (await data_of(ws, "process", {"text": text}))["predictions"][0]
            check.equal((best["text"], best["score"]), ("to " + text, 1), "no score is above 1")
        one = await data_of(ws, "process", {"text": "where is the car", "config": {"top_k": 1}})
        check.equal([p["text"] for p in one["predictions"]], ["In the garage."], "top_k 1")
        none = await data_of(ws, "process", {"text": "where is the car", "config": {"top_k": 0}})
        check.equal(none["predictions"], [], "top_k 0")


async def main():
    with Server("--only", "inference") as server:
        async with server.connect() as ws:
            for part in (embeddings, bad_input, similarity, process, process_vectors, process_chunks, lists):
                await part(ws)
    with Server("--only", "inference", "--max-reply", "4096") as server:
        await small_replies(server)
    with Server() as server:
        await predictions(server)
    return check.end("commands")


sys.exit(asyncio.run(main()))
