// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk.c servers/memory/disk_work.c servers/crc32c.c json.c number.c utf8.c base64.c
// flags: -Wl,--wrap=open -Wl,--wrap=openat -Wl,--wrap=pread -Wl,--wrap=pwrite -Wl,--wrap=fdatasync -Wl,--wrap=fsync -Wl,--wrap=renameat -Wl,--wrap=linkat -Wl,--wrap=unlinkat -Wl,--wrap=ftruncate -Wl,--wrap=fallocate -Wl,--wrap=fstat -Wl,--wrap=mkdir -Wl,--wrap=flock -Wl,--wrap=getrandom -Wl,--wrap=calloc -Wl,--wrap=aligned_alloc -Wl,--wrap=open64 -Wl,--wrap=openat64 -Wl,--wrap=pread64 -Wl,--wrap=pwrite64 -Wl,--wrap=ftruncate64 -Wl,--wrap=fallocate64 -Wl,--wrap=__fstat64_time64
#include "servers/offsets.h"
#include "test.h"

#include <poll.h>
#include <sys/file.h>
#include <sys/random.h>

#include "journal_rig.h"
#include "call_faults.h"

/* How the directory is found. */
enum state { ABSENT, EMPTY, CLOSED, KILLED, TORN };

/* A directory in that state and what it holds. */
static void prepare(enum state state, char dir[64], struct model *s)
{
    char log[80];
    uint8_t *p;
    size_t n;
    memset(s, 0, sizeof *s);
    temporary(dir);
    if (state == ABSENT) rmdir(dir);
    if (state >= CLOSED) make_log(dir, 60, state == CLOSED, s);
    if (state != TORN) return;
    snprintf(log, sizeof log, "%s/memory.log", dir);
    p = read_file(log, &n);
    p = realloc(p, n + 200);
    memset(p + n, 0x5a, 200);
    write_file(log, p, n + 200);
    free(p);
}

/* Opens, holds what s holds, closes. */
static void expect_opens(const char *what, const char *dir, const struct model *s)
{
    struct model got = { 0 };
    struct told t;
    struct fault f;
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s: %s", what, f.why);
    cr_assert_eq(model_digest(&got), model_digest(s), "%s: the same memories", what);
    cr_assert_eq(journal_close(j, 0, &f), 0, "%s: %s", what, f.why);
}

static const struct { enum state state; enum call call; int skip, error, exit; const char *why; } refused[] = {
    { ABSENT, MKDIR,     0, EACCES, 74, "Cannot make" },
    { ABSENT, OPEN,      0, EMFILE, 74, "Cannot make" },          /* its parent, to be synced */
    { ABSENT, FSYNC,     0, EIO,    74, "Cannot make" },
    { EMPTY,  CALLOC,    0, ENOMEM, 71, "No memory for the journal" },
    { EMPTY,  OPEN,      0, EMFILE, 74, "Cannot open" },
    { EMPTY,  OPENAT,    0, EACCES, 74, "/LOCK: Permission denied" },
    { EMPTY,  FLOCK,     0, ENOLCK, 74, "Cannot lock" },
    { EMPTY,  OPENAT,    1, EACCES, 74, "Cannot open" },
    { EMPTY,  OPENAT,    2, ENOSPC, 74, "Cannot make" },
    { EMPTY,  GETRANDOM, 0, ENOSYS, 74, "Cannot make" },
    { EMPTY,  PWRITE,    0, ENOSPC, 74, "Cannot make" },
    { EMPTY,  PWRITE,    0, 0,      74, "No space left" },
    { EMPTY,  FSYNC,     0, EIO,    74, "Cannot make" },
    { EMPTY,  RENAMEAT,  0, EIO,    74, "Cannot make" },
    { EMPTY,  CALLOC,    1, ENOMEM, 71, "No memory for the disk's buffers" },
    { EMPTY,  ALIGNED,   0, ENOMEM, 71, "No memory to read" },
    { CLOSED, UNLINKAT,  0, EACCES, 74, "Cannot remove" },
    { CLOSED, FSTAT,     0, EIO,    74, "Cannot read" },          /* for the header, */
    { CLOSED, PREAD,     0, EIO,    74, "Cannot read" },
    { CLOSED, PREAD,     0, ENOMEM, 71, "Cannot read" },
    { CLOSED, FSYNC,     0, EIO,    74, "Cannot sync" },
    { CLOSED, FSTAT,     1, EIO,    74, "Cannot read" },          /* for the records */
    { CLOSED, PREAD,     1, EIO,    74, "Cannot read" },
    { CLOSED, PREAD,     1, 0,      74, "Input/output error" },
    { CLOSED, FDATASYNC, 0, EIO,    74, "Cannot sync" },
    { KILLED, PREAD,     2, EIO,    74, "Cannot write" },         /* what may not be on disk yet */
    { KILLED, PWRITE,    0, EIO,    74, "Cannot write" },
    { TORN,   OPENAT,    2, EACCES, 74, "/memory.torn-" },
    { TORN,   PREAD,     2, EIO,    74, "/memory.torn-" },
    { TORN,   PWRITE,    0, EIO,    74, "/memory.torn-" },
    { TORN,   FSYNC,     1, EIO,    74, "/memory.torn-" },
    { TORN,   FTRUNCATE, 0, EIO,    74, "Cannot cut" },
    { TORN,   FSYNC,     2, EIO,    74, "Cannot sync" },
};

