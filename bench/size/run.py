#!/usr/bin/env python3
"""Sizes as `make size` prints them.

    bench/size/run.py [--build build]
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import report  # noqa: E402


def main():
    report.arguments(1)
    made = subprocess.run(["make", "-s", "-C", report.ROOT, "size"], capture_output=True, text=True)
    found = re.findall(r"^(?:ok|OVER)\s+(.*?)\s+([\d,]+) of\s+([\d,]+) (.*)$", made.stdout, re.M)
    if not found:
        sys.exit(made.stdout + made.stderr)
    out = report.Report("size", "Size", 1, {"musl-tools": report.debian("musl-tools")})
    for what, value, limit, unit in found:
        out.add(what, "recalld", [float(value.replace(",", ""))], unit, goal="<= " + limit.replace(",", ""))
    tests = re.search(r"tests in C ([\d,]+) lines", made.stdout)
    if tests:
        out.add("tests in C", "recalld", [float(tests.group(1).replace(",", ""))], "lines of code")
    out.write()


main()
