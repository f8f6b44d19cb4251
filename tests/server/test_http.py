"""Plain HTTP and the door (SPEC 2), over real sockets."""
import json
import pathlib
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Client, Server, get, http, run  # noqa: E402

UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13")


def test_paths_and_methods():
    with Server() as s:
        for port in (s.memory, s.inference):
            for path, status, kind in (("/", 200, "text/html"), ("/healthz", 200, "text/plain"), ("/readyz", 200, "text/plain"),
                                       ("/stats", 200, "application/json"), ("/metrics", 200, "text/plain"),
                                       ("/clients/memory-interface.js", 200, "text/javascript"), ("/clients/page.css", 200, "text/css"),
                                       ("/ws", 426, "text/plain"), ("/nothing", 404, "text/plain"), ("/clients/../LICENSE", 404, "text/plain"),
                                       ("/?x=y", 200, "text/html"), ("/healthz?x", 200, "text/plain")):
                code, headers, body = get(port, path)
                assert code == status and headers["content-type"].startswith(kind), (path, code, headers)
                assert int(headers["content-length"]) == len(body) > 0
                assert headers.get("access-control-allow-methods") == "GET, POST, OPTIONS"
                assert headers.get("access-control-allow-headers") == "*, Authorization"
                assert headers["connection"] == ("close" if status >= 400 else "keep-alive")
                head = get(port, path, method="HEAD")
                assert head[0] == status and not head[2]
                assert head[1]["content-length"] == headers["content-length"] or path in ("/stats", "/metrics")
            for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "get"):
                code, headers, _ = get(port, "/", method=method)
                assert code == 405 and "GET" in headers["allow"], (method, code)
            code, headers, body = get(port, "/stats", method="OPTIONS")
            assert code == 204 and not body
            assert get(port, "*", method="OPTIONS")[0] == 204


def test_stats_and_metrics_tell_the_same():
    with Server() as s:
        with Client(s.memory) as c:
            c.ok("store", {"text": "one"})
            stats = json.loads(get(s.memory, "/stats")[2])
            assert stats["server"] == "memory" and stats["memory_count"] == 1
            text = get(s.memory, "/metrics")[2].decode()
            assert 'recalld_memory_count{endpoint="memory"} 1\n' in text
            assert "# TYPE recalld_messages_received_total counter" in text
            names = [line.split("{")[0] for line in text.splitlines() if not line.startswith("#")]
            assert all(n.startswith("recalld_") for n in names)


def test_origins():
    with Server("--allow-origin", "https://app.example") as s:
        for origin, ok in (("http://localhost:3000", True), ("https://[::1]", True), ("https://app.example", True),
                           ("https://app.example.evil.com", False), ("http://app.example", False), ("null", False),
                           ("http://localhost.evil.com", False), ("http://localhost@evil.com", False), ("", False)):
            line = f"Origin: {origin}"
            for path in ("/stats", "/metrics"):
                code, headers, body = get(s.memory, path, line)
                assert code == (200 if ok else 403), (origin, code)
                if ok:
                    assert headers["access-control-allow-origin"] == origin and headers["vary"] == "Origin"
                else:
                    why = json.loads(body)
                    assert why["data"]["header"] == "Origin" and why["data"]["value"] == origin, why
                    assert "--allow-origin" in why["data"]["flag"] and why["status"] == "error"
                    assert "access-control-allow-origin" in headers and "access-control-allow-credentials" not in headers
            code = get(s.memory, "/", line, *UPGRADE)[0]
            assert code == (101 if ok else 403), (origin, code)
            for path in ("/", "/healthz", "/readyz", "/clients/page.js"):
                code, headers, _ = get(s.memory, path, line)
                assert code == 200 and headers["access-control-allow-origin"] == "*"
            assert get(s.memory, "/stats", line, method="OPTIONS")[0] == 204


