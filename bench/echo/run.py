#!/usr/bin/env python3
"""Echo servers beside each other and beside the bare limit: CPU time of the server per message.

    bench/echo/run.py [--build build] [--rounds 3] [--seconds 1] [--only NAME,...] [--cells PART] [--also NAME=PROGRAM]

Cells that are compared stand in one group; in a round of a group each server runs each of
its cells once, so that a noisy machine disturbs all alike. With --only or --cells nothing
is written. --also: one more server, started as PROGRAM --port N.
"""
import collections
import os
import resource
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import report  # noqa: E402
from report import ROOT  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
IDLE = min(10000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)

# goal: of our ratio to `base`, which is a server of the same cell or another cell of the same server.
Cell = collections.namedtuple("Cell", "name connections depth size kind idle base goal", defaults=("binary", 0, "limit", ""))
GROUPS = [
    [Cell("1x16, 125 B", 1, 16, 125, goal="<= 1.05 x limit")],
    [Cell("100x16, 16 B", 100, 16, 16, goal="<= 1.15 x limit")],
    [Cell("100x16, 125 B", 100, 16, 125, goal="<= 1.10 x limit")],
    [Cell("100x16, 1 KiB", 100, 16, 1024, goal="<= 1.15 x limit"),
     Cell("100x16, 1 KiB text", 100, 16, 1024, "text", base="100x16, 1 KiB", goal="<= 1.10 x binary")],
    [Cell("100x16, 1 KiB multi-byte", 100, 16, 1024, "utf8", goal="<= 1.35 x limit")],
    [Cell("100x4, 16 KiB", 100, 4, 16384, goal="<= 1.30 x limit"),
     Cell("100x4, 16 KiB text", 100, 4, 16384, "text", base="100x4, 16 KiB", goal="<= 1.10 x binary")],
    [Cell("4x1, 1 MiB", 4, 1, 1048576, goal="<= 1.35 x limit"),
     Cell("4x1, 1 MiB text", 4, 1, 1048576, "text", base="4x1, 1 MiB", goal="<= 1.10 x binary")],
    [Cell("10x16, 125 B", 10, 16, 125),
     Cell(f"10x16, 125 B + {IDLE:,} idle", 10, 16, 125, idle=IDLE, base="10x16, 125 B", goal="<= 1.10 x without idle")],
]
FEW, MANY = 1000, min(9000, IDLE)                               # idle connections between which memory is taken


def peers(build):
    """name -> (version, command for (port, bytes, kind)); no version: not here."""
    lws = report.compile_c(build, "lws", ["bench/echo/peer_lws.c"], libraries=["-lwebsockets"])
    return {
        "limit": ("bare poll()", lambda p, n, k: [f"{build}/bench/bare", str(p), str(n), k]),
        "recalld": ("here", lambda p, n, k: [f"{build}/echo", "--port", str(p)]),
        "libwebsockets": (lws and report.debian("libwebsockets-dev"), lambda p, n, k: [lws, str(p)]),
        "npm ws": (report.npm("tests", "ws"), lambda p, n, k: ["node", f"{HERE}/peer_ws.cjs", str(p)]),
        "websockets": (report.debian("python3-websockets"), lambda p, n, k: ["/usr/bin/python3", f"{HERE}/peer_websockets.py", str(p)]),
    }


