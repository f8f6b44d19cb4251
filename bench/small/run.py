#!/usr/bin/env python3
"""SHA-1, base64, UTF-8 and JSON beside jansson and node's JSON, in turn: CPU time or throughput of a call.

    bench/small/run.py [--build build] [--rounds 5]

A round is one run of small.c, in which jansson has its turns, and one of peer.mjs; each is a median of its own.
"""
import csv
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import report  # noqa: E402

PEERS = {"JSON parse, store of 384 floats": ("JSON.parse", "parse"), "JSON print, vector of 384": ("JSON.stringify", "print")}


def faster(ours, theirs, unit):
    """How many times faster we are, as what report takes for a ratio."""
    return (theirs, ours) if unit == "us" else (ours, theirs)


def main():
    a = report.arguments(5)
    jansson = report.debian("libjansson-dev")
    node = report.one_line("node", "--version") if shutil.which("node") else None
    out = report.Report("small", "JSON and small things: CPU time, throughput", a.rounds, {"jansson": jansson, "node": node})
    rounds, nodes = [], []
    for _ in range(a.rounds):
        text = subprocess.run([*report.core("server"), f"{a.build}/bench/small/small", "--csv"], capture_output=True, text=True, check=True).stdout
        rounds.append({r["name"]: r for r in csv.DictReader(text.splitlines(), ["name", "median", "low", "high", "unit", "peer", "goal"], skipinitialspace=True)})
        if node:
            nodes.append(json.loads(subprocess.run([*report.core("server"), "node", f"{report.ROOT}/bench/small/peer.mjs"], capture_output=True,
                                                   text=True, check=True).stdout))
    for name, first in rounds[0].items():
        unit, ours = first["unit"], [float(r[name]["median"]) for r in rounds]
        out.add(name, "recalld", ours, unit, goal=first["goal"] or "")
        theirs = [float(r[name]["peer"]) for r in rounds]
        if theirs[0]:
            out.add(name, "jansson", theirs, unit, faster(ours, theirs, unit))
        if name in PEERS and nodes:
            who, key = PEERS[name]
            theirs = [n[key] for n in nodes]
            out.add(name, who, theirs, unit, faster(ours, theirs, unit))
    out.write()


main()
