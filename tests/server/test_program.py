"""The daemon from outside: flags, exit status, ports, signals, maintenance, systemd."""
import base64
import ctypes
import hashlib
import json
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import BUILD, ROOT, SANITIZED, Client, Server, Skip, get, recalld, run, scratch  # noqa: E402

sys.path.insert(0, str(ROOT / "tests/models"))
import make  # noqa: E402


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_wrong_usage_is_64_and_one_line():
    for args in (["--nonsense"], ["x"], ["--memory-port", "99999"], ["--sync", "sometimes"], ["--check", "--repair"],
                 ["--host", "example.org"], ["--allow-origin", "nonsense"], ["--allow-host", "a b"], ["--adapter", "x"]):
        p = recalld(*args)
        assert p.returncode == 64 and p.stderr.count("\n") == 1 and p.stderr.startswith("recalld: "), (args, p)


def test_two_adapters_of_one_name_are_refused_where_they_were_given():
    tiny = ROOT / "tests/models/tiny"
    one, all_ = f"a={tiny}/adapters/qv", f"a={tiny}/adapters/all"
    with scratch() as d:
        command = ["--check", "--data", d, "--model", tiny]
        p = recalld(*command, "--adapter", one, "--adapter", all_)
        assert p.returncode == 64 and p.stderr == "recalld: --adapter a: is there twice\n", p
        assert recalld(*command, env={"RECALLD_ADAPTER": f"{one},{all_}"}).returncode == 78
        p = recalld(*command, "--adapter", one, env={"RECALLD_ADAPTER": all_})
        assert p.returncode == 0 and "adapter: a, rank 4, alpha 8" in p.stdout, p


def test_a_name_that_no_adapter_may_have_is_refused_where_it_was_given():
    tiny = ROOT / "tests/models/tiny"
    with scratch() as d:
        command = ["--check", "--data", d, "--model", tiny]
        for name in ("x" * 65, "x" * 127, "x" * 128):
            adapter = f"{name}={tiny}/adapters/qv"
            for status, args, env in ((64, ["--adapter", adapter], {}), (78, [], {"RECALLD_ADAPTER": adapter})):
                p = recalld(*command, *args, env=env)
                assert p.returncode == status and p.stderr.endswith(": want NAME=DIR, the name of at most 64 bytes of UTF-8\n"), p
        p = subprocess.run([BUILD / "recalld", *map(str, command), b"--adapter=a\xff=x"], capture_output=True)
        assert p.returncode == 64, p
        p = recalld(*command, "--adapter", f"{'x' * 64}={tiny}/adapters/qv")
        assert p.returncode == 0 and f"adapter: {'x' * 64}, rank 4" in p.stdout, p


def test_a_line_end_in_a_name_begins_no_line():
    with scratch() as d:
        odd = d / "two\nlines\x1b[31m"
        for args in (["--nonsense\nx"], ["--config", odd], ["--check", "--model", odd, "--data", d / "data"]):
            p = recalld(*args)
            assert p.returncode and p.stderr.count("\n") == 1 and "\x1b" not in p.stderr, (args, p)
        with Server(data=odd) as s:
            assert all(" INFO " in line for line in s.log().splitlines()) and "data=" in s.log(), s.log()


def test_bad_environment_and_file_are_78():
    p = recalld("--check", env={"RECALLD_MAX_QUEUE": "x"})
    assert p.returncode == 78 and p.stderr.startswith("recalld: environment: RECALLD_MAX_QUEUE: bad value 'x'"), p
    assert recalld("--config", "/nowhere").returncode == 78
    assert recalld("--token-file", "/nowhere").returncode == 78
    both = {"RECALLD_NO_SANDBOX": "1", "RECALLD_REQUIRE_SANDBOX": "1"}
    assert recalld("--check", env=both).returncode == 78
    assert recalld("--check", "--no-sandbox", "--require-sandbox").returncode == 64
    for name, value in (("HOST", "example.org"), ("ALLOW_ORIGIN", "nonsense"), ("ALLOW_HOST", "a b"), ("ADAPTER", "x")):
        p = recalld("--check", env={f"RECALLD_{name}": value})
        assert p.returncode == 78 and p.stderr.count("\n") == 1, (name, p)
    assert recalld("--host", "0.0.0.0").returncode == 78


def test_bad_line_of_a_file_is_named():
    with scratch() as d:
        for line, why in (("bogus = 1", "unknown name 'bogus'"), ("max-queue = x", "max-queue: bad value 'x'")):
            (d / "c").write_text(f"# first\n{line}\n")
            p = recalld("--config", d / "c", "--check")
            assert p.returncode == 78 and p.stderr.startswith(f"recalld: {d}/c line 2: {why}"), p


def test_help_and_version_that_cannot_be_written_are_74():
    for flag in ("--help", "--version"):
        with open("/dev/full", "w") as full:
            p = subprocess.run([BUILD / "recalld", flag], stdout=full, stderr=subprocess.PIPE, text=True)
        assert p.returncode == 74 and p.stderr.count("\n") == 1, p


def test_reports_that_cannot_be_written_are_74():
    with Server() as s, open("/dev/full", "w") as full:
        with Client(s.memory) as c:
            c.ok("store", {"text": "kept"})
        s.stop()
        selftest = [] if recalld("--sandbox-selftest").returncode else [["--sandbox-selftest"]]
        for args in [["--check"], ["--compact"], ["--repair"], ["--reembed"], ["--import", "-"], *selftest]:
            p = subprocess.run([BUILD / "recalld", "--data", s.data, *args], input='{"text":"new"}\n', stdout=full, stderr=subprocess.PIPE, text=True)
            assert p.returncode == 74 and p.stderr.startswith("recalld: ") and p.stderr.count("\n") == 1, (args, p)


