// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk.c servers/memory/disk_work.c servers/crc32c.c
#include "test.h"

#include "journal_dir.h"
#include "journal_log.h"
#include "journal_model.h"

/* What the journal told. */
struct told {
    uint64_t written, durable, failed_from;
    int      failures, compactions;
    bool     full;
    char     why[120];
};

static void on_written(void *user, uint64_t seq) { ((struct told *)user)->written = seq; }
static void on_durable(void *user, uint64_t seq) { ((struct told *)user)->durable = seq; }
static void on_failed(void *user, uint64_t from, bool full, const char *why)
{
    struct told *t = user;
    t->failures++;
    t->failed_from = from;
    t->full = full;
    snprintf(t->why, sizeof t->why, "%s", why);
}
static void on_compacted(void *user, const char *why)
{
    struct told *t = user;
    t->compactions++;
    snprintf(t->why, sizeof t->why, "%s", why ? why : "");
}

static struct journal *open_at(struct model *s, struct told *t, const char *dir, struct fault *f)
{
    struct journal_config c = model_config(s, dir);
    memset(t, 0, sizeof *t);
    c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, t };
    return journal_open(&c, f);
}

/* Operations from..to-1 of a seed, one batch each. */
static void run(struct journal *j, struct model *s, uint32_t seed, uint32_t from, uint32_t to)
{
    for (uint32_t k = from; k < to; k++) {
        struct item t;
        uint64_t seq;
        enum memory_change kind = model_op(s, seed, k, &t);
        cr_assert_eq(journal_append(j, kind, &t.m, &seq), 0, "operation %u", k);
        model_apply(s, kind, &t);
        journal_flush(j, k);
    }
    cr_assert_eq(journal_wait(j, to), 0, "all is written");
}

