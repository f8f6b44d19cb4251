// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk.c servers/memory/disk_work.c servers/crc32c.c json.c number.c utf8.c base64.c
// flags: -Wl,--wrap=open -Wl,--wrap=openat -Wl,--wrap=pread -Wl,--wrap=pwrite -Wl,--wrap=fdatasync -Wl,--wrap=fsync -Wl,--wrap=renameat -Wl,--wrap=linkat -Wl,--wrap=unlinkat -Wl,--wrap=ftruncate -Wl,--wrap=fallocate -Wl,--wrap=fstat -Wl,--wrap=mkdir -Wl,--wrap=flock -Wl,--wrap=getrandom -Wl,--wrap=calloc -Wl,--wrap=aligned_alloc -Wl,--wrap=open64 -Wl,--wrap=openat64 -Wl,--wrap=pread64 -Wl,--wrap=pwrite64 -Wl,--wrap=ftruncate64 -Wl,--wrap=fallocate64 -Wl,--wrap=__fstat64_time64
#include "servers/offsets.h"
#include "test.h"

#include <sys/file.h>
#include <sys/random.h>

#include "journal_rig.h"
#include "call_faults.h"

/* A log whose record 20 is damaged; its bytes. */
static uint8_t *make_damaged(char dir[64], size_t *n)
{
    char log[80];
    struct model s;
    make_log(temporary(dir), 60, true, &s);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    uint8_t *p = read_file(log, n);
    size_t at = JOURNAL_HEAD_BYTES;
    for (int i = 0; i < 20; i++) at += 64 + (size_t)p[at + 8] + ((size_t)p[at + 9] << 8);
    p[at + 70] ^= 1;
    write_file(log, p, *n);
    return p;
}

static bool same_log(const char *dir, const uint8_t *p, size_t n)
{
    char log[80];
    size_t m;
    snprintf(log, sizeof log, "%s/memory.log", dir);
    uint8_t *q = read_file(log, &m);
    bool same = q && m == n && !memcmp(p, q, n);
    free(q);
    return same;
}

static const struct { enum call call; int skip, error, exit; const char *why; bool check; } rows[] = {
    { OPEN,      0, EACCES, 74, "Cannot open", true },
    { OPENAT,    0, EIO,    74, "Cannot open", true },
    { OPENAT,    1, EACCES, 74, "Cannot open", true },
    { FSTAT,     0, EIO,    74, "Cannot read", true },
    { PREAD,     0, EIO,    74, "Cannot read", true },
    { FSTAT,     1, EIO,    74, "Cannot read", true },
    { ALIGNED,   0, ENOMEM, 71, "Cannot read", true },
    { PREAD,     1, EIO,    74, "Cannot read", true },
    { CALLOC,    0, ENOMEM, 71, "Cannot read", true },
    { GETRANDOM, 0, ENOSYS, 74, "Cannot repair", false },
    { OPENAT,    2, ENOSPC, 74, "Cannot repair", false },
    { PWRITE,    0, ENOSPC, 74, "Cannot repair", false },
    { ALIGNED,   1, ENOMEM, 71, "Cannot repair", false },
    { PREAD,     2, EIO,    74, "Cannot repair", false },
    { PWRITE,    1, ENOSPC, 74, "Cannot repair", false },
    { PWRITE,   40, EIO,    74, "Cannot repair", false },
    { FSYNC,     0, EIO,    74, "Cannot repair", false },
    { LINKAT,    0, EIO,    74, "Cannot repair", false },
    { FSYNC,     1, EIO,    74, "Cannot repair", false },
    { RENAMEAT,  0, EIO,    74, "Cannot repair", false },
};