def test_closed_standard_descriptors_name_no_file_of_the_data():
    def close_all():
        for fd in range(3):
            os.close(fd)

    with Server("--inline-sync") as s:
        with Client(s.memory) as c:
            c.ok("store", {"text": "kept"})
        s.stop()
        log, lock = (pathlib.Path(s.data) / name for name in ("memory.log", "LOCK"))
        before = log.read_bytes()
        common = [BUILD / "recalld", "--data", s.data]
        assert subprocess.run([*common, "--import", "/nowhere"], preexec_fn=close_all).returncode == 74
        assert subprocess.run([*common, "--export", "-"], preexec_fn=close_all).returncode == 74
        assert subprocess.run([*common, "--check"], preexec_fn=close_all).returncode == 74, "its report went nowhere"
        assert log.read_bytes() == before and not lock.read_bytes()
        p = subprocess.Popen([*common, "--inline-sync", "--memory-port", "0", "--inference-port", "0"], preexec_fn=close_all)
        time.sleep(0.5)
        p.terminate()
        assert p.wait(10) == 0 and not lock.read_bytes()


def empty(path):
    """For preexec_fn: nothing lies there for this process. Its status is 99 where that cannot be."""
    libc = ctypes.CDLL(None)
    # CLONE_NEWNS; MS_REC | MS_PRIVATE
    if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None) or libc.mount(b"none", path, b"tmpfs", 0, None):
        os._exit(99)


def test_closed_standard_descriptors_where_there_is_no_dev_null():
    def bare():
        for fd in range(3):
            os.close(fd)
        empty(b"/dev")

    with scratch() as d:
        args = [BUILD / "recalld", "--data", d / "data", "--inline-sync", "--memory-port", "0", "--inference-port", "0"]
        p = subprocess.Popen([*args, "--port-file", d / "ports"], preexec_fn=bare)
        while p.poll() is None and not (d / "ports").exists():
            time.sleep(0.01)
        p.terminate()
        if p.wait(15) == 99:
            raise Skip("no file system can be mounted here")
        assert p.returncode == 0 and not (d / "data" / "LOCK").read_bytes()
        assert (d / "data" / "memory.log").read_bytes().startswith(b"\x89RCL")


def test_help_and_version():
    p = recalld("--help")
    assert p.returncode == 0 and "--max-memories" in p.stdout and not p.stderr
    p = recalld("--version")
    assert p.returncode == 0 and p.stdout.startswith("recalld ") and "sandbox: " in p.stdout


def test_the_manual_page_has_every_flag_of_the_help():
    page = (ROOT / "docs" / "recalld.1").read_text().replace("\\-", "-")
    flags = [line.split()[0] for line in recalld("--help").stdout.splitlines() if line.startswith("  --")]
    assert len(flags) > 40 and not [flag for flag in flags if f" {flag}" not in page], flags


def test_a_busy_memory_port_is_69_and_named():
    with socket.socket() as s, scratch() as d:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        p = recalld("--data", d / "x", "--memory-port", port, "--inference-port", "0")
        assert p.returncode == 69 and str(port) in p.stderr, p


def test_inference_takes_the_first_free_port_of_its_range():
    with socket.socket() as s, scratch() as d:
        for _ in range(50):
            first = free_port()
            try:
                s.bind(("127.0.0.1", first))
                with socket.socket() as t:
                    t.bind(("127.0.0.1", first + 1))
                break
            except OSError:
                s.close()
                s = socket.socket()
        s.listen()
        with Server("--inference-port", f"{first}-{first + 1}") as r:
            assert r.inference == first + 1
            p = recalld("--data", d / "y", "--memory-port", "0", "--inference-port", f"{first}-{first + 1}")
            assert p.returncode == 69 and "No available ports found" in p.stderr, p
            p = recalld("--data", d / "y", "--memory-port", "0", "--inference-port", str(first))
            assert p.returncode == 69 and "No available ports found" in p.stderr, p


def test_only_one_endpoint():
    with Server("--only", "memory") as s:
        assert list(s.ports) == ["memory"]
        with Client(s.memory) as c:
            assert c.ok("stats")["endpoints"] == {"memory": s.memory, "inference": None}
    with Server("--only", "inference") as s:
        assert list(s.ports) == ["inference"] and not os.path.exists(s.data)


def test_a_second_process_on_the_same_data_is_75():
    with Server() as s:
        began = time.monotonic()
        p = recalld("--data", s.data, "--memory-port", "0", "--inference-port", "0")
        assert p.returncode == 75 and s.data in p.stderr, p
        assert 2.5 < time.monotonic() - began < 20


def test_ipv4_and_ipv6():
    with Server() as s:
        hosts = ["127.0.0.1"]
        try:
            socket.create_connection(("::1", s.memory), 5).close()
            hosts.append("::1")
        except OSError:
            pass
        for host in hosts:
            with Client(s.memory, host=host) as c:
                assert c.ok("ping")["pong"]


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


def test_an_ipv6_address_is_told_in_brackets():
    if not has_ipv6():
        raise Skip("no IPv6 here")
    for host in ("::1", "[::1]"):
        with Server("--host", host, "--only", "memory") as s:
            assert f"listening on [::1]:{s.memory}\n" in s.log(), s.log()


def test_sigterm_closes_with_1001_and_exits_0():
    for sig in (signal.SIGTERM, signal.SIGINT):
        with Server() as s, Client(s.memory) as a, Client(s.inference) as b:
            a.ok("store", {"text": "kept over the stop"})
            s.process.send_signal(sig)
            for c in (a, b):
                op, payload = c.receive()
                assert op == 8 and payload[:2] == b"\x03\xe9", payload
                c.send(8, payload[:2])
            assert s.process.wait(10) == 0


def test_a_client_that_does_not_answer_the_close_is_not_waited_for_long():
    with Server("--close-timeout", "0.5") as s, Client(s.memory) as c:
        c.ok("ping")
        began = time.monotonic()
        assert s.stop() == 0
        assert time.monotonic() - began < 5


def test_a_second_signal_ends_at_once_with_everything_stored():
    with Server() as s, Client(s.memory) as c:
        c.ok("store", {"text": "kept"})
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        s.process.send_signal(signal.SIGTERM)
        assert s.process.wait(5) == 0
        s.start()
        with Client(s.memory) as c2:
            assert c2.ok("retrieve", {})["memories"][0]["text"] == "kept"