Test(journal_faults, a_start_that_cannot_be_names_the_call_and_loses_nothing)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char dir[64], what[60];
        struct model s, got = { 0 };
        struct told t;
        struct fault f = { 0 };
        snprintf(what, sizeof what, "row %zu, \"%.40s\"", i, refused[i].why);
        prepare(refused[i].state, dir, &s);
        call_fault(refused[i].call, refused[i].skip, refused[i].error);
        struct journal *j = open_at(&got, &t, dir, &f);
        cr_assert(calls_mended(), "%s: the call was made", what);
        cr_assert_null(j, "%s: refused", what);
        cr_assert_eq(f.exit, refused[i].exit, "%s: exit %d", what, f.exit);
        cr_assert_not_null(strstr(f.why, refused[i].why), "%s: %s", what, f.why);
        expect_opens(what, dir, &s);
        remove_all(dir);
    }
}

static const struct { enum state state; enum call call; int skip, error, torn; } harmless[] = {
    { CLOSED, FLOCK,     0, EINTR,      0 },
    { CLOSED, FLOCK,     0, EWOULDBLOCK, 0 },
    { CLOSED, PREAD,     0, EINTR,      0 },
    { CLOSED, PREAD,     1, -1,         0 }, /* one byte of what was asked for */
    { EMPTY,  PWRITE,    0, EINTR,      0 },
    { EMPTY,  PWRITE,    0, -1,         0 },
    { KILLED, PWRITE,    0, ENOSPC,     0 }, /* a file system that copies: the old bytes stay */
    { KILLED, PWRITE,    0, EDQUOT,     0 },
    { KILLED, FALLOCATE, 0, EINTR,      0 },
    { KILLED, FALLOCATE, 0, EOPNOTSUPP, 0 },
    { KILLED, FALLOCATE, 0, ENOSYS,     0 },
    { KILLED, FALLOCATE, 0, EINVAL,     0 },
    { KILLED, FALLOCATE, 0, ENOSPC,     0 },
    { TORN,   OPENAT,    2, ENOSPC,     0 }, /* no room to keep the tail */
    { TORN,   OPENAT,    2, EDQUOT,     0 },
    { TORN,   PWRITE,    0, ENOSPC,     0 },
    { TORN,   PWRITE,    0, EDQUOT,     0 },
    { TORN,   FSYNC,     1, ENOSPC,     0 },
    { TORN,   PWRITE,    0, EINTR,      1 },
};