def test_hosts():
    with Server("--allow-host", "board.lan") as s:
        for host, status in (("localhost", 200), ("LOCALHOST.:1", 200), ("127.0.0.1", 200), ("[::1]:5", 200), ("board.lan", 200),
                             ("evil.com", 403), ("localhost.evil.com", 403), ("127.0.0.2", 403), ("0x7f.1", 403)):
            for path in ("/", "/healthz", "/stats", "/clients/page.js"):
                code, _, body = get(s.memory, path, host=host)
                assert code == status, (host, path, code)
                if status == 403:
                    assert json.loads(body)["data"]["header"] == "Host" and "--allow-host" in json.loads(body)["data"]["flag"]
            assert get(s.memory, "/", *UPGRADE, host=host)[0] == (101 if status == 200 else 403)
        assert http(s.memory, "GET / HTTP/1.1\r\n\r\n")[0] == 400
        assert http(s.memory, "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")[0] == 400


def test_the_page_trusts_only_itself():
    with Server() as s:
        _, headers, body = get(s.memory, "/")
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe-inline" not in policy
        for port in (s.memory, s.inference):
            assert f"ws://localhost:{port}" in policy
        assert b"http://" not in body.replace(b"http://www.w3.org/", b"") and b"https://" not in body


def test_the_policy_of_the_page_is_whole_for_the_longest_name():
    host = ".".join(["b" * 63] * 3 + ["c" * 61])
    with Server("--allow-host", host) as s:
        sources = get(s.memory, "/", host=f"{host}:{s.memory}")[1]["content-security-policy"].split("connect-src ")[1].split(";")[0].split()
        assert sources == ["'self'"] + [f"{scheme}://{host}:{port}" for port in (s.memory, s.inference) for scheme in ("http", "ws")], sources


def test_upgrades():
    with Server() as s:
        with Client(s.memory, headers=["Sec-WebSocket-Protocol: foo, memory-protocol", "Sec-WebSocket-Extensions: permessage-deflate"]) as c:
            assert c.status == 101 and "Sec-WebSocket-Protocol: memory-protocol" in c.head and "xtensions" not in c.head
        with Client(s.inference, headers=["Sec-WebSocket-Protocol: inference-protocol"]) as c:
            assert "Sec-WebSocket-Protocol: inference-protocol" in c.head
        with Client(s.memory, headers=["Sec-WebSocket-Protocol: inference-protocol"]) as c:
            assert c.status == 101 and "WebSocket-Protocol" not in c.head
        assert Client(s.memory, path="/ws").status == 101 and Client(s.memory, path="/ws?x").status == 101
        assert Client(s.memory, path="/other").status == 404
        code, headers, _ = get(s.memory, "/", UPGRADE[0], UPGRADE[1], UPGRADE[2], "Sec-WebSocket-Version: 12")
        assert code == 426 and headers["sec-websocket-version"] == "13" and headers["upgrade"] == "websocket"
        assert get(s.memory, "/", *UPGRADE[:3])[0] == 426
        assert get(s.memory, "/", UPGRADE[0], *UPGRADE[2:])[0] == 400
        assert get(s.memory, "/healthz", UPGRADE[1])[0] == 200


def test_frames_may_follow_in_the_packet_of_the_handshake():
    with Server() as s, socket.create_connection(("127.0.0.1", s.memory), 10) as sock:
        frame = Client.frame(1, b'{"type":"ping","id":1}')
        sock.sendall("\r\n".join([f"GET / HTTP/1.1", "Host: localhost", *UPGRADE, "", ""]).encode() + frame * 3)
        data = b""
        while data.count(b'"pong":true') < 3:
            data += sock.recv(65536)
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in data