def test_sigusr1_logs_stats_and_sighup_reads_the_token_again():
    with scratch() as d:
        token = d / "token"
        token.write_text("alpha-t0ken\n")
        with Server("--token-file", str(token)) as s:
            assert Client(s.memory).status == 401
            with Client(s.memory, headers=["Authorization: Bearer alpha-t0ken"]) as c:
                assert c.ok("ping")["pong"]
            token.write_text("beta-t0ken\n")
            s.process.send_signal(signal.SIGHUP)
            s.process.send_signal(signal.SIGUSR1)
            time.sleep(0.5)
            assert Client(s.memory, headers=["Authorization: Bearer alpha-t0ken"]).status == 401
            with Client(s.memory, headers=["Authorization: Bearer beta-t0ken"]) as c:
                assert c.ok("ping")["pong"]
            with Client(s.memory, headers=["Sec-WebSocket-Protocol: x, bearer.beta-t0ken"]) as c:
                assert "Sec-WebSocket-Protocol: bearer.beta-t0ken" in c.head
            with Client(s.memory, path="/ws?token=beta-t0ken") as c:
                assert c.ok("ping")["pong"]
            log = s.log()
            assert "stats" in log and "t0ken" not in log


def test_sighup_reads_the_origins_of_the_file_again():
    def let_in(name):
        return get(s.memory, "/stats", f"Origin: http://{name}.example")[0] == 200

    with scratch() as d:
        (d / "config").write_text("allow-origin = http://one.example\n")
        with Server("--config", d / "config") as s:
            assert let_in("one") and not let_in("two")
            for text, two, line in (("allow-origin = http://two.example\n", True, "token and origins read again"),
                                    ("allow-origin = three\n", True, "reload failed: --allow-origin three"),
                                    ("bogus = 1\n", True, "line 1: unknown name 'bogus'"), ("", False, "read again")):
                (d / "new").write_text(text)
                (d / "new").rename(d / "config")
                s.process.send_signal(signal.SIGHUP)
                time.sleep(0.3)
                assert let_in("two") == two and not let_in("one") and line in s.log(), (text, s.log())


def test_sighup_says_that_another_token_file_wants_a_restart():
    def let_in(token):
        return Client(s.memory, headers=[f"Authorization: Bearer {token}"]).status == 101

    def hup(line, n):
        s.process.send_signal(signal.SIGHUP)
        assert len(logged(s, line, n)) == n, s.log()

    with scratch() as d:
        for name in ("one", "two"):
            (d / name).write_text(f"{name}\n")
        for first in ("", f"token-file = {d}/one\n"):
            (d / "config").write_text(first)
            with Server("--config", d / "config") as s:
                (d / "config").write_text(f"token-file = {d}/two\nallow-origin = http://one.example\n")
                hup(" ERROR recalld reload failed: --token-file names another file now: that needs a restart", 1)
                assert let_in("one") and let_in("two") == (not first), "the old state stays"
                assert get(s.memory, "/stats", "Origin: http://one.example", "Authorization: Bearer one")[0] == 403
                (d / "config").write_text(first)
                hup("token and origins read again", 1)
                if first:
                    (d / "one").write_text("new\n")
                    hup("token and origins read again", 2)
                    assert let_in("new") and not let_in("one")


def test_sighup_waits_for_nobody_who_would_write_into_a_pipe():
    with scratch() as d:
        for name in ("token-file", "config"):
            (d / "token-file").write_text("one\n")
            (d / "config").write_text("max-queue = 7\n")
            with Server("--token-file", d / "token-file", "--config", d / "config") as s:
                (d / name).unlink()
                os.mkfifo(d / name)
                s.process.send_signal(signal.SIGHUP)
                try:
                    assert logged(s, f"reload failed: --{name} names a pipe: that is read at the start only", 1), s.log()
                    with Client(s.memory, headers=["Authorization: Bearer one"]) as c:
                        assert c.status == 101 and c.ok("ping")["pong"]
                finally:
                    os.close(os.open(d / name, os.O_RDWR))   # whoever waits does so no longer
            (d / name).unlink()


def test_log_lines_say_what_happened_and_never_a_text():
    with Server() as s:
        with Client(s.memory) as c:
            c.ok("store", {"text": "a secret that no log may hold"}, id="my id\n")
            c.send(8, b"\x03\xe8bye")
            c.receive()
        assert get(s.memory, "/stats", "Origin: http://evil.example")[0] == 403
        s.stop()
        log = s.log()
        assert f"INFO memory listening on localhost:{s.memory}" in log
        assert f"INFO inference listening on localhost:{s.inference}" in log
        assert "connection accepted" in log and "connection refused" in log and "evil.example" in log
        assert "type=store" in log and "outcome=success" in log
        assert "connection closed" in log and "code=1000" in log and "reason=bye" in log
        assert "secret" not in log


def test_a_token_before_or_behind_the_host_is_not_logged():
    with Server() as s:
        assert get(s.memory, "/stats", host="sesame@localhost")[0] == 400
        assert get(s.memory, "http://a:sesame@b@localhost/stats")[0] == 400
        assert get(s.memory, "/stats", "Origin: http://:sesame@evil.example")[0] == 403
        assert get(s.memory, "/stats", "Origin: http://evil.example/?token=sesame")[0] == 403
        assert get(s.memory, "/stats", host="localhost?token=sesame")[0] == 400
        s.stop()
        refused = [line for line in s.log().splitlines() if "connection refused" in line]
        assert [line.rpartition(" value=")[2] for line in refused] == \
            ["localhost", "localhost", "evil.example", "http://evil.example/", "localhost"], refused


def test_json_log_lines_are_objects():
    with Server("--log-format", "json") as s:
        with Client(s.memory) as c:
            c.ok("ping")
        s.stop()
        lines = [json.loads(line) for line in s.log().splitlines() if line.startswith("{")]
        assert any(line["message"] == "request" and line["type"] == "ping" for line in lines)


def test_json_log_lines_are_whole_whatever_they_tell():
    def unique(pairs):
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)

    with scratch() as d, Server("--log-format", "json", data=f"{d}/a\udcffb") as s:    # a byte 0xff
        s.process.send_signal(signal.SIGUSR1)
        logged(s, '"stats"', 2)
        s.stop()
        lines = pathlib.Path(f"{s.home}/stderr").read_bytes().splitlines()
        lines = [json.loads(line.decode(), object_pairs_hook=unique) for line in lines]
        memory, inference = [line["stats"] for line in lines if line["message"] == "stats"]
        assert memory["memory_count"] == 0 and inference["server"] == "inference", lines
        assert any(f"{d}/a?b" in str(line) for line in lines), lines


