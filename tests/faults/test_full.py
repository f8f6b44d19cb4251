"""A disk that is full for stores but not for deletes, which have a reserve: a delete that lies in
one batch with a refused store is done all the same, under the number that its reply tells.
Compaction and maintenance say when it was full, and leave what there was."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from harness import ROOT, Client, Server, Skip, get, recalld, run, scratch  # noqa: E402

# Allocation fails while the first byte of a shared file is set, and from so many calls on as the
# third says, which 0 leaves alone. Every removal takes so many ms as the second says. A sync of more
# than a mark is counted in the fourth and held while the fifth is set, so that a batch can be filled
# behind it. Writing fails while the sixth is set, a sync while the seventh. Mapped before the sandbox.
SEAM = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile unsigned char *state;
static size_t last;
__attribute__((constructor)) static void map(void)
{
    int fd = open(getenv("SEAM"), O_RDWR);
    state = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
}
int fallocate(int fd, int mode, off_t at, off_t n)
{
    (void)fd, (void)mode, (void)at, (void)n;
    if (state[0]) return errno = ENOSPC, -1;
    if (state[2] && !--state[2]) state[0] = 1;
    return 0;
}
int fallocate64(int fd, int mode, off_t at, off_t n) { return fallocate(fd, mode, at, n); }
int fdatasync(int fd)
{
    if (last > 64) state[3]++;
    for (int i = 0; last > 64 && state[4] && i < 12000; i++) poll(NULL, 0, 2);
    if (state[6]) return errno = EIO, -1;
    return (int)syscall(SYS_fdatasync, fd);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    last = n;
    if (state[5]) return errno = ENOSPC, -1;
    return syscall(SYS_pwrite64, fd, p, n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at) { return pwrite(fd, p, n, at); }
int unlinkat(int dir, const char *name, int flags)
{
    if (state[1]) poll(NULL, 0, state[1]);
    return (int)syscall(SYS_unlinkat, dir, name, flags);
}
"""


class Disk:
    def __init__(self, d):
        self.path = d / "state"
        self.path.write_bytes(bytes(4096))
        (d / "seam.c").write_text(SEAM)
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O", "-o", d / "seam.so", d / "seam.c"],
                       check=True)
        self.env = {"LD_PRELOAD": str(d / "seam.so"), "SEAM": str(self.path),
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}

    def set(self, full, ms, granted=0):
        with open(self.path, "r+b") as f:
            f.write(bytes([full, ms, granted]))

    def put(self, at, on):
        with open(self.path, "r+b") as f:
            f.seek(at)
            f.write(bytes([on]))

    def hold(self, on):
        self.put(4, on)

    def refuse_writes(self):
        self.put(5, True)

    def refuse_syncs(self):
        self.put(6, True)

    def syncs(self):
        return self.path.read_bytes()[3]


def send(client, kind, data):
    client.text(json.dumps({"type": kind, "data": data}))


def big(n):
    return {"text": f"{n} ".ljust(15000, "y")}


def until(what, holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.005)


class Batch:
    """Behind a store that the disk is held at, one that it has no room for gathers. ms: of each removal then."""

    def __init__(self, s, disk, client, ms=0):
        self.s, self.disk = s, disk
        disk.set(False, 0)
        disk.hold(True)
        self.messages, self.memories = self.counts()
        before = disk.syncs()
        self.send(client, "store", {"text": f"in the batch before {before}"}, 1)
        until("the disk is at it", lambda: disk.syncs() != before)
        disk.set(True, ms)

    def counts(self):
        stats = json.loads(get(self.s.memory, "/stats")[2])
        return stats["messages"]["received"], stats["memory_count"]

    def send(self, client, kind, data, grows=0):
        """Send, and wait until the server has it and so many memories more."""
        send(client, kind, data)
        self.messages += 1
        self.memories += grows
        until((kind, self.memories), lambda: self.counts() == (self.messages, self.memories))

    def stores(self, client, numbers, grows=1):
        for i in numbers:
            self.send(client, "store", big(i), grows)

    def go(self):
        self.disk.hold(False)


def session(disk, end):
    """Stores and deletes in one batch, twice; then another start."""
    with Server("--log-level", "error", env=disk.env) as s:
        with Client(s.memory) as a, Client(s.memory) as b, Client(s.memory) as c:
            kept = [a.ok("store", {"text": f"kept {i}"})["id"] for i in range(4)]
            gone = [a.ok("store", {"text": f"gone {i}"})["id"] for i in range(4)]
            for turn in range(2):
                batch = Batch(s, disk, a)
                batch.stores(b, range(6))
                for i in gone[2 * turn:2 * turn + 2]:
                    batch.send(c, "delete", {"id": i}, -1)
                    batch.stores(b, [50 + gone.index(i)])
                batch.go()
                before = a.reply()
                assert before["status"] == "success", before
                refused = [b.reply() for _ in range(8)]
                assert all(r["error"] == "Storage failed: disk full" and r["data"]["code"] == "storage" for r in refused), refused
                deleted = [c.reply() for _ in range(2)]
                assert all(r["status"] == "success" and r["data"]["deleted"] for r in deleted), deleted
                seqs = [r["data"]["seq"] for r in deleted]
                assert before["data"]["seq"] < seqs[0] < seqs[1] <= a.ok("sync")["seq"]
                assert a.ok("stats")["memory_count"] == 4 + 2 - 2 * turn + turn + 1
                disk.set(False, 0)
            after = a.ok("store", {"text": "room again"})
            assert after["seq"] > seqs[1]
        s.stop(end)
        s.start()
        with Client(s.memory) as a:
            for i in kept + [after["id"]]:
                a.ok("get", {"id": i})
            for i in gone:
                a.fails("not_found", "get", {"id": i})
            assert a.ok("stats")["memory_count"] == 4 + 2 + 1