Test(journal_tools_faults, a_repair_that_fails_leaves_the_log_and_can_be_tried_again)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64], kept[64], what[40];
        size_t n;
        struct journal_report r = { 0 };
        struct fault f = { 0 };
        uint8_t *p = make_damaged(dir, &n);
        for (int check = 0; check < 1 + rows[i].check; check++) {
            snprintf(what, sizeof what, "row %zu, %s", i, check ? "check" : "repair");
            call_fault(rows[i].call, rows[i].skip, rows[i].error);
            int bad = check ? journal_check(dir, &r, &f) : journal_repair(dir, &r, kept, &f);
            cr_assert(calls_mended(), "%s: the call was made", what);
            cr_assert_eq(bad, -1, "%s: %d", what, bad);
            cr_assert_eq(f.exit, rows[i].exit, "%s: exit %d", what, f.exit);
            cr_assert_not_null(strstr(f.why, rows[i].why), "%s: %s", what, f.why);
            cr_assert(same_log(dir, p, n), "%s: the log is as it was", what);
        }
        cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "%s, then: %s", what, f.why);
        cr_assert(r.lost == 1 && kept[0] && count_files(dir, kept) == 1, "%s: one lost, the old one kept", what);
        cr_assert_eq(journal_check(dir, &r, &f), 0, "%s: whole", what);
        cr_assert_eq(r.records, 60, "%s: %llu records", what, (unsigned long long)r.records);
        free(p);
        remove_all(dir);
    }
}

Test(journal_tools_faults, a_file_that_has_the_old_ones_name_is_not_written_over)
{
    char dir[64], kept[64], name[160];
    size_t n, m;
    struct journal_report r = { 0 };
    struct fault f = { 0 };
    uint8_t *p = make_damaged(dir, &n);
    cr_assert_eq(journal_check(dir, &r, &f), 1, "damaged");
    snprintf(name, sizeof name, "%s/memory.damaged-%llu", dir, (unsigned long long)r.seq);
    write_file(name, (const uint8_t *)"mine", 4);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), -1, "refused");
    cr_assert(f.exit == 74 && strstr(f.why, "move it away"), "%d: %s", f.exit, f.why);
    uint8_t *q = read_file(name, &m);
    cr_assert(m == 4 && !memcmp(q, "mine", 4), "it is as it was");
    cr_assert(same_log(dir, p, n), "and so is the log");
    call_fault(FSTAT, 2, EIO);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), -1, "refused");
    cr_assert(calls_mended() && strstr(f.why, "Cannot repair"), "for want of knowing which it is: %s", f.why);
    free(p), free(q);
    remove_all(dir);
}

/* FAT. The copy in place of the link may fail, too. */
Test(journal_tools_faults, without_hard_links_the_old_file_is_copied)
{
    static const struct call_fault fails[] = { { NO_CALL, 0, 0, false }, { OPENAT, 3, EEXIST, false },
        { OPENAT, 3, ENOSPC, false }, { PREAD, 3, EIO, false }, { PWRITE, 61, ENOSPC, false }, { FSYNC, 1, EIO, false } };
    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        char dir[64], kept[64], name[160];
        size_t n, m;
        struct journal_report r = { 0 };
        struct fault f = { 0 };
        uint8_t *p = make_damaged(dir, &n);
        for (int again = 0; again < 2; again++) {
            if (again && !fails[i].call) break;
            call_fault(LINKAT, 0, i % 2 ? EOPNOTSUPP : EPERM);
            if (!again) call_faults[1] = fails[i];
            bool fail = fails[i].call && !again;
            cr_assert_eq(journal_repair(dir, &r, kept, &f), fail ? -1 : 1, "row %zu: %s", i, f.why);
            cr_assert(!call_faults[1].call && calls_mended(), "row %zu: the calls were made", i);
            if (fail) cr_assert(f.exit == 74 && same_log(dir, p, n) && count_files(dir, "memory.damaged") == 0, "row %zu: %s", i, f.why);
        }
        snprintf(name, sizeof name, "%s/%s", dir, kept);
        uint8_t *q = read_file(name, &m);
        cr_assert(q && m == n && !memcmp(p, q, n), "row %zu: byte for byte", i);
        cr_assert_eq(journal_check(dir, &r, &f), 0, "row %zu: %s", i, f.why);
        cr_assert_eq(r.records, 60, "row %zu", i);
        free(p), free(q);
        remove_all(dir);
    }
}