def test_check_export_import_compact_repair():
    with Server() as s, scratch() as d:
        with Client(s.memory) as c:
            for i in range(20):
                c.ok("store", {"text": f"memory number {i}", "tags": ["t"], "metadata": {"type": "user", "i": i}})
        s.stop()
        p = recalld("--check", "--data", s.data)
        assert p.returncode == 0 and "memories: 20" in p.stdout, p
        p = recalld("--export", d / "all.jsonl", "--data", s.data)
        assert p.returncode == 0, p
        lines = [json.loads(line) for line in (d / "all.jsonl").read_text().splitlines()]
        assert len(lines) == 20 and "strength" not in lines[0] and "embedding" in lines[0]
        p = recalld("--import", d / "all.jsonl", "--data", d / "copy")
        assert p.returncode == 0 and "20" in p.stdout + p.stderr, p
        again = recalld("--export", "-", "--data", d / "copy")
        assert again.stdout == (d / "all.jsonl").read_text()
        p = recalld("--import", "-", "--data", d / "copy", input=(d / "all.jsonl").read_text())
        assert p.returncode == 0, p
        assert recalld("--compact", "--data", d / "copy").returncode == 0
        assert recalld("--repair", "--data", d / "copy").returncode == 0
        assert recalld("--export", "-", "--data", d / "copy").stdout == again.stdout


def test_old_exports_are_read():
    with scratch() as d:
        old = [{"content": "from the older system", "timestamp": 1700000000}, {"text": "in milliseconds", "timestamp": 1700000000000},
               {"id": "not a uuid", "text": "an id of another form"}]
        p = recalld("--import", "-", "--data", d / "x", input="\n".join(map(json.dumps, old)) + "\n\n")
        assert p.returncode == 0, p
        out = [json.loads(line) for line in recalld("--export", "-", "--data", d / "x").stdout.splitlines()]
        assert [m["text"] for m in out] == ["from the older system", "in milliseconds", "an id of another form"]
        assert out[0]["timestamp"] == out[1]["timestamp"] == "2023-11-14T22:13:20.000Z"


def test_damage_in_the_middle_stops_the_start_and_repair_mends():
    with Server() as s:
        with Client(s.memory) as c:
            for i in range(20):
                c.ok("store", {"text": f"memory number {i}"})
        s.stop()
        log = pathlib.Path(s.data) / "memory.log"
        data = bytearray(log.read_bytes())
        data[len(data) // 2] ^= 1
        log.write_bytes(data)
        p = recalld("--data", s.data, "--memory-port", "0", "--inference-port", "0")
        assert p.returncode == 65 and "--repair" in p.stderr, p
        assert recalld("--check", "--data", s.data).returncode == 65
        p = recalld("--repair", "--data", s.data)
        assert p.returncode == 0 and "memory.damaged-" in p.stdout, p
        s.start()
        with Client(s.memory) as c:
            assert c.ok("stats")["memory_count"] == 19


def test_what_is_computed_after_the_close_is_thrown_away():
    """Clients that do not answer the close, with work of theirs still queued when it is sent."""
    for clients in (1, 2):
        with Server("--model", ROOT / "tests/models/tiny", "--close-timeout", "1", "--max-queue", "4096") as s:
            some = [Client(s.inference) for _ in range(clients)]
            for i in range(12):
                some[0].text(json.dumps({"type": "embeddings", "id": i, "data": {"text": ["many words of a text " * 8] * 128}}))
            some[0].receive()                                   # the first is done, the others are under way
            assert s.stop() == 0, s.log()
            said = s.log()
            assert "too_large" not in said and "Assertion" not in said and "stopped" in said, said
            ops = []
            try:
                while True:
                    ops.append(some[0].receive()[0])
            except EOFError:
                pass
            assert 8 in ops and ops[-1] == 8, "nothing comes behind the close: %s" % ops
            for c in some:
                c.socket.close()
    with Server("--model", ROOT / "tests/models/tiny", "--close-timeout", "1") as s, Client(s.memory) as c:
        for i in range(16):
            c.text(json.dumps({"type": "store", "id": i, "data": {"text": f"{i} " + "many words of a text " * 9}}))
        c.receive()
        assert s.stop() == 0 and "Assertion" not in s.log() and "runtime error" not in s.log(), s.log()


def test_a_store_being_embedded_is_kept_though_its_client_answers_the_close_at_once():
    with scratch() as d:
        shape = dict(make.TINY, hidden=96, heads=12, positions=4096)     # a third of a second for a text of its length
        make.write_model(str(d / "slow"), shape, make.random_weights(shape, 1))
        with Server("--model", d / "slow") as s, Client(s.memory) as c:
            c.ask("store", {"text": "w1"})
            c.text(json.dumps({"type": "store", "data": {"text": "w0 " * 4100}}))
            c.send(9)
            while c.receive()[0] != 10:
                pass
            s.process.send_signal(signal.SIGTERM)
            while (frame := c.receive())[0] != 8:
                pass
            c.send(8, frame[1])
            assert s.process.wait(20) == 0, s.log()
            lines = recalld("--export", "-", "--data", s.data, "--model", d / "slow").stdout.splitlines()
            assert [json.loads(line)["text"][:2] for line in lines] == ["w1", "w0"], s.log()


def handed_over(d, sockets, *flags, env=None, **more):
    """recalld with listening sockets from a service manager: {name: socket}."""
    code = ("import os,sys\nn=int(sys.argv[1])\nfor i in range(n):os.dup2(int(sys.argv[2+i]),103+i)\n"
            "for i in range(n):os.dup2(103+i,3+i)\nos.environ['LISTEN_PID']=str(os.getpid())\nos.execv(sys.argv[2+n],sys.argv[2+n:])")
    fds = [s.fileno() for s in sockets.values()]
    return subprocess.Popen(["/usr/bin/python3", "-c", code, str(len(fds)), *map(str, fds), str(BUILD / "recalld"), "--data", str(d / "x"), *flags],
                            pass_fds=fds, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(sockets), **(env or {})}, **more)


