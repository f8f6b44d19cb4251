#!/usr/bin/env python3
"""Echo servers against each other and against the bare limit.

Every cell of the table is measured in rounds; in a round each server runs once,
so that a noisy machine disturbs all alike. Printed are medians of the server's
CPU time per message, their spread, and the ratio to the limit, as the median of
the ratios of the rounds. The same goes to bench/results/echo.csv.

    bench/echo/run.py [--build build] [--rounds 5] [--seconds 1.5] [--only NAME,...] [--cells PART]
"""
import argparse, csv, math, os, shutil, signal, socket, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# name, connections, depth, bytes, kind, idle, storm, goal against the limit
CELLS = [
    ("1x16, 125 B", 1, 16, 125, "binary", 0, False, 1.05),
    ("100x16, 16 B", 100, 16, 16, "binary", 0, False, 1.15),
    ("100x16, 125 B", 100, 16, 125, "binary", 0, False, 1.10),
    ("100x16, 1 KiB", 100, 16, 1024, "binary", 0, False, 1.15),
    ("100x16, 1 KiB text", 100, 16, 1024, "text", 0, False, None),
    ("100x16, 1 KiB multi-byte", 100, 16, 1024, "utf8", 0, False, 1.35),
    ("100x4, 16 KiB", 100, 4, 16384, "binary", 0, False, 1.30),
    ("100x4, 16 KiB text", 100, 4, 16384, "text", 0, False, None),
    ("4x1, 1 MiB", 4, 1, 1048576, "binary", 0, False, 1.35),
    ("4x1, 1 MiB text", 4, 1, 1048576, "text", 0, False, None),
    ("10x16, 125 B", 10, 16, 125, "binary", 0, False, None),
    ("10x16, 125 B + 9,000 idle", 10, 16, 125, "binary", 9000, False, None),
    ("handshake + close", 50, 1, 16, "binary", 0, True, None),
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def compile_all(build):
    """The load generator, the limit, and libwebsockets' server where its headers are."""
    os.makedirs(f"{build}/bench", exist_ok=True)
    library = [f"{ROOT}/{n}.c" for n in ("ws", "ws_handshake", "http", "utf8", "sha1", "base64")]
    cc = os.environ.get("CC", "gcc")
    for name, sources, more in (("load", library, []), ("bare", library, []), ("lws", [], ["-lwebsockets"])):
        source = f"{HERE}/{'peer_lws' if name == 'lws' else name}.c"
        made = subprocess.run([cc, "-std=c11", "-O2", "-g", "-D_GNU_SOURCE", f"-I{ROOT}", source, *sources, *more,
                               "-o", f"{build}/bench/{name}"], capture_output=True, text=True)
        if made.returncode and name != "lws":
            sys.exit(made.stderr)


def peers(build):
    """name -> command for (port, bytes, kind); those that are here."""
    found = {
        "limit": lambda p, n, k: [f"{build}/bench/bare", str(p), str(n), k],
        "recalld": lambda p, n, k: [f"{build}/echo", "--port", str(p)],
    }
    if os.path.exists(f"{build}/bench/lws"):
        found["libwebsockets"] = lambda p, n, k: [f"{build}/bench/lws", str(p)]
    if shutil.which("node") and os.path.isdir(f"{ROOT}/tests/node_modules/ws"):
        found["npm ws"] = lambda p, n, k: ["node", f"{HERE}/peer_ws.cjs", str(p)]
    if subprocess.run(["/usr/bin/python3", "-c", "import websockets"], capture_output=True).returncode == 0:
        found["websockets"] = lambda p, n, k: ["/usr/bin/python3", f"{HERE}/peer_websockets.py", str(p)]
    return found


def start(command, port):
    core = ["taskset", "-c", "0"] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []
    server = subprocess.Popen(core + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return server
        except OSError:
            time.sleep(0.01)
    server.kill()
    raise RuntimeError(f"{command[0]} does not listen")


def measure(build, command, name, cell, seconds):
    _, connections, depth, size, kind, idle, storm, _ = cell
    port = free_port()
    server = start(command(port, size, kind), port)
    load = [f"{build}/bench/load", "--port", str(port), "--pid", str(server.pid),
            "--connections", str(connections), "--depth", str(depth), "--size", str(size),
            "--kind", kind, "--idle", str(idle), "--seconds", str(seconds)]
    load += ["--bare"] * (name == "limit") + ["--storm"] * storm
    core = ["taskset", "-c", str((os.cpu_count() or 1) - 1)] if shutil.which("taskset") else []
    try:
        out = subprocess.run(core + load, capture_output=True, text=True, timeout=120)
        if not out.stdout:
            raise RuntimeError(f"{name}: {out.stderr.strip()}")
        return dict(pair.split("=") for pair in out.stdout.split())
    finally:
        server.kill()
        server.wait()


COLOURS = {"limit": "#8a8f98", "recalld": "#0b7a75", "libwebsockets": "#c8553d", "npm ws": "#d9a441",
           "websockets": "#5b6abf"}


def plot(rows, path):
    """Bars of CPU time per message, logarithmic, a group for each cell."""
    cells = list(dict.fromkeys(r["cell"] for r in rows))
    names = list(dict.fromkeys(r["server"] for r in rows))
    step, left, wide = 14, 190, 460
    low = math.floor(math.log10(min(r["cpu_us"] for r in rows if r["cpu_us"] > 0)))
    high = math.ceil(math.log10(max(r["cpu_us"] for r in rows)))
    x = lambda v: left + wide * (math.log10(max(v, 10 ** low)) - low) / (high - low)
    height = 40 + sum(step * sum(r["cell"] == c for r in rows) + 12 for c in cells)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 70}" height="{height + 24}" '
           'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>']
    for k in range(low, high + 1):
        out.append(f'<line x1="{x(10 ** k):.1f}" x2="{x(10 ** k):.1f}" y1="28" y2="{height}" stroke="#ddd"/>'
                   f'<text x="{x(10 ** k):.1f}" y="{height + 14}" text-anchor="middle">{10.0 ** k:g} µs</text>')
    for i, n in enumerate(names):
        out.append(f'<rect x="{left + 105 * i}" y="8" width="10" height="10" fill="{COLOURS.get(n, "#444")}"/>'
                   f'<text x="{left + 14 + 105 * i}" y="17">{n}</text>')
    y = 34
    for c in cells:
        out.append(f'<text x="{left - 8}" y="{y + 10}" text-anchor="end">{c}</text>')
        for r in (r for r in rows if r["cell"] == c):
            out.append(f'<rect x="{left}" y="{y}" width="{x(r["cpu_us"]) - left:.1f}" height="{step - 3}" '
                       f'fill="{COLOURS.get(r["server"], "#444")}"/><text x="{x(r["cpu_us"]) + 4:.1f}" y="{y + 9}">'
                       f'{r["cpu_us"]:.3g}</text>')
            y += step
        y += 12
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n</svg>\n")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--build", default=f"{ROOT}/build")
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--seconds", type=float, default=1.5)
    a.add_argument("--also", action="append", default=[], metavar="NAME=PROGRAM",
                   help="one more server, started as PROGRAM --port N")
    a.add_argument("--only", help="servers, by comma")
    a.add_argument("--cells", default="", help="only cells whose name holds this")
    a.add_argument("--csv", default=f"{ROOT}/bench/results/echo.csv", help="the plot lies beside it, as .svg")
    a = a.parse_args()
    compile_all(a.build)
    servers = peers(a.build)
    missing = [n for n in ("libwebsockets", "npm ws", "websockets") if n not in servers]
    if missing:
        print("not here:", ", ".join(missing))
    for name, program in (also.split("=", 1) for also in a.also):
        servers[name] = lambda p, n, k, program=program: [program, "--port", str(p)]
    if a.only:
        servers = {n: c for n, c in servers.items() if n in a.only.split(",")}
    os.makedirs(os.path.dirname(a.csv), exist_ok=True)
    rows = []
    print(f"{'cell':28} {'server':14} {'us/message':>10} {'spread':>15} {'ratio':>6} {'goal':>5} "
          f"{'rate/s':>9} {'p99 us':>7}")
    for cell in CELLS:
        if a.cells not in cell[0]:
            continue
        got = {n: [] for n in servers if not (n == "limit" and cell[6])}
        for _ in range(a.rounds):
            for n in got:
                got[n].append(measure(a.build, servers[n], n, cell, a.seconds))
        limit = [float(r["cpu_us"]) for r in got.get("limit", [])]
        for n, runs in got.items():
            cpu = [float(r["cpu_us"]) for r in runs]
            ratio = statistics.median(c / l for c, l in zip(cpu, limit)) if limit else float("nan")
            row = {"cell": cell[0], "server": n, "cpu_us": statistics.median(cpu), "least": min(cpu),
                   "most": max(cpu), "ratio": ratio, "goal": cell[7] or "",
                   "rate": statistics.median(float(r["rate"]) for r in runs),
                   "p99_us": statistics.median(float(r["p99_us"]) for r in runs),
                   "idle_bytes": statistics.median(float(r["idle_bytes"]) for r in runs),
                   "failures": sum(int(r["failures"]) for r in runs)}
            rows.append(row)
            print(f"{row['cell']:28} {n:14} {row['cpu_us']:10.3f} {row['least']:7.3f}-{row['most']:7.3f} "
                  f"{ratio:6.2f} {row['goal'] if n == 'recalld' else '':>5} {row['rate']:9.0f} {row['p99_us']:7.0f}"
                  + (f"  {row['idle_bytes']:.0f} B/idle" if cell[5] else "")
                  + (f"  FAILURES {row['failures']}" if row["failures"] else ""), flush=True)
    with open(a.csv, "w", newline="") as f:
        w = csv.DictWriter(f, rows[0].keys())
        w.writeheader()
        w.writerows(rows)
    plot(rows, os.path.splitext(a.csv)[0] + ".svg")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
    main()