Test(journal_faults, a_start_goes_on_after_what_does_no_harm)
{
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        char dir[64], what[60];
        struct model s, got = { 0 };
        struct told t;
        struct fault f;
        snprintf(what, sizeof what, "row %zu", i);
        prepare(harmless[i].state, dir, &s);
        call_fault(harmless[i].call, harmless[i].skip, harmless[i].error);
        struct journal *j = open_at(&got, &t, dir, &f);
        cr_assert(calls_mended(), "%s: the call was made", what);
        cr_assert_not_null(j, "%s: %s", what, f.why);
        cr_assert_eq(model_digest(&got), model_digest(&s), "%s: the same memories", what);
        if (harmless[i].state == TORN)
            cr_assert_eq(strstr(log_caught, "kept=memory.torn-") != NULL, harmless[i].torn, "%s: %s", what, log_caught);
        run(j, &got, 7, 60, 70);
        cr_assert_eq(journal_close(j, 70, &f), 0, "%s: %s", what, f.why);
        cr_assert_eq(count_files(dir, "memory.torn-"), harmless[i].torn, "%s: tails kept", what);
        expect_opens(what, dir, &got);
        remove_all(dir);
    }
}

Test(journal_faults, memories_that_find_no_room_stop_the_start)
{
    char dir[64];
    static struct model s, full;
    struct told t;
    struct fault f = { 0 };
    prepare(CLOSED, dir, &s);
    full.n = MAX_ITEMS;
    cr_assert_null(open_at(&full, &t, dir, &f), "refused");
    cr_assert(f.exit == 71 && strstr(f.why, "No memory for what"), "%d: %s", f.exit, f.why);
    expect_opens("with room", dir, &s);
    remove_all(dir);
}

Test(journal_faults, a_path_too_long_is_said_to_be)
{
    static char dir[5000];
    struct model s = { 0 };
    struct told t;
    struct fault f = { 0 };
    memset(dir, 'x', sizeof dir - 1);
    cr_assert_null(open_at(&s, &t, dir, &f), "refused");
    cr_assert(f.exit == 74 && f.why[0], "exit %d", f.exit);
}

Test(journal_faults, a_name_without_a_slash_is_made_here)
{
    char dir[64], back[4096], inner[80];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    cr_assert_not_null(getcwd(back, sizeof back), "where we are");
    cr_assert_eq(chdir(temporary(dir)), 0, "%s", dir);
    struct journal *j = open_at(&s, &t, "data", &f);
    cr_assert_not_null(j, "%s", f.why);
    run(j, &s, 7, 0, 5);
    cr_assert_eq(journal_close(j, 5, &f), 0, "%s", f.why);
    cr_assert_eq(chdir(back), 0, "back");
    snprintf(inner, sizeof inner, "%s/data", dir);
    expect_opens("by its whole path", inner, &s);
    remove_all(inner);
    remove_all(dir);
}

/* One change while it is open; its number, or what journal_append() said. */
static int64_t change(struct journal *j, struct model *s, uint32_t k)
{
    struct item t;
    uint64_t seq;
    (void)model_op(s, 7, k, &t);
    int r = journal_append(j, MEMORY_PUT, &t.m, &seq);
    journal_flush(j, k);
    return r < 0 ? r : (int64_t)seq;
}

static const struct { struct call_fault first, then; bool full; const char *why; } batches[] = {
    { { FALLOCATE, 0, ENOSPC, 0 }, { 0 }, true, "disk full" },
    { { FALLOCATE, 0, EDQUOT, 0 }, { 0 }, true, "disk full" },
    { { FALLOCATE, 0, EIO, 0 }, { 0 }, false, "allocate: Input/output error" },
    { { PWRITE, 0, ENOSPC, 0 }, { 0 }, true, "disk full" },
    { { PWRITE, 0, EDQUOT, 0 }, { 0 }, true, "disk full" },
    { { PWRITE, 0, 0, 0 }, { 0 }, true, "disk full" },
    { { PWRITE, 0, -1, 0 }, { PWRITE, 1, ENOSPC, 0 }, true, "disk full" },
    { { PWRITE, 0, EIO, 0 }, { 0 }, false, "write: Input/output error" },
    { { PWRITE, 0, ENOSPC, 0 }, { FTRUNCATE, 0, EIO, 0 }, false, "truncate: Input/output error" },
    { { PWRITE, 0, ENOSPC, 0 }, { FDATASYNC, 0, EIO, 0 }, false, "sync: Input/output error" },
    { { FDATASYNC, 0, EIO, 0 }, { 0 }, false, "sync: Input/output error" },
    { { FDATASYNC, 0, ENOSPC, 0 }, { 0 }, false, "sync: No space left on device" },
};