def start(command, port):
    server = subprocess.Popen(report.core("server") + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return server
        except OSError:
            time.sleep(0.01)
    server.kill()
    server.wait()
    raise RuntimeError(f"{command[0]} does not listen")


def measure(build, command, name, cell, seconds, storm=False):
    port = report.free_port()
    server = start(command(port, cell.size, cell.kind), port)
    load = [f"{build}/bench/load", "--port", str(port), "--pid", str(server.pid),
            "--connections", str(cell.connections), "--depth", str(cell.depth), "--size", str(cell.size),
            "--kind", cell.kind, "--idle", str(cell.idle), "--seconds", str(seconds)]
    load += ["--bare"] * (name == "limit") + ["--storm"] * storm
    try:
        out = subprocess.run(report.core("load") + load, capture_output=True, text=True, timeout=120)
        if not out.stdout:
            raise RuntimeError(out.stderr.strip())
        got = report.key_values(out.stdout)
        if got["failures"]:
            print(f"{cell.name}, {name}: {got['failures']:.0f} connections failed", flush=True)
        return got
    finally:
        server.kill()
        server.wait()


class Runs:
    """Rounds of a group: cell -> server -> what the load said in each round."""

    def __init__(self, a, servers, cells, storm=False):
        self.of = {c.name: {n: [] for n in servers} for c in cells}
        lost = set()
        for _ in range(a.rounds):
            for c in cells:
                for n in servers:
                    try:
                        self.of[c.name][n].append(measure(a.build, servers[n], n, c, a.seconds, storm) if n not in lost else None)
                    except (RuntimeError, subprocess.TimeoutExpired) as why:
                        print(f"{c.name}: {n} is not measured: {why}", flush=True)
                        lost.add(n)
                        self.of[c.name][n].append(None)

    def values(self, cell, server, key):
        return [r and r[key] for r in self.of.get(cell, {}).get(server, [])]


def pairs(ours, base):
    """Both of the rounds in which both were measured."""
    both = [(x, y) for x, y in zip(ours, base) if x is not None and y]
    return [x for x, _ in both], [y for _, y in both]


def echo(out, a, servers, cells):
    runs = Runs(a, servers, cells)
    for c in cells:
        for n in servers:
            cpu = runs.values(c.name, n, "cpu_us")
            base = runs.values(c.base, n, "cpu_us") if c.base in runs.of else runs.values(c.name, c.base, "cpu_us")
            rate = [r for r in runs.values(c.name, n, "rate") if r]
            out.add(c.name, n, cpu, "us", pairs(cpu, base), c.goal if n == "recalld" else "",
                    f"{sorted(rate)[len(rate) // 2]:.0f}/s" if rate else "")


def idle_memory(out, a, servers):
    """Growth of the resident memory from FEW to MANY idle connections, for each."""
    few, many = (Cell(f"{n} idle", 0, 1, 16, idle=n) for n in (FEW, MANY))
    once = type(a)(**{**vars(a), "rounds": 1, "seconds": 0.1})
    runs = Runs(once, servers, (few, many))
    for n in servers:
        at = [(runs.values(c.name, n, "idle_bytes")[0], c.idle) for c in (few, many)]
        if None not in (at[0][0], at[1][0]):
            bytes_each = (at[1][0] * at[1][1] - at[0][0] * at[0][1]) / (MANY - FEW)
            out.add("memory per idle connection", n, [bytes_each], "B", goal="<= 256" if n == "recalld" else "")


def handshakes(out, a, servers):
    cell = Cell("handshake + close", 50, 1, 16)
    runs = Runs(a, servers, [cell], storm=True)
    for n in servers:
        cpu = runs.values(cell.name, n, "cpu_us")
        out.add(cell.name, n, cpu, "us", pairs(cpu, runs.values(cell.name, "recalld", "cpu_us")), "<= 60" if n == "recalld" else "")


def main():
    a = report.arguments(3, seconds=1.0, only="", cells="", also="")
    report.compile_c(a.build, "load", ["bench/echo/load.c", *report.WS])
    report.compile_c(a.build, "bare", ["bench/echo/bare.c", *report.WS])
    found = peers(a.build)
    out = report.Report("echo", "Echo: the server's CPU time per message", a.rounds, {n: v for n, (v, _) in found.items()})
    servers = {n: c for n, (v, c) in found.items() if v and (not a.only or n in a.only.split(","))}
    if a.also:
        name, program = a.also.split("=", 1)
        servers[name] = lambda p, n, k: [program, "--port", str(p)]
    for cells in GROUPS:
        if any(a.cells in c.name for c in cells):
            echo(out, a, servers, cells)
    without_limit = {n: c for n, c in servers.items() if n != "limit"}
    if a.cells in "memory per idle connection":
        idle_memory(out, a, without_limit)
    if a.cells in "handshake + close":
        handshakes(out, a, without_limit)
    if not (a.only or a.cells):
        out.write()


if __name__ == "__main__":
    main()
