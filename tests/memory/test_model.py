"""The memory server beside the model of it in model.py.

Random commands go in bursts over several connections at once. Some order of them must explain
every reply and all that a watcher heard, key by key. In between servers end, by SIGTERM or
SIGKILL, and what the next one holds must be what the model does. LONG: more of it; SEED: other
commands.
"""
import json
import os
import pathlib
import random
import re
import signal
import sys
import time
import uuid

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import Client, Server, run  # noqa: E402
from model import DAY, QUERY, Differs, Model, iso  # noqa: E402

BURSTS, LIVES = 150 if os.environ.get("LONG") else 40, 3
SEED = int(os.environ.get("SEED", 1))
WORDS = "apple Apple pie is broken red 7 ärger Ärger 東京 note: don't forget !! \0".split(" ")
RATES = {"store": 40, "embed": 3, "retrieve": 12, "search": 14, "get": 6, "update": 6, "delete": 3,
         "score": 4, "export": 1, "cleanup": 1, "compact": 0.5, "sync": 1, "stats": 3}


class Maker:
    """Random commands from a small vocabulary, so that duplicates are frequent."""

    def __init__(self, rng):
        self.rng, self.known, self.gone, self.sent = rng, [], [str(uuid.UUID(int=0))], []

    def text(self):
        r = self.rng
        text = " ".join(r.choice(WORDS) for _ in range(r.choice([1, 1, 2, 2, 3, 6])))
        return r.choice(["", "", "\n\t"]) + text + r.choice(["", "", " \r\n"])

    def vector(self):
        """With few axes, and so with many ties; or one of five dense ones and their opposites."""
        r, out = self.rng, [0] * 384
        for i in r.sample(range(4), r.randint(1, 3)):
            out[i] = r.choice([1, -1, 2, 3, 4, 0.5])
        dense = numpy.random.default_rng(r.randrange(5)).integers(-9, 10, 384) * r.choice([1, -1])
        return out if r.random() < 0.8 else dense.tolist()

    def when(self):
        r = self.rng
        days = r.choice([0, 2 * r.random(), 90 * r.random(), -50 / 86400])
        return iso(int(time.time() * 1000 - days * DAY))

    def metadata(self):
        return self.some(type=(0.5, ["user", "assistant", "User", ""]),
                         session_id=(0.5, ["s", "t", ""]), importance=(0.2, [0, 0.3, 0.9]),
                         n=(0.2, [{"deep": [1.5, None]}]))

    def some(self, **chances):
        """Of {name: (probability, values or their maker)}."""
        return {k: v() if callable(v) else self.rng.choice(v)
                for k, (p, v) in chances.items() if self.rng.random() < p}

    def filters(self):
        return self.some(type=(0.15, ["user", "assistant", ""]),
                         tags=(0.15, [["a"], ["b", "a"], []]), since=(0.1, self.when),
                         until=(0.1, self.when),
                         min_significance=(0.1, [0, 0.2512345, 0.5, 0.7, 1]),
                         min_strength=(0.1, [0, 0.1012345, 0.3312345, 0.7123456]))

    def subject(self):
        return self.some(text=(0.5, self.text)) or {"embedding": self.vector()}

    def id(self):
        known = self.known if self.rng.random() < 0.85 else []
        return {"id": self.rng.choice(known or self.gone)}

    def data(self, kind):
        r, flag = self.rng, [True, False]
        changes = {"metadata": (0.5, self.metadata), "pinned": (0.2, flag),
                   "significance": (0.3, [0, 0.2, 0.5, 0.7, 1, r.random()]),
                   "tags": (0.3, [[], ["a"], ["ü", "b"], ["a", "b", "a"]])}
        if kind in ("store", "embed"):
            return {"text": self.text(), **self.some(embedding=(0.3, self.vector),
                                                     timestamp=(0.5, self.when), **changes)}
        if kind == "update":
            return {**self.id(), **self.some(text=(0.3, self.text), **changes)}
        if kind == "retrieve":
            return {**(self.subject() if r.random() < 0.4 else {}), **self.filters(), **self.some(
                count=(0.5, [1, 3, 20, 1000]), offset=(0.2, [0, 1, 7, 1000]),
                include_embeddings=(0.05, flag), order=(0.3, ["asc", "desc"]),
                sort=(0.5, ["strength", "recent", "significance", "similarity"]))}
        if kind == "search":
            return {**self.subject(), **self.filters(), **self.some(
                limit=(0.5, [1, 2, 10, 100]), reinforce=(0.1, flag),
                include_embeddings=(0.05, flag),
                min_similarity=(0.6, [-1, 0.0112345, 0.3012345, 0.6512345]))}
        if kind == "delete":
            return self.id()
        if kind == "get":
            return {**self.id(), **self.some(include_embeddings=(0.2, flag))}
        if kind == "export":
            return self.some(count=(0.5, [1, 10, 1000]), after=(0.5, lambda: self.id()["id"]))
        return {"text": self.text()} if kind == "score" else {}

    def message(self):
        ids = {"id": (0.3, ["a", "b", "", 1, -2, "1"])}
        if self.sent and self.rng.random() < 0.08:              # as after a break, or as another
            return {**self.rng.choice(self.sent[-60:]), **self.some(**ids)}
        kind = self.rng.choices(list(RATES), RATES.values())[0]
        self.sent.append({"type": kind, "data": self.data(kind), **self.some(**ids)})
        return self.sent[-1]