Test(journal_faults, a_batch_fails_for_once_on_a_full_disk_and_else_for_good)
{
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        char dir[64], what[80];
        struct model s = { 0 };
        struct told t;
        struct fault f = { 0 };
        struct journal_state st;
        struct journal *j = open_at(&s, &t, temporary(dir), &f);
        run(j, &s, 7, 0, 10);
        snprintf(what, sizeof what, "row %zu, %s", i, batches[i].why);
        int64_t k = 10; /* goes on until the reserved blocks are taken */
        call_faults[0] = batches[i].first;
        call_faults[1] = batches[i].then;
        for (; k < 2000 && !t.failures; k++) {
            struct item it;
            uint64_t seq;
            enum memory_change kind = model_op(&s, 7, (uint32_t)k, &it);
            cr_assert_eq(journal_append(j, kind, &it.m, &seq), 0, "%s: change %d", what, (int)k);
            journal_flush(j, k);
            if (!t.failures) model_apply(&s, kind, &it);
        }
        cr_assert(calls_mended(), "%s: the call was made", what);
        cr_assert_eq(t.failures, 1, "%s: told once", what);
        cr_assert_str_eq(t.why, batches[i].why, "%s: %s", what, t.why);
        cr_assert_eq(t.full, batches[i].full, "%s: full", what);
        cr_assert_eq(t.failed_from, (uint64_t)k, "%s: from %llu", what, (unsigned long long)t.failed_from);
        st = journal_state(j);
        cr_assert(st.seq == (uint64_t)k - 1 && st.durable == st.seq, "%s: numbers go back", what);
        if (batches[i].full) {
            cr_assert(st.full && !st.why, "%s: state", what);
            run(j, &s, 7, (uint32_t)k, (uint32_t)k + 5);
            st = journal_state(j);
            cr_assert(!st.full && st.seq == (uint64_t)k + 4, "%s: goes on", what);
            cr_assert_eq(journal_close(j, k, &f), 0, "%s: %s", what, f.why);
        } else {
            cr_assert_str_eq(st.why, batches[i].why, "%s: state", what);
            cr_assert_eq(change(j, &s, 5000), JOURNAL_STOPPED, "%s: nothing more is taken", what);
            cr_assert_eq(journal_due(j), INT64_MAX, "%s: nothing is due", what);
            struct journal_living none = model_flag(&s);
            cr_assert_eq(journal_compact_begin(j, &none), -1, "%s: no compaction", what);
            cr_assert_not(journal_compact_due(j, 0, 1 << 30), "%s: and none is due", what);
            cr_assert_eq(journal_compact_all(j, &none, k, &f), -1, "%s: not even at once", what);
            cr_assert_not_null(strstr(f.why, batches[i].why), "%s: %s", what, f.why);
            call_counts[FDATASYNC] = call_counts[PWRITE] = 0;
            cr_assert_eq(journal_close(j, k, &f), -1, "%s: is told at the end", what);
            cr_assert_eq(f.exit, 74, "%s: exit %d", what, f.exit);
            cr_assert_eq(call_counts[FDATASYNC] + call_counts[PWRITE], 0, "%s: no sync is tried again", what);
        }
        struct model got = { 0 };
        j = open_at(&got, &t, dir, &f);
        cr_assert_not_null(j, "%s: %s", what, f.why);
        st = journal_state(j);
        if (st.seq == (uint64_t)k) { /* it stood in the file though its sync failed */
            struct item it;
            enum memory_change kind = model_op(&s, 7, (uint32_t)k - 1, &it);
            model_apply(&s, kind, &it);
        }
        cr_assert_eq(model_digest(&got), model_digest(&s), "%s: what was durable is there", what);
        journal_close(j, 0, &f);
        remove_all(dir);
    }
}

