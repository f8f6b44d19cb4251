// uses: servers/memory/disk.c servers/memory/disk_work.c servers/memory/record.c servers/crc32c.c
// flags: -Wl,--wrap=pwrite -Wl,--wrap=pwrite64 -Wl,--wrap=fdatasync -Wl,--wrap=fork -Wl,--wrap=mmap -Wl,--wrap=socketpair -Wl,--wrap=calloc -Wl,--wrap=send -Wl,--wrap=recv -Wl,--wrap=waitpid
#include "servers/offsets.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "journal_dir.h"
#include "journal_log.h"
#include "servers/memory/disk.h"

/* What the next calls do: in memory that the helper shares. */
static struct plan { int write_error, writes, short_writes, sync_error, sync_ms, syncs; } *plan;
static int fork_error, mmap_error, pair_error, calloc_error;

#if defined(__GLIBC__) && __SIZEOF_POINTER__ == 4 /* what the header makes of the name there */
#define __real_pwrite __real_pwrite64
#define __wrap_pwrite __wrap_pwrite64
#endif
ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
    if (plan->write_error && plan->writes-- <= 0) {
        errno = plan->write_error;
        return -1;
    }
    return __real_pwrite(fd, p, plan->short_writes && n > 7 ? 7 : n, at);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    plan->syncs++;
    if (plan->sync_ms) usleep((useconds_t)plan->sync_ms * 1000);
    errno = plan->sync_error;
    return plan->sync_error ? -1 : __real_fdatasync(fd);
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
    errno = EAGAIN;
    return fork_error ? -1 : __real_fork();
}

void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, long off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, long off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, long off)
{
    errno = ENOMEM;
    return mmap_error ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, off);
}

int __real_socketpair(int domain, int type, int protocol, int sv[2]);
int __wrap_socketpair(int domain, int type, int protocol, int sv[2]);
int __wrap_socketpair(int domain, int type, int protocol, int sv[2])
{
    errno = EMFILE;
    return pair_error ? -1 : __real_socketpair(domain, type, protocol, sv);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size) { return calloc_error ? NULL : __real_calloc(n, size); }

/* What the next send(), recv() and waitpid() of each process fail with. */
static int send_error, recv_error, wait_error;
static pid_t send_fails_in; /* 0: in all */

static bool once(int *error)
{
    errno = *error;
    *error = 0;
    return errno != 0;
}

ssize_t __real_send(int fd, const void *p, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags)
{
    return getpid() != send_fails_in && once(&send_error) ? -1 : __real_send(fd, p, n, flags);
}

ssize_t __real_recv(int fd, void *p, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *p, size_t n, int flags)
{
    return once(&recv_error) ? -1 : __real_recv(fd, p, n, flags);
}

pid_t __real_waitpid(pid_t pid, int *status, int flags);
pid_t __wrap_waitpid(pid_t pid, int *status, int flags);
pid_t __wrap_waitpid(pid_t pid, int *status, int flags)
{
    return once(&wait_error) ? -1 : __real_waitpid(pid, status, flags);
}

static char dir[64];
static struct disk_files files;

static struct disk *start(bool in_process)
{
    char name[80];
    struct fault f = { 0 };
    plan = __real_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    temporary(dir);
    snprintf(name, sizeof name, "%s/memory.log", dir);
    files = (struct disk_files){ .dir = open(dir, O_RDONLY | O_DIRECTORY), .dimension = 4,
                                 .log = open(name, O_RDWR | O_CREAT, 0600), .lock = open("/dev/null", O_RDWR) };
    struct disk *d = disk_start(&files, in_process, &f);
    cr_assert_not_null(d, "%s", f.why);
    disk_release(d);
    return d;
}

static struct disk_answer wait_for(struct disk *d, struct disk_order o)
{
    struct disk_answer a = { 0 };
    cr_assert_eq(disk_order(d, &o), 0, "ordered");
    cr_assert_eq(disk_answer(d, true, &a), 1, "answered");
    cr_assert_eq(a.kind, o.kind, "that one");
    return a;
}

static size_t log_bytes(uint8_t *first)
{
    char name[80];
    size_t n;
    snprintf(name, sizeof name, "%s/memory.log", dir);
    uint8_t *p = read_file(name, &n);
    *first = n ? p[0] : 0;
    free(p);
    return n;
}