/* A log of n operations, closed or as a kill leaves it. */
static void make_log(const char *dir, uint32_t n, bool closed, struct model *s)
{
    struct told t;
    struct fault f;
    memset(s, 0, sizeof *s);
    struct journal *j = open_at(s, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    run(j, s, 7, 0, n);
    char copy[300], log[300];
    snprintf(copy, sizeof copy, "%s/copy", dir);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    if (!closed) copy_file(log, copy);
    cr_assert_eq(journal_close(j, n, &f), 0, "%s", f.why);
    if (!closed) rename(copy, log);
}

Test(journal, what_was_appended_is_replayed_after_a_clean_stop)
{
    char dir[64];
    struct model s, again = { 0 };
    struct told t;
    struct fault f;
    make_log(temporary(dir), 200, true, &s);
    struct journal *j = open_at(&again, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(model_digest(&again), model_digest(&s), "the same memories in the same order");
    struct journal_state st;
    journal_state(j, &st);
    cr_assert_eq(st.seq, 201, "200 operations and the close record, not %llu", (unsigned long long)st.seq);
    cr_assert_eq(st.durable, 201, "what was read is on disk");
    cr_assert_eq(again.unknown, 0, "no change without its memory");
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal, opening_and_closing_writes_nothing)
{
    char dir[64], log[80];
    struct model s, again = { 0 };
    struct told t;
    struct fault f;
    make_log(temporary(dir), 20, true, &s);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    size_t n, m;
    uint8_t *before = read_file(log, &n);
    struct journal *j = open_at(&again, &t, dir, &f);
    journal_flush(j, 0);
    journal_flush(j, 5000);
    journal_close(j, 6000, &f);
    uint8_t *after = read_file(log, &m);
    cr_assert(n == m && !memcmp(before, after, n), "the log is as it was, %zu and %zu bytes", n, m);
    free(before);
    free(after);
    remove_all(dir);
}

Test(journal, helper_does_the_same_as_inline)
{
    char a[64], b[64], name[80];
    struct fault f;
    uint8_t *bytes[2];
    size_t n[2];
    temporary(a), temporary(b);
    for (int inlined = 0; inlined < 2; inlined++) {
        struct model s = { 0 };
        struct told t = { 0 };
        struct journal_config c = model_config(&s, inlined ? a : b);
        c.in_process = inlined;
        c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, &t };
        struct journal *j = journal_open(&c, &f);
        cr_assert_not_null(j, "%s", f.why);
        for (uint32_t k = 0; k < 300; k++) {
            struct item i;
            uint64_t seq;
            enum memory_change kind = model_op(&s, 3, k, &i);
            cr_assert_eq(journal_append(j, kind, &i.m, &seq), 0, "operation %u", k);
            cr_assert_eq(seq, k + 1, "numbers go up by one");
            model_apply(&s, kind, &i);
            if (k % 7 == 0) journal_wait(j, k);
            cr_assert(k % 7 || t.durable == k + 1, "durable after a wait");
        }
        cr_assert_eq(journal_close(j, 300, &f), 0, "%s", f.why);
        snprintf(name, sizeof name, "%s/memory.log", inlined ? a : b);
        bytes[inlined] = read_file(name, &n[inlined]);
    }
    cr_assert_eq(n[0], n[1], "%zu and %zu bytes", n[0], n[1]);
    free(bytes[0]);
    free(bytes[1]);
    remove_all(a);
    remove_all(b);
}

/* In a log that was not closed a tail that nobody was told of is torn; what was
 * acknowledged before the cut must come back, or the damage be reported. */
Test(journal, every_truncation_gives_a_prefix_or_a_report)
{
    for (int closed = 0; closed < 2; closed++) {
        char dir[64], log[80];
        struct model s;
        struct told t;
        struct fault f;
        uint64_t digest[21];
        make_log(temporary(dir), 20, closed, &s);
        struct model step = { 0 };
        for (uint32_t k = 0; k <= 20; k++) {
            digest[k] = model_digest(&step);
            struct item i;
            enum memory_change kind = model_op(&step, 7, k, &i);
            model_apply(&step, kind, &i);
        }
        snprintf(log, sizeof log, "%s/memory.log", dir);
        size_t n;
        uint8_t *whole = read_file(log, &n);
        int reports = 0;
        for (size_t cut = 0; cut < n; cut++) {
            write_file(log, whole, cut);
            struct model got = { 0 };
            struct journal *j = open_at(&got, &t, dir, &f);
            if (!j) {
                cr_assert_eq(f.exit, 65, "cut at %zu: %s", cut, f.why);
                cr_assert(cut < JOURNAL_HEAD_BYTES, "cut at %zu: %s", cut, f.why);
                reports++;
                continue;
            }
            int k = 0;
            while (k <= 20 && digest[k] != model_digest(&got)) k++;
            cr_assert(k <= 20, "cut at %zu is some prefix", cut);
            struct model twice = { 0 };
            journal_close(j, 0, &f);
            j = open_at(&twice, &t, dir, &f);
            cr_assert_not_null(j, "cut at %zu, opened again: %s", cut, f.why);
            cr_assert_eq(model_digest(&twice), model_digest(&got), "cut at %zu, opened twice", cut);
            journal_close(j, 0, &f);
        }
        cr_assert_gt(reports, 0, "the header is missed");
        free(whole);
        remove_all(dir);
    }
}

Test(journal, every_wrong_byte_of_a_closed_log_is_reported)
{
    char dir[64], log[80];
    struct model s;
    struct told t;
    struct fault f;
    make_log(temporary(dir), 12, true, &s);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    size_t n;
    uint8_t *whole = read_file(log, &n);
    for (size_t at = 0; at < n; at++) {
        /* between the header's copies nothing is read */
        if (at >= 84 && at < JOURNAL_HEAD_BYTES) continue;
        whole[at] ^= 0x41;
        write_file(log, whole, n);
        whole[at] ^= 0x41;
        struct model got = { 0 };
        struct journal *j = open_at(&got, &t, dir, &f);
        if (j) {
            cr_assert(at >= n - 64, "a wrong byte at %zu passes", at);
            cr_assert_eq(model_digest(&got), model_digest(&s), "byte %zu of the close record", at);
            journal_close(j, 0, &f);
            continue;
        }
        cr_assert_eq(f.exit, 65, "byte %zu: %s", at, f.why);
        cr_assert_not_null(strstr(f.why, "offset"), "byte %zu: %s", at, f.why);
    }
    free(whole);
    remove_all(dir);
}
