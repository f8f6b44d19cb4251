"""The envelope of SPEC 3 and the commands that both endpoints know, over real sockets."""
import json
import pathlib
import re
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Client, Server, run  # noqa: E402

ROWS = [
    # message, code, how the sentence begins
    ("", "invalid_json", "Invalid JSON format"),
    ("{", "invalid_json", "Invalid JSON format"),
    ("{'type':'ping'}", "invalid_json", "Invalid JSON format"),
    ('{"type":"ping"} x', "invalid_json", "Invalid JSON format"),
    ('{"type":"ping","data":{"x":1e999}}', "invalid_json", "Invalid JSON format"),
    ('{"type":"ping","data":{"x":"\\ud800"}}', "invalid_json", "Invalid JSON format"),
    ('{"type":"ping","type":"ping","x":}', "invalid_json", "Invalid JSON format"),
    ('{"data":' + "[" * 64 + "]" * 64 + "}", "invalid_json", "Invalid JSON format"),
    ("[]", "invalid_envelope", "Invalid message: "),
    ("null", "invalid_envelope", "Invalid message: "),
    ('"ping"', "invalid_envelope", "Invalid message: "),
    ('{"type":1}', "invalid_envelope", "Invalid message: "),
    ('{"type":["ping"]}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","id":1.5}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","id":9007199254740993}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","id":true}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","id":{}}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","id":"' + "x" * 129 + '"}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","id":"' + "\\u00e9" * 65 + '"}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","data":[]}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","data":"x"}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","type":"ping"}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","x":1,"\\u0078":2}', "invalid_envelope", "Invalid message: "),
    ('{"type":"ping","data":{"a":1,"a":1}}', "invalid_envelope", "Invalid message: "),
    ("{}", "missing_field", "Missing required field: type"),
    ('{"type":null}', "missing_field", "Missing required field: type"),
    ('{"type":"ping","timestamp":"yesterday"}', "invalid_timestamp", "Invalid timestamp"),
    ('{"type":"ping","timestamp":"2020\\u002d13-01"}', "invalid_timestamp", "Invalid timestamp"),
    ('{"type":"ping","timestamp":true}', "invalid_timestamp", "Invalid timestamp"),
    ('{"type":"ping","timestamp":1e18}', "invalid_timestamp", "Invalid timestamp"),
    ('{"type":"frobnicate"}', "unknown_type", "Unknown command type: frobnicate"),
    ('{"type":""}', "unknown_type", "Unknown command type: "),
]

GOOD = [
    '{"type":"ping"}', '{"type":"PING"}', ' {"type" : "Ping" } ', '{"type":"\\u0070ing"}', '{"type":"ping","id":null}',
    '{"type":"ping","id":9007199254740992}', '{"type":"ping","id":-9007199254740992}', '{"type":"ping","id":1e2}',
    '{"type":"ping","data":null}', '{"type":"ping","data":{}}', '{"type":"ping","timestamp":null}',
    '{"type":"ping","timestamp":"2026-11-25T00:00:00Z"}', '{"type":"ping","timestamp":"2026-11-25"}',
    '{"type":"ping","timestamp":"2020\\u002d01-01"}', '{"type":"ping","timestamp":1700000000}', '{"type":"ping","timestamp":1700000000000}',
    '{"type":"ping","unknown":[1,{"a":1,"a":2}]}', '{"type":"ping","id":"' + "x" * 128 + '"}',
    '{"type":"ping","data":{"x":' + "[" * 61 + "]" * 61 + "}}",
]


def both(test):
    with Server() as s:
        for port in (s.memory, s.inference):
            with Client(port) as c:
                test(c)


def test_errors_are_those_of_the_table():
    def each(c):
        for message, code, begins in ROWS:
            c.text(message)
            r = c.reply()
            assert r["status"] == "error" and r["data"]["code"] == code, (message, r)
            assert r["error"].startswith(begins), (message, r)
            assert set(r) == {"status", "error", "data"}, r
        assert c.ok("ping")["pong"] is True        # the connection stays open
    both(each)


def test_the_offset_of_bad_json_is_told():
    def each(c):
        c.text('{"type":"ping",}')
        assert re.search(r"\b15\b", c.reply()["error"])
    both(each)


def test_what_is_allowed_is_answered():
    def each(c):
        for message in GOOD:
            c.text(message)
            r = c.reply()
            assert r["status"] == "success", (message, r)
            assert r["data"]["pong"] is True and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", r["data"]["server_time"])
    both(each)


def test_id_and_type_come_back_only_where_an_id_was_sent():
    def each(c):
        c.text('{"type":"PinG","id":"a\\"\\u00e9"}')
        r = c.reply()
        assert r["id"] == 'a"é' and r["type"] == "ping" and set(r) == {"status", "id", "type", "data"}
        c.text('{"type":"NOPE","id":7}')
        r = c.reply()
        assert r["id"] == 7 and r["type"] == "nope" and set(r) == {"status", "id", "type", "error", "data"}
        c.text('{"type":"ping"}')
        assert set(c.reply()) == {"status", "data"}
        c.text('{"type":"ping","id":0}')
        assert c.reply()["id"] == 0
    both(each)


