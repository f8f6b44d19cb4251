#include "servers/offsets.h"
#include "servers/memory/disk_work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COPY_BYTES ((size_t)1 << 20) /* of one COPY */
#define SYNC_BYTES ((size_t)4 << 20) /* of the new log, so that no batch waits for more */

int disk_write_all(int fd, const uint8_t *p, size_t n, uint64_t at)
{
    while (n) {
        ssize_t k = pwrite(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return -1;
        p += k;
        n -= (size_t)k;
        at += (uint64_t)k;
    }
    return 0;
}

int disk_read_all(int fd, uint8_t *p, size_t n, uint64_t at)
{
    while (n) {
        ssize_t k = pread(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = EIO;
        if (k <= 0) return -1;
        p += k;
        n -= (size_t)k;
        at += (uint64_t)k;
    }
    return 0;
}

static void fails(struct disk_answer *a, enum disk_state state, const char *call)
{
    a->state = state;
    a->error = errno;
    a->call = call;
}

bool disk_no_room(int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; }

int disk_reserve(struct disk_work *w, uint64_t from, uint64_t end)
{
    uint64_t want = (end + 2 * DISK_RESERVE - 1) / DISK_RESERVE * DISK_RESERVE;
    if (w->no_reserve || want <= w->reserved) return 0;
    int r;
    do r = fallocate(w->log, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(want - from));
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL) return -1;
    w->no_reserve = r < 0;
    w->reserved = want;
    return 0;
}

/* A sync is tried once: after a failure the kernel may have dropped what it could
 * not write, and a second one would say that all is well. */
static void sync_log(struct disk_work *w, struct disk_answer *a)
{
    struct timespec t, u;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (fdatasync(w->log) < 0) {
        fails(a, DISK_BROKEN, "sync");
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &u);
    a->sync_ms = (int64_t)(u.tv_sec - t.tv_sec) * 1000 + (u.tv_nsec - t.tv_nsec) / 1000000;
}

/* Cut half a batch off again, and have that on disk before other bytes take its
 * place; then the reserve, which went with it. */
static void cut_back(struct disk_work *w, uint64_t at, struct disk_answer *a)
{
    if (ftruncate(w->log, (off_t)at) < 0) fails(a, DISK_BROKEN, "truncate");
    else if (fdatasync(w->log) < 0) fails(a, DISK_BROKEN, "sync");
    w->reserved = 0;
    if (a->state == DISK_FULL) (void)disk_reserve(w, at, at);
}

static void write_log(struct disk_work *w, const struct disk_order *o, struct disk_answer *a)
{
    if (o->reserve && disk_reserve(w, o->at, o->at + o->len) < 0) {
        fails(a, disk_no_room(errno) ? DISK_FULL : DISK_BROKEN, "allocate");
        return;
    }
    if (disk_write_all(w->log, w->area[o->area], o->len, o->at) < 0) {
        fails(a, disk_no_room(errno) ? DISK_FULL : DISK_BROKEN, "write");
        if (a->state == DISK_FULL) cut_back(w, o->at, a);
        return;
    }
    if (o->sync) sync_log(w, a);
}

static void drop(struct disk_work *w)
{
    if (w->tmp < 0) return;
    close(w->tmp);
    w->tmp = -1;
    unlinkat(w->dir, DISK_TMP, 0);
}

static void add(struct disk_work *w, const uint8_t *p, size_t n, struct disk_answer *a)
{
    if (disk_write_all(w->tmp, p, n, w->tmp_bytes) < 0) {
        fails(a, DISK_FAILED, "write");
        return;
    }
    w->tmp_bytes += n;
    if (w->tmp_bytes - w->tmp_synced < SYNC_BYTES) return;
    if (fdatasync(w->tmp) < 0) fails(a, DISK_FAILED, "sync");
    w->tmp_synced = w->tmp_bytes;
}

static void begin(struct disk_work *w, const struct disk_order *o, struct disk_answer *a)
{
    w->tmp = openat(w->dir, DISK_TMP, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    w->tmp_bytes = w->tmp_synced = 0;
    if (w->tmp < 0) fails(a, DISK_FAILED, "open");
    else add(w, w->area[o->area], o->len, a);
}

/* Seal the records in n bytes at p anew; returns how many of the bytes were whole
 * records, or 0 when the first one is none. */
static size_t reseal(struct disk_work *w, const struct disk_order *o, uint8_t *p, size_t n,
                     struct record_seal *s)
{
    size_t done = 0;
    struct record_head r;
    while (n - done >= RECORD_HEAD_BYTES) {
        if (!record_get(p + done, o->old_id, w->dimension, &r)) break;
        if (n - done < RECORD_HEAD_BYTES + r.payload_bytes) break;
        if (r.seq != s->seq + 1 || !record_whole(&r, p + done + RECORD_HEAD_BYTES)) break;
        done += record_seal(p + done, s);
    }
    return done;
}

/* Some records of the log behind the new one. What was stored while it was written
 * keeps its numbers. */
static void copy(struct disk_work *w, const struct disk_order *o, struct disk_answer *a)
{
    uint8_t *p = w->area[DISK_COMPACT];
    uint64_t left = o->end - a->at;
    size_t n = left < 2 * COPY_BYTES ? (size_t)left : 2 * COPY_BYTES;
    if (disk_read_all(w->log, p, n, a->at) < 0) {
        fails(a, DISK_FAILED, "read");
        return;
    }
    size_t whole = reseal(w, o, p, n, &a->seal);
    if (!whole) {
        errno = EBADMSG;
        fails(a, DISK_FAILED, "read");
        return;
    }
    add(w, p, whole, a);
    a->at += whole;
}

/* A failure after the rename leaves it open which log a power cut would bring back:
 * then neither may be written. */
static void swap(struct disk_work *w, const struct disk_order *o, struct disk_answer *a)
{
    while (a->at < o->end && a->state == DISK_DONE) copy(w, o, a);
    if (a->state != DISK_DONE) return;
    if (fsync(w->tmp) < 0) {
        fails(a, DISK_FAILED, "sync");
    } else if (renameat(w->dir, DISK_TMP, w->dir, DISK_LOG) < 0) {
        fails(a, DISK_FAILED, "rename");
    } else {
        close(w->log);
        w->log = w->tmp;
        w->tmp = -1;
        w->reserved = 0;
        (void)disk_reserve(w, w->tmp_bytes, w->tmp_bytes);
        if (fsync(w->dir) < 0) fails(a, DISK_BROKEN, "sync of the directory");
    }
}

void disk_do(struct disk_work *w, const struct disk_order *o, struct disk_answer *a)
{
    memset(a, 0, sizeof *a);
    a->kind = o->kind;
    a->seal = o->seal;
    a->at = o->at;
    a->sync_ms = -1;
    bool gone = w->tmp < 0 && (o->kind == DISK_ADD || o->kind == DISK_COPY || o->kind == DISK_SWAP);
    if (gone) {
        errno = EBADF; /* an order that was under way when an earlier one failed */
        fails(a, DISK_FAILED, "write");
    } else {
        switch (o->kind) {
        case DISK_WRITE: write_log(w, o, a); break;
        case DISK_SYNC:  sync_log(w, a); break;
        case DISK_NEW:   begin(w, o, a); break;
        case DISK_ADD:   add(w, w->area[o->area], o->len, a); break;
        case DISK_COPY:  if (o->at < o->end) copy(w, o, a); break;
        case DISK_SWAP:  swap(w, o, a); break;
        case DISK_DROP:  drop(w); break;
        }
    }
    if (a->state == DISK_FAILED) drop(w);
    a->bytes = w->tmp_bytes;
}
