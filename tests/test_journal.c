// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk.c servers/memory/disk_work.c servers/crc32c.c json.c number.c utf8.c base64.c
#include "test.h"

#include <sys/wait.h>

#include "journal_rig.h"
#include "servers/crc32c.h"

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
    struct journal_state st = journal_state(j);
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

static size_t set_log(const char *dir, uint8_t **p, const char *name)
{
    char log[120];
    size_t n;
    snprintf(log, sizeof log, "%s/%s", dir, name);
    *p = read_file(log, &n);
    return n;
}

Test(journal, a_second_process_is_kept_out_for_three_seconds)
{
    char dir[64];
    struct model s = { 0 }, again = { 0 };
    struct told t;
    struct fault f;
    struct journal *j = open_at(&s, &t, temporary(dir), &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_null(open_at(&again, &t, dir, &f), "held");
    cr_assert_eq(f.exit, 75, "%s", f.why);
    journal_close(j, 0, &f);
    j = open_at(&again, &t, dir, &f);
    cr_assert_not_null(j, "free again: %s", f.why);
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal, a_start_waits_for_one_that_is_ending)
{
    char dir[64];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    temporary(dir);
    pid_t child = fork();
    if (child == 0) {
        struct journal *j = open_at(&s, &t, dir, &f);
        usleep(400000);
        _exit(!j); /* as a kill would */
    }
    usleep(150000);
    struct journal *j = open_at(&s, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    journal_close(j, 0, &f);
    int status;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0, "it had it first");
    remove_all(dir);
}

Test(journal, helper_keeps_the_lock_until_its_batch_is_done)
{
    char dir[64];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    temporary(dir);
    pid_t child = fork();
    if (child == 0) {
        struct journal_config c = model_config(&s, dir);
        c.in_process = false;
        struct journal *j = journal_open(&c, &f);
        struct item i;
        uint64_t seq;
        for (uint32_t k = 0; j && k < 30; k++) {
            enum memory_change kind = model_op(&s, 1, k, &i);
            journal_append(j, kind, &i.m, &seq);
            model_apply(&s, kind, &i);
        }
        if (j) journal_flush(j, 0);
        _exit(!j);
    }
    int status;
    waitpid(child, &status, 0);
    struct model got = { 0 };
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    struct journal_state st = journal_state(j);
    cr_assert_eq(st.seq, 30, "the batch that was handed over is there, %llu", (unsigned long long)st.seq);
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal, directory_is_made_with_its_parents_for_the_owner_alone)
{
    char dir[64], deep[120], name[160];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    struct stat st;
    umask(0);
    snprintf(deep, sizeof deep, "%s/a//b/c/", temporary(dir));
    struct journal *j = open_at(&s, &t, deep, &f);
    cr_assert_not_null(j, "%s", f.why);
    static const struct { const char *name; unsigned mode; } rows[] = {
        { "a", 0700 }, { "a/b/c", 0700 }, { "a/b/c/LOCK", 0600 }, { "a/b/c/memory.log", 0600 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(name, sizeof name, "%s/%s", dir, rows[i].name);
        cr_assert_eq(stat(name, &st), 0, "%s is there", rows[i].name);
        cr_assert_eq(st.st_mode & 07777, rows[i].mode, "%s is 0%o", rows[i].name, st.st_mode & 07777);
    }
    journal_close(j, 0, &f);
    remove_all(deep);
    snprintf(name, sizeof name, "%s/a/b", dir), rmdir(name);
    snprintf(name, sizeof name, "%s/a", dir), rmdir(name);
    rmdir(dir);
}

/* Headers that are whole and not for us; each must say what to do. */
Test(journal, logs_of_another_kind_are_refused_by_name)
{
    static const struct { const char *name; int at; uint8_t value; bool ours; const char *says; } rows[] = {
        { "a minor version", 10, 9, true, "" },
        { "a greater major version", 8, 2, false, "newer version" },
        { "another dimension", 16, 8, false, "--reembed" },
        { "a dimension of 0", 16, 0, false, "unknown here" },
        { "float64", 20, 2, false, "unknown here" },
        { "another embedder", 40, 0xab, false,
          "ab02030000000000000000000000000000000000000000000000000000000009 (4 dimensions), this is "
          "0102030000000000000000000000000000000000000000000000000000000009 (4): start with that one, "
          "or embed all anew with --reembed" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64], log[80];
        struct model s, got = { 0 };
        struct told t;
        struct fault f = { 0 };
        make_log(temporary(dir), 3, true, &s);
        uint8_t *p;
        size_t n = set_log(dir, &p, "memory.log");
        p[rows[i].at] = rows[i].value;
        uint32_t crc = crc32c(0, p, 80);
        for (int k = 0; k < 4; k++) p[80 + k] = (uint8_t)(crc >> 8 * k);
        snprintf(log, sizeof log, "%s/memory.log", dir);
        write_file(log, p, n);
        struct journal *j = open_at(&got, &t, dir, &f);
        cr_assert_eq(j != NULL, rows[i].ours, "%s: %s", rows[i].name, f.why);
        if (j) journal_close(j, 0, &f);
        else cr_assert(f.exit == 65 && strstr(f.why, rows[i].says), "%s: %s", rows[i].name, f.why);
        free(p);
        remove_all(dir);
    }
}

Test(journal, a_torn_tail_is_kept_cut_and_told_once)
{
    char dir[64], log[80];
    struct model s, got = { 0 };
    struct told t;
    struct fault f;
    uint8_t *p, *tail;
    make_log(temporary(dir), 9, false, &s);
    size_t n = set_log(dir, &p, "memory.log");
    snprintf(log, sizeof log, "%s/memory.log", dir);
    p = realloc(p, n + 1000);
    memset(p + n, 'z', 1000);
    write_file(log, p, n + 1000);
    log_lines = 0;
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(log_lines, 1, "one line");
    cr_assert_not_null(strstr(log_caught, "bytes=1000 kept=memory.torn-10"), "%s", log_caught);
    cr_assert_eq(model_digest(&got), model_digest(&s), "nothing else is lost");
    size_t m = set_log(dir, &tail, "memory.torn-10");
    cr_assert(m == 1000 && tail[0] == 'z' && tail[999] == 'z', "kept byte for byte");
    journal_close(j, 0, &f);
    j = open_at(&got, &t, dir, &f);
    cr_assert_eq(log_lines, 1, "not told again");
    journal_close(j, 0, &f);
    free(p);
    free(tail);
    remove_all(dir);
}

Test(journal, damage_names_its_offset_and_the_numbers_lost)
{
    char dir[64], log[80];
    struct model s, got = { 0 };
    struct told t;
    struct fault f;
    uint8_t *p;
    make_log(temporary(dir), 20, true, &s);
    size_t n = set_log(dir, &p, "memory.log"), at = JOURNAL_HEAD_BYTES;
    snprintf(log, sizeof log, "%s/memory.log", dir);
    size_t broken = 0;
    for (int seq = 1; seq <= 14; seq++) { /* 7, 12 and 13 */
        if (seq == 7) broken = at;
        if (seq == 7 || seq == 12 || seq == 13) p[at + 33] ^= 1;
        at += 64 + (size_t)p[at + 8] + ((size_t)p[at + 9] << 8);
    }
    write_file(log, p, n);
    char offset[100];
    snprintf(offset, sizeof offset, "damaged at offset %zu: sequence numbers lost: 7 to 7, 12 to 13;", broken);
    cr_assert_null(open_at(&got, &t, dir, &f), "refused");
    cr_assert(f.exit == 65 && strstr(f.why, offset) && strstr(f.why, "--repair"), "%s", f.why);
    cr_assert_eq(count_files(dir, "memory.torn"), 0, "and nothing is cut");
    free(p);
    remove_all(dir);
}

/* Bytes of one part of the log in place of another: what the chain and the numbers are for. */
Test(journal, lost_doubled_and_swapped_records_are_damage)
{
    static const struct { const char *name; int from, to, n; } rows[] = {
        { "lost", 6, 5, 8 }, { "doubled", 4, 5, 8 }, { "an older one in its place", 2, 5, 1 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64], log[80];
        struct model s = { 0 }, got = { 0 };
        struct told t;
        struct fault f;
        struct journal *j = open_at(&s, &t, temporary(dir), &f);
        for (uint64_t k = 0; k < 14; k++) {
            struct memory m = { .id = { (uint8_t)k } };
            uint64_t seq;
            journal_append(j, MEMORY_DELETE, &m, &seq); /* of one size: nothing hides behind lengths */
            journal_flush(j, 0);
        }
        journal_close(j, 0, &f);
        uint8_t *p;
        size_t n = set_log(dir, &p, "memory.log");
        snprintf(log, sizeof log, "%s/memory.log", dir);
        uint8_t *at = p + JOURNAL_HEAD_BYTES;
        memmove(at + 64 * rows[i].to, at + 64 * rows[i].from, (size_t)(64 * rows[i].n));
        write_file(log, p, n);
        cr_assert_null(open_at(&got, &t, dir, &f), "%s", rows[i].name);
        cr_assert_eq(f.exit, 65, "%s: %s", rows[i].name, f.why);
        free(p);
        remove_all(dir);
    }
}

Test(journal, a_record_that_hangs_on_another_chain_ends_the_log)
{
    char dir[64], log[80];
    struct model s, got = { 0 };
    struct told t;
    struct fault f;
    uint8_t *p;
    make_log(temporary(dir), 0, false, &s);
    size_t n = set_log(dir, &p, "memory.log");
    p = realloc(p, n + 192);
    struct record_seal a = { .seq = 0 }, b;
    struct memory m = { .id = { 1 } };
    memcpy(a.file_id, p + 24, 16);
    for (int i = 0; i < 3; i++) record_put(p + n + 64 * i, RECORD_DELETE, DIM, &m);
    record_seal(p + n, &a);
    b = a;
    b.chain ^= 1; /* number and checksum are right */
    record_seal(p + n + 64, &b);
    record_seal(p + n + 128, &b);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    write_file(log, p, n + 192);
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    struct journal_state st = journal_state(j);
    cr_assert_eq(st.seq, 1, "only the first counts");
    cr_assert_eq(st.orphans, 1, "and deletes what is not there");
    journal_close(j, 0, &f);
    free(p);
    remove_all(dir);
}

Test(journal, unknown_types_are_skipped_only_where_they_say_so)
{
    for (int flag = 0; flag < 2; flag++) {
        char dir[64], log[80];
        struct model s, got = { 0 };
        struct told t;
        struct fault f;
        uint8_t *p;
        make_log(temporary(dir), 0, false, &s);
        size_t n = set_log(dir, &p, "memory.log");
        p = realloc(p, n + 64);
        struct record_seal seal = { .seq = 0 };
        memcpy(seal.file_id, p + 24, 16);
        record_put(p + n, RECORD_CLOSE, DIM, NULL);
        p[n + 12] = 9;
        p[n + 15] = flag ? 0x80 : 0;
        record_seal(p + n, &seal);
        snprintf(log, sizeof log, "%s/memory.log", dir);
        write_file(log, p, n + 64);
        struct journal *j = open_at(&got, &t, dir, &f);
        cr_assert_eq(j != NULL, flag, "%s", f.why);
        if (j) journal_close(j, 0, &f);
        else cr_assert(f.exit == 65 && strstr(f.why, "unknown type 9"), "%s", f.why);
        free(p);
        remove_all(dir);
    }
}

Test(journal, sync_modes_tell_what_they_promise)
{
    static const struct { int64_t sync_ms; uint64_t durable, after; } rows[] = {
        { JOURNAL_SYNC_ALWAYS, 1, 2 }, { 1000, 0, 1 }, { JOURNAL_SYNC_NEVER, 0, 0 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64];
        struct model s = { 0 };
        struct told t = { 0 };
        struct fault f;
        struct item one;
        uint64_t seq;
        struct journal_config c = model_config(&s, temporary(dir));
        c.sync_ms = rows[i].sync_ms;
        c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, &t };
        struct journal *j = journal_open(&c, &f);
        cr_assert_eq(journal_due(j), INT64_MAX, "nothing to do in row %zu", i);
        model_op(&s, 1, 1, &one);
        journal_append(j, MEMORY_PUT, &one.m, &seq);
        cr_assert(t.written == 0 && journal_due(j) == 0, "appending writes nothing in row %zu", i);
        journal_flush(j, 100);
        cr_assert(t.written == 1 && t.durable == rows[i].durable, "row %zu", i);
        journal_flush(j, 400);
        cr_assert_eq(t.durable, rows[i].durable, "not yet in row %zu", i);
        if (rows[i].sync_ms > 0) cr_assert_eq(journal_due(j), 850, "three quarters of a second");
        journal_flush(j, 850);
        journal_flush(j, 1850);
        cr_assert_eq(t.durable, rows[i].after, "row %zu, %llu", i, (unsigned long long)t.durable);
        journal_sync(j);
        journal_flush(j, 1900);
        cr_assert_geq(t.durable, 1, "asked for in row %zu", i);
        journal_close(j, 2000, &f);
        remove_all(dir);
    }
}

Test(journal, an_idle_log_gets_one_last_watermark)
{
    char dir[64];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    struct journal_state st;
    struct journal *j = open_at(&s, &t, temporary(dir), &f);
    run(j, &s, 7, 0, 5);
    cr_assert_eq(journal_due(j), 1005, "due a second after");
    journal_flush(j, 1004);
    st = journal_state(j);
    cr_assert_eq(st.seq, 5, "not yet");
    journal_flush(j, 1005);
    st = journal_state(j);
    cr_assert(st.seq == 6 && st.durable == 6, "now, and on disk");
    for (int64_t now = 3000; now < 20000; now += 1000) journal_flush(j, now);
    st = journal_state(j);
    cr_assert_eq(st.seq, 6, "and never again while nothing is stored");
    cr_assert_eq(journal_due(j), INT64_MAX, "nothing more is due");
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal, what_does_not_fit_is_refused_and_changes_nothing)
{
    char dir[64];
    static char big[RECORD_MAX_PAYLOAD];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    struct journal *j = open_at(&s, &t, temporary(dir), &f);
    static const struct { size_t text, metadata, tags; int r; } rows[] = {
        { RECORD_MAX_PAYLOAD / 2, 65535, 65535, 0 }, { RECORD_MAX_PAYLOAD / 2 + 1, 2, 2, JOURNAL_MISUSE },
        { 1, 65536, 2, JOURNAL_MISUSE }, { 1, 2, 65536, JOURNAL_MISUSE } };
    uint64_t seq;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct memory m = { .vector = (float[DIM]){ 0 }, .text = { big, rows[i].text },
                            .metadata = { big, rows[i].metadata }, .tags = { big, rows[i].tags } };
        cr_assert_eq(journal_append(j, MEMORY_PUT, &m, &seq), rows[i].r, "row %zu", i);
    }
    struct memory m = { .vector = (float[DIM]){ 0 }, .text = { big, RECORD_MAX_PAYLOAD / 2 } };
    int n = 1, r;
    size_t each = record_bytes(RECORD_PUT, DIM, &m);
    while (n < 100 && (r = journal_append(j, MEMORY_PUT, &m, &seq)) == 0) n++;
    cr_assert_eq(r, JOURNAL_BUSY, "the batch is full after %d", n);
    cr_assert(!journal_room(j, each) && journal_room(j, 64), "and says so");
    cr_assert_eq(seq, (uint64_t)n, "no number was given for what was refused");
    journal_flush(j, 0);
    cr_assert(journal_room(j, each) && t.durable == (uint64_t)n, "room again once it is written");
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal, numbers_can_be_spent_on_marks)
{
    char dir[64];
    struct model s = { 0 }, got = { 0 };
    struct told t;
    struct fault f;
    struct item one;
    struct journal_state st;
    uint64_t seq;
    struct journal *j = open_at(&s, &t, temporary(dir), &f);
    model_op(&s, 1, 1, &one);
    cr_assert_eq(journal_pad(j, 1), 0, "the next number needs none");
    st = journal_state(j);
    cr_assert_eq(st.seq, 0);
    cr_assert_eq(journal_pad(j, 5), 0);
    cr_assert_eq(journal_append(j, MEMORY_PUT, &one.m, &seq), 0);
    cr_assert_eq(seq, 5);
    cr_assert_eq(journal_wait(j, 0), 0);
    cr_assert_eq(t.durable, 5);
    cr_assert_eq(journal_pad(j, 100000), JOURNAL_BUSY, "not more than a batch holds");
    journal_close(j, 0, &f);
    j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(got.n, 1, "marks carry nothing");
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal, a_helper_that_dies_is_a_storage_failure)
{
    char dir[64];
    struct model s = { 0 };
    struct told t = { 0 };
    struct fault f;
    struct item one;
    uint64_t seq;
    struct journal_config c = model_config(&s, temporary(dir));
    c.in_process = false;
    c.events = (struct journal_events){ on_written, on_durable, on_failed, on_compacted, &t };
    struct journal *j = journal_open(&c, &f);
    model_op(&s, 1, 1, &one);
    cr_assert_eq(journal_append(j, MEMORY_PUT, &one.m, &seq), 0, "first");
    cr_assert_eq(journal_wait(j, 0), 0, "written");
    char command[80];
    snprintf(command, sizeof command, "pkill -9 -P %d -x recalld-disk", getpid());
    cr_assert_eq(system(command), 0, "a child of ours of that name");
    cr_assert_eq(journal_append(j, MEMORY_PUT, &one.m, &seq), 0, "second");
    cr_assert_eq(journal_wait(j, 0), JOURNAL_STOPPED, "it is gone");
    cr_assert(t.failures == 1 && t.failed_from == 2 && !t.full, "all from the second on has failed");
    cr_assert_not_null(strstr(t.why, "helper"), "%s", t.why);
    cr_assert_eq(journal_append(j, MEMORY_PUT, &one.m, &seq), JOURNAL_STOPPED, "and for ever");
    cr_assert_eq(journal_close(j, 0, &f), -1, "the end is not clean");
    cr_assert_eq(f.exit, 74, "%s", f.why);
    struct model got = { 0 };
    j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(got.n, 1, "what was acknowledged is there");
    journal_close(j, 0, &f);
    remove_all(dir);
}

/* tests/data/x86-64.log: 24 operations of seed 7, written on that machine. */
Test(journal, a_log_of_another_machine_is_read)
{
    char dir[64], log[80];
    struct model want = { 0 }, got = { 0 };
    struct told t;
    struct fault f;
    size_t n;
    uint8_t *p = read_file("tests/data/x86-64.log", &n);
    cr_assert_not_null(p, "run from the top directory");
    snprintf(log, sizeof log, "%s/memory.log", temporary(dir));
    write_file(log, p, n);
    free(p);
    for (uint32_t k = 0; k < 24; k++) {
        struct item i;
        enum memory_change kind = model_op(&want, 7, k, &i);
        model_apply(&want, kind, &i);
    }
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(model_digest(&got), model_digest(&want), "every field of every memory");
    run(j, &got, 7, 24, 40);
    cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
    remove_all(dir);
}
