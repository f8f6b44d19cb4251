"""What the service does by itself and by default: slow subscribers, compaction, forgetting, syncs, figures, limits, reloads."""
import base64
import contextlib
import json
import math
import os
import pathlib
import shutil
import signal
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import ROOT, Client, Server, get, recalld, run, scratch  # noqa: E402

TINY = ROOT / "tests/models/tiny"
LONG = bool(os.environ.get("LONG"))


def until(what, seconds=10):
    """Ask again and again until it is true; what it gave then."""
    end = time.monotonic() + seconds
    while not (is_so := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)
    return is_so


def everything(c):
    """All memories in the order of storing, with their vectors."""
    out, after = [], None
    while True:
        page = c.ok("export", {"after": after})
        out += page["memories"]
        after = page["next"]
        if after is None:
            return out


def vector(i, text, **more):
    """The vector of a text, exactly as float32."""
    raw = base64.b64decode(i.ok("embeddings", {"text": text, "config": {"encoding_format": "base64"}, **more})["embeddings"][0])
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def large(i):
    """A text of about 16 KB that begins with its number."""
    return f"{i} " + "x" * 16000


def test_no_match_comes_before_the_reply_that_names_its_query():
    watch = {"events": ["match", "memory_added"], "query": {"text": "red apple"}}
    with Server() as s, Client(s.memory) as c, Client(s.memory) as other:
        helper = int(pathlib.Path(f"/proc/{s.process.pid}/task/{s.process.pid}/children").read_text().split()[0])
        os.kill(helper, signal.SIGSTOP)                     # what is stored is not on disk yet
        try:
            for kind, data in ("store", {"text": "a red apple"}), ("subscribe", watch), ("subscribe", watch):
                c.text(json.dumps({"type": kind, "data": data}))
            until(lambda: other.ok("retrieve")["total"] == 1)
            time.sleep(0.3)                                 # both are carried out
            other.text(json.dumps({"type": "store", "data": {"text": "another red apple"}}))
            time.sleep(0.1)
        finally:
            os.kill(helper, signal.SIGCONT)
        got = [c.reply() for _ in range(3)]
        assert all("event" not in m for m in got), got
        known = [m["data"]["query_id"] for m in got[1:]]
        events = [c.reply() for _ in range(6)]
        assert [m["event"] for m in events] == ["match", "match", "memory_added"] * 2, events
        assert sorted(m["data"]["query_id"] for m in events if m["event"] == "match") == sorted(known * 2), events
        assert [m["data"]["memory"]["text"] for m in events[2::3]] == ["a red apple", "another red apple"], events


def test_a_slow_subscriber_loses_the_oldest_events_and_is_told_how_many():
    n = 400
    with Server("--sync", "never", "--ping-timeout", "0") as s, Client(s.memory) as slow, Client(s.memory) as c:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that fewer stores fill what lies between
        slow.ok("subscribe", {"events": ["memory_added"]})
        for i in range(n):
            c.ok("store", {"text": large(i)})
        seen, dropped = [], []
        while not seen or seen[-1] < n - 1:                     # the newest is never lost
            e = slow.reply()
            assert e["event"] == "memory_added" and e.get("dropped") != 0, e
            seen.append(int(e["data"]["memory"]["text"].split()[0]))
            dropped.append(e.get("dropped", 0))
        assert dropped == [b - a - 1 for a, b in zip([-1] + seen, seen)], "it stands beside the event behind the gap"
        assert sum(dropped) > 0 and len(seen) + sum(dropped) == n, (len(seen), dropped)
        assert seen[-10:] == list(range(n - 10, n)), "what is kept for it are the newest"
        assert slow.ok("unsubscribe") == {"subscribed": []}, "nothing comes behind the last"