Test(disk, failures_leave_the_log_whole_or_never_to_be_written_again)
{
    static const struct { const char *name; struct plan plan; bool reserve; int state; const char *call;
                          size_t bytes; } rows[] = {
        { "all well", { 0 }, true, DISK_DONE, NULL, 1000 },
        { "seven bytes at a time", { .short_writes = 1 }, true, DISK_DONE, NULL, 1000 },
        { "full at once", { .write_error = ENOSPC }, true, DISK_FULL, "write", 0 },
        { "full in the middle", { .write_error = ENOSPC, .writes = 3, .short_writes = 1 }, false,
          DISK_FULL, "write", 0 },
        { "over quota", { .write_error = EDQUOT, .writes = 1, .short_writes = 1 }, false, DISK_FULL, "write", 0 },
        { "a bad block", { .write_error = EIO, .writes = 2, .short_writes = 1 }, false, DISK_BROKEN, "write", 14 },
        { "a sync that fails", { .sync_error = EIO }, true, DISK_BROKEN, "sync", 1000 },
        { "a sync that finds no room", { .sync_error = ENOSPC }, true, DISK_BROKEN, "sync", 1000 },
    };
    for (size_t i = 0; i < 2 * (sizeof rows / sizeof *rows); i++) {
        struct disk *d = start(i % 2);
        size_t r = i / 2;
        uint8_t first;
        memset(disk_area(d, DISK_BATCH_A), 'x', 1000);
        *plan = rows[r].plan;
        struct disk_answer a = wait_for(d, (struct disk_order){ .kind = DISK_WRITE, .area = DISK_BATCH_A,
            .len = 1000, .sync = true, .reserve = rows[r].reserve });
        cr_assert_eq((int)a.state, rows[r].state, "%s: %d", rows[r].name, a.state);
        cr_assert(rows[r].call ? a.call && !strcmp(a.call, rows[r].call) : !a.call, "%s", rows[r].name);
        cr_assert_eq(log_bytes(&first), rows[r].bytes, "%s", rows[r].name);
        cr_assert_eq(a.sync_ms >= 0, rows[r].state == DISK_DONE, "%s: synced or not", rows[r].name);
        if (rows[r].plan.sync_error) cr_assert_eq(plan->syncs, 1, "%s: tried once", rows[r].name);
        memset(plan, 0, sizeof *plan);
        cr_assert_eq(disk_stop(d), 0, "%s", rows[r].name);
        remove_all(dir);
    }
}

Test(disk, helper_syncs_while_we_go_on)
{
    struct disk *d = start(false);
    struct disk_answer a;
    struct disk_order o = { .kind = DISK_WRITE, .area = DISK_BATCH_A, .len = 64, .sync = true };
    plan->sync_ms = 200;
    struct timespec t, u;
    clock_gettime(CLOCK_MONOTONIC, &t);
    cr_assert_eq(disk_order(d, &o), 0, "ordered");
    cr_assert_eq(disk_answer(d, false, &a), 0, "not answered yet");
    memset(disk_area(d, DISK_BATCH_B), 'y', 64);
    clock_gettime(CLOCK_MONOTONIC, &u);
    cr_assert_lt((u.tv_sec - t.tv_sec) * 1000 + (u.tv_nsec - t.tv_nsec) / 1000000, 150, "we did not wait");
    cr_assert_eq(disk_answer(d, true, &a), 1, "then it is");
    cr_assert(a.state == DISK_DONE && a.sync_ms >= 199, "%lld ms", (long long)a.sync_ms);
    cr_assert_eq(disk_answer(d, true, &a), 0, "no other is owed");
    plan->sync_ms = 0;
    disk_stop(d);
    remove_all(dir);
}

Test(disk, helper_ends_after_what_it_was_ordered)
{
    struct disk *d = start(false);
    uint8_t first;
    plan->sync_ms = 50;
    for (int i = 0; i < DISK_ORDERS; i++) {
        struct disk_order o = { .kind = DISK_WRITE, .area = DISK_BATCH_A, .len = 64, .at = 64 * (uint64_t)i, .sync = true };
        cr_assert_eq(disk_order(d, &o), 0, "order %d", i);
    }
    cr_assert_eq(disk_stop(d), 0, "a clean end");
    cr_assert_eq(log_bytes(&first), 64 * DISK_ORDERS, "after all of them");
    remove_all(dir);
}

Test(disk, only_the_helper_keeps_the_files)
{
    struct disk *d = start(false);
    cr_assert(fcntl(files.log, F_GETFD) < 0 && fcntl(files.lock, F_GETFD) < 0, "ours are closed");
    disk_stop(d);
    remove_all(dir);
    d = start(true);
    cr_assert(fcntl(files.log, F_GETFD) >= 0, "inline keeps them");
    cr_assert_eq(disk_fd(d), -1, "and has nothing to poll");
    disk_stop(d);
    cr_assert(fcntl(files.log, F_GETFD) < 0, "until its end");
    remove_all(dir);
}

static void note_child(void *user) { *(int *)user = getpid(); }

