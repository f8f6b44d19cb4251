"""What all benchmarks share: medians and spreads, ratios, goals, tables, CSV and plots.

A figure is the median of its rounds with the least and the most (of ten and more: the
middle half). A ratio is the median of the ratios of the rounds, so that both sides of
one were measured close together. A goal is "<= 1.10 x" of the ratio or "<= 60" of the
figure. CSV begins with lines "# key: value": machine, date, command, versions.
"""
import argparse
import csv
import datetime
import glob
import json
import math
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RESULTS = f"{ROOT}/bench/results"
COLUMNS = ["case", "who", "median", "unit", "low", "high", "n", "ratio", "goal", "holds", "note"]
COLOURS = {"limit": "#8a8f98", "recalld": "#0b7a75", "libwebsockets": "#c8553d", "npm ws": "#d9a441", "websockets": "#5b6abf"}
MORE = ["#c8553d", "#d9a441", "#5b6abf", "#7b9e3f", "#a05195", "#444"]


# ---- the machine and who is on it ----

def one_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip().split("\n")[0]
    except OSError:
        return ""


def machine():
    info = open("/proc/cpuinfo").read()
    model = re.search(r"^(?:model name|Processor|cpu model|uarch)\s*:\s*(.*)", info, re.M)
    vectors = [f for f in ("sse2", "avx2", "fma", "avx512f", "avx512_vnni", "amx_int8") if re.search(rf"\b{f}\b", info)]
    memory = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read()).group(1)) / 2**20
    return (f"{model.group(1) if model else platform.machine()} ({' '.join(vectors)}), {os.cpu_count()} cores, "
            f"{memory:.0f} GiB, {platform.system()} {platform.release()}")


def debian(package):
    """Version of a Debian package, None when it is not there."""
    return one_line("dpkg-query", "-W", "-f", "${Version}", package) or None


def npm(directory, package):
    try:
        return json.load(open(f"{ROOT}/{directory}/node_modules/{package}/package.json"))["version"] if shutil.which("node") else None
    except OSError:
        return None


def available_gib():
    return int(re.search(r"MemAvailable:\s+(\d+)", open("/proc/meminfo").read()).group(1)) / 2**20


# ---- running ----

def arguments(rounds, **more):
    """Flags that all have: --build and --rounds; more: name=default."""
    a = argparse.ArgumentParser()
    a.add_argument("--build", default="build")
    a.add_argument("--rounds", type=int, default=rounds)
    for name, default in more.items():
        a.add_argument("--" + name, type=type(default), default=default)
    a = a.parse_args()
    a.build = os.path.join(ROOT, a.build)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))   # `finally` cleans up
    return a


def compile_c(build, name, sources, flags=(), libraries=()):
    """build/bench/NAME from sources relative to the root; None when it cannot be built."""
    os.makedirs(f"{build}/bench", exist_ok=True)
    made = subprocess.run([os.environ.get("CC", "gcc"), "-std=c11", "-O2", "-g", "-D_GNU_SOURCE", "-I.", *flags, *sources, *libraries,
                           "-o", f"{build}/bench/{name}"], capture_output=True, text=True, cwd=ROOT)
    if made.returncode and not libraries:
        sys.exit(made.stderr)
    return None if made.returncode else f"{build}/bench/{name}"


WS = ["ws.c", "ws_handshake.c", "http.c", "utf8.c", "sha1.c", "base64.c"]


def core(which):
    """Prefix that keeps a program on the first core ("server") or the last ("load")."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(cores[0] if which == "server" else cores[-1])] if shutil.which("taskset") and len(cores) > 1 else []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def key_values(text):
    return {k: float(v) for k, v in (pair.split("=") for pair in text.split())}


def cpu_s(pid):
    """CPU time of another process, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_bytes(pid, *fields):
    status = open(f"/proc/{pid}/status").read()
    return sum(int(re.search(rf"^{f}:\s+(\d+)", status, re.M).group(1)) * 1024 for f in fields or ("VmRSS",))


class Recalld:
    """recalld on free ports of the loopback, with its memories in `data`; ended at the end of `with`."""

    def __init__(self, build, data, *flags, env=None):
        self.command = [*core("server"), f"{build}/recalld", "--data", data, "--memory-port", "0", "--inference-port", "0",
                        "--port-file", f"{data}.ports", "--log-level", "error", *map(str, flags)]
        self.port_file, self.env = f"{data}.ports", {**os.environ, **(env or {})}

    def __enter__(self):
        if os.path.exists(self.port_file):
            os.unlink(self.port_file)
        began = time.perf_counter()
        self.process = subprocess.Popen(self.command, env=self.env)
        while not os.path.exists(self.port_file):
            if self.process.poll() is not None or time.perf_counter() - began > 120:
                self.__exit__()
                raise RuntimeError("recalld did not start")
            time.sleep(0.002)
        self.start_s, self.start_cpu_s, self.pid = time.perf_counter() - began, cpu_s(self.process.pid), self.process.pid
        self.ports = {k: int(v) for k, v in (line.split() for line in open(self.port_file))}
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# ---- figures ----

def spread(values):
    if len(values) < 10:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def holds(goal, figure, ratio):
    """Whether a goal holds: True, False, or None where there is none."""
    parts = goal.split()
    value = ratio if parts[2:3] == ["x"] else figure
    if not parts or value is None:
        return None
    return value <= float(parts[1]) if parts[0] == "<=" else value >= float(parts[1])


def short(x):
    if x is None or x == "":
        return ""
    x = float(x)
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