def test_the_log_is_compacted_when_half_of_it_and_a_megabyte_are_garbage():
    for flags in ([], ["--inline-sync"]):
        with Server("--sync", "never", *flags) as s, Client(s.memory) as c:
            def size():
                return c.ok("stats")["log_bytes"]

            def stored(first, end):
                return [c.ok("store", {"text": large(i)})["id"] for i in range(first, end)]

            def gone(ids):
                for one in ids:
                    c.ok("delete", {"id": one})

            few = stored(0, 20)
            gone(few[:15])                                      # half, and far from a megabyte
            ids = stored(100, 260)
            gone(ids[:60])                                      # a megabyte, and far from half
            before = size()
            assert c.ok("stats")["garbage_bytes"] > 1 << 20 and "log compacted" not in s.log()
            gone(ids[60:110])
            more = stored(300, 305)                             # while the new log is being written, perhaps
            until(lambda: "log compacted" in s.log() and size() < before * 0.7)  # what was deleted meanwhile is garbage again
            assert os.stat(f"{s.data}/memory.log").st_size < before * 0.7 and c.ok("stats")["garbage_bytes"] < 1 << 20
            want = everything(c)
            assert [m["id"] for m in want] == few[15:] + ids[110:] + more
            assert s.log().count("log compacted") == 1, "neither condition is enough alone"
            s.stop(signal.SIGKILL)
            s.start()
            with Client(s.memory) as again:
                assert everything(again) == want


if LONG:                                                        # the first sweep comes a minute after the start
    def test_what_is_weak_is_forgotten_without_being_asked():
        with Server("--forget", "0.5") as s, Client(s.memory, timeout=90) as c:
            began = time.monotonic()
            c.ok("subscribe", {"events": ["memory_removed"]})
            for text, significance, pinned in (("weak", 0.3, False), ("strong", 0.9, False), ("weak but pinned", 0.3, True)):
                c.ok("store", {"text": text, "significance": significance, "pinned": pinned})
            weak = c.ok("export")["memories"][0]["id"]
            e = c.reply()
            assert e["event"] == "memory_removed" and e["data"] == {"id": weak, "reason": "forgotten"}, e
            assert 55 < time.monotonic() - began < 75, time.monotonic() - began
            c.ok("store", {"text": "weak again", "significance": 0.3})
            time.sleep(5)                                       # at most once a minute
            st = c.ok("stats")
            assert st["forgotten"] == 1 and st["memory_count"] == 3, st


def test_what_is_far_from_a_query_is_left_out_by_default():
    """Vectors at a known cosine to the query, on either side of the embedder's own limit."""
    for flags, limit in (([], 0.15), (["--model", TINY], 0.30)):
        with Server(*flags) as s, Client(s.memory) as c, Client(s.memory) as other:
            n = c.ok("stats")["dimension"]

            def at(cosine):
                return [cosine, math.sqrt(1 - cosine * cosine)] + [0] * (n - 2)

            query = {"embedding": at(1)}
            by_default = other.ok("subscribe", {"events": ["match"], "query": query})["query_id"]
            all_of_it = other.ok("subscribe", {"events": ["match"], "query": {**query, "min_similarity": -1}})["query_id"]
            for text, cosine in (("near", limit + 0.005), ("far", limit - 0.005), ("opposite", -0.9)):
                c.ok("store", {"text": text, "embedding": at(cosine)})
            found = c.ok("search", query)
            assert [m["text"] for m in found["results"]] == ["near"] and found["below_threshold"] == 2, (limit, found)
            found = c.ok("search", {**query, "min_similarity": -1})
            assert {m["text"] for m in found["results"]} == {"near", "far", "opposite"} and found["below_threshold"] == 0, found
            matches = [other.reply()["data"] for _ in range(4)]
            assert sorted((m["memory"]["text"], m["query_id"]) for m in matches) == sorted(
                [("near", by_default)] + [(text, all_of_it) for text in ("near", "far", "opposite")]), (limit, matches)
            assert other.ok("ping")["pong"], "no other match has come"


