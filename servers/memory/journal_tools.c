/* Checking and mending a log, record by record. */
#include "servers/offsets.h"
#include "servers/memory/journal_tools.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "servers/memory/disk_work.h"
#include "servers/memory/journal_parts.h"

/* Which ids live, and how many bytes their records take: open addressing. */
struct living {
    struct { uint8_t id[MEMORY_ID]; uint32_t bytes; } *slot; /* [cap]; bytes 0: free, 1: deleted */
    size_t cap, used;
};

static size_t find(const struct living *l, const uint8_t *id)
{
    uint64_t h = 0;
    for (int i = 0; i < MEMORY_ID; i++) h = (h ^ id[i]) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 20) & (l->cap - 1);
    while (l->slot[i].bytes && memcmp(l->slot[i].id, id, MEMORY_ID) != 0)
        i = (i + 1) & (l->cap - 1);
    return i;
}

static int grow(struct living *l)
{
    struct living wide = { .cap = l->cap ? 2 * l->cap : 1024, .used = l->used };
    if (l->cap && l->used < l->cap / 2) return 0;
    wide.slot = calloc(wide.cap, sizeof *wide.slot);
    if (!wide.slot) return -1;
    for (size_t i = 0; i < l->cap; i++)
        if (l->slot[i].bytes) wide.slot[find(&wide, l->slot[i].id)] = l->slot[i];
    free(l->slot);
    *l = wide;
    return 0;
}

/* Count one record. -1: no memory. */
static int count(struct living *l, const struct walk *w, struct journal_report *r)
{
    r->records++;
    r->closed = w->r.type == RECORD_CLOSE;
    if (w->r.type != RECORD_PUT && w->r.type != RECORD_CHANGE && w->r.type != RECORD_DELETE)
        return 0;
    if (grow(l) < 0) return -1;
    size_t i = find(l, w->r.id);
    uint32_t bytes = l->slot[i].bytes;
    if (w->r.type != RECORD_PUT && bytes < 2) r->orphans++;
    if (w->r.type == RECORD_CHANGE) return 0;
    if (!bytes && w->r.type == RECORD_PUT) l->used++;
    if (bytes > 1) {
        r->live--;
        r->live_bytes -= bytes;
    }
    if (w->r.type == RECORD_DELETE) {
        if (bytes) l->slot[i].bytes = 1;
        return 0;
    }
    memcpy(l->slot[i].id, w->r.id, MEMORY_ID);
    l->slot[i].bytes = RECORD_HEAD_BYTES + w->r.payload_bytes;
    r->live++;
    r->live_bytes += l->slot[i].bytes;
    return 0;
}

/* Bytes from..to, between the records of numbers seq and next. */
static void damage(struct journal_report *r, uint64_t from, uint64_t to, uint64_t seq,
                   uint64_t next)
{
    r->damaged++;
    r->damaged_bytes += to - from;
    if (next > seq + 1) r->lost += next - seq - 1;
    if (r->damage) r->damage(r->user, from, to - from, seq + 1, next - 1);
}

/* At a broken place. RECORD when there is one behind it, END at the end. A torn tail is left
 * to the next start, unless the log is to be repaired: then what is whole in it is kept. */
static enum walk_found pass(struct walk *w, struct journal_report *r)
{
    uint64_t from = w->at, seq = w->seq;
    bool torn = walk_torn(w), whole = !r->damaged && !r->head_damaged;
    enum walk_found found = w->error ? WALK_ERROR : torn && whole ? WALK_END : walk_skip(w);
    if (found == WALK_RECORD) {
        damage(r, from, w->at - RECORD_HEAD_BYTES - w->r.payload_bytes, seq, w->r.seq);
    } else if (found == WALK_END && !torn) {
        damage(r, from, w->size, seq, w->watermark + 1);
    } else if (found == WALK_END) {
        r->torn_bytes = w->size - from;
    }
    return found;
}

/* Every whole record, each given to `each`, which may end it by returning -1. */
static int survey(struct walk *w, struct journal_report *r,
                  int (*each)(void *user, struct walk *w), void *user)
{
    for (;;) {
        enum walk_found found = walk_next(w);
        if (found == WALK_BROKEN) found = pass(w, r);
        else if (found == WALK_END && w->watermark > w->seq) found = pass(w, r);
        if (found == WALK_ERROR) return -1;
        if (found == WALK_END) break;
        if (each(user, w) < 0) {
            w->error = errno;
            return -1;
        }
    }
    r->seq = w->seq;
    r->watermark = w->watermark;
    return 0;
}

struct checking {
    struct living          living;
    struct journal_report *r;
    const char            *path;
    struct fault          *f;
    bool                   refused;     /* f says why */
};

static int check_one(void *user, struct walk *w)
{
    struct checking *c = user;
    c->refused = journal_judge(w, c->path, c->f) != 0;
    if (c->refused) return -1;
    if (count(&c->living, w, c->r) == 0) return 0;
    errno = ENOMEM;
    return -1;
}

static int cannot(struct fault *f, const char *dir, const char *what)
{
    return fault_set(f, errno == ENOMEM ? 71 : 74, "Cannot %s %s/" DISK_LOG ": %s", what, dir,
                     strerror(errno));
}

