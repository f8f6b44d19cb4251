#!/usr/bin/env python3
"""Make unicode_tables.h from the Unicode Character Database (Debian: unicode-data).

    servers/inference/unicode_tables.py [DIRECTORY] > servers/inference/unicode_tables.h

What each table means is said in unicode.h and beside the tables themselves.
"""
import re
import sys

UCD = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode"
CJK = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
       (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]
OTHER, DROP, SPACE, PUNCT, MARK, MARK_STARTER, IDEOGRAPH, ORDERED = range(8)


def version():
    with open(f"{UCD}/extracted/DerivedGeneralCategory.txt") as f:
        return re.search(r"-(\d+\.\d+\.\d+)\.txt", f.readline()).group(1)


def read():
    """category, ccc, canonical decomposition and simple lower case of every code point"""
    cat, ccc, parts, lower, first = {}, {}, {}, {}, None
    with open(f"{UCD}/UnicodeData.txt") as f:
        for line in f:
            d = line.split(";")
            c = int(d[0], 16)
            if d[1].endswith("First>"):
                first = c
                continue
            for k in range(first if first is not None else c, c + 1):
                cat[k] = d[2]
            first = None
            if d[3] != "0":
                ccc[c] = int(d[3])
            if d[5] and not d[5].startswith("<"):
                parts[c] = [int(x, 16) for x in d[5].split()]
            if d[13]:
                lower[c] = int(d[13], 16)
    return cat, ccc, parts, lower


def white_space():
    found = set()
    with open(f"{UCD}/PropList.txt") as f:
        for line in f:
            m = re.match(r"([0-9A-F]+)(?:\.\.([0-9A-F]+))? *; White_Space ", line)
            if m:
                found |= set(range(int(m[1], 16), int(m[2] or m[1], 16) + 1))
    return found


def main():
    cat, ccc, parts, lower = read()
    space = white_space()

    def full(c):
        return [x for p in parts[c] for x in full(p)] if c in parts else [c]

    def kind(c):
        k = cat.get(c, "Cn")
        if c in (9, 10, 13):
            return SPACE
        if c in (0, 0xFFFD) or k in ("Cc", "Cf", "Co"):
            return DROP
        if c in space:
            return SPACE
        if k[0] == "P" or 33 <= c <= 47 or 58 <= c <= 64 or 91 <= c <= 96 or 123 <= c <= 126:
            return PUNCT
        if k == "Mn":
            return MARK if c in ccc else MARK_STARTER
        if any(a <= c <= b for a, b in CJK):
            return IDEOGRAPH
        return ORDERED if c in ccc else OTHER

    base = {c: [x for x in full(c) if cat.get(x) != "Mn"] for c in parts if kind(c) not in (MARK, MARK_STARTER)}
    kinds = []  # runs: first code point, kind
    for c in range(0x110000):
        if not kinds or kinds[-1][1] != kind(c):
            kinds.append((c, kind(c)))

    more, keys, values = [], sorted(base), []
    for c in keys:
        b = base[c]
        if len(b) == 1 and b[0] < 0x10000:
            values.append(b[0])
        else:
            values.append(0xD800 + len(more))
            more += [x | (1 << 31 if i == len(b) - 1 else 0) for i, x in enumerate(b)]
        assert b
    assert len(more) <= 0x800
    planes = [sum(1 for c in keys if c < p << 16) for p in range(1, 4)]

    runs = []  # first, last, step, delta
    for c in sorted(lower):
        d = lower[c] - c
        r = runs[-1] if runs else None
        if r and r[3] == d and (c - r[1] == r[2] or (r[0] == r[1] and c - r[1] <= 2)):
            r[2], r[1] = c - r[1], c
        else:
            runs.append([c, c, 1, d])

    def table(kind_, name, items, per=16, fmt="{}"):
        print(f"static const {kind_} {name} = {{")
        for i in range(0, len(items), per):
            print("    " + ", ".join(fmt.format(x) for x in items[i:i + per]) + ",")
        print("};")

    print(f"""/* Made by unicode_tables.py from the Unicode Character Database {version()}; not to be edited. */
#ifndef UNICODE_TABLES_H
#define UNICODE_TABLES_H

#include <stdint.h>

#define UNICODE_VERSION "{version()}"

/* Where a run of one kind begins: code point * 8 + kind. */""")
    table("uint32_t", f"unicode_kinds[{len(kinds)}]", [c * 8 + k for c, k in kinds], 10, "0x{:x}")
    print("""
/* What is left of a code point after NFD when Mn is dropped; unicode_from holds the low
 * 16 bits of each, those of plane p up to unicode_planes[p]. A surrogate 0xD800 + k stands
 * for the sequence at unicode_more[k], its last with the top bit set. */""")
    table("uint16_t", f"unicode_planes[{len(planes)}]", planes)
    table("uint16_t", f"unicode_from[{len(keys)}]", [c & 0xFFFF for c in keys], 14, "0x{:04x}")
    table("uint16_t", f"unicode_to[{len(values)}]", values, 14, "0x{:04x}")
    table("uint32_t", f"unicode_more[{len(more)}]", more, 10, "0x{:x}")
    print("\n/* Simple lower case: every step-th code point from first to last, moved by delta. */")
    table("struct { uint32_t first, last; int32_t delta, step; }", f"unicode_lower_runs[{len(runs)}]",
          [f"{{0x{a:x}, 0x{b:x}, {d}, {s}}}" for a, b, s, d in runs], 4)
    order = sorted((c, ccc[c]) for c in ccc if kind(c) == ORDERED)
    runs_of = []
    for c, k in order:
        if runs_of and runs_of[-1][1] == c - 1 and runs_of[-1][2] == k:
            runs_of[-1][1] = c
        else:
            runs_of.append([c, c, k])
    print("\n/* Canonical combining class of those that are no Mn: first, last, class. */")
    table("struct { uint32_t first, last, ccc; }", f"unicode_order[{len(runs_of)}]",
          [f"{{0x{a:x}, 0x{b:x}, {k}}}" for a, b, k in runs_of], 4)
    print("\n#endif")
    size = 4 * len(kinds) + 4 * len(keys) + 4 * len(more) + 16 * len(runs)
    print(f"{len(kinds)} kinds, {len(keys)} bases, {len(more)} more, {len(runs)} runs, {size} bytes",
          file=sys.stderr)


main()