Test(journal_faults, without_a_reserve_the_log_goes_on_and_asks_once)
{
    static const int errors[] = { EOPNOTSUPP, ENOSYS, EINVAL };
    for (int i = 0; i < 3; i++) {
        char dir[64];
        struct model s = { 0 };
        struct told t;
        struct fault f;
        struct journal *j = open_at(&s, &t, temporary(dir), &f);
        call_faults[0] = (struct call_fault){ FALLOCATE, 0, errors[i], true };
        call_counts[FALLOCATE] = 0;
        run(j, &s, 7, 0, 1500); /* many times the reserve */
        cr_assert_eq(call_counts[FALLOCATE], 1, "asked %d times", call_counts[FALLOCATE]);
        cr_assert(calls_mended() && !t.failures, "and nothing fails");
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
        expect_opens("later", dir, &s);
        remove_all(dir);
    }
}

static const struct { enum call call; int skip, error; const char *why; bool stops; } compactions[] = {
    { GETRANDOM, 0, ENOSYS, "compaction cannot begin", false },
    { OPENAT, 0, EMFILE, "open: Too many open files", false },
    { OPENAT, 0, EDQUOT, "disk full", false },
    { PWRITE, 0, ENOSPC, "disk full", false },
    { PWRITE, 1, ENOSPC, "disk full", false },
    { PWRITE, 1, EIO, "write: Input/output error", false },
    { FSYNC, 0, EIO, "sync: Input/output error", false },
    { RENAMEAT, 0, EIO, "rename: Input/output error", false },
    { FSYNC, 1, EIO, "sync of the directory: Input/output error", true },
};

Test(journal_faults, a_compaction_that_fails_leaves_the_old_log)
{
    for (size_t i = 0; i < sizeof compactions / sizeof *compactions; i++) {
        char dir[64];
        const char *why = compactions[i].why;
        struct model s = { 0 };
        struct told t;
        struct fault f = { 0 };
        struct journal *j = open_at(&s, &t, temporary(dir), &f);
        run(j, &s, 7, 0, 60);
        struct journal_living living = model_flag(&s);
        call_fault(compactions[i].call, compactions[i].skip, compactions[i].error);
        cr_assert_eq(journal_compact_all(j, &living, 60, &f), -1, "%s", why);
        cr_assert(calls_mended(), "%s: the call was made", why);
        cr_assert_eq(f.exit, 74, "%s: exit %d", why, f.exit);
        cr_assert_not_null(strstr(f.why, why), "%s: %s", why, f.why);
        if (!compactions[i].stops) {
            cr_assert_eq(count_files(dir, "memory.log.tmp"), 0, "%s: nothing is left behind", why);
            cr_assert_not(journal_compact_due(j, 0, 61), "%s: not at once again", why);
            run(j, &s, 7, 60, 70);
            living = model_flag(&s);
            cr_assert_eq(journal_compact_all(j, &living, 70, &f), 0, "%s, then: %s", why, f.why);
        } else {
            cr_assert_eq(change(j, &s, 60), JOURNAL_STOPPED, "%s: nothing is written any more", why);
        }
        cr_assert_eq(journal_close(j, 71, &f), compactions[i].stops ? -1 : 0, "%s: %s", why, f.why);
        expect_opens(why, dir, &s);
        remove_all(dir);
    }
}

static const struct { enum call call; int error; bool stops; const char *why; } meanwhile[] = {
    { PWRITE, ENOSPC, false, "disk full" },
    { PWRITE, EIO, true, "write: Input/output error" },
    { PREAD, EIO, false, "read: Input/output error" },
    { PREAD, 0, false, "read: Input/output error" },
};