Test(journal_tools_faults, a_header_that_cannot_be_read_is_told_by_every_tool)
{
    char dir[64], kept[64], log[80];
    struct model s;
    struct journal_report r = { 0 };
    struct journal_head h;
    struct fault f = { 0 };
    size_t n;
    make_log(temporary(dir), 10, true, &s);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    call_fault(OPEN, 0, EACCES);
    cr_assert_eq(journal_peek(dir, &h, &f), -1, "closed to us");
    cr_assert(calls_mended() && f.exit == 74 && strstr(f.why, "Cannot open"), "%d: %s", f.exit, f.why);
    uint8_t *p = read_file(log, &n);
    memset(p, 0, JOURNAL_HEAD_BYTES);
    write_file(log, p, n);
    for (int i = 0; i < 3; i++) {
        f = (struct fault){ 0 };
        int bad = i == 0 ? journal_peek(dir, &h, &f) : i == 1 ? journal_check(dir, &r, &f) :
                  journal_repair(dir, &r, kept, &f);
        cr_assert_eq(bad, -1, "tool %d: %d", i, bad);
        cr_assert(f.exit == 65 && strstr(f.why, "neither copy of its header"), "tool %d: %d, %s", i, f.exit, f.why);
    }
    cr_assert(same_log(dir, p, n), "and nothing is touched");
    free(p);
    remove_all(dir);
}

/* A backup that is mounted read-only, with and without a LOCK; a server's own is left alone. */
Test(journal_tools_faults, what_cannot_be_written_can_be_read)
{
    char dir[64];
    struct model s, got, other = { 0 };
    struct told t;
    make_log(temporary(dir), 10, false, &s);
    for (int i = 0; i < 6; i++) {
        struct journal_report r = { 0 };
        struct fault f = { 0 };
        struct journal_config c = model_config(&got, dir);
        bool reading = i & 1, bare = i / 2 == 1, held = i / 2 == 2;
        struct journal *server = held ? open_at(&other, &t, dir, &f) : NULL, *j = NULL;
        memset(&got, 0, sizeof got);
        c.reading = true;
        call_fault(OPENAT, 0, bare ? EACCES : EROFS);
        if (bare) call_faults[1] = (struct call_fault){ OPENAT, 0, ENOENT, false };
        int bad = !reading ? journal_check(dir, &r, &f) : (j = journal_open(&c, &f)) ? 0 : -1;
        cr_assert(calls_mended() && bad == (held ? -1 : 0), "row %d: %s", i, f.why);
        if (held) cr_assert_eq(f.exit, 75, "row %d: %s", i, f.why);
        else if (!reading) cr_assert_eq(r.records, 10, "row %d", i);
        else cr_assert_eq(model_digest(&got), model_digest(&s), "row %d", i);
        if (j) cr_assert_eq(journal_close(j, 0, &f), 0, "row %d: %s", i, f.why);
        if (server) journal_close(server, 0, &f);
    }
    remove_all(dir);
}

Test(journal_tools_faults, a_torn_tail_is_counted_and_a_repair_leaves_it)
{
    char dir[64], kept[64], log[80];
    struct model s;
    struct journal_report r = { 0 };
    struct fault f = { 0 };
    size_t n;
    make_log(temporary(dir), 10, false, &s);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    uint8_t *p = read_file(log, &n);
    p = realloc(p, n + 200);
    memset(p + n, 0x5a, 200);
    write_file(log, p, n + 200);
    cr_assert_eq(journal_check(dir, &r, &f), 0, "a torn tail is whole: %s", f.why);
    cr_assert(r.torn_bytes == 200 && r.records == 10 && !r.damaged, "%llu torn", (unsigned long long)r.torn_bytes);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 0, "nothing to repair");
    cr_assert(!kept[0] && same_log(dir, p, n + 200), "and nothing is touched");
    free(p);
    remove_all(dir);
}

Test(journal_tools_faults, a_repair_is_done_or_not_when_only_its_last_sync_fails)
{
    char dir[64], kept[64];
    size_t n;
    struct journal_report r = { 0 };
    struct fault f = { 0 };
    uint8_t *p = make_damaged(dir, &n);
    call_fault(FSYNC, 2, EIO);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), -1, "told");
    cr_assert(calls_mended() && f.exit == 74 && strstr(f.why, "Cannot repair"), "%d: %s", f.exit, f.why);
    cr_assert_eq(journal_check(dir, &r, &f), 0, "the new log has the name: %s", f.why);
    cr_assert(r.records == 60 && count_files(dir, kept) == 1, "and the old one is kept");
    free(p);
    remove_all(dir);
}