def test_a_delete_beside_a_refused_store_is_done():
    with scratch() as d:
        session(Disk(d), signal.SIGTERM)


def test_and_is_on_disk_when_its_reply_comes():
    with scratch() as d:
        session(Disk(d), signal.SIGKILL)


def test_a_delete_of_what_was_refused_with_it_fails():
    with scratch() as d:
        disk = Disk(d)
        with Server("--log-level", "error", env=disk.env) as s, Client(s.memory) as a, Client(s.memory) as b, Client(s.memory) as c:
            a.ok("store", {"text": "there"})
            batch = Batch(s, disk, a)
            batch.stores(b, range(6))
            found = c.ok("retrieve", {"sort": "recent", "count": 1})["memories"][0]
            assert len(found["text"]) == 15000, found["text"][:20]
            batch.messages += 1                          # that was one, too
            batch.send(c, "delete", {"id": found["id"]}, -1)
            batch.go()
            assert a.reply()["status"] == "success"
            assert all(b.reply()["error"] == "Storage failed: disk full" for _ in range(6))
            assert c.reply()["error"] == "Storage failed: disk full"
            assert a.ok("stats")["memory_count"] == 2


def test_a_delete_that_is_done_again_is_alone():
    with scratch() as d:
        disk = Disk(d)
        with Server("--log-level", "error", env=disk.env) as s, Client(s.memory) as a, Client(s.memory) as b, Client(s.memory) as c:
            gone = a.ok("store", {"text": "gone"})["id"]
            batch = Batch(s, disk, a)
            batch.stores(b, range(6))
            batch.send(b, "sync", {})
            batch.stores(b, range(6, 12))
            batch.send(c, "delete", {"id": gone}, -1)
            batch.go()
            deleted = c.reply()
            assert deleted["status"] == "success", deleted
            told = [b.reply().get("error") for _ in range(13)]
            assert set(told) == {"Storage failed: disk full"}, told
            assert a.reply()["status"] == "success" and a.ok("stats")["memory_count"] == 1


def test_compacts_that_a_full_disk_ends_are_all_answered():
    with scratch() as d:
        disk = Disk(d)
        with Server("--log-level", "error", env=disk.env) as s, Client(s.memory) as c, Client(s.memory, timeout=5) as e:
            batch = Batch(s, disk, c, 200)
            batch.stores(c, range(6))
            for kind in ("compact", "compact", "stats"):        # the second comes while the first is given up
                e.text(json.dumps({"type": kind, "id": kind}))
            until("all three are there", lambda: batch.counts()[0] == batch.messages + 3)
            batch.go()
            replies = [e.reply() for _ in range(3)]
            assert [r["id"] for r in replies] == ["compact", "compact", "stats"], replies
            assert replies[0]["error"] == "Storage failed: disk full", replies
            assert [c.reply()["status"] for _ in range(7)] == ["success"] + ["error"] * 6
            assert e.ok("stats")["memory_count"] == 1


def test_the_log_has_its_reserve_after_a_compaction_too():
    """What a delete on a full disk is written to: blocks behind the end."""
    with Server() as s, Client(s.memory) as c:
        def reserve():
            st = os.stat(f"{s.data}/memory.log")
            return st.st_blocks * 512 - st.st_size

        c.ok("store", {"text": "there"})
        if reserve() < 65536:
            raise Skip("a file system that reserves nothing")
        c.ok("compact")
        assert reserve() >= 65536


def memories(data):
    """How many --check finds in a sound log."""
    p = recalld("--check", "--data", data)
    assert p.returncode == 0, p
    return int(re.search(r"^memories: (\d+),", p.stdout, re.M)[1])


def test_an_import_tells_how_many_are_there():
    lines = "".join(json.dumps(big(i)) + "\n" for i in range(600))     # three batches
    with scratch() as d:
        disk = Disk(d)
        for granted in (1, 2, 3):
            disk.set(False, 0, granted)
            p = recalld("--import", "-", "--data", d / str(granted), "--sync", "never", input=lines, env=disk.env)
            n = memories(d / str(granted))
            assert p.returncode == 74 and "disk full" in p.stderr and p.stdout.startswith(f"imported {n} memories"), (n, p)
            assert (n > 0) == (granted > 1) and n < 600, n


def test_a_sync_that_fails_is_told_though_all_was_written():
    with scratch() as d:
        disk = Disk(d)
        with Server("--sync", "never", env=disk.env) as s, Client(s.memory) as c:
            assert c.ok("store", {"text": "written"})["seq"] == c.ok("sync")["seq"] == 1
            assert c.ok("store", {"text": "and more"})["seq"] == 2
            disk.refuse_syncs()
            send(c, "sync", {})
            send(c, "ping", {})
            reply = c.reply()
            assert reply.get("error") == "Storage failed: sync: Input/output error", reply
            assert c.reply()["data"]["pong"]
            s.process.kill()


def test_embedding_anew_leaves_the_log_that_there_was():
    lines = "".join(json.dumps({"text": f"m {i}"}) + "\n" for i in range(100))
    with scratch() as d:
        disk = Disk(d)
        assert recalld("--import", "-", "--data", d / "a", input=lines).returncode == 0
        disk.refuse_writes()
        p = recalld("--reembed", "--data", d / "a", "--model", ROOT / "tests/models/tiny", env=disk.env)
        assert p.returncode == 74 and p.stderr.endswith("disk full\n") and not p.stdout, p
        assert memories(d / "a") == 100 and not (d / "a" / "memory.log.tmp").exists()


run(globals())