Test(journal_faults, a_compaction_ends_with_what_is_stored_meanwhile)
{
    for (size_t i = 0; i < sizeof meanwhile / sizeof *meanwhile; i++) {
        char dir[64];
        const char *why = meanwhile[i].why;
        bool batch = meanwhile[i].call == PWRITE;
        struct model s = { 0 };
        struct told t;
        struct fault f = { 0 };
        struct item it;
        uint64_t seq;
        struct journal *j = open_at(&s, &t, temporary(dir), &f);
        run(j, &s, 7, 0, 60);
        struct journal_living living = model_flag(&s);
        cr_assert_eq(journal_compact_begin(j, &living), 0, "%s: begins", why);
        cr_assert_eq(journal_compact_begin(j, &living), -1, "%s: one at a time", why);
        cr_assert_not(journal_compact_due(j, 0, 60), "%s: none is due", why);
        int before = s.n;
        enum memory_change kind = MEMORY_PUT;
        (void)model_op(&s, 7, 60, &it);
        for (int n = 0; n < MEMORY_ID; n++) it.m.id[n] = (uint8_t)(200 + n); /* a new one */
        if (batch) call_fault(PWRITE, 0, meanwhile[i].error);
        if (!it.m.text.len) it.m.text = (struct slice){ "x", 1 };
        it.m.vector = it.vector;
        cr_assert_eq(journal_append(j, kind, &it.m, &seq), 0, "%s: stored", why);
        journal_flush(j, 60);
        if (!batch) {
            model_apply(&s, kind, &it);
            cr_assert_eq(s.n, before + 1, "a new one");
            call_fault(PREAD, 0, meanwhile[i].error);
        }
        for (int64_t now = 61; now < 80; now++) {
            journal_compact_step(j, now);
            journal_flush(j, now);
        }
        cr_assert(calls_mended(), "%s: the call was made", why);
        cr_assert_not(journal_compacting(j), "%s: it has ended", why);
        cr_assert_eq(t.compactions, 1, "%s: told %d times", why, t.compactions);
        cr_assert_str_eq(t.why, why, "%s: %s", why, t.why);
        cr_assert_eq(t.failures, batch, "%s: the batch", why);
        cr_assert_eq(count_files(dir, "memory.log.tmp"), meanwhile[i].stops, "%s: the new log", why);
        cr_assert_eq(journal_close(j, 80, &f), meanwhile[i].stops ? -1 : 0, "%s: %s", why, f.why);
        expect_opens(why, dir, &s);
        remove_all(dir);
    }
}

/* A journal with a helper whose compaction has had so many answers, or -1: it ended before. */
static int compact_for(struct journal *j, struct model *s, int answers)
{
    struct journal_living living = model_flag(s);
    cr_assert_eq(journal_compact_begin(j, &living), 0, "begins");
    for (int i = 0; i < answers; i++) {
        struct pollfd p = { .fd = journal_fd(j), .events = POLLIN };
        cr_assert_eq(poll(&p, 1, 10000), 1, "an answer");
        journal_ready(j, 100);
        while (journal_compact_step(j, 100)) continue;
        if (!journal_compacting(j)) return -1;
    }
    return 0;
}