def test_a_request_split_at_every_byte():
    with Server() as s, socket.create_connection(("127.0.0.1", s.memory), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for b in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":
            sock.sendall(bytes([b]))
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_keep_alive_and_pipelining():
    with Server("--handshake-timeout", "0.6") as s, socket.create_connection(("127.0.0.1", s.memory), 10) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        data = b""
        while data.count(b"\r\n\r\nok\n") < 3:
            data += sock.recv(65536)
        began = time.monotonic()
        assert sock.recv(10) == b"" and 0.3 < time.monotonic() - began < 5      # closed after the handshake timeout


def test_what_follows_a_refusal_is_not_looked_at():
    with Server() as s, socket.create_connection(("127.0.0.1", s.memory), 10) as sock:
        sock.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        while more := sock.recv(65536):
            data += more
        assert data.count(b"HTTP/1.1 ") == 1 and b" 404 " in data


def test_a_request_that_trickles_is_408_and_silence_is_nothing():
    with Server("--handshake-timeout", "0.5") as s:
        with socket.create_connection(("127.0.0.1", s.memory), 10) as sock:
            began, data = time.monotonic(), b""
            sock.settimeout(0.1)
            while time.monotonic() - began < 5:
                try:
                    sock.sendall(b"G" if not data else b"")
                    more = sock.recv(4096)
                    if not more:
                        break
                    data += more
                except TimeoutError:
                    pass
                except OSError:
                    break
            assert data.startswith(b"HTTP/1.1 408 "), data
            assert time.monotonic() - began < 3
        with socket.create_connection(("127.0.0.1", s.memory), 10) as sock:
            assert sock.recv(10) == b""


def test_bad_requests():
    with Server() as s:
        ok = "GET / HTTP/1.1\r\nHost: localhost\r\n"
        for request, status in (
                (ok + " folded: x\r\n\r\n", 400), (ok + "a : b\r\n\r\n", 400), (ok + "\r\n", 200), (ok.replace("\r\n", "\n") + "\n", 400),
                (ok + "a: b\0c\r\n\r\n", 400), (ok + "Content-Length: 5\r\n\r\nhello", 400), (ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                (ok + "Content-Length: 0\r\n\r\n", 200), ("GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400), ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
                ("GET /" + "x" * 9000 + " HTTP/1.1\r\n\r\n", 431), (ok + "".join(f"h{i}: x\r\n" for i in range(64)) + "\r\n", 431),
                (ok + "".join(f"h{i}: x\r\n" for i in range(63)) + "\r\n", 200), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
                (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400), ("nonsense\r\n\r\n", 400)):
            assert http(s.memory, request)[0] == status, (request[:80], status, http(s.memory, request)[0])


def test_a_second_head_that_is_not_whole_in_time_is_told_so():
    with Server("--handshake-timeout", "0.4") as s, socket.create_connection(("127.0.0.1", s.memory), timeout=10) as c:
        c.sendall(f"GET /healthz HTTP/1.1\r\nHost: localhost:{s.memory}\r\n\r\n".encode())
        data = c.recv(65536)
        assert data.startswith(b"HTTP/1.1 200 "), data
        c.sendall(b"GET /healthz HT")
        data = b""
        while more := c.recv(65536):
            data += more
        assert b"HTTP/1.1 408 " in data, data


def test_what_is_refused_before_it_is_looked_at_can_be_read_by_any_page():
    ok = "GET / HTTP/1.1\r\nHost: localhost\r\n"
    with Server("--handshake-timeout", "0.4") as s, Server("--max-connections", "1") as one:
        for port, full in ((s.memory, one.memory), (s.inference, one.inference)):
            rows = [(ok + "a : b\r\n\r\n", 400), (ok + "x" * 9000, 431), ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505), (ok, 408)]
            answers = [(http(port, request), status) for request, status in rows]
            with Client(full):
                answers.append((get(full, "/", *UPGRADE, "Origin: http://evil.example"), 503))
            for (code, headers, body), status in answers:
                assert code == status and str(code).encode() in body, (code, status, body)
                assert headers.get("access-control-allow-origin") == "*", (code, headers)
                assert headers.get("access-control-allow-methods") == "GET, POST, OPTIONS", headers
                assert headers.get("access-control-allow-headers") == "*, Authorization", headers
                assert "access-control-allow-credentials" not in headers and headers["connection"] == "close", headers


def test_an_upgrade_by_head_is_405_without_a_body():
    with Server() as s, socket.create_connection(("127.0.0.1", s.memory), 10) as sock:
        sock.sendall("\r\n".join(["HEAD / HTTP/1.1", "Host: localhost", *UPGRADE, "", ""]).encode())
        data = b""
        while more := sock.recv(65536):
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405 ") and b"Allow: GET\r\n" in head + b"\r\n" and not body, data


run(globals())
