#!/usr/bin/env python3
"""Write the figures of docs/measurements.md from bench/results/*.csv, and say which goals hold.

    bench/measurements.py [--print]

Between "<!-- figures: NAME -->" and "<!-- end of figures -->" stands what NAME.csv says; all else of
the page is left as it is. --print: to stdout, and the page is not touched.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import report  # noqa: E402

PAGE = f"{report.ROOT}/docs/measurements.md"


def plain(text):
    return text.replace("|", "\\|").replace(">=", "≥").replace("<=", "≤").replace(" x", " ×")


def figure(row):
    unit = row["unit"].replace("us", "µs") if row["unit"] == "us" else row["unit"]
    return f"{report.short(row['median'])} {unit}".strip()


def ours(row):
    if not row:
        return ""
    spread = f" ({report.short(row['low'])} to {report.short(row['high'])})" if row["low"] != row["high"] else ""
    return figure(row) + spread


def goal(row):
    """One goal, what came of it, and whether it holds."""
    if not row["goal"]:
        return ""
    text = plain(row["goal"])
    if row["goal"].split()[2:3] == ["x"]:
        text = f"{row['ratio']} × ({text})"
    who = f"{row['who']} " if row["who"] != "recalld" else ""
    return f"{who}{text}: {'yes' if row['holds'] == 'yes' else '**no**'}"


def table(rows):
    """A line for each case: ours, the goals, a column for each peer that was found."""
    peers = [w for w in dict.fromkeys(r["who"] for r in rows) if w != "recalld"]
    notes = any(r["note"] for r in rows if r["who"] == "recalld")
    lines = ["| | recalld | goal: does it hold |" + "".join(f" {p} |" for p in peers) + (" |" if notes else ""),
             "|---|---|---|" + "---|" * (len(peers) + notes)]
    for case in dict.fromkeys(r["case"] for r in rows):
        of = {r["who"]: r for r in rows if r["case"] == case}
        goals = "; ".join(filter(None, map(goal, of.values())))
        cells = [plain(case), ours(of.get("recalld")), goals]
        for p in peers:
            r = of.get(p)
            cells.append("" if not r else figure(r) + (f" ({report.short(r['ratio'])} ×)" if r["ratio"] and p != "limit" else ""))
        if notes:
            cells.append(plain(of["recalld"]["note"]) if "recalld" in of else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def block(head, rows):
    lines = [f"`{head['command']}`, {head['rounds']} round{'s' * (head['rounds'] != '1')}, {head['date']}, recalld {head['recalld']}, {head['compiler']}, load {head['load']}; "
             f"{head['machine']}.", f"Beside: {head['peers']}. Not found: {head['not found']}.", ""]
    return "\n".join(lines + table(rows))


def main():
    results, page = report.results(), open(PAGE).read()
    unknown = [n for n in results if f"<!-- figures: {n} -->" not in page]

    def fill(m):
        return m.group(1) + (block(*results[m.group(2)]) + "\n" if m.group(2) in results else m.group(3)) + m.group(4)
    filled = re.sub(r"(<!-- figures: (\w+) -->\n)(.*?)(<!-- end of figures -->)", fill, page, flags=re.S)
    if "--print" in sys.argv:
        print("\n\n".join(f"## {n}\n\n{block(*r)}" for n, r in results.items()))
    else:
        with open(PAGE, "w") as f:
            f.write(filled)
    judged = [(n, r) for n, (_, rows) in results.items() for r in rows if r["holds"]]
    missed = [(n, r) for n, r in judged if r["holds"] != "yes"]
    for name, r in missed:
        print(f"missed: {name}: {r['case']}, {r['who']}: {figure(r)}, ratio {r['ratio'] or '-'}, goal {r['goal']}", file=sys.stderr)
    print(f"{len(judged) - len(missed)} of {len(judged)} goals hold" + (f"; no place in the page for {', '.join(unknown)}" if unknown else ""),
          file=sys.stderr)


main()