def test_a_word_of_the_query_is_what_the_builtin_embedder_wants():
    with Server() as s, Client(s.memory) as c, Client(s.memory) as other:
        for more in ({}, {"min_similarity": -1}):
            other.ok("subscribe", {"events": ["match"], "query": {"text": "red apple", **more}})
        c.ok("store", {"text": "my bicycle is broken"})
        assert c.ok("search", {"text": "red apple"})["results"] == []
        assert c.ok("search", {"text": "red apple", "min_similarity": -1})["count"] == 1
        assert other.reply()["data"]["similarity"] < 0.15 and other.ok("ping")["pong"], "of the one that asks for everything"


def test_stores_become_durable_by_themselves_within_the_time_of_sync():
    """`last_sync_ms` is null until something was synced: before, a power cut may take it; afterwards it is on disk."""
    with Server("--sync", "1.2") as s, Server("--sync", "1.2", "--inline-sync") as inline, Server("--sync", "600") as later, \
            Server("--sync", "never") as never:
        with Client(later.memory) as seldom, Client(never.memory) as n, Client(inline.memory) as o, Client(s.memory) as c:
            for one, how in ((seldom, 600), (n, "never"), (o, 1.2), (c, 1.2)):
                began = time.monotonic()
                r = one.ok("store", {"text": "one"})
                assert r["durable"] is False, (how, r)
                st = one.ok("stats")
                assert st["sync"] == how and st["last_sync_ms"] is None, (how, st)
            until(lambda: all(one.ok("stats")["last_sync_ms"] is not None for one in (c, o)), 1.2 + 2)  # much for a busy machine
            assert time.monotonic() - began > 0.3, "not at once: stores share a sync"
            assert seldom.ok("stats")["last_sync_ms"] is None and n.ok("stats")["last_sync_ms"] is None
            assert seldom.ok("sync")["durable"] is True and seldom.ok("stats")["last_sync_ms"] is not None
    with Server() as s, Client(s.memory) as c:
        assert c.ok("store", {"text": "one"})["durable"] is True
        st = c.ok("stats")
        assert st["sync"] == "always" and st["last_sync_ms"] is not None, st


class Counted(Client):
    """A client that knows how many messages and bytes it sent, and how many bytes it read."""
    asked = sent = read = 0

    def more(self):
        before = len(self.buffer)
        super().more()
        self.read += len(self.buffer) - before

    def text(self, message):
        self.asked += 1
        self.sent += len(self.frame(1, message if isinstance(message, bytes) else message.encode()))
        super().text(message)


def metrics(text):
    """Prometheus text as {name: value}, or {name: {label: value}}; the endpoint's label is left out."""
    out = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, _, rest = line.removeprefix("recalld_").partition("{")
        labels, _, value = rest.partition("} ")
        if "," in labels:
            out.setdefault(name, {})[labels.split('"')[-2]] = float(value)
        else:
            out[name] = float(value)
    return out


def closings(s):
    """One connection for each way to end: what is sent, and the code that is counted."""
    for sent, code in (((8, struct.pack("!H", 1000)), 1000), ((8, b""), 1005), ((2, b"x"), 1003), ((1, b"\xff"), 1007), ((3, b""), 1002)):
        with Client(s.memory) as c:
            c.send(*sent)
            assert c.closed()[0] == code
    with Client(s.memory) as c:
        c.socket.sendall(b"\x81\xff" + struct.pack("!Q", (1 << 20) + 1) + bytes(4))
        assert c.closed()[0] == 1009
    with Client(s.memory):
        pass                                                    # gone without a word
    until(lambda: "code=1006" in s.log())
    return {str(code): 1 for code in (1000, 1002, 1003, 1005, 1006, 1007, 1009)}