Test(disk, helper_runs_what_it_is_given_first_and_ignores_signals)
{
    char name[80];
    struct fault f;
    plan = __real_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int *pid = &plan[1].syncs;
    temporary(dir);
    snprintf(name, sizeof name, "%s/memory.log", dir);
    int secret = open("/dev/null", O_RDONLY);
    files = (struct disk_files){ .dir = open(dir, O_RDONLY | O_DIRECTORY), .dimension = 4,
                                 .log = open(name, O_RDWR | O_CREAT, 0600), .lock = open("/dev/null", O_RDWR),
                                 .child = note_child, .user = pid };
    struct disk *d = disk_start(&files, false, &f);
    cr_assert_eq(wait_for(d, (struct disk_order){ .kind = DISK_SYNC }).state, DISK_DONE, "it works");
    cr_assert(*pid > 0 && *pid != getpid(), "in the helper");
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGPIPE };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) kill(*pid, signals[i]);
    cr_assert_eq(wait_for(d, (struct disk_order){ .kind = DISK_SYNC }).state, DISK_DONE, "and goes on");
    snprintf(name, sizeof name, "/proc/%d/fd/%d", *pid, secret);
    cr_assert(access(name, F_OK) < 0, "a descriptor that is none of its business is closed");
    kill(*pid, SIGKILL);
    struct disk_answer a;
    usleep(20000);
    struct disk_order o = { .kind = DISK_SYNC };
    cr_assert(disk_order(d, &o) < 0 || disk_answer(d, true, &a) < 0, "its death is seen");
    cr_assert_eq(disk_answer(d, false, &a), -1, "and stays");
    cr_assert_eq(disk_stop(d), -1, "no clean end");
    close(secret);
    remove_all(dir);
}

Test(disk, a_start_that_cannot_be_says_so)
{
    static struct { const char *name; int *error; } rows[] = { { "fork", &fork_error }, { "mmap", &mmap_error },
        { "socketpair", &pair_error }, { "calloc", &calloc_error } };
    plan = __real_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fault f = { 0 };
        struct disk_files none = { .dir = 0, .lock = 0, .log = 0, .dimension = 4 };
        *rows[i].error = 1;
        struct disk *d = disk_start(&none, false, &f);
        *rows[i].error = 0;
        cr_assert(!d && f.exit == 71 && f.why[0], "%s: %s", rows[i].name, f.why);
    }
}

Test(disk, interrupted_calls_are_made_again)
{
    uint8_t first;
    recv_error = EINTR; /* of the helper and of us */
    struct disk *d = start(false);
    send_error = wait_error = EINTR;
    memset(disk_area(d, DISK_BATCH_A), 'x', 1000);
    struct disk_answer a = wait_for(d, (struct disk_order){ .kind = DISK_WRITE, .area = DISK_BATCH_A, .len = 1000 });
    cr_assert_eq(a.state, DISK_DONE, "done");
    cr_assert_eq(log_bytes(&first), 1000, "once");
    cr_assert_eq(disk_stop(d), 0, "and it ends well");
    cr_assert(!send_error && !recv_error && !wait_error, "all three were interrupted");
    remove_all(dir);
}

Test(disk, a_helper_that_cannot_hear_or_answer_is_gone)
{
    for (int deaf = 0; deaf < 2; deaf++) {
        struct disk_answer a;
        recv_error = deaf ? ENOMEM : 0;
        send_error = deaf ? 0 : ENOBUFS;
        send_fails_in = getpid(); /* not in this one */
        struct disk *d = start(false);
        recv_error = send_error = 0;
        struct disk_order o = { .kind = DISK_SYNC };
        if (disk_order(d, &o) == 0) cr_assert_eq(disk_answer(d, true, &a), -1, "no answer comes");
        wait_error = ECHILD; /* somebody else has waited for it */
        cr_assert_eq(disk_stop(d), 0, "nothing is known against it");
        while (__real_waitpid(-1, NULL, 0) > 0) continue;
        send_fails_in = 0;
        remove_all(dir);
    }
}