def test_wide_sockets_handed_over_want_a_token_as_a_wide_host_does():
    for address, family in (("0.0.0.0", socket.AF_INET), ("::", socket.AF_INET6)):
        if family == socket.AF_INET6 and not has_ipv6():
            continue
        with scratch() as d, socket.socket(family) as mem:
            mem.bind((address, 0))
            mem.listen()
            p = handed_over(d, {"memory": mem}, "--only", "memory")
            said = p.communicate(timeout=15)[1]
            assert p.returncode == 78 and "the socket handed over for memory would let the network in" in said, said
            (d / "token").write_text("sesame")
            for flags in (["--insecure"], ["--token-file", str(d / "token")]):
                p = handed_over(d, {"memory": mem}, "--only", "memory", *flags)
                try:
                    port = mem.getsockname()[1]
                    with Client(port, host="::1" if family == socket.AF_INET6 else "127.0.0.2", headers=["Authorization: Bearer sesame"]) as c:
                        assert c.status == 101, c.head
                finally:
                    p.terminate()
                    said = p.communicate(timeout=15)[1]
                assert ("without a token" in said) == (flags[0] == "--insecure"), said


def test_systemd_is_told_and_hands_sockets_over():
    with scratch() as d, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, socket.socket() as mem, socket.socket() as inf:
        notify.bind(str(d / "notify"))
        notify.settimeout(20)
        for s in (mem, inf):
            s.bind(("127.0.0.1", 0))
            s.listen()
        ports = mem.getsockname()[1], inf.getsockname()[1]
        p = handed_over(d, {"memory": mem, "inference": inf}, env={"NOTIFY_SOCKET": str(d / "notify"), "WATCHDOG_USEC": "400000"})
        try:
            assert notify.recv(100) == b"READY=1"
            assert notify.recv(100) == b"WATCHDOG=1"
            for port in ports:
                with Client(port) as c:
                    assert c.ok("ping")["pong"]
            p.terminate()
            while (said := notify.recv(100)) == b"WATCHDOG=1":
                pass
            assert said == b"STOPPING=1"
            assert p.wait(15) == 0
        finally:
            p.kill()
            p.wait()