def test_figures_of_stats_and_metrics_are_what_happened():
    with Server("--max-connections", "8", "--rate", "40", "--sync", "never") as s, Counted(s.memory) as c, Counted(s.memory) as other:
        began = time.monotonic()
        first, answered = c.ok("stats"), time.monotonic()
        assert first["endpoints"] == {"memory": s.memory, "inference": s.inference} and first["server"] == "memory"
        assert first["messages"] == {"received": 1, "sent": 0, "errors": 0, "rate_limited": 0} and first["closes"] == {}
        c.ok("store", {"text": "one"})
        c.ok("store", {"text": "one"})
        c.text("{")
        assert c.reply()["data"]["code"] == "invalid_json"
        c.fails("unknown_type", "nonsense")
        c.fails("not_found", "get", {"id": "nobody"})
        limited = sum(other.ask("ping")["status"] == "error" for _ in range(45))
        assert 0 < limited <= 5, limited
        closes = closings(s)
        evil = "Origin: http://evil.example"
        assert get(s.memory, "/stats", evil)[0] == 403 and get(s.memory, "/nothing")[0] == 404
        with Client(s.memory, headers=[evil]) as refused:
            assert refused.status == 403

        read = c.read
        a = c.ok("stats")
        sent = c.sent
        for _ in range(3):
            c.ok("ping")
        seen, asked = c.read, time.monotonic()
        b = c.ok("stats")
        assert b["bytes"]["in"] - a["bytes"]["in"] == c.sent - sent and b["bytes"]["out"] - a["bytes"]["out"] == seen - read
        assert a["bytes"]["in"] > c.sent + other.sent and a["bytes"]["out"] > read + other.read, "heads and the others count too"
        received = c.asked + other.asked
        assert b["messages"] == {"received": received, "sent": received - 1, "errors": limited + 3, "rate_limited": limited}, b["messages"]
        assert b["errors_by_code"] == {"invalid_json": 1, "unknown_type": 1, "not_found": 1, "rate_limited": limited}, b["errors_by_code"]
        assert b["connections"] == {"active": 2, "total": 9, "rejected": 2, "max": 8, "attempts": 12}, b["connections"]
        assert b["closes"] == closes, b["closes"]
        assert b["memory_count"] == 1 and b["duplicates"] == 1, b
        grown, least, most = b["uptime_s"] - first["uptime_s"], asked - answered, time.monotonic() - began
        assert least - 0.01 < grown < most + 0.01 and grown > 0, (least, grown, most)

        head = f"GET /metrics HTTP/1.1\r\nHost: localhost:{s.memory}\r\n\r\n"      # what get() sends
        m = metrics(get(s.memory, "/metrics")[2].decode())
        for name, value in {
                "connections_active": 2, "connections_total": 9, "connections_rejected_total": 2, "connections_max": 8,
                "connection_attempts_total": 13, "messages_received_total": received, "messages_sent_total": received,
                "errors_total": limited + 3, "rate_limited_total": limited, "errors_by_code_total": b["errors_by_code"],
                "closes_total": closes, "bytes_in_total": b["bytes"]["in"] + len(head),
                "bytes_out_total": b["bytes"]["out"] + c.read - seen, "request_seconds_count": received}.items():
            assert m[name] == value, (name, m[name], value)
        for name in ("memory_count", "max_size", "avg_significance", "store_bytes", "log_bytes", "garbage_bytes", "duplicates", "forgotten",
                     "evicted"):
            assert abs(m[name] - b[name]) < 1e-9, (name, m[name], b[name])
        assert b["uptime_s"] <= m["uptime_seconds"] < b["uptime_s"] + 5 and m["request_seconds_sum"] > 0 < m["resident_bytes"]


def test_figures_of_the_other_endpoint_are_its_own():
    with Server("--max-connections", "3") as s, Client(s.memory) as c, Counted(s.inference) as i:
        c.ok("ping")
        tokens = sum(i.ok("embeddings", {"text": ["red apple", "a bicycle"]})["tokens"])
        with Client(s.inference), Client(s.inference), Client(s.inference) as over:
            assert over.status == 503 and "\r\nRetry-After: " in over.head, over.head
            st = i.ok("stats")
        assert st["connections"] == {"active": 3, "total": 3, "rejected": 1, "max": 3, "attempts": 4}, st["connections"]
        assert st["server"] == "inference" and st["endpoints"] == {"memory": s.memory, "inference": s.inference}
        assert st["messages"]["received"] == 2 and st["embeddings_total"] == 2 and st["tokens_total"] == tokens == 4 and st["queue"] == 0
        until(lambda: s.log().count("code=1006") == 2)          # else there may be no room for the next one
        m = metrics(get(s.inference, "/metrics")[2].decode())
        for name, value in {"embeddings_total": 2, "tokens_total": 4, "messages_received_total": 2, "connections_active": 1}.items():
            assert m[name] == value, (name, m[name])
        assert metrics(get(s.memory, "/metrics")[2].decode())["messages_received_total"] == 1