/* The log of a directory: where record `nth` begins. */
static size_t place(const uint8_t *p, int nth)
{
    size_t at = JOURNAL_HEAD_BYTES;
    while (nth-- > 0) at += 64 + (size_t)p[at + 8] + ((size_t)p[at + 9] << 8);
    return at;
}

Test(journal_tools_faults, foreign_bytes_between_records_are_damage_that_loses_nothing)
{
    char dir[64], kept[64], log[80];
    struct model s, got = { 0 };
    struct told t;
    struct journal_report r = { 0 };
    struct fault f = { 0 };
    size_t n;
    make_log(temporary(dir), 60, true, &s);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    uint8_t *p = read_file(log, &n);
    size_t at = place(p, 20);
    p = realloc(p, n + 128);
    memmove(p + at + 128, p + at, n - at);
    memset(p + at, 0x5a, 128);
    write_file(log, p, n + 128);
    cr_assert_null(open_at(&got, &t, dir, &f), "refused");
    cr_assert(f.exit == 65 && strstr(f.why, "lost: none"), "%d: %s", f.exit, f.why);
    cr_assert_eq(journal_check(dir, &r, &f), 1, "damaged");
    cr_assert(r.damaged == 1 && r.damaged_bytes == 128 && !r.lost, "%llu bytes, %llu lost",
              (unsigned long long)r.damaged_bytes, (unsigned long long)r.lost);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "mended: %s", f.why);
    memset(&got, 0, sizeof got);
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(model_digest(&got), model_digest(&s), "the same memories");
    journal_close(j, 0, &f);
    free(p);
    remove_all(dir);
}

Test(journal_tools_faults, a_mended_log_cut_between_two_records_is_damage)
{
    char dir[64], kept[64], log[80];
    struct model got = { 0 };
    struct told t;
    struct journal_report r = { 0 };
    struct fault f = { 0 };
    size_t n;
    free(make_damaged(dir, &n));
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "mended: %s", f.why);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    uint8_t *p = read_file(log, &n);
    write_file(log, p, place(p, 50)); /* all of it was on disk before it took its name */
    cr_assert_eq(journal_check(dir, &r, &f), 1, "damaged");
    cr_assert(r.damaged == 1 && r.lost == 10, "%llu lost", (unsigned long long)r.lost);
    cr_assert_null(open_at(&got, &t, dir, &f), "refused");
    cr_assert_eq(f.exit, 65, "%d: %s", f.exit, f.why);
    free(p);
    remove_all(dir);
}

Test(journal_tools_faults, no_read_of_a_long_log_may_fail)
{
    char dir[64], kept[64], log[80];
    size_t n, more = (size_t)8 << 20;
    struct journal_report r = { 0 };
    uint8_t *p = make_damaged(dir, &n);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    p = realloc(p, n + more);
    memset(p + n, 0x5a, more);
    write_file(log, p, n + more);
    for (int tool = 0; tool < 3; tool++) {
        int failed = 0;
        for (int k = 0; k < 100; k++) {
            struct fault f = { 0 };
            struct model s = { 0 };
            struct told t;
            call_fault(PREAD, k, EIO);
            int bad = tool == 1 ? journal_check(dir, &r, &f) : tool == 2 ? journal_repair(dir, &r, kept, &f) :
                      open_at(&s, &t, dir, &f) ? 0 : -1;
            if (!calls_mended()) break; /* there are no more */
            failed++;
            cr_assert_eq(bad, -1, "tool %d, read %d: %d", tool, k, bad);
            cr_assert_eq(f.exit, 74, "tool %d, read %d: exit %d, %s", tool, k, f.exit, f.why);
            cr_assert(same_log(dir, p, n + more), "tool %d, read %d: nothing is touched", tool, k);
        }
        cr_assert_gt(failed, 3, "tool %d read %d times", tool, failed);
    }
    free(p);
    remove_all(dir);
}
