// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk.c servers/memory/disk_work.c servers/crc32c.c json.c number.c utf8.c base64.c
#include "test.h"

#include "journal_rig.h"

static struct journal *open_as(struct model *s, struct told *t, const char *dir, bool inlined,
                               struct fault *f)
{
    struct journal_config c = model_config(s, dir);
    memset(t, 0, sizeof *t);
    c.in_process = inlined;
    c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, t };
    return journal_open(&c, f);
}

/* Operation k, as a store does it while a compaction runs. */
static void operate(struct journal *j, struct model *s, uint32_t k)
{
    struct item t;
    uint64_t seq;
    enum memory_change kind = model_op(s, 7, k, &t);
    struct item *row = kind == MEMORY_DELETE ? model_find(s, t.m.id) : NULL;
    if (row && row->flagged && journal_compacting(j)) {
        row->flagged = false;
        journal_compact_keep(j, &row->m);
    }
    cr_assert_eq(journal_append(j, kind, &t.m, &seq), 0, "operation %u", k);
    model_apply(s, kind, &t);
}

static void expect(const char *dir, const struct model *s, uint64_t seq)
{
    struct model got = { 0 };
    struct told t;
    struct fault f = { 0 };
    struct journal_report r = { 0 };
    cr_assert_eq(journal_check(dir, &r, &f), 0, "whole: %s", f.why);
    cr_assert(r.closed, "by a clean stop");
    cr_assert_eq(r.live, (uint64_t)s->n, "%llu live", (unsigned long long)r.live);
    cr_assert_eq(r.seq, seq, "ends at %llu", (unsigned long long)r.seq);
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(model_digest(&got), model_digest(s), "the same memories in the same order");
    cr_assert_eq(got.unknown, 0, "no change without its memory");
    journal_close(j, 0, &f);
}

Test(journal_compact, new_log_holds_what_lives_and_ends_at_the_same_number)
{
    for (int inlined = 0; inlined < 2; inlined++) {
        char dir[64];
        struct model s = { 0 };
        struct told t;
        struct fault f;
        struct journal_state before, after;
        struct journal *j = open_as(&s, &t, temporary(dir), inlined, &f);
        run(j, &s, 7, 0, 300);
        before = journal_state(j);
        struct journal_living living = model_flag(&s);
        cr_assert_eq(journal_compact_all(j, &living, 0, &f), 0, "%s", f.why);
        after = journal_state(j);
        uint64_t live = 0;
        for (int i = 0; i < s.n; i++) live += record_bytes(RECORD_PUT, DIM, &s.items[i].m);
        cr_assert_eq(after.bytes, JOURNAL_HEAD_BYTES + live, "not a byte of garbage");
        cr_assert(after.seq == 300 && after.durable == 300, "numbers stay");
        cr_assert_lt(after.bytes, before.bytes, "it is shorter");
        cr_assert(t.compactions == 1 && !t.why[0], "told once");
        for (int64_t now = 0; now < 5000; now += 500) {
            journal_ready(j, now);
            journal_flush(j, now);
            cr_assert_gt(journal_due(j), now, "nothing is due over and over");
        }
        cr_assert_eq(journal_wait(j, 5000), 0, "written");
        run(j, &s, 7, 300, 320);
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
        cr_assert_eq(count_files(dir, "memory.log"), 1, "nothing is left behind");
        expect(dir, &s, 321);
        remove_all(dir);
    }
}

/* A store goes on at every speed: so many operations and flushes between two slices. */
Test(journal_compact, what_is_stored_meanwhile_keeps_its_numbers)
{
    for (int row = 0; row < 40; row++) {
        bool inlined = row % 2;
        int each = row / 2 % 5, flush = 1 + row % 3;
        char dir[64];
        struct model s = { 0 };
        struct told t;
        struct fault f;
        uint32_t k = 100;
        struct journal *j = open_as(&s, &t, temporary(dir), inlined, &f);
        run(j, &s, 7, 0, k);
        for (int i = 0; i < row % 7; i++) operate(j, &s, k++);
        struct journal_living living = model_flag(&s);
        cr_assert_eq(journal_compact_begin(j, &living), 0, "begun");
        cr_assert_eq(journal_compact_begin(j, &living), -1, "not twice");
        for (int turn = 0; journal_compacting(j) && turn < 100000; turn++) {
            journal_ready(j, 0);
            for (int i = 0; i < each && k < 400; i++) operate(j, &s, k++);
            journal_compact_step(j, 0);
            if (turn % flush == 0) journal_flush(j, 0);
        }
        cr_assert(t.compactions == 1 && !t.why[0], "row %d: %d %s", row, t.compactions, t.why);
        cr_assert_eq(journal_wait(j, 0), 0, "row %d", row);
        cr_assert_eq(t.durable, k, "row %d", row);
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
        expect(dir, &s, k + 1);
        remove_all(dir);
    }
}

Test(journal_compact, nothing_alive_gives_an_empty_log_that_counts_on)
{
    char dir[64];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    struct journal *j = open_at(&s, &t, temporary(dir), &f);
    run(j, &s, 7, 0, 30);
    while (s.n) {
        uint64_t seq;
        struct item gone = s.items[0];
        journal_append(j, MEMORY_DELETE, &gone.m, &seq);
        model_delete(&s, gone.m.id);
    }
    struct journal_living living = model_flag(&s);
    cr_assert_eq(journal_compact_all(j, &living, 0, &f), 0, "%s", f.why);
    struct journal_state st = journal_state(j);
    cr_assert(st.bytes == JOURNAL_HEAD_BYTES && st.seq > 30, "only the header");
    uint64_t seq = st.seq;
    journal_close(j, 0, &f);
    expect(dir, &s, seq + 1);
    remove_all(dir);
}

