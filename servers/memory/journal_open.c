/* Opening: lock, header, replay, torn tail. */
#include "servers/offsets.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "servers/memory/disk_work.h"
#include "servers/memory/journal_parts.h"

#define LOCK_TRIES 150 /* of 20 ms: 3 s */
#define COPY_BYTES 65536
#define REWRITE_BYTES (2 * (uint64_t)DISK_AREA_BYTES)

static int io_fault(struct fault *f, const char *dir, const char *name, const char *what)
{
    int exit_status = errno == ENOMEM ? 71 : 74;
    return fault_set(f, exit_status, "Cannot %s %s/%s: %s", what, dir, name, strerror(errno));
}

/* Make a directory whose parents are there, and have its name on disk. */
static int make_one(const char *path, size_t len)
{
    char name[4096];
    snprintf(name, sizeof name, "%.*s", (int)len, path);
    if (mkdir(name, 0700) < 0) return errno == EEXIST ? 0 : -1;
    while (len && name[len - 1] != '/') len--;
    name[len] = '\0';
    int parent = open(len ? name : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) return -1;
    int r = fsync(parent);
    close(parent);
    return r;
}

static int make_path(const char *path)
{
    size_t len = strlen(path);
    if (len >= 4096) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t i = 1; i <= len; i++)
        if ((path[i] == '/' || i == len) && path[i - 1] != '/' && make_one(path, i) < 0) return -1;
    return 0;
}

static int take_lock(int lock)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(lock, LOCK_EX | LOCK_NB) == 0) return 0;
        if (errno != EWOULDBLOCK && errno != EINTR) return -1;
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
    errno = EWOULDBLOCK;
    return -1;
}

int journal_lock(const char *path, bool make, int *dir, int *lock, struct fault *f)
{
    *dir = *lock = -1;
    if (make && make_path(path) < 0) return io_fault(f, path, "", "make");
    *dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*dir < 0) return io_fault(f, path, "", "open");
    *lock = openat(*dir, "LOCK", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock < 0 && !make && (errno == EROFS || errno == EACCES)) {    /* to be read alone */
        *lock = openat(*dir, "LOCK", O_RDONLY | O_CLOEXEC);
        if (*lock < 0 && errno == ENOENT) *lock = openat(*dir, ".", O_RDONLY | O_CLOEXEC);
    }
    if (*lock < 0) io_fault(f, path, "LOCK", "open");
    else if (take_lock(*lock) == 0) return 0;
    else if (errno != EWOULDBLOCK) io_fault(f, path, "LOCK", "lock");
    else fault_set(f, 75, "Another process holds %s: end it, or name another directory with --data",
                   path);
    if (*lock >= 0) close(*lock);
    close(*dir);
    *dir = *lock = -1;
    return -1;
}