Test(disk, only_whole_records_that_follow_are_copied)
{
    static const struct { const char *name; uint64_t at, end, seq; size_t wrong; int state; uint64_t copied; } rows[] = {
        { "all three", 0, 384, 4, 0, DISK_DONE, 384 },
        { "nothing", 128, 128, 5, 0, DISK_DONE, 128 },
        { "from the second on", 128, 384, 5, 0, DISK_DONE, 384 },
        { "of another number", 0, 384, 7, 0, DISK_FAILED, 0 },
        { "a first one with a wrong byte", 0, 384, 4, 70, DISK_FAILED, 0 },
        { "a second one with a wrong byte", 0, 384, 4, 198, DISK_DONE, 128 },
        { "half a last one", 0, 320, 4, 0, DISK_DONE, 256 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct disk *d = start(true);
        struct record_seal old = { .seq = 4 };
        struct memory m = { .f = { .access_count = 7 } };
        uint8_t *p = disk_area(d, DISK_BATCH_A);
        for (int k = 0; k < 3; k++) {
            record_put(p + 128 * k, RECORD_CHANGE, 4, &m);
            record_seal(p + 128 * k, &old);
        }
        if (rows[i].wrong) p[rows[i].wrong] ^= 1;
        wait_for(d, (struct disk_order){ .kind = DISK_WRITE, .area = DISK_BATCH_A, .len = 384 });
        wait_for(d, (struct disk_order){ .kind = DISK_NEW, .area = DISK_COMPACT, .len = 4096 });
        struct disk_answer a = wait_for(d, (struct disk_order){ .kind = DISK_COPY, .at = rows[i].at,
            .end = rows[i].end, .seal = { .file_id = "new", .seq = rows[i].seq } });
        cr_assert_eq((int)a.state, rows[i].state, "%s: %d", rows[i].name, a.state);
        cr_assert_eq(a.at, rows[i].copied, "%s: to %llu", rows[i].name, (unsigned long long)a.at);
        cr_assert_eq(count_files(dir, "memory.log.tmp"), rows[i].state == DISK_DONE, "%s: the new one", rows[i].name);
        disk_stop(d);
        remove_all(dir);
    }
}

/* A new log grows beside the old one; what fails on it leaves the old one. */
Test(disk, a_new_log_takes_the_place_of_the_old_or_leaves_no_trace)
{
    for (int row = 0; row < 12; row++) {
        bool in_process = row % 2;
        int fails = row / 2; /* 0 none, 1 new, 2 add, 3 sync of what was added, 4 copy, 5 none, dropped */
        struct disk *d = start(in_process);
        uint8_t *p = disk_area(d, DISK_COMPACT), first;
        struct record_seal old = { .seq = 4 }, seal = { .file_id = "new", .seq = 4, .watermark = 3 };
        for (int i = 0; i < 3; i++) {
            uint8_t *r = disk_area(d, DISK_BATCH_A) + 64 * i;
            record_put(r, RECORD_CLOSE, 4, NULL);
            record_seal(r, &old);
        }
        wait_for(d, (struct disk_order){ .kind = DISK_WRITE, .area = DISK_BATCH_A, .len = 192 });
        memset(p, 'n', DISK_AREA_BYTES);
        plan->write_error = fails == 1 ? EIO : 0;
        struct disk_answer a = wait_for(d, (struct disk_order){ .kind = DISK_NEW, .area = DISK_COMPACT, .len = 4096 });
        cr_assert_eq((int)a.state, fails == 1 ? DISK_FAILED : DISK_DONE, "row %d", row);
        plan->write_error = fails == 2 ? ENOSPC : 0;
        plan->sync_error = fails == 3 ? EIO : 0;
        a = wait_for(d, (struct disk_order){ .kind = DISK_ADD, .area = DISK_COMPACT, .len = DISK_AREA_BYTES });
        bool gone = fails >= 1 && fails <= 3;
        cr_assert_eq((int)a.state, gone ? DISK_FAILED : DISK_DONE, "row %d", row);
        plan->write_error = plan->sync_error = 0;
        cr_assert_eq(count_files(dir, "memory.log.tmp"), !gone, "row %d: the new one is there", row);
        struct disk_order o = { .kind = DISK_COPY, .at = 0, .end = 128, .seal = seal };
        if (fails == 4) o.old_id[0] = 1; /* no record of that file */
        a = wait_for(d, o);
        gone = gone || fails == 4;
        cr_assert_eq((int)a.state, gone ? DISK_FAILED : DISK_DONE, "row %d", row);
        if (!gone) cr_assert(a.at == 128 && a.seal.seq == 6, "row %d: two records copied", row);
        if (fails == 5) wait_for(d, (struct disk_order){ .kind = DISK_DROP });
        gone = gone || fails == 5;
        o = (struct disk_order){ .kind = DISK_SWAP, .at = a.at, .end = 192, .seal = a.seal };
        a = wait_for(d, o);
        cr_assert_eq((int)a.state, gone ? DISK_FAILED : DISK_DONE, "row %d", row);
        size_t n = log_bytes(&first);
        cr_assert_eq(n, gone ? 192 : 4096 + DISK_AREA_BYTES + 192, "row %d: %zu bytes", row, n);
        cr_assert_eq(count_files(dir, "memory.log.tmp"), 0, "row %d: no trace", row);
        cr_assert_eq(wait_for(d, (struct disk_order){ .kind = DISK_WRITE, .area = DISK_BATCH_A, .len = 64,
            .at = n, .sync = true, .reserve = true }).state, DISK_DONE, "row %d: writing goes on", row);
        cr_assert_eq(log_bytes(&first), n + 64, "row %d: in the one that has the name", row);
        disk_stop(d);
        remove_all(dir);
    }
}