Test(journal_faults, a_compaction_may_be_met_at_any_stage)
{
    enum { STORE, SYNC, CLOSE, STORE_BEFORE, DEEDS };
    for (int deed = 0; deed < DEEDS; deed++) {
        int stage = 0, going = 0;
        for (; going == 0 && stage < 12; stage++) {
            char dir[64], what[60];
            struct model s = { 0 };
            struct told t = { 0 };
            struct fault f;
            struct journal_state st;
            struct journal_config c = model_config(&s, temporary(dir));
            snprintf(what, sizeof what, "deed %d after %d answers", deed, stage);
            c.in_process = false;
            c.sync_ms = deed == SYNC ? JOURNAL_SYNC_NEVER : JOURNAL_SYNC_ALWAYS;
            c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, &t };
            struct journal *j = journal_open(&c, &f);
            cr_assert_not_null(j, "%s", f.why);
            run(j, &s, 7, 0, 60);
            going = compact_for(j, &s, stage);
            if (deed == SYNC) {
                journal_sync(j);
                cr_assert_eq(journal_wait(j, 100), 0, "%s: waits", what);
                st = journal_state(j);
                cr_assert_eq(st.durable, 60, "%s: all is on disk", what);
            } else if (deed != CLOSE) {
                struct item it;
                uint64_t seq;
                (void)model_op(&s, 7, 0, &it);
                for (int n = 0; n < MEMORY_ID; n++) it.m.id[n] = (uint8_t)(200 + n); /* a new one */
                cr_assert_eq(journal_append(j, MEMORY_PUT, &it.m, &seq), 0, "%s: stored", what);
                model_apply(&s, MEMORY_PUT, &it);
                if (deed == STORE) {
                    cr_assert_eq(journal_wait(j, 100), 0, "%s: waits", what);
                    cr_assert_eq(t.durable, 61, "%s: and is on disk", what);
                } else {
                    journal_flush(j, 100);
                    while (journal_compact_step(j, 100)) continue;
                    cr_assert_eq(journal_due(j), INT64_MAX, "%s: nothing is due meanwhile", what);
                }
            }
            cr_assert_eq(journal_close(j, 101, &f), 0, "%s: %s", what, f.why);
            cr_assert_eq(t.failures, 0, "%s: nothing failed", what);
            cr_assert_eq(t.compactions, 1, "%s: told how it ended", what);
            expect_opens(what, dir, &s);
            remove_all(dir);
        }
        cr_assert(stage > 2 && going < 0, "all %d stages were met", stage);
    }
}

Test(journal_faults, a_sync_asked_for_holds_for_what_a_failed_batch_leaves)
{
    char dir[64];
    struct model s = { 0 };
    struct fault f;
    struct item it;
    uint64_t seq;
    struct journal_config c = model_config(&s, temporary(dir));
    c.sync_ms = JOURNAL_SYNC_NEVER; /* and nobody who listens */
    struct journal *j = journal_open(&c, &f);
    run(j, &s, 7, 0, 10);
    (void)model_op(&s, 7, 10, &it);
    cr_assert_eq(journal_append(j, MEMORY_PUT, &it.m, &seq), 0, "stored");
    cr_assert_eq(journal_due(j), 0, "a batch is due at once");
    journal_sync(j);
    call_fault(PWRITE, 0, ENOSPC);
    journal_flush(j, 11);
    cr_assert(calls_mended(), "the call was made");
    struct journal_state st = journal_state(j);
    cr_assert(st.full && st.seq == 10, "it is undone");
    cr_assert(!st.durable && journal_due(j) == 0, "a sync of the rest is due");
    journal_flush(j, 12);
    st = journal_state(j);
    cr_assert(st.durable == 10 && journal_due(j) == INT64_MAX, "and is done");
    journal_close(j, 12, &f);
    expect_opens("later", dir, &s);
    remove_all(dir);
}

Test(journal_faults, one_sync_serves_all_that_is_written_before_it)
{
    char dir[64];
    struct model s = { 0 };
    struct told t = { 0 };
    struct fault f;
    struct journal_config c = model_config(&s, temporary(dir));
    c.sync_ms = 1000;
    c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, &t };
    struct journal *j = journal_open(&c, &f);
    call_counts[FDATASYNC] = 0;
    run(j, &s, 7, 0, 10);
    cr_assert(t.written == 10 && t.durable == 0, "written, not synced");
    cr_assert_eq(journal_due(j), 750, "due three quarters after the first: %lld", (long long)journal_due(j));
    journal_flush(j, 750);
    cr_assert(t.durable == 10 && call_counts[FDATASYNC] == 1, "one sync");
    journal_close(j, 751, &f);
    remove_all(dir);
}
