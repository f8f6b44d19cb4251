"""Memory that is short: for each command the first allocation that it makes fails, then the second,
and so on until it needs no more; once each, then all that follow. The server lives on, its answer
is an error or the connection ends, and nothing that was refused is there, nor lost what was not."""
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import BUILD, ROOT, Client, Server, get, run, scratch  # noqa: E402

# A shared page that is mapped before the sandbox: calls until one fails, whether all behind it do
# too, how many have failed.
SEAM = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile struct { unsigned left, all, failed; } *seam;
__attribute__((constructor)) static void map(void)
{
    int fd = open(getenv("SEAM"), O_RDWR);
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED) abort();
    seam = p;
}
static int fails(void)
{
    if (!seam || !seam->left || --seam->left) return 0;
    seam->left = seam->all;
    seam->failed++;
    errno = ENOMEM;
    return 1;
}
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_malloc(size_t n) { return fails() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return fails() ? NULL : __real_realloc(p, n); }
void *__wrap_aligned_alloc(size_t align, size_t n) { return fails() ? NULL : __real_aligned_alloc(align, n); }
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from)
{
    return seam && fails() ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, from);
}
"""
WRAPPED = "malloc calloc realloc aligned_alloc mmap".split()
VECTOR = [0.1 * (i % 7) + 0.01 * i for i in range(384)]
TINY = ROOT / "tests/models/tiny"


class Short:
    """recalld linked with the seam, and the page that says what fails."""

    def __init__(self, d):
        sources = [s for s in [*ROOT.glob("*.c"), *(ROOT / "servers").rglob("*.c")]
                   if s.stem not in ("recall", "recall_link", "echo")]
        objects = [BUILD / s.relative_to(ROOT).with_suffix(".o") for s in sources]
        objects += (BUILD / "servers/inference").glob("kernels_*.o")
        flags = {"asan": ["-fsanitize=address,undefined"], "coverage": ["--coverage"]}.get(BUILD.name, [])
        (d / "seam.c").write_text(SEAM)
        subprocess.run([os.environ.get("CC", "gcc"), "-O1", *flags, "-o", d / "recalld", d / "seam.c", *objects, "-lm",
                        *(f"-Wl,--wrap={name}" for name in WRAPPED)], check=True)
        self.path = d / "page"
        self.path.write_bytes(bytes(4096))
        self.program, self.env = d / "recalld", {"SEAM": str(self.path)}

    def set(self, left, everything=False):
        with open(self.path, "r+b") as f:
            f.write(struct.pack("III", left, everything, 0))

    def failed(self):
        return struct.unpack("III", self.path.read_bytes()[:12])[2]


def ask(port, requests):
    """The replies to requests that are sent in one piece, as far as they come before the connection ends."""
    replies = []
    try:
        with Client(port) as c:
            c.socket.sendall(b"".join(c.frame(1, json.dumps({"type": kind, "data": data}).encode()) for kind, data in requests))
            for _ in requests:
                replies.append(c.reply())
    except (EOFError, ConnectionError):
        pass
    return replies


def sweep(short, port, requests, everything, check=lambda replies: None):
    """Until an attempt goes through untouched; requests() is what to ask next."""
    for k in range(1, 500):
        asked = requests()
        short.set(k, everything)
        replies = ask(port, asked)
        hit = short.failed()
        short.set(0)
        assert get(port, "/healthz")[0] == 200, (asked, k)
        check(replies)
        bad = [r for r in replies if r["status"] == "error"]
        assert all(r["data"]["code"] in ("internal", "storage", "busy", "bad_adapter") for r in bad), (asked, k, bad)
        if not hit:
            assert len(replies) == len(asked) and not bad, (asked, k, replies)
            return
    raise AssertionError(f"{asked} never goes through")


def everything_in(port):
    with Client(port) as c:
        return {m["id"]: m for m in c.ok("export", {"count": 1000})["memories"]}


class Known:
    """What the memory holds, by what its replies say."""

    def __init__(self, port):
        self.port, self.texts, self.memories = port, 0, {}

    def fresh(self, **more):
        self.texts += 1
        return {"text": f"text number {self.texts} of words never heard before {self.texts * 7919}", **more}

    def any(self):
        return min(self.memories)

    def stored(self, replies):
        """One more for each success; of a request that was not answered either is right."""
        now = everything_in(self.port)
        told = [r["data"]["id"] for r in replies if r["status"] == "success"]
        assert not set(self.memories) - set(now) and set(told) <= set(now)
        if replies:
            assert set(now) == set(self.memories) | set(told), replies
        self.memories = now

    def deleted(self, replies):
        now = everything_in(self.port)
        if replies:
            assert len(self.memories) - len(now) == sum(r["status"] == "success" for r in replies), replies
        self.memories = now


def memory(short, everything):
    with Server("--max-memories", "60", "--when-full", "evict", program=short.program, env=short.env) as s:
        known = Known(s.memory)
        for more in [{}, {"tags": ["a", "b"], "metadata": {"type": "user"}, "pinned": True}, {"embedding": VECTOR},
                     {"metadata": {"session_id": "s", "note": "x" * 3000}}]:
            sweep(short, s.memory, lambda: [("store", known.fresh(**more))], everything, known.stored)
        sweep(short, s.memory, lambda: [("embed", known.fresh())], everything, known.stored)
        one = known.any()
        for kind, data in [("store", {"text": known.memories[one]["text"]}), ("retrieve", {}), ("retrieve", {"text": "words", "tags": ["a"]}),
                           ("search", {"text": "never heard"}), ("search", {"embedding": VECTOR, "include_embeddings": True}),
                           ("search", {"text": "heard", "reinforce": True}), ("get", {"id": one}), ("score", {"text": "a new kind"}),
                           ("update", {"id": one, "tags": ["c"], "metadata": {"k": "v" * 300}}), ("update", {"id": one, "pinned": True}),
                           ("export", {"count": 3}), ("stats", {}), ("config", {}), ("sync", {}), ("compact", {}), ("cleanup", {}),
                           ("embed_only", {"text": "words"}),
                           ("subscribe", {"events": ["match", "memory_added", "stats"], "query": {"text": "words"}})]:
            sweep(short, s.memory, lambda: [(kind, data)], everything)
        sweep(short, s.memory, lambda: [("update", {"id": one, "text": known.fresh()["text"]})], everything)
        known.memories = everything_in(s.memory)
        sweep(short, s.memory, lambda: [("delete", {"id": known.any()})], everything, known.deleted)
        with Client(s.memory) as listener:
            listener.ok("subscribe", {"events": ["match", "memory_added"], "query": {"text": "words never heard before"}})
            sweep(short, s.memory, lambda: [("store", known.fresh())], everything, known.stored)
        sweep(short, s.memory, lambda: [("store", known.fresh()), ("search", {"text": "heard"}), ("store", known.fresh()),
                                        ("stats", {}), ("retrieve", {"text": "words"})], everything)
        while len(everything_in(s.memory)) < 60:
            ask(s.memory, [("store", known.fresh())])
        sweep(short, s.memory, lambda: [("store", known.fresh())], everything)
        before = everything_in(s.memory)
        assert len(before) == 60
        s.stop(signal.SIGKILL)
        s.start()
        assert everything_in(s.memory) == before
        sweep(short, s.memory, lambda: [("clear", {"confirm": True})], everything)
        assert everything_in(s.memory) == {}


def inference(short, everything):
    with Server("--model", TINY, "--adapter-dir", TINY / "adapters", program=short.program, env=short.env) as s:
        texts = [f"text {i} with a few words" for i in range(40)]
        adapter = sorted(p.name for p in (TINY / "adapters").iterdir())[0]
        for kind, data in [("embeddings", {"text": "hello world"}), ("embeddings", {"text": texts}),
                           ("embeddings", {"text": texts[:3], "config": {"encoding_format": "base64"}}),
                           ("similarity", {"text1": "one text", "text2": "another"}), ("models", {}), ("adapters", {}),
                           ("process", {"text": "hello " * 100, "context": texts[:5],
                                        "config": {"chunk": True, "max_length": 8, "stride": 4}}),
                           ("load_adapter", {"name": "a", "path": adapter}),
                           ("embeddings", {"text": texts[:2], "adapter": "a"})]:
            sweep(short, s.inference, lambda: [(kind, data)], everything)


def test_one_allocation_fails():
    with scratch() as d:
        short = Short(d)
        memory(short, False)
        inference(short, False)


def test_all_allocations_from_one_on_fail():
    with scratch() as d:
        short = Short(d)
        memory(short, True)
        inference(short, True)


def test_a_start_without_enough_says_so_and_loses_nothing():
    with scratch() as d:
        short = Short(d)
        k, leaks = 0, {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}    # of one that exits
        with Server(program=short.program, env={**short.env, **leaks}) as s:
            for i in range(20):
                ask(s.memory, [("store", {"text": f"kept {i}", "metadata": {"type": "user"}})])
            before = everything_in(s.memory)
            assert len(before) == 20
            hit = True
            while hit:
                s.stop()
                k += 1
                short.set(k)
                try:
                    s.start()
                except AssertionError:
                    code, last = s.process.poll(), s.log().splitlines()[-1]
                    assert code == 71 and "memory" in last, (k, code, last)
                hit = short.failed()
                short.set(0)
                assert s.process.poll() is not None or everything_in(s.memory) == before, k


if __name__ == "__main__":
    run(globals())
