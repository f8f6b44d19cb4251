"""Flags that change who is served, how long anybody is waited for, how much is taken, and what is said of it."""
import contextlib
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import BUILD, ROOT, Client, Server, get, http, recalld, run, scratch  # noqa: E402

BEARER = "Authorization: Bearer alpha-t0ken"


@contextlib.contextmanager
def token_file():
    with scratch() as d:
        (d / "token").write_text("alpha-t0ken\n")
        yield d / "token"


def status(server, address, *headers, host="localhost"):
    return http(server.memory, "\r\n".join(["GET /stats HTTP/1.1", f"Host: {host}", *headers, "", ""]), host=address)[0]


def refused(port, address="127.0.0.1"):
    try:
        socket.create_connection((address, port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def wait_for(what, seconds=10):
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return got


def test_a_wider_address_wants_the_token():
    with token_file() as path, Server("--host", "0.0.0.0", "--token-file", path) as s:
        for address in ("127.0.0.1", "127.0.0.2"):
            assert status(s, address, BEARER) == 200 and status(s, address) == 401
            assert status(s, address, BEARER + "x") == 401
            assert Client(s.inference, host=address).status == 401
            with Client(s.inference, host=address, headers=[BEARER]) as c:
                assert c.ok("ping")["pong"]
        assert status(s, "127.0.0.2", BEARER, host="127.0.0.2") == 200, "the address that was reached is a Host"
        assert status(s, "127.0.0.2", BEARER, host="127.0.0.3") == 403


def test_one_other_address_of_the_loopback_needs_no_token():
    with Server("--host", "127.0.0.2") as s:
        assert status(s, "127.0.0.2", host="127.0.0.2") == status(s, "127.0.0.2") == 200
        assert status(s, "127.0.0.2", host="127.0.0.3") == 403
        assert refused(s.memory), "only what was asked for is bound"


def test_insecure_serves_the_network_and_warns_every_start():
    with Server("--host", "0.0.0.0", "--insecure") as s:
        assert status(s, "127.0.0.2", host="127.0.0.2") == 200
        s.stop()
        s.start()
        warnings = [line for line in s.log().splitlines() if " WARN " in line]
        assert len(warnings) == 2 and all("0.0.0.0 without a token" in line for line in warnings), s.log()


def test_a_message_not_whole_in_time_is_closed_however_it_trickles():
    with Server("--message-timeout", "0.5") as s, Client(s.memory) as idle, Client(s.memory) as c:
        assert idle.ok("ping")["pong"]
        began = time.monotonic()
        c.send(1, b'{"type":', fin=False)
        c.socket.settimeout(0.1)
        while time.monotonic() - began < 5:
            try:
                c.more()
                break
            except TimeoutError:
                c.send(0, b" ", fin=False)
        took = time.monotonic() - began
        c.socket.settimeout(5)
        assert c.closed()[0] == 1008 and 0.45 < took < 3, took
        assert idle.ok("ping")["pong"], "who owes nothing is not timed"


def test_buffer_memory_at_its_least():
    assert recalld("--buffer-memory", "65535", "--check").returncode == 64
    with Server("--buffer-memory", "65536", "--ping-timeout", "0.8") as s, Client(s.memory) as other, Client(s.memory, timeout=5) as c:
        assert other.ok("config")["buffer_memory"] == 65536
        assert c.ok("ping", {"x": "y" * 30000})["pong"]
        c.text(b'{"type":"ping","x":"' + b"y" * 200000 + b'"}')
        wait_for(lambda: other.ok("stats")["bytes"]["in"] > 90000)
        stats = other.ok("stats")
        assert stats["closes"] == {}, "with all of it used up a small request of another is answered"
        assert stats["bytes"]["in"] < 30000 + 65536 + 8192, "what has no room is not read"
        assert c.closed()[0] == 1013
        assert other.ok("ping", {"x": "y" * 30000})["pong"] and other.ok("stats")["closes"] == {"1013": 1}
    with Server() as s, Client(s.memory) as c:
        assert c.ok("config")["buffer_memory"] == 64 << 20
        assert c.ok("ping", {"x": "y" * 200000})["pong"]


def test_who_holds_all_buffers_goes_however_busy_the_others_are():
    flags = ["--buffer-memory", "1M", "--max-message", "4M", "--ping-timeout", "0.8", "--message-timeout", "60"]
    with Server(*flags) as s, Client(s.memory) as other, Client(s.memory) as holder, Client(s.memory) as c:
        holder.socket.sendall(holder.frame(1, b'{"type":"ping","x":"' + b"z" * 1200000 + b'"}')[:1040000])
        wait_for(lambda: other.ok("stats")["bytes"]["in"] > 1000000)
        c.text('{"type":"ping","x":"' + "y" * 100000 + '"}')
        wait_for(lambda: other.ok("store", {"text": "more"}) and other.ok("stats")["closes"], 5)
        assert holder.closed()[0] == 1013 and c.reply()["data"]["pong"]


def test_who_answers_no_ping_is_closed_and_who_does_is_not():
    with Server("--ping-interval", "0.3", "--ping-timeout", "0.4") as s, Client(s.memory, timeout=5) as silent:
        began = time.monotonic()
        with Client(s.memory, timeout=5) as lively:
            for n in range(1, 5):
                op, payload = lively.receive()
                assert op == 9 and n * 0.3 - 0.02 < time.monotonic() - began < n * 0.3 + 2
                lively.send(10, payload)
            assert silent.receive()[0] == 9 and silent.closed()[0] == 1011
            assert lively.ok("ping")["pong"] and lively.ok("stats")["closes"] == {"1011": 1}
        line = wait_for(lambda: [line for line in s.log().splitlines() if "code=1011" in line])[0]
        seconds = float(re.search(r" seconds=([0-9.]+)", line)[1])
        # By the server's clock, for which ours may be late; it tells the age of a connection in steps of 16 ms.
        assert 0.7 - 0.016 <= seconds < 1, line


def helper_of(server):
    """The process that writes and syncs for the loop."""
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == server.process.pid:
                return int(path.parent.name)
    raise AssertionError("no helper")


def test_behind_one_that_is_not_answered_sixteen_wait_and_control_frames_are_answered():
    with Server() as s, Client(s.memory) as c, Client(s.memory) as other:
        def look():
            """Requests that were taken and are not answered, and bytes that were read, without those of the looks."""
            other.socket.sendall(stats)
            data = other.reply()["data"]
            look.n += 1
            return data["messages"]["received"] - data["messages"]["sent"] - 1, data["bytes"]["in"] - len(stats) * look.n

        def pings(first, last):
            c.socket.sendall(b"".join(c.frame(1, b'{"type":"ping","id":%d}' % n) for n in range(first, last + 1)))

        stats, look.n = other.frame(1, b'{"type":"stats"}'), 0
        helper = helper_of(s)
        os.kill(helper, signal.SIGSTOP)          # no sync, so no reply to the store, for as long as we like
        try:
            c.text('{"type":"store","id":0,"text":"first"}')
            pings(1, 10)
            c.send(9, b"control")
            assert c.receive() == (10, b"control") and look()[0] == 11
            pings(11, 16)
            c.send(9, b"behind sixteen")
            assert c.receive() == (10, b"behind sixteen") and look()[0] == 17
            pings(17, 100)
            taken, read = wait_for(lambda: (now := look())[0] > 17 and now)
            assert taken == 18, "the one that was too many"
            pings(101, 200)
            assert look() == (18, read), "nothing more is even read"
        finally:
            os.kill(helper, signal.SIGCONT)
        assert [c.reply()["id"] for _ in range(201)] == list(range(201))


def test_what_waits_for_the_disk_stays_within_the_buffer_memory():
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
    with Server("--buffer-memory", "4M", "--max-reply", "4M", "--ping-interval", "0", env=env) as s, Client(s.memory) as c:
        def resident():
            return int(re.search(r"VmRSS:\s*(\d+)", pathlib.Path(f"/proc/{s.process.pid}/status").read_text())[1]) >> 10

        for n in range(100):
            c.ok("store", {"text": f"{n} ".ljust(16000, "y")})
        before, helper = resident(), helper_of(s)
        os.kill(helper, signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            try:
                many = []
                for n in range(10):
                    many.append(one := stack.enter_context(Client(s.memory)))
                    one.socket.sendall(one.frame(1, b'{"type":"store","id":0,"text":"slow %d"}' % n) + b"".join(
                        one.frame(1, b'{"type":"export","id":%d,"data":{"count":1000}}' % k) for k in range(1, 16)))
                    c.ok("stats")                               # one behind the other
                time.sleep(0.3)
                grown = resident() - before
            finally:
                os.kill(helper, signal.SIGCONT)
            assert grown < 40, grown
            served = 0
            for one in many:
                with contextlib.suppress(EOFError):
                    assert [one.reply()["id"] for _ in range(16)] == list(range(16))
                    served += 1
            assert served and c.ok("stats")["closes"].get("1013", 0) == 10 - served


def test_what_the_gone_have_asked_for_stays_within_the_buffer_memory():
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
    with Server("--buffer-memory", "8M", env=env) as s, Client(s.memory) as c:
        def resident():
            return int(re.search(r"VmRSS:\s*(\d+)", pathlib.Path(f"/proc/{s.process.pid}/status").read_text())[1]) >> 10

        def store_and_go(n, behind=0):
            with Client(s.memory) as one:
                one.text('{"type":"store","text":"%s"%s}' % (f"{n} ".ljust(14000, "y"), " " * behind))

        def quiet():
            first = c.ok("stats")["messages"]["received"]
            time.sleep(0.3)
            return c.ok("stats")["messages"]["received"] == first + 1

        helper = helper_of(s)
        os.kill(helper, signal.SIGSTOP)
        try:
            for n in range(400):                                # more than the log takes meanwhile
                store_and_go(n)
            wait_for(quiet)
            before = resident()
            for n in range(400, 900):
                store_and_go(n, 100000)                         # whole in the kernel, so that its end is seen
            wait_for(quiet)
            grown = resident() - before
        finally:
            os.kill(helper, signal.SIGCONT)
        assert grown < 30, grown
        with Client(s.memory) as one:                           # and it is given back
            one.text('{"type":"store","text":"new"%s}' % (" " * 900000))
            assert one.reply()["data"]["memory_count"] > 400


def test_an_empty_bucket_fills_by_one_a_second():
    with Server("--rate", "60") as s, Client(s.memory) as c, Client(s.memory) as other:
        c.socket.sendall(c.frame(1, b'{"type":"ping"}') * 61)
        replies = [c.reply() for _ in range(61)]
        assert [r["status"] for r in replies] == ["success"] * 60 + ["error"]
        data = replies[60]["data"]
        assert data["code"] == "rate_limited" and 0 < data["retry_after_ms"] <= 1001, data
        assert other.ok("ping")["pong"], "each connection has a bucket of its own"
        time.sleep(data["retry_after_ms"] / 1000 + 0.05)
        c.socket.sendall(c.frame(1, b'{"type":"ping"}') * 2)
        assert [c.reply()["status"] for _ in range(2)] == ["success", "error"]


def test_where_memories_live_when_nobody_says():
    with scratch() as d:
        def start(env):
            """One that ends by itself: the data is opened before the port file is written."""
            return subprocess.run([BUILD / "recalld", "--memory-port", "0", "--inference-port", "0", "--port-file", "/nowhere/ports"],
                                  env=env, cwd=d, capture_output=True, text=True, timeout=20)

        for env, where in (({"XDG_STATE_HOME": d / "state", "HOME": d / "a"}, d / "state/recalld"),
                           ({"HOME": d / "b"}, d / "b/.local/state/recalld"),
                           ({"XDG_STATE_HOME": "relative", "HOME": d / "c"}, d / "c/.local/state/recalld")):
            p = start(env)
            assert p.returncode == 74 and (where / "memory.log").exists(), (env, p)
            assert where.stat().st_mode & 0o777 == 0o700
        p = start({})
        assert p.returncode == 78 and p.stderr.count("\n") == 1 and "--data" in p.stderr, p
        p = start({"RECALLD_ONLY": "inference"})
        assert p.returncode == 74 and "--port-file" in p.stderr, "it wants no data"
        assert sorted(f.name for f in d.iterdir()) == ["b", "c", "state"]


def test_a_path_of_data_that_is_too_long_is_refused_and_never_cut():
    with scratch() as d:
        long = str(d) + ("/" + "d" * 200) * 19
        long += "/" + "e" * (4000 - len(long) - 1)
        with Server(data=long) as s, Client(s.memory) as c:
            c.ok("store", {"text": "kept"})
        tiny = ["--model", ROOT / "tests/models/tiny", "--data", long]
        assert recalld("--reembed", *tiny).returncode == 0 and "memories: 1" in recalld("--check", *tiny).stdout
        assert sorted(f.name for f in pathlib.Path(long).iterdir()) == ["LOCK", "memory.log"]
        for args, env in ((["--data", long + "e"], {}), ([], {"XDG_STATE_HOME": long}), ([], {"RECALLD_DATA": long + "e"}),
                          ([], {"XDG_STATE_HOME": "", "HOME": long + "/" + "f" * 200})):
            p = recalld("--check", *args, env=env)
            assert p.returncode == (64 if args else 78) and "at most 4000 bytes" in p.stderr and p.stderr.count("\n") == 1, (args, env, p)


def test_a_port_file_that_cannot_be_written_is_74():
    with scratch() as d:
        (d / "taken").mkdir()
        for path in (d / "none/ports", d / "taken"):
            p = recalld("--data", d / "x", "--memory-port", "0", "--inference-port", "0", "--port-file", path)
            assert p.returncode == 74 and p.stderr.count("\n") == 1 and p.stderr.startswith(f"recalld: --port-file {path}: "), p
        assert sorted(f.name for f in d.iterdir()) == ["taken", "x"] and not list((d / "taken").iterdir())


def test_a_port_file_that_is_a_pipe_waits_a_little_for_its_reader():
    with scratch() as d:
        os.mkfifo(d / "pipe")
        args = ["--data", d / "x", "--memory-port", "0", "--inference-port", "0", "--port-file", d / "pipe"]
        p = recalld(*args)
        assert p.returncode == 74 and p.stderr.endswith(f"recalld: --port-file {d}/pipe: nobody reads this pipe\n"), p
        p = subprocess.Popen([BUILD / "recalld", *args], stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)                                  # it most probably waits already
            lines = (d / "pipe").read_text().splitlines()
            assert [line.split()[0] for line in lines] == ["memory", "inference"], lines
        finally:
            p.terminate()
            assert p.wait(15) == 0


def test_a_port_file_that_is_a_link_stays_one():
    with scratch() as d:
        (d / "there").write_text("old\n")
        (d / "link").symlink_to("there")
        p = subprocess.Popen([BUILD / "recalld", "--data", d / "x", "--memory-port", "0", "--inference-port", "0", "--port-file", d / "link"],
                             stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: "memory " in (d / "link").read_text() or p.poll() is not None)
            assert (d / "link").is_symlink() and sorted(f.name for f in d.iterdir()) == ["link", "there", "x"]
        finally:
            p.terminate()
            assert p.wait(15) == 0


def test_options_tells_an_origin_what_it_may():
    with Server("--allow-origin", "https://app.example") as s:
        for port in (s.memory, s.inference):
            for path in ("/stats", "/", "/ws", "*"):
                for origin in ("https://app.example", "http://localhost:3000"):
                    code, headers, _ = get(port, path, f"Origin: {origin}", method="OPTIONS")
                    assert code == 204 and headers["access-control-allow-origin"] == origin and headers["vary"] == "Origin", headers
                    assert headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
                    assert headers["access-control-allow-headers"] == "*, Authorization"
                    assert "access-control-allow-credentials" not in headers
                code, headers, _ = get(port, path, method="OPTIONS")
                assert code == 204 and "access-control-allow-origin" not in headers and headers["vary"] == "Origin", headers


def test_log_level():
    for level, words in (("error", "ERROR"), ("warn", "ERROR WARN"), ("info", "ERROR WARN INFO"), ("debug", "ERROR WARN INFO DEBUG")):
        want = set(words.split())
        with scratch() as d:
            (d / "config").write_text("# nothing yet\n")
            # WARN for the start, INFO for a request, ERROR for a file that went bad.
            with Server("--host", "0.0.0.0", "--insecure", "--log-level", level, "--config", d / "config") as s:
                with Client(s.memory) as c:
                    c.ok("store", {"text": "kept"})
                (d / "config").write_text("bogus = 1\n")
                s.process.send_signal(signal.SIGHUP)
                wait_for(lambda: "reload failed" in s.log())
                s.stop()
                said = {line.split()[1] for line in s.log().splitlines()}
                assert all((word in s.log()) == (level == "debug") for word in ("connected", "disk answered"))
                assert said == want and ("type=store" in s.log()) == ("INFO" in want), (level, s.log())


def test_the_environment_names_the_file():
    with scratch() as d:
        (d / "config").write_text("max-memories = 7\nmax-queue = 8\n")
        with Server("--max-queue", "9", env={"RECALLD_CONFIG": str(d / "config")}) as s, Client(s.memory) as c:
            config = c.ok("config")
            assert config["max_memories"] == 7 and config["max_queue"] == 9
        common = ["--data", d / "x", "--check"]
        p = recalld(*common, env={"RECALLD_CONFIG": "/nowhere"})
        assert p.returncode == 78 and "/nowhere" in p.stderr and p.stderr.count("\n") == 1, p
        p = recalld(*common, "--config", d / "config", env={"RECALLD_CONFIG": "/nowhere"})
        assert p.returncode == 0, p


@contextlib.contextmanager
def echo(*flags):
    """build/echo with these flags: its port."""
    p = subprocess.Popen([BUILD / "echo", "--port", "0", *flags], stdout=subprocess.PIPE, text=True)
    try:
        yield int(re.fullmatch(r"listening on localhost:(\d+)\n", p.stdout.readline())[1])
        p.terminate()
        assert p.wait(15) == 0
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def test_echo_closes_what_is_above_its_limit():
    with echo("--max-message", "1000") as port, Client(port, timeout=5) as c:
        c.send(2, b"x" * 1000)
        assert c.receive() == (2, b"x" * 1000)
        c.send(2, b"x" * 1001)
        assert c.closed()[0] == 1009


def test_echo_takes_16_mib_by_default():
    most = os.urandom(1 << 20) * 16
    with echo() as port, Client(port) as c:
        c.send(2, most)
        assert c.take(10) == b"\x82\x7f" + struct.pack("!Q", len(most))
        got = bytearray(c.buffer)                # of 16 MiB a copy at each read is too much
        while len(got) < len(most) and (more := c.socket.recv(1 << 20)):
            got += more
        assert got == most
        c.buffer = b""
        c.socket.sendall(b"\x82\xff" + struct.pack("!Q", len(most) + 1) + b"mask")
        assert c.closed()[0] == 1009, "from the header"


def test_echo_names_what_is_wrong_with_its_flags():
    for args in (["--nonsense"], ["--port", "65536"], ["--port"], ["--max-message", "1k"]):
        p = recalld(*args, program="echo")
        assert p.returncode == 64 and p.stderr.splitlines()[-1].startswith(f"echo: {args[0]}: "), (args, p)
    with echo() as port:
        p = recalld("--port", port, program="echo")
        assert p.returncode == 69 and p.stderr.count("\n") == 1 and str(port) in p.stderr and not p.stdout, p


def test_recall_with_a_token():
    with token_file() as path, Server("--token-file", path) as s:
        memory, inference = f"--url=ws://localhost:{s.memory}", f"--url=ws://localhost:{s.inference}"
        for env, why in (({}, "a token is wanted: set RECALLD_TOKEN"),
                         ({"RECALLD_TOKEN": "alpha-t0ke"}, "another token is wanted than that in RECALLD_TOKEN")):
            for args in (["store", "kept", memory], ["embed", "kept", inference]):
                p = recalld(*args, program="recall", env=env)
                assert p.returncode == 77 and not p.stdout and p.stderr == f"recall: {why}\n", (args, p)
        env = {"RECALLD_TOKEN": "alpha-t0ken"}
        p = recalld("stats", memory, program="recall", env=env)
        assert p.returncode == 0 and "memory_count  0\n" in p.stdout, p
        assert recalld("store", "kept", memory, program="recall", env=env).returncode == 0
        p = recalld("search", "kept", memory, program="recall", env=env)
        assert p.returncode == 0 and p.stdout.endswith("kept\n"), p
        assert recalld("embed", "kept", inference, program="recall", env=env).returncode == 0


def test_a_memory_may_be_a_minute_ahead():
    def ahead(seconds):
        return int((time.time() + seconds) * 1000)

    with Server() as s, Client(s.memory) as c:
        c.fails("invalid_timestamp", "store", {"text": "too far", "timestamp": ahead(70)})
        assert c.ok("stats")["memory_count"] == 0
        c.ok("store", {"text": "near", "timestamp": ahead(60)})
        # One that is ahead does not take the clock with it, or a client could go on like that.
        c.fails("invalid_timestamp", "store", {"text": "too far", "timestamp": ahead(70)})
        assert c.ok("stats")["memory_count"] == 1


run(globals())