def test_defaults_of_lists_and_bounds_of_intervals():
    with Server("--sync", "never") as s, Client(s.memory) as c, Client(s.inference) as i:
        for n in range(51):                                     # what the user said, and what was said to that
            for who in ("user", "assistant"):
                c.ok("store", {"text": f"{who} says {n}", "metadata": {"type": who, "session_id": "s"}})
        for more, n in (({}, 5), ({"limit": 6}, 6)):
            assert c.ok("search", {"text": "user says", "min_similarity": -1, **more})["count"] == n
        page = c.ok("export")
        assert len(page["memories"]) == 100 and page["next"] == page["memories"][-1]["id"]
        assert len(c.ok("export", {"after": page["next"]})["memories"]) == 2
        for config, n in (({}, 5), ({"config": {}}, 5), ({"config": {"top_k": 6}}, 6)):
            predictions = i.ok("process", {"text": "user says 7", **config})["predictions"]
            assert len(predictions) == n and predictions[0]["text"] == "assistant says 7", predictions
        for one in (c, i):
            assert one.ok("subscribe", {"events": ["stats"], "interval_ms": 3600000}) == {"subscribed": ["stats"]}
            why = one.fails("invalid_parameter", "subscribe", {"events": ["stats"], "interval_ms": 3600001})
            assert why == "Invalid parameter: interval_ms (an integer from 100 to 3600000)", why


def test_sighup_reads_adapters_again():
    with scratch() as d:
        def put(which, cut=None):
            for file in (TINY / "adapters" / which).iterdir():
                (d / "one" / file.name).write_bytes(file.read_bytes()[:cut])

        shutil.copytree(TINY / "adapters/qv", d / "one")
        flags = [f for name, path in (("one", d / "one"), ("qv", TINY / "adapters/qv"), ("all", TINY / "adapters/all"))
                 for f in ("--adapter", f"{name}={path}")]
        with Server("--model", TINY, *flags) as s, Client(s.inference) as i:
            def loaded():
                return {a.pop("name"): a for a in i.ok("adapters")["adapters"]}

            was, one = loaded(), {name: vector(i, "red apple", adapter=name) for name in ("one", "qv", "all")}
            assert one["one"] == one["qv"] != one["all"] and was["one"] == was["qv"]
            assert was["qv"]["fingerprint"] != was["all"]["fingerprint"]
            put("all")
            assert vector(i, "red apple", adapter="one") == one["qv"], "not before it is told"
            s.process.send_signal(signal.SIGHUP)
            until(lambda: loaded()["one"]["fingerprint"] != was["one"]["fingerprint"])
            assert loaded() == {**was, "one": was["all"]}
            assert vector(i, "red apple", adapter="one") == one["all"] and vector(i, "red apple", adapter="qv") == one["qv"]
            put("qv", cut=100)                                  # a damaged one takes nobody's place
            s.process.send_signal(signal.SIGHUP)
            until(lambda: "adapter one stays as it was: " in s.log())
            assert loaded()["one"] == was["all"] and vector(i, "red apple", adapter="one") == one["all"]


def test_quantized_weights_give_nearly_the_same_vectors():
    with Server("--model", TINY) as s, Server("--model", TINY, "--quantize", "int8") as q:
        with Client(s.inference) as exact, Client(q.inference) as i:
            assert [one.ok("models")["models"][0]["dtype"] for one in (exact, i)] == ["F32", "I8"]
            for text in ("red apple", "my bicycle is broken", "the train leaves at seven"):
                x, y = vector(exact, text), vector(i, text)
                cosine = sum(a * b for a, b in zip(x, y))
                assert x != y and 0.99 < cosine < 1.000001, (text, cosine)