static int check_open(int log, const char *dir, struct journal_report *r, struct fault *f)
{
    struct stat st;
    struct walk w;
    struct checking c = { .r = r, .path = dir, .f = f };
    int found = journal_head_read(log, dir, &r->head, f);
    if (found < 0) return -1;
    r->head_damaged = found == 1;
    if (fstat(log, &st) < 0) return cannot(f, dir, "read");
    r->bytes = (uint64_t)st.st_size;
    errno = ENOMEM;
    if (walk_begin(&w, log, r->bytes, &r->head) < 0) return cannot(f, dir, "read");
    int bad = survey(&w, r, check_one, &c);
    errno = w.error;
    walk_end(&w);
    free(c.living.slot);
    if (c.refused) return -1;
    if (bad) return cannot(f, dir, "read");
    return r->damaged || r->head_damaged;
}

/* 1: there is no log; or -1 with f. */
static int not_open(const char *path, struct fault *f)
{
    if (errno == ENOENT) return 1;
    return errno == ELOOP ? journal_is_link(path, f) : cannot(f, path, "open");
}

/* The log behind a lock; 0, 1 when there is none, or -1 with f. */
static int take(const char *path, int *dir, int *lock, int *log, struct fault *f)
{
    if (journal_lock(path, false, dir, lock, f) < 0) return -1;
    *log = openat(*dir, DISK_LOG, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (*log >= 0) return 0;
    int r = not_open(path, f);
    close(*lock);
    close(*dir);
    return r;
}

int journal_peek(const char *path, struct journal_head *h, struct fault *f)
{
    char name[4096];
    snprintf(name, sizeof name, "%s/" DISK_LOG, path);
    int log = open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (log < 0) return not_open(path, f);
    int r = journal_head_read(log, path, h, f);
    close(log);
    return r < 0 ? -1 : 0;
}

/* Where the whole records go. */
struct mending {
    int                fd;
    uint64_t           at;
    struct record_seal seal;
};

static int mend_one(void *user, struct walk *w)
{
    struct mending *m = user;
    size_t n = record_seal(w->p, &m->seal);
    if (disk_write_all(m->fd, w->p, n, m->at) < 0) return -1;
    m->at += n;
    return 0;
}

/* A new log with every whole record. They are numbered to end at the highest number
 * that was ever seen, so that the next is above all that was acknowledged. */
static int mend(int dir, int log, struct mending *m, const struct journal_report *found)
{
    struct walk w;
    struct journal_report again = { .head_damaged = found->head_damaged };
    struct journal_head h = found->head;
    uint64_t top = found->watermark > found->seq ? found->watermark : found->seq;
    h.base = top - found->records;
    m->fd = -1;
    if (journal_make_tmp(dir, &h, &m->fd) < 0) return -1;
    memcpy(m->seal.file_id, h.file_id, sizeof h.file_id);
    m->seal.seq = h.base;
    m->seal.watermark = top; /* true from the rename on, which comes after the sync */
    m->at = JOURNAL_HEAD_BYTES;
    errno = ENOMEM;
    if (walk_begin(&w, log, found->bytes, &found->head) < 0) return -1;
    int r = survey(&w, &again, mend_one, m);
    errno = w.error;
    walk_end(&w);
    return r < 0 ? -1 : fsync(m->fd);
}

/* The old file keeps its bytes under a second name before the new one takes its own;
 * a repair that was cut short has left that name already. FAT knows no second names. */
static int keep_old(int dir, int log, uint64_t bytes, const char *kept)
{
    struct stat a, b;
    if (linkat(dir, DISK_LOG, dir, kept, 0) == 0) return 0;
    if (errno == EPERM || errno == EOPNOTSUPP)
        return journal_save(log, 0, bytes, dir, kept, O_EXCL);
    if (errno != EEXIST) return -1;
    if (fstat(log, &a) < 0 || fstatat(dir, kept, &b, 0) < 0) return -1;
    errno = EEXIST;
    return a.st_ino == b.st_ino ? 0 : -1;
}

/* Without `kept` it is only looked at. */
static int repair(const char *path, int dir, int log, struct journal_report *r, char *kept,
                  struct fault *f)
{
    struct mending m = { .fd = -1 };
    int bad = check_open(log, path, r, f);
    if (bad != 1 || !kept) return bad;
    snprintf(kept, 64, "memory.damaged-%llu", (unsigned long long)r->seq);
    if (mend(dir, log, &m, r) < 0 || keep_old(dir, log, r->bytes, kept) < 0 || fsync(dir) < 0 ||
        renameat(dir, DISK_TMP, dir, DISK_LOG) < 0 || fsync(dir) < 0) {
        bad = errno != EEXIST ? cannot(f, path, "repair")
                              : fault_set(f, 74, "Cannot repair %s/" DISK_LOG ": an older file is "
                                          "named %s already; move it away", path, kept);
        unlinkat(dir, DISK_TMP, 0);
    }
    if (m.fd >= 0) close(m.fd);
    return bad;
}

int journal_repair(const char *path, struct journal_report *r, char *kept, struct fault *f)
{
    int dir, lock, log;
    *r = (struct journal_report){ .damage = r->damage, .user = r->user };
    if (kept) kept[0] = '\0';
    int none = take(path, &dir, &lock, &log, f);
    if (none) return none < 0 ? -1 : 0;
    int bad = repair(path, dir, log, r, kept, f);
    close(log);
    close(dir);
    close(lock);
    return bad;
}

int journal_check(const char *path, struct journal_report *r, struct fault *f)
{
    return journal_repair(path, r, NULL, f);
}