def test_a_unix_socket_handed_over_lets_no_network_in_and_is_named():
    with scratch() as d, socket.socket(socket.AF_UNIX) as mem, socket.socket(socket.AF_UNIX) as c:
        mem.bind(str(d / "socket"))
        mem.listen()
        p = handed_over(d, {"memory": mem}, "--only", "memory")
        try:
            c.settimeout(15)
            c.connect(str(d / "socket"))
            c.sendall(b"GET /stats HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
            assert c.recv(1000).startswith(b"HTTP/1.1 403 "), "Host counts here, too"
        finally:
            p.terminate()
            said = p.communicate(timeout=15)[1]
        assert p.returncode == 0 and "listening on unix, handed over\n" in said and "connection refused peer=unix status=403" in said, said
        assert "without a token" not in said, said


def test_a_third_socket_of_one_name_is_not_left_unserved():
    loopback = ("127.0.0.1", 0)
    with scratch() as d, socket.create_server(loopback) as a, socket.create_server(loopback) as b, socket.create_server(loopback) as c:
        doors = {"first": a, "second": b, "third": c}
        p = handed_over(d, doors, "--only", "memory", env={"LISTEN_FDNAMES": "memory:memory:memory"})
        try:
            said = p.communicate(timeout=15)[1]
        finally:
            p.kill()
            p.wait()
        assert p.returncode == 71 and said.endswith("the socket handed over for memory is a third: two are served\n"), said


def test_the_sandbox_denies_what_it_must():
    if SANITIZED:
        raise Skip("builds with sanitizers have no sandbox")
    p = recalld("--sandbox-selftest")
    if p.returncode == 71 and "no sandbox here" in p.stderr:
        raise Skip("this kernel offers none")
    assert p.returncode == 0 and "LET THROUGH" not in p.stdout, p.stdout
    assert int(p.stdout.splitlines()[-1].split()[0]) >= 20
    with Server("--require-sandbox") as s, Client(s.memory) as c:
        assert c.ok("stats")["sandbox"] == "seccomp+landlock"
    with Server("--no-sandbox") as s, Client(s.memory) as c:
        assert c.ok("stats")["sandbox"] == "off"


def test_echo_serves_though_nobody_reads_what_it_says():
    def close_all():
        for fd in range(3):
            os.close(fd)

    def close_reader():
        read, write = os.pipe()
        os.dup2(write, 1)
        os.close(read)

    for how in (close_all, close_reader):
        port = free_port()
        p = subprocess.Popen([BUILD / "echo", "--port", str(port)], preexec_fn=how)
        try:
            for _ in range(500):
                if p.poll() is not None:
                    break
                try:
                    with Client(port) as c:
                        c.text("here")
                        assert c.receive() == (1, b"here")
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
            p.terminate()
            assert p.wait(15) == 0, how
        finally:
            p.kill()
            p.wait()


def test_recall_stores_searches_and_embeds():
    with Server() as s:
        memory, inference = f"--url=ws://localhost:{s.memory}", f"--url=ws://127.0.0.1:{s.inference}"
        p = recalld("store", "the cat sat on the mat", memory, program="recall")
        assert p.returncode == 0 and "significance" in p.stdout, p
        p = recalld(memory, "store", "-", input="a dog in the fog\n", program="recall")
        assert p.returncode == 0, p
        p = recalld("search", "cat on a mat", memory, program="recall")
        assert p.returncode == 0 and "the cat sat on the mat" in p.stdout, p
        p = recalld("--json", "stats", memory, program="recall")
        assert json.loads(p.stdout)["data"]["memory_count"] == 2, p
        p = recalld("embed", "cat", inference, program="recall")
        assert len(json.loads(p.stdout)) == 384, p
        lines = recalld("export", memory, program="recall").stdout
        assert len(lines.splitlines()) == 2 and json.loads(lines.splitlines()[0])["text"] == "the cat sat on the mat"
        p = recalld("import", "-", memory, input=lines + '{"text":"new"}\n', program="recall")
        assert p.returncode == 0 and "1 stored, 2 known already" in p.stdout, p
        assert recalld("store", "", memory, program="recall").returncode == 65
        assert recalld("search", memory, program="recall").returncode == 64
        assert recalld("dance", memory, program="recall").returncode == 64
        assert recalld("stats", "--url", f"ws://localhost:{free_port()}", program="recall").returncode == 69


def test_recall_reads_the_deepest_metadata_that_the_server_takes():
    def nested(n):
        return json.loads('{"a":' * n + "1" + "}" * n)

    with Server("--only", "memory") as s, Client(s.memory) as c:
        url = f"--url=ws://localhost:{s.memory}"
        watch = subprocess.Popen([BUILD / "recall", "watch", url], stdout=subprocess.PIPE, text=True)
        try:
            time.sleep(0.5)
            c.ok("store", {"text": "deep in data", "metadata": nested(62)})
            c.text(json.dumps({"type": "store", "text": "deep without data", "metadata": nested(63)}))
            assert c.reply()["status"] == "success"
            c.text(json.dumps({"type": "store", "text": "too deep", "metadata": nested(64)}))
            assert c.reply()["data"]["code"] == "invalid_json"
            assert [watch.stdout.readline().split()[0] for _ in range(2)] == ["memory_added"] * 2
        finally:
            watch.terminate()
            watch.wait()
        p = recalld("export", url, program="recall")
        assert p.returncode == 0 and [json.loads(line)["metadata"] for line in p.stdout.splitlines()] == [nested(62), nested(63)], p
        p = recalld("search", "deep in data", url, program="recall")
        assert p.returncode == 0 and "deep in data" in p.stdout, p


def test_recall_finds_localhost_where_there_is_no_etc_hosts():
    with Server("--only", "memory") as s:
        p = subprocess.run([BUILD / "recall", "store", "x", f"--url=ws://LocalHost:{s.memory}"], capture_output=True,
                           preexec_fn=lambda: empty(b"/etc"))
        if p.returncode == 99:
            raise Skip("no file system can be mounted here")
        assert p.returncode == 0, p


def test_recall_does_not_wait_behind_a_url_that_is_too_long():
    with Server("--only", "memory") as s:
        began = time.monotonic()
        p = recalld("stats", f"--url=ws://localhost:{s.memory}/?{'x' * 5000}", program="recall")
        assert p.returncode == 64 and p.stderr == "recall: --url is too long\n" and time.monotonic() - began < 5, p


def test_recall_counts_a_bad_line_and_goes_on():
    with Server() as s:
        lines = '{"text":"first"}\nno JSON\n{"text":5}\n{"text":"last"}\n{"text":"first"}\n{"text":"last"}\0\n'
        p = recalld("import", "-", f"--url=ws://localhost:{s.memory}", input=lines, program="recall")
        assert p.returncode == 65 and p.stdout == "2 stored, 1 known already, 3 refused\n", p
        assert [line.split(":")[1] for line in p.stderr.splitlines()] == [" line 2", " line 3", " line 6"], p


def test_recall_has_another_embedders_vectors_made_anew():
    with Server() as s, Client(s.memory) as c:
        line = '{"text":"from elsewhere","embedding":[1,2,3],"tags":["x"]}\n'
        p = recalld("import", "-", f"--url=ws://localhost:{s.memory}", input=line, program="recall")
        assert p.returncode == 0 and p.stdout == "1 stored, 0 known already, 0 refused\n", p
        found = c.ok("search", {"text": "from elsewhere"})["results"][0]
        assert found["similarity"] > 0.999 and found["tags"] == ["x"], found


def test_recall_names_a_stdin_or_stdout_that_fails():
    with Server() as s, open("/dev/full", "w") as full:
        url = f"--url=ws://localhost:{s.memory}"
        assert recalld("import", s.home, url, program="recall").returncode == 74
        for word, fd in (("stats", 1), ("store", 0)):
            args = [BUILD / "recall", url, word] + ["-"] * (fd == 0)
            p = subprocess.run(args, preexec_fn=lambda fd=fd: os.close(fd), stderr=subprocess.PIPE)
            assert p.returncode == 74, (word, p)
        for args in (["stats", url], ["--help"]):
            p = subprocess.run([BUILD / "recall", *args], stdout=full, stderr=subprocess.PIPE, text=True)
            assert p.returncode == 74 and p.stderr.startswith("recall: stdout cannot be written: ") and p.stderr.count("\n") == 1, p
        with open(f"{s.home}/out", "wb") as out:
            p = subprocess.run([BUILD / "recall", "stats", url], stdout=out, stderr=subprocess.PIPE,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
        assert p.returncode == 74 and p.stderr == b"recall: stdout cannot be written: File too large\n", p
        with Client(s.memory) as c:
            assert c.ok("stats")["errors_by_code"] == {} and c.ok("stats")["memory_count"] == 0


def test_recall_goes_on_after_a_stop():
    with Server() as s:
        s.process.send_signal(signal.SIGSTOP)
        p = subprocess.Popen([BUILD / "recall", "stats", f"--url=ws://localhost:{s.memory}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for sig in (signal.SIGSTOP, signal.SIGCONT):
            time.sleep(0.3)
            p.send_signal(sig)
        time.sleep(0.3)
        s.process.send_signal(signal.SIGCONT)
        out, err = p.communicate(timeout=20)
        assert p.returncode == 0 and b"memory_count" in out, (p.returncode, err)


def test_recall_goes_on_where_it_waited_longer_than_the_server_does():
    with Server("--ping-interval", "0.5", "--ping-timeout", "0.5") as s, scratch() as d:
        url = f"--url=ws://localhost:{s.memory}"
        p = subprocess.Popen([BUILD / "recall", url, "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdin.write(b'{"text":"first"}\n')
        p.stdin.flush()
        assert len(logged(s, "code=1011", 1)) == 1, s.log()
        out, err = p.communicate(b'{"text":"second"}\n{"text":"third"}\n', timeout=20)
        assert (p.returncode, out) == (0, b"3 stored, 0 known already, 0 refused\n"), (p.returncode, out, err)
        lines = "".join(json.dumps({"text": f"{i} " + "x" * 3000}) + "\n" for i in range(250))
        assert recalld("import", "-", url, input=lines, program="recall").returncode == 0
        read, write = os.pipe()                              # a page is more than it holds
        p = subprocess.Popen([BUILD / "recall", url, "export"], stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert len(logged(s, "code=1011", 2)) == 2, s.log()
        with open(read, "rb") as pipe:
            texts = [json.loads(line)["text"] for line in pipe]
        assert (p.wait(20), len(texts), len(set(texts))) == (0, 253, 253), p.stderr.read()


def test_recall_asks_again_where_it_was_too_fast():
    with Server("--rate", "60") as s:
        lines = "".join(json.dumps({"text": f"{i}"}) + "\n" for i in range(62))
        p = recalld("import", "-", f"--url=ws://localhost:{s.memory}", input=lines, program="recall")
        assert (p.returncode, p.stdout) == (0, "62 stored, 0 known already, 0 refused\n"), p
    page = b'{"status":"success","data":{"memories":[{"text":"a"}],"next":%s}}'
    busy = b'{"status":"error","error":"Server busy","data":{"code":"busy","retry_after_ms":30}}'
    with socket.create_server(("127.0.0.1", 0)) as door:
        args = [BUILD / "recall", "export", f"--url=ws://127.0.0.1:{door.getsockname()[1]}"]
        p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        c, _ = door.accept()
        with c:
            c.sendall(answer_handshake(c))
            for text in (busy, page % b'"n"', busy, busy, page % b"null"):
                assert c.recv(4096)
                c.sendall(bytes([0x81, len(text)]) + text)
            out, err = p.communicate(timeout=10)
    assert (p.returncode, out) == (0, b'{"text":"a"}\n' * 2), (p.returncode, out, err)


def test_recall_says_goodbye_however_it_ends():
    with Server("--log-level", "info") as s:
        memory = f"--url=ws://localhost:{s.memory}"
        took = []
        for args in (["store", "x", memory], ["stats", memory], ["--json", "search", " ", memory]):
            began = time.monotonic()
            recalld(*args, program="recall")
            took.append(time.monotonic() - began)
        assert min(took) < 2, "the server's answer is not seen"
        for n, sig in enumerate((signal.SIGINT, signal.SIGTERM), 1):
            p = subprocess.Popen([BUILD / "recall", "watch", memory])
            logged(s, "type=subscribe", n)
            p.send_signal(sig)
            assert p.wait(10) == -sig
        codes = [line.split("code=")[1].split()[0] for line in logged(s, "connection closed", 5)]
        assert codes == ["1000"] * 5, codes
        p = subprocess.Popen([BUILD / "recall", "watch", memory], stderr=subprocess.PIPE, text=True)
        logged(s, "type=subscribe", 3)
        assert s.stop() == 0
        assert p.wait(10) == 69 and "1001" in p.stderr.read()
        assert "code=1001" in s.log() and "code=1006" not in s.log()


def answer_handshake(c):
    """What a server answers recall with that knocks at this connection."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += c.recv(4096)
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


def test_recall_says_what_a_strange_server_sent_and_commands_no_terminal():
    def served(reply, head=None, command=("store", "x"), lines=b"", pause=0):
        """What recall says of a server that answers its handshake with this head or with these lines more, then with this reply."""
        with socket.create_server(("127.0.0.1", 0)) as door:
            args = [BUILD / "recall", f"--url=ws://127.0.0.1:{door.getsockname()[1]}", *command]
            p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            c, _ = door.accept()
            with c:
                opened = answer_handshake(c)[:-2] + lines + b"\r\n" + bytes([0x81, len(reply)])
                for part in ((head or opened) + reply,) if not pause else (head, reply[:1], reply[1:]):
                    c.sendall(part)
                    time.sleep(pause)
                c.shutdown(socket.SHUT_WR)
                out, err = p.communicate(timeout=10)
            return p.returncode, out, err

    for garbled, why in ((b"{}", b""), (b"garbage", b": no value at byte 0"), (b"[]", b"")):
        assert (got := served(garbled)) == (65, b"", b"recall: the server sent what is no reply" + why + b"\n"), (garbled, got)
    cut = b'{"status":"success","data":{"results":[{"text":"a"'
    for command in (["search", "x"], ["export"], ["watch"]):
        status, out, err = served(cut, command=command)
        assert status == 65 and not out and b"no reply" in err, (command, status, out, err)
    assert served(b'{"status":"error","error":"a\\u001b[31mred\\u009b"}')[::2] == (65, b"recall: a?[31mred??\n")
    assert served(b'{"status":"error","error":"two\\nlines"}')[::2] == (65, b"recall: two?lines\n")
    assert served(b'{"status":"success","data":{"id":"x\\u0007","significance":1}}')[1] == b"x?  significance 1\n"
    status, _, err = served(b"no\x1b page\nhere\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\n")
    assert status == 69 and err.endswith(b" refused with 404: no? page?here\n"), err
    for length in (b"Content-Length: 6\r\n", b""):
        status, _, err = served(b"page\r\n", b"HTTP/1.1 403 No\r\n" + length + b"\r\n", pause=0.1)
        assert status == 69 and err.endswith(b" refused with 403: page\n"), err
    success = b'{"status":"success","data":{"id":"x","significance":1}}'
    assert served(success, lines=b"X: y\r\n")[0] == 0
    status, _, err = served(success, lines=b"Sec-WebSocket-Protocol: chat\r\n")
    assert status == 69 and err.endswith(b" answers with a subprotocol that was not offered\n"), err
    status, _, err = served(success, lines=b"Sec-WebSocket-Extensions: x\r\n")
    assert status == 69 and err.endswith(b" is no WebSocket server: extension that was not offered\n"), err
    upgrade = b"HTTP/1.1 101 Here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
    status, _, err = served(success, upgrade % (b"A" * 28))
    assert status == 69 and err.endswith(b" is no WebSocket server: wrong Sec-WebSocket-Accept\n"), err


def test_recall_tells_a_close_of_the_server_from_its_own():
    for frame, why in ((b"\x88\x05\x03\xe9bye", "the server closed the connection: 1001 bye"),
                       (b"\x83\0", "what the server sent breaks the protocol: 1002 reserved opcode")):
        with socket.create_server(("127.0.0.1", 0)) as door:
            args = [BUILD / "recall", "stats", f"--url=ws://127.0.0.1:{door.getsockname()[1]}"]
            p = subprocess.Popen(args, stderr=subprocess.PIPE, text=True)
            c, _ = door.accept()
            with c:
                c.sendall(answer_handshake(c) + frame)
                c.shutdown(socket.SHUT_WR)
                assert p.communicate(timeout=10)[1] == f"recall: {why}\n" and p.returncode == 69


def test_recall_tells_why_the_server_took_no_more():
    with socket.create_server(("127.0.0.1", 0)) as door:
        args = [BUILD / "recall", "store", "-", f"--url=ws://127.0.0.1:{door.getsockname()[1]}"]
        with tempfile.TemporaryFile() as text:
            text.write(b"x" * (15 << 20))                    # more than lies in buffers
            text.seek(0)
            p = subprocess.Popen(args, stdin=text, stderr=subprocess.PIPE, text=True)
        c, _ = door.accept()
        with c:
            c.sendall(answer_handshake(c))
            assert c.recv(4096)
            c.sendall(b"\x88\x09\x03\xf1toolong")
            time.sleep(0.3)
        assert p.communicate(timeout=10)[1] == "recall: the server closed the connection: 1009 toolong\n" and p.returncode == 69


def test_recall_tells_a_line_that_was_lost_between_two_that_were_written():
    def page(text, next_):
        data = json.dumps({"status": "success", "data": {"memories": [{"text": text}], "next": next_}}).encode()
        return (b"\x81\x7f" + len(data).to_bytes(8, "big") if len(data) > 65535 else bytes([0x81, len(data)])) + data

    with socket.create_server(("127.0.0.1", 0)) as door:
        read, write = os.pipe()
        os.set_blocking(write, False)
        args = [BUILD / "recall", f"--url=ws://127.0.0.1:{door.getsockname()[1]}", "export"]
        p = subprocess.Popen(args, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        c, _ = door.accept()
        with c:
            c.sendall(answer_handshake(c))
            assert c.recv(4096)
            c.sendall(page("x" * 300000, "a"))           # more than a pipe holds
            assert c.recv(4096)
            while os.read(read, 65536)[-1:] == b"x" and select.select([read], [], [], 0.2)[0]:
                pass
            c.sendall(page("y", None))
            c.shutdown(socket.SHUT_WR)
            err = p.communicate(timeout=10)[1]
        os.close(read)
    assert p.returncode == 74 and err.startswith(b"recall: stdout cannot be written"), (p.returncode, err)


def test_recall_import_goes_on_behind_a_line_that_is_too_long_to_send():
    with Server("--max-message", "2000") as s, scratch() as d:
        (d / "lines").write_text("".join(json.dumps({"text": t}) + "\n" for t in ("one", "x" * 2000, "two", "y" * (17 << 20), "three")))
        p = recalld("import", d / "lines", f"--url=ws://localhost:{s.memory}", program="recall")
        assert p.returncode == 65 and p.stdout == "3 stored, 0 known already, 2 refused\n", p
        assert [line.partition(":")[2][:8] for line in p.stderr.splitlines()] == [" line 2:", " line 4:"], p


def logged(server, what, n):
    """The first n lines of the log that hold this, waited for."""
    for _ in range(500):
        lines = [line for line in server.log().splitlines() if what in line]
        if len(lines) >= n:
            break
        time.sleep(0.01)
    return lines


def test_recall_watches():
    with Server() as s, Client(s.memory) as c:
        p = subprocess.Popen([BUILD / "recall", "watch", "--url", f"ws://localhost:{s.memory}"], stdout=subprocess.PIPE, text=True)
        try:
            logged(s, "type=subscribe", 1)
            c.ok("store", {"text": "seen"})
            assert "memory_added" in (line := p.stdout.readline()) and "seen" in line
        finally:
            p.kill()
            p.wait()


def test_recall_ignores_a_signal_that_was_ignored_when_it_was_started():
    with Server("--only", "memory") as s:
        p = subprocess.Popen([BUILD / "recall", "watch", f"--url=ws://localhost:{s.memory}"],
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        try:
            logged(s, "type=subscribe", 1)
            p.send_signal(signal.SIGINT)
            time.sleep(0.2)
            assert p.poll() is None
            p.terminate()
            assert p.wait(10) == -signal.SIGTERM
        finally:
            p.kill()
            p.wait()


def test_recall_tells_of_events_that_a_slow_watcher_lost():
    def frame(message):
        data = json.dumps(message).encode()
        return bytes([0x81, len(data)]) + data

    with socket.create_server(("127.0.0.1", 0)) as door:
        args = [BUILD / "recall", "watch", f"--url=ws://127.0.0.1:{door.getsockname()[1]}"]
        p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        c, _ = door.accept()
        with c:
            c.sendall(answer_handshake(c))
            assert c.recv(4096)
            c.sendall(frame({"status": "success"}) + frame({"event": "memory_removed", "data": {"id": "i", "reason": "deleted"}, "dropped": 3}))
            c.shutdown(socket.SHUT_WR)
            out, err = p.communicate(timeout=10)
    assert out == "memory_removed  i  deleted\n" and err.startswith("recall: 3 events were lost\n"), (out, err)


def test_recall_does_not_watch_what_it_cannot_write():
    with Server() as s, Client(s.memory) as c, open("/dev/full", "w") as full:
        p = subprocess.Popen([BUILD / "recall", "watch", "--url", f"ws://localhost:{s.memory}"], stdout=full, stderr=subprocess.PIPE, text=True)
        try:
            logged(s, "type=subscribe", 1)
            c.ok("store", {"text": "seen"})
            assert p.communicate(timeout=10)[1].startswith("recall: stdout cannot be written: ") and p.returncode == 74
        finally:
            p.kill()
            p.wait()


run(globals())