def test_fingerprints_are_those_that_stores_were_made_with():
    """A changed way to compute one would lock everybody out of what they stored."""
    for flags, want in ((["--model", TINY], "6780b1264ef31ced5d73c6017a49b10187ae269d79373824657ba36358ca0f9e"),
                        ([], "6275696c74696e2d686173682d3338342076657273696f6e2031000000000000")):
        with Server(*flags) as s, Client(s.inference) as i, Client(s.memory) as c:
            assert i.ok("models")["models"][0]["fingerprint"] == want
            assert c.ok("stats")["model_fingerprint"] == want


def test_vectors_that_are_too_many_are_refused_with_advice():
    with Server("--model", TINY, "--max-reply", "4096") as s, Client(s.inference) as i:
        texts = [f"text {n}" for n in range(20)]
        short = {"config": {"encoding_format": "base64"}}
        why = i.fails("too_large", "embeddings", {"text": texts})
        assert why == "Reply too large: above 4096 bytes; ask for base64 or for fewer", why
        assert i.ok("embeddings", {"text": texts, **short})["count"] == 20, "the one advice"
        assert i.ok("embeddings", {"text": texts[:10]})["count"] == 10, "and the other"
        assert i.fails("too_large", "embeddings", {"text": texts * 3, **short}) == why


def test_events_of_one_turn_beyond_the_high_water_all_arrive():
    """More than 256 KiB of them in one turn: a `clear` of 5,000. What the kernel takes is not what waits."""
    n = 5000
    with scratch() as d:
        lines = "".join(json.dumps({"text": f"m{i}"}) + "\n" for i in range(n))
        assert recalld("--import", "-", "--data", d / "a", "--sync", "never", input=lines).returncode == 0
        with Server("--sync", "never", data=str(d / "a")) as s, Client(s.memory) as c, Client(s.memory) as watcher:
            watcher.ok("subscribe", {"events": ["memory_removed"]})
            c.ok("clear", {"confirm": True})
            got = 0
            while got < n:
                got += 1 + watcher.reply().get("dropped", 0)
            assert got == n
            for i in range(3):
                c.ok("delete", {"id": c.ok("store", {"text": f"later {i}"})["id"]})
                assert watcher.reply()["event"] == "memory_removed"