int journal_make_tmp(int dir, struct journal_head *h, int *fd)
{
    uint8_t head[JOURNAL_HEAD_BYTES];
    h->major = 1;
    h->minor = 0;
    if (getrandom(h->file_id, sizeof h->file_id, 0) != (ssize_t)sizeof h->file_id) return -1;
    head_put(head, h);
    *fd = openat(dir, DISK_TMP, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (*fd < 0) return -1;
    return disk_write_all(*fd, head, sizeof head, 0) < 0 ? -1 : 0;
}

int journal_head_read(int fd, const char *path, struct journal_head *h, struct fault *f)
{
    uint8_t b[JOURNAL_HEAD_BYTES] = { 0 };
    struct stat st;
    if (fstat(fd, &st) < 0) return io_fault(f, path, DISK_LOG, "read");
    size_t n = st.st_size < JOURNAL_HEAD_BYTES ? (size_t)st.st_size : sizeof b;
    if (disk_read_all(fd, b, n, 0) < 0) return io_fault(f, path, DISK_LOG, "read");
    int r = head_get(b, h);
    if (r < 0)
        return fault_set(f, 65, "%s/" DISK_LOG " is damaged: neither copy of its header can be "
                         "read; move it away or restore it", path);
    if (h->major > 1)
        return fault_set(f, 65, "%s/" DISK_LOG " was written by a newer version (format %u.%u): "
                         "use that one", path, h->major, h->minor);
    if (h->element != 1 || !h->dimension || h->dimension > MEMORY_DIMENSION)
        return fault_set(f, 65, "%s/" DISK_LOG " holds vectors of a kind unknown here", path);
    return n < sizeof b ? 1 : r;
}

static void hex(char out[65], const uint8_t *p)
{
    for (int i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", p[i]);
}

static int judge_head(struct journal *j, int found, struct fault *f)
{
    const char *dir = j->c.dir;
    if (found == 1)
        return fault_set(f, 65, "%s/" DISK_LOG " is damaged at offset 0: its header; --repair "
                         "keeps what is whole", dir);
    char ours[65], theirs[65];
    hex(ours, j->c.fingerprint);
    hex(theirs, j->head.fingerprint);
    if (memcmp(j->head.fingerprint, j->c.fingerprint, 32) != 0 ||
        j->head.dimension != j->c.dimension)
        return fault_set(f, 65, "%s was made with embedder %s (%u dimensions), this is %s (%u): "
                         "start with that one, or embed all anew with --reembed", dir, theirs,
                         j->head.dimension, ours, j->c.dimension);
    return 0;
}

/* What is opened to be replaced one day is the file itself. One that leads nowhere, its disk
 * not mounted, would seem to be no log at all. */
int journal_is_link(const char *path, struct fault *f)
{
    return fault_set(f, 65, "%s/" DISK_LOG " is a symbolic link, and a compaction would put a file "
                     "in its place: have the directory lead elsewhere, or move the log here", path);
}

/* A log with nothing in it; it has its name only when it is whole. */
static int create(struct journal *j, int dir, int *log, struct fault *f)
{
    memcpy(j->head.fingerprint, j->c.fingerprint, 32);
    j->head.dimension = j->c.dimension;
    *log = -1;
    if (journal_make_tmp(dir, &j->head, log) == 0 && fsync(*log) == 0 &&
        renameat(dir, DISK_TMP, dir, DISK_LOG) == 0)
        return 0;
    io_fault(f, j->c.dir, DISK_LOG, "make");
    if (*log >= 0) close(*log);
    return -1;
}

/* The sync of the directory stands for a rename of the process before us, too: it
 * may have been killed between the two. */
static int open_log(struct journal *j, int dir, int *log, struct fault *f)
{
    bool reading = j->c.reading;
    if (!reading && unlinkat(dir, DISK_TMP, 0) < 0 && errno != ENOENT)
        return io_fault(f, j->c.dir, DISK_TMP, "remove");
    *log = openat(dir, DISK_LOG, (reading ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC);
    if (*log < 0 && errno == ELOOP) return journal_is_link(j->c.dir, f);
    if (*log < 0 && (reading || errno != ENOENT)) return io_fault(f, j->c.dir, DISK_LOG, "open");
    if (*log < 0 && create(j, dir, log, f) < 0) return -1;
    int found = journal_head_read(*log, j->c.dir, &j->head, f);
    int r = found < 0 ? -1 : judge_head(j, found, f);
    if (!reading && r == 0 && fsync(dir) < 0) r = io_fault(f, j->c.dir, "", "sync");
    if (r < 0) close(*log);
    return r;
}

/* Hand one record over. False: no memory. */
static bool replay_one(struct journal *j, struct walk *w)
{
    const struct journal_replay *to = &j->c.replay;
    bool put = w->r.type == RECORD_PUT;
    struct memory m;
    j->closed = w->r.type == RECORD_CLOSE;
    if (w->r.watermark == w->seq - 1) j->sure = w->at - w->r.payload_bytes - RECORD_HEAD_BYTES;
    if (!put && w->r.type != RECORD_CHANGE && w->r.type != RECORD_DELETE) return true;
    j->data = w->seq;
    record_memory(&w->r, w->p + RECORD_HEAD_BYTES, w->head.dimension, &m);
    bool taken = !to->take || to->take(to->user, (enum memory_change)w->r.type, &m);
    if (!taken && !put) j->orphans++;
    return taken || !put;
}

/* Where and what is lost, for the message that stops the start. */
static int damage_fault(struct journal *j, struct walk *w, struct fault *f)
{
    char lost[120] = "";
    size_t n = 0;
    uint64_t offset = w->at;
    for (;;) {
        uint64_t last = w->seq;
        enum walk_found found = walk_next(w);
        if (found == WALK_RECORD) continue;
        if (found == WALK_BROKEN) found = walk_skip(w);
        uint64_t next = found == WALK_RECORD ? w->r.seq : w->watermark + 1;
        if (next > last + 1 && n < sizeof lost - 50)
            n += (size_t)snprintf(lost + n, sizeof lost - n, "%s%llu to %llu", n ? ", " : "",
                                  (unsigned long long)last + 1, (unsigned long long)next - 1);
        else if (next > last + 1 && n < sizeof lost - 10)
            n += (size_t)snprintf(lost + n, sizeof lost - n, ", more");
        if (found != WALK_RECORD) break;
    }
    errno = w->error;
    if (w->error) return io_fault(f, j->c.dir, DISK_LOG, "read");
    return fault_set(f, 65, "%s/" DISK_LOG " is damaged at offset %llu: sequence numbers lost: %s; "
                     "--check tells more, --repair keeps what is whole", j->c.dir,
                     (unsigned long long)offset, n ? lost : "none");
}

int journal_save(int fd, uint64_t from, uint64_t end, int dir, const char *name, int how)
{
    static uint8_t b[COPY_BYTES];
    int to = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC | how, 0600);
    if (to < 0) return -1;
    int r = 0;
    for (uint64_t at = from; at < end && r == 0;) {
        size_t n = end - at < sizeof b ? (size_t)(end - at) : sizeof b;
        r = disk_read_all(fd, b, n, at);
        if (r == 0) r = disk_write_all(to, b, n, at - from);
        at += n;
    }
    if (r == 0) r = fsync(to);
    int error = errno;
    close(to);
    if (r < 0) unlinkat(dir, name, 0);
    errno = error;
    return r;
}

static int cut_tail(struct journal *j, struct walk *w, int dir, struct fault *f)
{
    char name[40];
    snprintf(name, sizeof name, "memory.torn-%llu", (unsigned long long)w->seq + 1);
    /* For who wants to look at it. On a full disk there is no room for that, and the start
     * must not depend on it. */
    int saved = journal_save(w->fd, w->at, w->size, dir, name, O_TRUNC);
    if (saved < 0 && !disk_no_room(errno)) return io_fault(f, j->c.dir, name, "write");
    if (ftruncate(w->fd, (off_t)w->at) < 0) return io_fault(f, j->c.dir, DISK_LOG, "cut");
    log_begin(LOG_WARN, "memory", "cut off a torn tail that nobody was told of");
    log_int("offset", (int64_t)w->at);
    log_int("bytes", (int64_t)(w->size - w->at));
    log_text("kept", saved < 0 ? "nothing: disk full" : name);
    log_end();
    return 0;
}

int journal_judge(const struct walk *w, const char *path, struct fault *f)
{
    if (w->r.type <= RECORD_MARK || w->r.flags & RECORD_FLAG_SKIP) return 0;
    return fault_set(f, 65, "%s/" DISK_LOG " holds a record of an unknown type %u at offset "
                     "%llu: it was written by a newer version", path, w->r.type,
                     (unsigned long long)(w->at - w->r.payload_bytes - RECORD_HEAD_BYTES));
}

/* Read all of it. Returns where it stopped: END, or -1 with f. */
static int replay(struct journal *j, struct walk *w, struct fault *f)
{
    enum walk_found found;
    while ((found = walk_next(w)) == WALK_RECORD) {
        if (journal_judge(w, j->c.dir, f)) return -1;
        if (!replay_one(j, w)) return fault_set(f, 71, "No memory for what %s holds", j->c.dir);
    }
    bool torn = found != WALK_ERROR && walk_torn(w);
    errno = w->error;
    if (w->error) return io_fault(f, j->c.dir, DISK_LOG, "read");
    return torn ? 0 : damage_fault(j, w, f);
}

/* Write again what stands behind the last durable place, from the same bytes. After a
 * sync that failed the cache may show what never reached the disk, and call it clean:
 * only what is written anew is synced for sure. A batch is no longer than an area. */
static int rewrite(struct journal *j, struct walk *w)
{
    uint64_t at = w->at < j->sure + REWRITE_BYTES ? j->sure : w->at - REWRITE_BYTES;
    while (at < w->at && !j->closed) {
        uint64_t left = w->at - at;
        size_t n = left < w->cap ? (size_t)left : w->cap;
        if (disk_read_all(w->fd, w->buf, n, at) < 0) return -1;
        if (disk_write_all(w->fd, w->buf, n, at) < 0)
            return disk_no_room(errno) ? 0 : -1; /* a file system that copies */
        at += n;
    }
    return 0;
}

/* What was read counts as durable from here on, so it must be: the process before
 * may have been killed before its sync. */
static int settle(struct journal *j, struct walk *w, struct disk_files *files, struct fault *f)
{
    if (w->at < w->size && cut_tail(j, w, files->dir, f) < 0) return -1;
    if (rewrite(j, w) < 0) return io_fault(f, j->c.dir, DISK_LOG, "write");
    if (fdatasync(files->log) < 0) return io_fault(f, j->c.dir, DISK_LOG, "sync");
    if (w->at < w->size && fsync(files->dir) < 0) return io_fault(f, j->c.dir, "", "sync");
    struct disk_work reserve = { .log = files->log };
    (void)disk_reserve(&reserve, w->at, w->at);
    if (j->orphans) {
        log_begin(LOG_WARN, "memory", "skipped changes whose memory is lost");
        log_int("changes", (int64_t)j->orphans);
        log_end();
    }
    memcpy(j->seal.file_id, w->head.file_id, sizeof j->seal.file_id);
    j->seal.seq = j->seal.watermark = j->seq = w->seq;
    j->seal.chain = w->chain;
    j->marked = w->watermark;
    j->end = w->at;
    return 0;
}

static int read_log(struct journal *j, struct disk_files *files, struct fault *f)
{
    struct stat st;
    struct walk w;
    if (fstat(files->log, &st) < 0) return io_fault(f, j->c.dir, DISK_LOG, "read");
    if (walk_begin(&w, files->log, (uint64_t)st.st_size, &j->head) < 0)
        return fault_set(f, 71, "No memory to read %s", j->c.dir);
    int r = replay(j, &w, f);
    if (j->c.reading) j->closed = true; /* as it is; at the end there is nothing to write */
    else if (r == 0) r = settle(j, &w, files, f);
    walk_end(&w);
    return r;
}

static int start(struct journal *j, struct fault *f)
{
    struct disk_files files = { .dimension = j->c.dimension, .child = j->c.child,
                                .user = j->c.child_user };
    if (journal_lock(j->c.dir, !j->c.reading, &files.dir, &files.lock, f) < 0) return -1;
    int r = open_log(j, files.dir, &files.log, f);
    if (r == 0) {
        j->disk = disk_start(&files, j->c.in_process, f);
        if (!j->disk) close(files.log);
    }
    if (!j->disk) {
        close(files.lock);
        close(files.dir);
        return -1;
    }
    r = read_log(j, &files, f);
    if (r == 0) disk_release(j->disk);
    else disk_stop(j->disk);
    return r;
}

struct journal *journal_open(const struct journal_config *c, struct fault *f)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j) {
        fault_set(f, 71, "No memory for the journal");
        return NULL;
    }
    j->c = *c;
    j->last_sync_ms = -1;
    j->sync_at = j->mark_at = INT64_MAX;
    if (start(j, f) == 0) return j;
    free(j);
    return NULL;
}
