"""What a memory server holds and answers, written from its specification alone: in Python, plainly,
one command at a time. answer() takes a command with its reply and raises Differs where the
reply, or an event that it must have caused, is not what the model says.
"""
import base64
import copy
import datetime
import json
import math
import re

import numpy

DAY, EPOCH = 86400e3, datetime.datetime(1970, 1, 1)
FLOORS = ("remember:", "important:", "note:", "fact:")
PLAIN = ("id", "text", "significance", "surprise", "diversity", "information", "metadata", "tags",
         "pinned", "access_count")
PARTS = ("surprise", "diversity", "information", "floor")
GATE = 0.15                             # min_similarity of the built-in embedder
QUERY = {"text": "red apple", "min_similarity": 0.2512345}      # the watcher's standing query


class Differs(Exception):
    """What the model does not explain."""


class Wrong(Exception):
    """The error reply that a command must get: its code."""


def iso(ms):
    when = EPOCH + datetime.timedelta(milliseconds=ms)
    return when.isoformat(timespec="milliseconds") + "Z"


def millis(text):
    return round((datetime.datetime.fromisoformat(text[:-1]) - EPOCH).total_seconds() * 1000)


def cosine(x, y):
    return min(1, max(-1, float(x @ y)))


def alike(m, n):
    return (m["significance"], m["at"]) == (n["significance"], n["at"]) and (m["x"] == n["x"]).all()


def words(text):
    return set(re.findall(rb"[a-z0-9\x80-\xff]+", text.encode().lower()))


def same(want, got, path="reply"):
    """They agree, or Differs: numbers within 1e-6, a tuple is a range (of a time: in ms), None
    anything."""
    if isinstance(want, tuple) and isinstance(got, str):
        got = millis(got)
    number = isinstance(got, (int, float)) and not isinstance(got, bool)
    if isinstance(want, dict) and isinstance(got, dict) and want.keys() == got.keys():
        for key in want:
            same(want[key], got[key], f"{path}.{key}")
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for n, one in enumerate(want):
            same(one, got[n], f"{path}[{n}]")
    elif isinstance(want, tuple) and number:
        if not min(want) - 1e-6 <= got <= max(want) + 1e-6:
            raise Differs(f"{path}: {got} is not in {want}")
    elif type(want) in (int, float) and number:
        if abs(want - got) > 1e-6:
            raise Differs(f"{path}: want {want}, got {got}")
    elif want is not None and (type(want) is not type(got) or want != got):
        raise Differs(f"{path}: want {str(want)[:800]}, got {str(got)[:800]}")