class Report:
    """Rows of one benchmark, printed as they come, written at the end: NAME.csv and NAME.svg."""

    def __init__(self, name, title, rounds, peers):
        """peers: name -> version, None for one that could not be found."""
        self.name, self.rows = name, []
        there = {n: v for n, v in peers.items() if v and n != "recalld"}
        self.head = {
            "title": title, "machine": machine(), "date": datetime.date.today().isoformat(),
            "command": shlex.join([os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]), "rounds": str(rounds),
            "recalld": one_line("git", "-C", ROOT, "describe", "--always", "--dirty"),
            "compiler": one_line(os.environ.get("CC", "gcc"), "--version"),
            "peers": ", ".join(f"{n} {v}" for n, v in there.items()) or "none",
            "not found": ", ".join(n for n, v in peers.items() if not v) or "none",
            "load": "%.1f" % os.getloadavg()[0],
        }
        print(f"\n== {title}")
        for key in list(self.head)[1:]:
            print(f"   {key}: {self.head[key]}")
        print(f"{'case':36} {'who':18} {'median':>10} {'unit':8} {'spread':>19} {'ratio':>7}  goal", flush=True)

    def add(self, case, who, values, unit, ratio=None, goal="", note=""):
        """values: of the rounds; ratio: (numerators, denominators) of the rounds."""
        values = [v for v in values if v is not None]
        if not values:
            return
        quotient = statistics.median(a / b for a, b in zip(*ratio) if b) if ratio and all(ratio) and any(ratio[1]) else None
        low, high = spread(values)
        middle = statistics.median(values)
        good = holds(goal, middle, quotient)
        row = {"case": case, "who": who, "median": f"{middle:.6g}", "unit": unit, "low": f"{low:.6g}", "high": f"{high:.6g}", "n": len(values),
               "ratio": "" if quotient is None else f"{quotient:.4g}", "goal": goal,
               "holds": "" if good is None else "yes" if good else "NO", "note": note}
        self.rows.append(row)
        print(f"{case:36} {who:18} {short(middle):>10} {unit:8} {short(low) + '..' + short(high):>19} "
              f"{short(quotient):>7}  {goal} {row['holds']} {note}".rstrip(), flush=True)

    def write(self):
        os.makedirs(RESULTS, exist_ok=True)
        with open(f"{RESULTS}/{self.name}.csv", "w", newline="") as f:
            f.writelines(f"# {k}: {v}\n" for k, v in self.head.items())
            w = csv.DictWriter(f, COLUMNS)
            w.writeheader()
            w.writerows(self.rows)
        with open(f"{RESULTS}/{self.name}.svg", "w") as f:
            f.write(plot(self.head, self.rows))


def read(path):
    """A CSV as its head and its rows."""
    lines = open(path, newline="").read().splitlines()
    head = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    return head, list(csv.DictReader(line for line in lines if not line.startswith("# ")))


def results():
    return {os.path.basename(p)[:-4]: read(p) for p in sorted(glob.glob(f"{RESULTS}/*.csv"))}


# ---- plots ----

def escape(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;")


def panel(rows, unit, y, colour, out):
    """Bars of one unit on a logarithmic axis, with their spreads; the y below it."""
    left, right, step = 240, 660, 14
    low = 10 ** math.floor(math.log10(min(float(r["low"]) for r in rows)) - 0.01)
    high = 10 ** math.ceil(math.log10(max(float(r["high"]) for r in rows)) + 0.01)
    x = lambda v: left + (right - left) * math.log10(max(float(v), low) / low) / math.log10(high / low)
    bottom = y + sum(step for _ in rows) + 12 * len({r["case"] for r in rows})
    for e in range(round(math.log10(low)), round(math.log10(high)) + 1):
        out.append(f'<line x1="{x(10.0 ** e):.1f}" x2="{x(10.0 ** e):.1f}" y1="{y - 6}" y2="{bottom - 8}" stroke="#ddd"/>'
                   f'<text x="{x(10.0 ** e):.1f}" y="{bottom + 6}" text-anchor="middle">{10.0 ** e:g} {escape(unit)}</text>')
    for case in dict.fromkeys(r["case"] for r in rows):
        out.append(f'<text x="{left - 8}" y="{y + 10}" text-anchor="end">{escape(case)}</text>')
        for r in (r for r in rows if r["case"] == case):
            out.append(f'<rect x="{left}" y="{y}" width="{max(1, x(r["median"]) - left):.1f}" height="{step - 3}" fill="{colour[r["who"]]}"/>'
                       f'<line x1="{x(r["low"]):.1f}" x2="{x(r["high"]):.1f}" y1="{y + 5.5}" y2="{y + 5.5}" stroke="#000"/>'
                       f'<text x="{x(r["high"]) + 5:.1f}" y="{y + 9}">{short(r["median"])}</text>')
            y += step
        y += 12
    return bottom + 34


def plot(head, rows):
    rows = [r for r in rows if float(r["low"]) > 0]
    names = list(dict.fromkeys(r["who"] for r in rows))
    spare = iter(MORE * 3)
    colour = {n: COLOURS.get(n) or next(spare) for n in names}
    out, y = [f'<text x="8" y="16" font-size="13">{escape(head["title"])}</text>'
              f'<text x="8" y="30" fill="#666">{escape(head["machine"])}, {head["date"]}</text>'], 44
    for i, n in enumerate(names):
        at_x, at_y = 8 + i % 5 * 140, y + i // 5 * 16
        out.append(f'<rect x="{at_x}" y="{at_y}" width="10" height="10" fill="{colour[n]}"/><text x="{at_x + 14}" y="{at_y + 9}">{escape(n)}</text>')
    y += (len(names) + 4) // 5 * 16 + 14
    for unit in dict.fromkeys(r["unit"] for r in rows):
        y = panel([r for r in rows if r["unit"] == unit], unit, y, colour, out)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{y}" font-family="sans-serif" font-size="11">'
            '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(out) + "\n</svg>\n")