def test_replies_come_in_the_order_of_requests():
    def each(c):
        c.socket.sendall(b"".join(c.frame(1, json.dumps({"type": "ping", "id": i}).encode()) for i in range(500)))
        assert [c.reply()["id"] for _ in range(500)] == list(range(500))
    both(each)


def test_without_data_the_fields_stand_at_the_top():
    with Server() as s, Client(s.inference) as c:
        c.text('{"type":"similarity","text1":"a b","text2":"a b","id":"x"}')
        assert c.reply()["data"]["similarity"] > 0.999999


def test_common_commands():
    def each(c):
        assert c.ok("health_check")["state"] == "ok"
        for name in ("stats", "get_stats", "status"):
            st = c.ok(name)
            for key in ("server", "version", "endpoints", "model", "model_fingerprint", "dimension", "device", "uptime_s",
                        "server_time", "connections", "messages", "bytes", "latency_ms", "loop_lag_ms", "closes",
                        "errors_by_code", "memory", "cpu", "gpu"):
                assert key in st, key
            assert set(st["connections"]) == {"active", "total", "rejected", "max", "attempts"}
            assert set(st["latency_ms"]) == {"avg", "p50", "p95", "p99", "max"}
        assert c.ok("config")["max_message"] == 1048576
    both(each)


def test_stats_events_come_by_subscription():
    def each(c):
        assert c.ok("subscribe", {"events": ["stats"], "interval_ms": 100}) == {"subscribed": ["stats"]}
        for _ in range(3):
            r = c.reply()
            assert r["event"] == "stats" and r["status"] == "success" and "uptime_s" in r["data"]
        c.text('{"type":"unsubscribe","id":1}')
        while (r := c.reply()).get("id") != 1:
            pass
        assert r["data"] == {"subscribed": []}
        c.fails("invalid_parameter", "subscribe", {"events": ["stats"], "interval_ms": 99})
        c.fails("invalid_parameter", "subscribe", {"events": ["nonsense"]})
        c.fails("invalid_parameter", "subscribe", {"events": []})
        c.fails("invalid_parameter", "subscribe", {"events": "stats"})
        c.fails("missing_field", "subscribe", {})
    both(each)


def test_a_binary_message_is_1003_and_a_long_one_1009():
    with Server("--max-message", "1000") as s:
        for port in (s.memory, s.inference):
            with Client(port) as c:
                c.send(2, b"x")
                assert c.closed()[0] == 1003
            with Client(port) as c:
                c.text(" " * 986 + '{"type":"ping"}'[:14])
                assert c.reply()["status"] == "error"
                c.socket.sendall(b"\x81\xfe\x03\xe9abcd")   # 1,001 bytes announced
                assert c.closed()[0] == 1009


def test_rate_is_per_connection_and_minute():
    with Server("--rate", "5") as s, Client(s.memory) as c, Client(s.memory) as other:
        assert [c.ask("ping")["status"] for _ in range(5)] == ["success"] * 5
        assert c.fails("rate_limited", "ping").startswith("Rate limit exceeded")
        assert other.ok("ping")["pong"]
        codes = []
        for text in ("{", "5", "{}", '{"type":5}', "{", '{"type":"ping"}', "{", "5", "{}"):
            other.text(text)
            codes.append(other.reply().get("data", {}).get("code"))
        assert codes == ["invalid_json", "invalid_envelope", "missing_field", "invalid_envelope"] + ["rate_limited"] * 5, codes


def test_less_than_one_a_minute_is_one_now_and_then():
    with Server("--rate", "0.5") as s, Client(s.memory) as c:
        assert c.ok("ping")["pong"]
        c.fails("rate_limited", "ping")


def test_a_type_as_long_as_a_reply_gets_a_whole_reply():
    with Server("--max-reply", "4096") as s, Client(s.memory) as c:
        for kind in ("a" * 3000, "a" * 5000, "\x01" * 5000):
            c.text(json.dumps({"type": kind, "id": "x" * 100}))
            reply = c.reply()
            assert reply["data"]["code"] == "unknown_type" and reply["id"] == "x" * 100, reply
            assert reply["type"] == (kind if len(kind) < 4000 else ""), reply["type"]


def test_many_clients_at_once():
    with Server() as s:
        bad = []

        def one(i):
            try:
                with Client(s.memory if i % 2 else s.inference) as c:
                    for k in range(50):
                        if c.ask("ping", id=k)["id"] != k:
                            bad.append(i)
            except Exception as e:   # noqa: BLE001
                bad.append(e)
        threads = [threading.Thread(target=one, args=(i,)) for i in range(32)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not bad, bad


run(globals())