Test(journal_compact, closing_in_the_middle_leaves_the_old_log)
{
    for (int turns = 0; turns < 4; turns++) {
        char dir[64];
        struct model s = { 0 };
        struct told t;
        struct fault f;
        struct journal *j = open_as(&s, &t, temporary(dir), turns % 2, &f);
        run(j, &s, 7, 0, 100);
        struct journal_living living = model_flag(&s);
        journal_compact_begin(j, &living);
        for (int i = 0; i < turns; i++) journal_compact_step(j, 0);
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
        struct model got = { 0 };
        j = open_at(&got, &t, dir, &f);
        cr_assert_not_null(j, "%s", f.why);
        cr_assert_eq(count_files(dir, "memory.log.tmp"), 0, "no half a log");
        journal_close(j, 0, &f);
        expect(dir, &s, 101);
        remove_all(dir);
    }
}

Test(journal_compact, a_closed_log_is_compacted_and_closed_again)
{
    char dir[64];
    struct model s, again = { 0 };
    struct told t;
    struct fault f;
    make_log(temporary(dir), 60, true, &s);
    struct journal *j = open_at(&again, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    struct journal_living living = model_flag(&again);
    cr_assert_eq(journal_compact_all(j, &living, 0, &f), 0, "%s", f.why);
    cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
    expect(dir, &s, 62);
    remove_all(dir);
}

/* A caller that hands over other memories than it promised. */
Test(journal_compact, wrong_number_of_memories_keeps_the_old_log)
{
    for (int more = -1; more <= 1; more += 2) {
        char dir[64];
        struct model s = { 0 };
        struct told t;
        struct fault f;
        struct journal *j = open_at(&s, &t, temporary(dir), &f);
        run(j, &s, 7, 0, 40);
        struct journal_living living = model_flag(&s);
        living.n += (uint64_t)more;
        cr_assert_eq(journal_compact_all(j, &living, 0, &f), -1, "it is seen");
        cr_assert_not_null(strstr(f.why, "memories than there were"), "%s", f.why);
        living = model_flag(&s);
        cr_assert_eq(journal_compact_all(j, &living, 0, &f), 0, "and can be done right: %s", f.why);
        journal_close(j, 0, &f);
        expect(dir, &s, 41);
        remove_all(dir);
    }
}

Test(journal_compact, due_above_half_and_a_mebibyte)
{
    char dir[64];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    static char text[60000];
    struct journal *j = open_at(&s, &t, temporary(dir), &f);
    struct memory m = { .id = { 1 }, .vector = (float[DIM]){ 0 }, .text = { text, sizeof text },
                        .metadata = { "{}", 2 } };
    uint64_t seq, each = record_bytes(RECORD_PUT, DIM, &m);
    struct journal_state st = { 0 };
    uint64_t least = (uint64_t)1 << 20;
    for (int i = 0; i < 40; i++) {
        journal_append(j, MEMORY_PUT, &m, &seq);
        journal_flush(j, 0);
        st = journal_state(j);
        uint64_t garbage = st.bytes - JOURNAL_HEAD_BYTES - each;
        cr_assert_eq(journal_compact_due(j, each, 0), garbage >= least && garbage > st.bytes / 2,
                     "%llu bytes of garbage", (unsigned long long)garbage);
        uint64_t half = st.bytes / 2;
        cr_assert_not(journal_compact_due(j, half, 0), "not when half of it lives");
        if (st.bytes > 2 * least + 2 * JOURNAL_HEAD_BYTES)
            cr_assert(journal_compact_due(j, st.bytes - JOURNAL_HEAD_BYTES - half - 1, 0), "just above half");
    }
    struct journal_living wrong = { 2, model_living, &s };
    s.n = 0;
    cr_assert_eq(journal_compact_all(j, &wrong, 5000, &f), -1, "a failure");
    cr_assert_not(journal_compact_due(j, each, 64999), "is not repeated within a minute");
    cr_assert(journal_compact_due(j, each, 65000), "but after");
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal_compact, deleting_more_than_fits_gives_up_and_keeps_the_old_log)
{
    char dir[64];
    static char text[MEMORY_TEXT];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    struct journal *j = open_as(&s, &t, temporary(dir), false, &f);
    struct memory m = { .vector = (float[DIM]){ 0 }, .text = { text, sizeof text },
                        .metadata = { "{}", 2 }, .tags = { "[]", 2 } };
    uint64_t seq;
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 300; i++) {
        memcpy(m.id, &i, sizeof i);
        cr_assert_eq(journal_append(j, MEMORY_PUT, &m, &seq), 0, "%d", i);
        if (i % 30 == 0) journal_wait(j, 0);
    }
    journal_wait(j, 0);
    struct journal_living living = { 300, model_living, &s };
    cr_assert_eq(journal_compact_begin(j, &living), 0, "begun");
    for (int i = 0; i < 300; i++) {
        memcpy(m.id, &i, sizeof i);
        journal_compact_keep(j, &m);
        journal_append(j, MEMORY_DELETE, &m, &seq);
    }
    while (journal_compacting(j)) {
        journal_wait(j, 0);
        usleep(1000);
        journal_ready(j, 0);
    }
    cr_assert(t.compactions == 1 && strstr(t.why, "deleted"), "%s", t.why);
    cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
    struct journal_report r = { 0 };
    cr_assert_eq(journal_check(dir, &r, &f), 0, "%s", f.why);
    cr_assert(r.live == 0 && r.seq == 601 && r.orphans == 0, "all was put and deleted");
    remove_all(dir);
}