def test_a_query_that_leaves_no_room_for_a_list_is_too_large():
    with Server("--max-reply", "4096") as s, Client(s.memory) as c:
        for i in range(20):
            c.ok("store", {"text": f"something {i}", "tags": ["t"]})
        for size in [*range(3600, 4100, 20), 16000]:
            for text in ("q" * size, "\x01" * (size // 6)):
                reply = c.ask("search", {"text": text, "min_similarity": -1, "limit": 20})
                assert len(json.dumps(reply)) <= 4200, size
                assert reply["status"] == "success" or reply["data"]["code"] == "too_large", reply


def test_compact_that_ends_amid_a_clear_lets_what_waits_behind_it_go_on():
    """The disk stands still, so that more is cleared than the compaction has room to keep."""
    with Server() as s, Client(s.memory) as a, Client(s.memory) as b, Client(s.memory) as c:
        ids = []
        for i in range(3600):
            c.text(json.dumps({"type": "store", "data": {"text": f"filler {i}"}}))
            if i % 10 == 9:
                ids += [c.reply()["data"]["id"] for _ in range(10)]
        helper = int(pathlib.Path(f"/proc/{s.process.pid}/task/{s.process.pid}/children").read_text().split()[0])
        os.kill(helper, signal.SIGSTOP)
        try:
            a.text(json.dumps({"type": "compact"}))
            time.sleep(0.1)
            for i in range(2416, 2432):                     # the one at which the room ends is among them
                a.text(json.dumps({"type": "delete", "data": {"id": ids[i]}}))
            time.sleep(0.1)
            b.text(json.dumps({"type": "clear", "data": {"confirm": True}}))
            time.sleep(0.3)
        finally:
            os.kill(helper, signal.SIGCONT)
        assert b.reply()["data"]["memory_count"] == 0
        assert a.reply()["status"] == "error" and all(a.reply()["status"] in ("error", "success") for _ in range(16))
        assert c.ok("store", {"text": "new"})["memory_count"] == 1


def test_a_reload_that_finds_no_place_leaves_the_old_adapter():
    folder = ROOT / "tests/models/tiny/adapters"
    with Server("--model", ROOT / "tests/models/tiny", "--adapter-dir", folder) as s, Client(s.inference) as c, Client(s.inference) as other:
        for i in range(64):
            other.ok("load_adapter", {"name": f"a{i}", "path": "qv"})
        for _ in range(6):                                  # in use, and queued
            c.text(json.dumps({"type": "embeddings", "data": {"text": ["w x y z " * 200] * 30, "adapter": "a0"}}))
        other.ask("load_adapter", {"name": "a0", "path": "all"})
        assert all(c.reply()["status"] == "success" for _ in range(6))
        assert len(other.ok("adapters")["adapters"]) == 64
        other.ok("embeddings", {"text": "x", "adapter": "a0"})


def test_who_asks_for_many_short_scans_at_once_keeps_nobody_waiting():
    many, few = 3000, 2000
    with Server("--sync", "never") as s, Client(s.memory) as a, Client(s.memory) as b:
        for i in range(few):
            a.text(json.dumps({"type": "store", "data": {"text": f"w{i}"}}))
            if i % 10 == 9:
                assert all(a.reply()["status"] == "success" for _ in range(10))
        before = b.ok("stats")["messages"]["sent"]
        s.process.send_signal(signal.SIGSTOP)               # they come in one piece
        a.socket.sendall(a.frame(1, b'{"type":"retrieve","count":1}') * many)
        s.process.send_signal(signal.SIGCONT)
        assert a.reply()["data"]["total"] == few
        assert b.ok("stats")["messages"]["sent"] - before < many / 2, "another is answered amid them"
        assert all(a.reply()["data"]["total"] == few for _ in range(many - 1))


def test_events_that_wait_count_in_the_buffer_memory():
    """What twelve have not taken is below it, what is kept beside that for them is not."""
    with Server("--buffer-memory", "4M", "--max-reply", "65536", "--sync", "never") as s, contextlib.ExitStack() as stack:
        c = stack.enter_context(Client(s.memory))
        for _ in range(12):
            slow = stack.enter_context(Client(s.memory))
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            for _ in range(16):
                slow.ok("subscribe", {"events": ["match"], "query": {"text": "y", "min_similarity": -1}})
        for i in range(400):
            c.ok("store", {"text": f"{i} ".ljust(2000, "y")})
            if i % 10 == 0 and c.ok("stats")["closes"].get("1013"):
                return
        raise AssertionError("nobody had to go")


def test_no_more_adapters_wait_to_be_loaded_than_there_are_places():
    with Server("--model", TINY, "--adapter-dir", TINY / "adapters") as s, contextlib.ExitStack() as stack:
        many = [stack.enter_context(Client(s.inference)) for _ in range(150)]
        s.process.send_signal(signal.SIGSTOP)               # they are read one behind the other
        for c in many:
            c.text(json.dumps({"type": "load_adapter", "data": {"name": "a", "path": "all"}}))
        s.process.send_signal(signal.SIGCONT)
        replies = [c.reply() for c in many]
        busy = [r["data"] for r in replies if r["status"] == "error"]
        assert 0 < len(busy) <= 150 - 64 and all(d["code"] == "busy" and d["retry_after_ms"] > 0 for d in busy), busy[:3]
        assert many[0].ok("load_adapter", {"name": "a", "path": "qv"})["name"] == "a", "there is room again"


if __name__ == "__main__":
    run(globals())