def short(message):
    return re.sub(r"(, -?[0-9.]+){9,}", ", ..", json.dumps(message, ensure_ascii=False))


def explain(model, left, why, seen):
    """A model that took all of `left` (queues of what answer() takes) in an order that explains
    everything; None if there is none. Old memories may be forgotten at any time."""
    if not any(left):
        try:
            model.events and model.sweep()
        except Differs as e:
            why.append((0, str(e)))
        return why.append((0, f"too much: {model.events[0]}")) if model.events else model
    state = (*map(len, left), len(model.events),
             *((i, m["significance"]) for i, m in model.memories.items()))
    if state in seen:
        return None
    seen.add(state)
    for n, queue in enumerate(left):
        for sweep in ((False, True) if model.forget else (False,)) if queue else ():
            new = model.clone()
            try:
                if sweep:
                    new.sweep()
                new.answer(*queue[0])
            except Differs as e:
                why.append((sum(map(len, left)), f"{e}\n  {short(queue[0][1])}"))
                continue
            done = explain(new, left[:n] + [queue[1:]] + left[n + 1:], why, seen)
            if done:
                return done
    return None


class Play:
    """A server, three connections and a watcher to it, and the model."""

    def __init__(self, server, **limits):
        self.server, self.rng, self.vectors = server, random.Random(SEED), {}
        self.maker, self.model = Maker(self.rng), Model(self.embed, **limits)

    def connect(self):
        self.inference = Client(self.server.inference)
        self.clients = [Client(self.server.memory) for _ in range(3)]
        self.watcher = Client(self.server.memory)
        events = ["memory_added", "memory_updated", "memory_removed", "match"]
        self.watcher.ok("subscribe", {"events": events, "query": QUERY})

    def embed(self, text):
        if text not in self.vectors:
            vector = self.inference.ok("embeddings", {"text": text})["embeddings"][0]
            self.vectors[text] = numpy.array(vector, numpy.float32)
        return self.vectors[text].astype(float)

    def heard(self):
        """All events up to here: what was done has been told of once it is on disk."""
        self.watcher.text('{"type":"sync"}')
        events = [self.watcher.reply()]
        while "event" in events[-1]:
            events.append(self.watcher.reply())
        return events[:-1]

    def burst(self, *queues):
        self.model.settled, began = dict(self.model.counts), time.time() * 1000
        for client, queue in zip(self.clients, queues):
            client.socket.sendall(b"".join(client.frame(1, json.dumps(m).encode()) for m in queue))
        replies = [[client.reply() for _ in queue] for client, queue in zip(self.clients, queues)]
        self.model.events, why = self.heard(), []
        self.model.now = now = (began, time.time() * 1000)
        left = [[(n, m, r, now) for m, r in zip(queue, replies[n])]
                for n, queue in enumerate(queues)]
        model = explain(self.model, left, why, set())
        if not model:
            raise AssertionError("\n".join(w for n, w in why if n == min(why)[0]))
        self.maker.gone += [i for i in self.maker.known if i not in model.memories]
        self.model, self.maker.known = model, list(model.memories)

    def predict(self):
        """What `process` foretells while nothing else goes on."""
        text, most = self.maker.text(), self.rng.choice([0, 1, 5, 64])
        got = self.inference.ok("process", {"text": text, "config": {"top_k": most}})
        try:
            self.model.foretold(self.embed(text.strip()), most, got["predictions"])
        except Differs as e:
            raise AssertionError(f"process {text!r}, top_k {most}: {e}")

    def life(self, end):
        self.connect()
        look = [("export", {"count": 1000}), ("stats", {})]
        for _ in range(3):
            all = {"embedding": self.maker.vector(), "limit": 100, "min_similarity": -1}
            look += [("search", all), ("score", {"text": self.maker.text()})]
        self.burst([{"type": kind, "data": data} for kind, data in look])
        for _ in range(BURSTS):
            self.burst(*([self.maker.message() for _ in range(self.rng.randint(0, 12))]
                         for _ in self.clients))
            if not self.model.forget:               # some could go in between
                self.predict()
        if self.rng.random() < 0.3:                     # alone: a long one lets others in between
            self.burst([{"type": "clear", "data": {"confirm": True}}])
        for c in (*self.clients, self.watcher, self.inference):
            c.socket.close()
        self.server.stop(end)
        self.model.restarted()


def play(*flags, **limits):
    with Server("--log-level", "error", *flags) as server:
        game = Play(server, **limits)
        for n in range(LIVES):
            if n:
                server.start()
            game.life(game.rng.choice([signal.SIGTERM, signal.SIGKILL]))


def test_everything_is_kept():
    play()


def test_the_weakest_goes_when_full():
    play("--when-full", "evict", "--max-memories", "20", "--sync", "never", cap=20, evict=True)


def test_nothing_is_added_when_full():
    play("--max-memories", "30", "--sync", "0.05", cap=30)


def test_what_is_weak_is_forgotten():
    play("--forget", "0.2312345", forget=0.2312345)


if __name__ == "__main__":
    run(globals())