class Model:
    """Memories are replaced, never changed, so that a clone is cheap. `now` is from when a
    command was sent until all was answered; `got` is looked at where the server may choose."""

    def __init__(self, embed, cap=100000, evict=False, forget=0):
        self.embed, self.cap, self.evict, self.forget = embed, cap, evict, forget
        self.memories, self.events, self.seq = {}, [], 0
        self.restarted()

    def restarted(self):
        self.counts = {"duplicates": 0, "evicted": 0, "forgotten": 0}
        self.sent, self.streams = {}, {}
        for m in list(self.memories.values())[-50:]:
            self.surprise(m["metadata"].get("session_id"), m["x"], keep=True)

    def clone(self):
        new = copy.copy(self)
        for name in ("memories", "streams", "sent", "counts"):
            setattr(new, name, dict(getattr(self, name)))
        return new

    def surprise(self, session, x, keep):
        c, w = self.streams.get(session, (0, 0))
        s = min(1, max(0, 1 - float(x @ c) / w)) if w else 0.5
        if keep:
            g = 0.1 * min(1, 0.8 / s) if s else 0.1
            self.streams[session] = ((1 - g) * c + g * x, (1 - g) * w + g)
        return s

    def components(self, text, x, metadata, keep):
        n, low = len(self.memories), text.lower()
        held = [sum(w in m["words"] for m in self.memories.values()) for w in words(text)]
        u = sum(math.log2(1 + (n + 1) / (df + 1)) for df in held) / math.log2(n + 2)
        nearest = max((cosine(x, m["x"]) for m in self.memories.values()), default=0)
        noted = low.startswith(FLOORS) or "don't forget" in low
        parts = {"surprise": self.surprise(metadata.get("session_id"), x, keep),
                 "diversity": min(1, 1 - nearest), "information": 1 - math.exp(-u / 16),
                 "floor": max(metadata.get("importance", 0), 0.75 if noted else 0)}
        sigma = 0.4 * parts["surprise"] + 0.3 * parts["information"] + 0.3 * parts["diversity"]
        return max(sigma, parts["floor"]), parts

    def strength(self, m, now):
        age = max(0, now - m["at"]) / DAY
        return m["significance"] * math.exp(-0.1 / (0.5 + 0.5 * m["significance"]) * age)

    def lasts(self, m, least, told):
        """Is it that strong? Where only the moment tells, the reply does."""
        before, after = (self.strength(m, t) >= least for t in self.now)
        return after or before and told

    def near(self, a, b):
        return abs(a - b) < 1e-6 * (3 + (self.now[1] - self.now[0]) / 300)

    def wire(self, m, **more):
        return {**{k: m[k] for k in PLAIN}, "timestamp": iso(m["at"]), "last_access": m["last"],
                "strength": tuple(self.strength(m, t) for t in self.now), **more}

    def told(self, m, p, **more):
        if p.get("include_embeddings"):
            more["embedding"] = m["x"].tolist()
        return self.wire(m, **more)

    def moment(self):
        return self.now[0] - 1, self.now[1]

    def event(self, name, **data):
        """What the watcher must have heard next."""
        if not self.events:
            raise Differs(f"no event {name} {data}")
        same({"status": "success", "event": name, "data": data}, self.events[0], "event")
        self.events = self.events[1:]

    def remove(self, m, reason):
        del self.memories[m["id"]]
        self.event("memory_removed", id=m["id"], reason=reason)

    def change(self, m, **fields):
        m = {**m, **fields}
        self.memories[m["id"]] = m = {**m, "words": words(m["text"])}
        self.event("memory_updated", memory=self.wire(m))
        return m

    def reinforce(self, m):
        sigma, uses = m["significance"], m["access_count"]
        return self.change(m, significance=sigma + 0.1 * (1 - sigma), access_count=uses + 1,
                           last=self.moment())

    def later(self, got):
        """Its `seq`, above every earlier one."""
        if got.get("seq", 0) <= self.seq:
            raise Differs(f"seq {got.get('seq')} behind {self.seq}")
        self.seq = got["seq"]
        return {"seq": self.seq, "durable": None}

    def weakest(self, got):
        """Who must go for a new one: of those that are too near to tell who did."""
        key = {m["id"]: (self.strength(m, self.now[1]), m["at"], m["id"])
               for m in self.memories.values() if not m["pinned"]}
        if len(self.memories) < self.cap:
            return None
        if not self.evict or not key:
            raise Wrong("store_full")
        least, went = min(key, key=key.get), (got.get("evicted") or [None])[0]
        near = went in key and self.near(key[went][0], key[least][0]) \
            and not alike(self.memories[went], self.memories[least])
        return self.memories[went if near else least]

    def do_store(self, p, got):
        text, metadata = p["text"].strip(), p.get("metadata", {})
        x = self.vector(p)
        twins = [m for m in self.memories.values()
                 if m["text"] == text and m["metadata"].get("type") == metadata.get("type")]
        went = None
        if twins:                                               # several only after updates
            m = self.reinforce(next((m for m in twins if m["id"] == got.get("id")), twins[0]))
            self.counts["duplicates"] += 1
        else:
            went = self.weakest(got)
            sigma, parts = self.components(text, x, metadata, keep=True)
            at = millis(p.get("timestamp", got.get("timestamp", "1970-01-01Z")))
            if "timestamp" not in p and not self.now[0] - 1 <= at <= self.now[1]:
                raise Differs(f"{got.get('timestamp')} is not now")
            m = {"id": got.get("id"), "text": text, "at": at, "x": x, "words": words(text), **parts,
                 "significance": p.get("significance", sigma), "metadata": metadata,
                 "tags": p.get("tags", []), "pinned": p.get("pinned", False), "access_count": 0,
                 "last": self.moment()}
            self.memories[m["id"]] = m
            near = cosine(self.embed(QUERY["text"]), x)
            if near >= QUERY["min_similarity"]:
                self.event("match", query_id=None, memory=self.wire(m), similarity=near)
            self.event("memory_added", memory=self.wire(m))
            if went:
                self.remove(went, "evicted")
                self.counts["evicted"] += 1
        return {"id": m["id"], **self.later(got), "significance": m["significance"],
                "components": {k: m[k] for k in PARTS}, "timestamp": iso(m["at"]),
                "duplicate": bool(twins), "evicted": [went["id"]] if went else [],
                "memory_count": len(self.memories)}

    def do_embed(self, p, got):
        return {**self.do_store(p, got), "embedding": self.vector(p).tolist()}

    def vector(self, p):
        if "embedding" not in p:
            return self.embed(p["text"].strip())
        return numpy.array(p["embedding"]) / numpy.linalg.norm(p["embedding"])

    def find(self, p):
        if p["id"] not in self.memories:
            raise Wrong("not_found")
        return self.memories[p["id"]]

    def do_get(self, p, got):
        return {"memory": self.told(self.find(p), p)}

    def do_delete(self, p, got):
        self.remove(self.find(p), "deleted")
        return {"deleted": True, **self.later(got)}

    def do_update(self, p, got):
        new = {**p, "text": p["text"].strip(), "x": self.vector(p)} if "text" in p else p
        return {"memory": self.wire(self.change(self.find(p), **new)), **self.later(got)}

    def do_score(self, p, got):
        sigma, parts = self.components(p["text"].strip(), self.vector(p), {}, keep=False)
        return {"significance": sigma, "components": parts}

    def passing(self, p, found):
        told = [m["id"] for m in found]
        return [m for m in self.memories.values()
                if p.get("type") in (None, m["metadata"].get("type"))
                and set(p.get("tags", ())) <= set(m["tags"])
                and p.get("since", iso(m["at"])) <= iso(m["at"]) <= p.get("until", iso(m["at"]))
                and m["significance"] >= p.get("min_significance", 0)
                and self.lasts(m, p.get("min_strength", 0), m["id"] in told)]

    def ranked(self, key, rows, found, p):
        """In order; where two keys are too near to tell, in that of the reply."""
        first, down = p.get("offset", 0), p.get("order") != "asc"
        rows = sorted(rows, key=lambda m: (-key(m) if down else key(m), -m["at"], m["id"]))
        for n, id in enumerate((m["id"] for m in found), first):
            j = next((j for j, m in enumerate(rows) if m["id"] == id), n)
            if j != n < len(rows) and self.near(key(rows[j]), key(rows[n])) \
                    and not alike(rows[j], rows[n]):
                rows[n], rows[j] = rows[j], rows[n]
        return rows[first:first + p.get("count", p.get("limit", 5))]

    def do_retrieve(self, p, got):
        asked = "text" in p or "embedding" in p
        sort = p.get("sort", "similarity" if asked else "strength")
        if sort == "similarity" and not asked:
            raise Wrong("missing_field")
        x = self.vector(p) if asked else None
        key = {"strength": lambda m: self.strength(m, self.now[1]), "recent": lambda m: m["at"],
               "significance": lambda m: m["significance"],
               "similarity": lambda m: cosine(x, m["x"])}[sort]
        rows = self.passing(p, got.get("memories", []))
        out = [self.told(m, p, **({"similarity": key(m)} if sort == "similarity" else {}))
               for m in self.ranked(key, rows, got.get("memories", []), p)]
        return {"memories": out, "count": len(out), "total": len(rows)}

    def do_search(self, p, got):
        x, rows = self.vector(p), self.passing(p, got.get("results", []))
        near = [m for m in rows if cosine(x, m["x"]) >= p.get("min_similarity", GATE)]

        def score(m, t=self.now[1]):
            return 0.7 * max(0, cosine(x, m["x"])) + 0.3 * self.strength(m, t)

        out = []
        for m in self.ranked(score, near, got.get("results", []), p):
            new = self.reinforce(m) if p.get("reinforce") else m
            scores = tuple(score(m, t) for t in self.now)
            out.append(self.told(new, p, similarity=cosine(x, m["x"]), score=scores))
        return {"query": None if "embedding" in p else p["text"].strip(), "results": out,
                "count": len(out), "searched": len(rows), "below_threshold": len(rows) - len(near),
                "processing_time_ms": None}

    def foretold(self, x, most, got):
        """Are these the predictions of `process`? Of two that are as near either may be first."""
        last, pairs = {}, []
        for m in self.memories.values():
            data = m["metadata"]
            one = last.get(data.get("session_id"))
            if one and one["metadata"].get("type") == "user" and data.get("type") == "assistant":
                pairs.append((m["text"], cosine(x, one["x"])))
            last[data.get("session_id")] = m
        same(sorted((near for _, near in pairs), reverse=True)[:most], [p["score"] for p in got])
        for p in got:
            pair = next((q for q in pairs if q[0] == p["text"] and abs(q[1] - p["score"]) < 1e-6),
                        None)
            if not pair:
                raise Differs(f"nobody said {p}")
            pairs.remove(pair)

    def sweep(self):
        order = {e["data"].get("id"): n for n, e in enumerate(self.events)}
        weak = [m for m in self.memories.values()
                if not m["pinned"] and not self.lasts(m, self.forget, m["id"] not in order)]
        for m in sorted(weak, key=lambda m: order.get(m["id"], 0)):
            self.remove(m, "forgotten")
        self.counts["forgotten"] += len(weak)
        return len(weak)

    def do_cleanup(self, p, got):
        return {"removed": self.sweep(), "memory_count": len(self.memories)}

    def do_clear(self, p, got):
        gone = list(self.memories.values())
        for m in gone:
            self.remove(m, "cleared")
        self.streams = {}
        return {"removed": len(gone), "memory_count": 0}

    def do_compact(self, p, got):
        return {"removed": 0, "memory_count": len(self.memories)}

    def do_sync(self, p, got):
        return {"seq": None, "durable": True}

    def do_export(self, p, got):
        rows, n = list(self.memories.values()), p.get("count", 100)
        if "after" in p:
            rows = rows[list(self.memories).index(self.find({"id": p["after"]})["id"]) + 1:]
        page = [self.wire(m, embedding=base64.b64encode(m["x"].astype("<f4")).decode())
                for m in rows[:n]]
        for m in page:
            del m["strength"]
        return {"memories": page, "next": page[-1]["id"] if len(rows) > n else None}

    def do_stats(self, p, got):
        all = [m["significance"] for m in self.memories.values()]
        bins = [min(4, int(s * 5)) for s in all]
        counts = {k: (self.settled[k], n) for k, n in self.counts.items()}  # some may be under way
        return {**dict.fromkeys(got), **counts, "memory_count": len(all), "max_size": self.cap,
                "avg_significance": sum(all) / len(all) if all else 0,
                "significance_distribution": {f"{n / 5}-{(n + 1) / 5}": bins.count(n)
                                              for n in range(5)}}

    def answer(self, connection, message, reply, now):
        """Check one reply, and do what its command does."""
        self.now, kind, p, got = now, message["type"], message["data"], reply["data"]
        key = json.dumps([p.get("metadata", {}).get("session_id", connection), message])
        want = {"status": "success"}
        if "id" in message:
            want.update(id=message["id"], type=kind)
        try:
            want["data"] = self.sent.get(key) or getattr(self, "do_" + kind)(p, got)
        except Wrong as e:
            want.update(status="error", error=None, data={"code": e.args[0]})
        same(want, reply)
        if kind in ("store", "embed") and "id" in message and reply["status"] == "success":
            self.sent[key] = got
