// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk.c servers/memory/disk_work.c servers/crc32c.c json.c number.c utf8.c base64.c
#include "test.h"

#include <math.h>

#include "journal_rig.h"
#include "servers/memory/walk.h"

/* The log of a directory and where its records begin. */
struct log {
    char     name[96];
    uint8_t *p;
    size_t   n, at[80];
    int      records;
};

static struct log load(const char *dir)
{
    struct log l = { .records = 0 };
    snprintf(l.name, sizeof l.name, "%s/memory.log", dir);
    l.p = read_file(l.name, &l.n);
    for (size_t at = JOURNAL_HEAD_BYTES; at < l.n; l.records++) {
        l.at[l.records] = at;
        at += 64 + (size_t)l.p[at + 8] + ((size_t)l.p[at + 9] << 8);
    }
    return l;
}

struct places { int n; uint64_t offset[9], bytes[9], from[9], to[9]; };

static void on_damage(void *user, uint64_t offset, uint64_t bytes, uint64_t from, uint64_t to)
{
    struct places *p = user;
    p->offset[p->n] = offset;
    p->bytes[p->n] = bytes;
    p->from[p->n] = from;
    p->to[p->n++] = to;
}

Test(journal_tools, whole_logs_pass_and_are_counted)
{
    for (int closed = 0; closed < 2; closed++) {
        char dir[64], kept[64];
        struct model s;
        struct fault f;
        struct journal_report r = { 0 };
        struct journal_head h;
        make_log(temporary(dir), 60, closed, &s);
        cr_assert_eq(journal_check(dir, &r, &f), 0, "%s", f.why);
        cr_assert(r.records == 60u + (unsigned)closed && r.seq == r.records && r.closed == closed, "counted");
        cr_assert(r.live == (uint64_t)s.n && !r.damaged && !r.lost && !r.orphans && !r.torn_bytes, "whole");
        uint64_t live = 0;
        for (int i = 0; i < s.n; i++) live += record_bytes(RECORD_PUT, DIM, &s.items[i].m);
        cr_assert_eq(r.live_bytes, live, "bytes that live");
        cr_assert_eq(journal_peek(dir, &h, &f), 0, "%s", f.why);
        cr_assert(h.dimension == DIM && !memcmp(h.fingerprint, model_print, 32), "header");
        struct log a = load(dir);
        cr_assert_eq(journal_repair(dir, &r, kept, &f), 0, "nothing to repair");
        struct log b = load(dir);
        cr_assert(a.n == b.n && !memcmp(a.p, b.p, a.n) && !kept[0], "and nothing is touched");
        free(a.p), free(b.p);
        remove_all(dir);
    }
}

Test(journal_tools, no_log_is_no_damage)
{
    char dir[64], kept[64];
    struct fault f = { 0 };
    struct journal_report r = { 0 };
    struct journal_head h;
    temporary(dir);
    cr_assert_eq(journal_check(dir, &r, &f), 0, "%s", f.why);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 0, "%s", f.why);
    cr_assert_eq(journal_peek(dir, &h, &f), 1, "none");
    remove_all(dir);
    cr_assert_eq(journal_check(dir, &r, &f), -1, "no directory");
    cr_assert_eq(f.exit, 74, "%s", f.why);
}

/* Records i..i+n-1 broken by one byte each: what is told, and what a repair keeps. */
Test(journal_tools, damage_is_told_by_place_and_the_rest_is_kept)
{
    static const struct { const char *name; int first, n, second; int at; int places; uint64_t lost; } rows[] = {
        { "one payload", 5, 1, -1, 70, 1, 1 },
        { "one header", 5, 1, -1, 20, 1, 1 },
        { "a magic", 5, 1, -1, 4, 1, 1 },
        { "the first", 0, 1, -1, 70, 1, 1 },
        { "three in a row", 7, 3, -1, 8, 1, 3 },
        { "two places", 3, 2, 20, 33, 2, 3 },
        { "neighbours of one", 10, 1, 12, 33, 2, 2 },
        { "the last before the close record", 29, 1, -1, 33, 1, 1 },
        { "all but the close record", 0, 30, -1, 33, 1, 30 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64], kept[64];
        struct model s, got = { 0 };
        struct told t;
        struct fault f = { 0 };
        struct places places = { 0 };
        struct journal_report r = { .damage = on_damage, .user = &places };
        make_log(temporary(dir), 30, true, &s);
        struct log l = load(dir);
        for (int k = rows[i].first; k < rows[i].first + rows[i].n; k++) l.p[l.at[k] + (size_t)rows[i].at % 128 % (l.at[k + 1] - l.at[k])] ^= 4;
        if (rows[i].second >= 0) l.p[l.at[rows[i].second] + 5] ^= 4;
        write_file(l.name, l.p, l.n);
        cr_assert_eq(journal_check(dir, &r, &f), 1, "%s is damage: %s", rows[i].name, f.why);
        cr_assert(places.n == rows[i].places && r.lost == rows[i].lost, "%s: %d places, %llu lost",
                  rows[i].name, places.n, (unsigned long long)r.lost);
        cr_assert_eq(places.offset[0], l.at[rows[i].first], "%s: offset", rows[i].name);
        cr_assert_eq(places.from[0], (uint64_t)rows[i].first + 1, "%s: first lost", rows[i].name);
        cr_assert_eq(places.to[0], (uint64_t)(rows[i].first + rows[i].n), "%s: last lost", rows[i].name);
        places.n = 0;
        cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "%s is mended: %s", rows[i].name, f.why);
        cr_assert_str_eq(kept, "memory.damaged-31", "%s", rows[i].name);
        char name[160];
        size_t n;
        snprintf(name, sizeof name, "%s/%s", dir, kept);
        uint8_t *old = read_file(name, &n);
        cr_assert(n == l.n && !memcmp(old, l.p, n), "%s: the old file is kept as it was", rows[i].name);
        uint64_t orphans = r.orphans;
        cr_assert_eq(journal_check(dir, &r, &f), 0, "%s is whole now", rows[i].name);
        cr_assert_eq(r.records, 31 - rows[i].lost, "%s: every whole record", rows[i].name);
        cr_assert(r.seq == 31 && r.orphans == orphans, "%s: it ends at the old number", rows[i].name);
        struct journal *j = open_at(&got, &t, dir, &f);
        cr_assert_not_null(j, "%s: %s", rows[i].name, f.why);
        struct journal_state st = journal_state(j);
        cr_assert_eq(st.orphans, orphans, "%s: changes without their memory are skipped", rows[i].name);
        journal_close(j, 0, &f);
        free(old), free(l.p);
        remove_all(dir);
    }
}

Test(journal_tools, a_lost_end_that_was_acknowledged_is_damage)
{
    char dir[64], kept[64];
    struct model s;
    struct fault f = { 0 };
    struct places places = { 0 };
    struct journal_report r = { .damage = on_damage, .user = &places };
    make_log(temporary(dir), 30, true, &s);
    struct log l = load(dir);
    /* the last operation is lost; a close record far behind says that it was there */
    memset(l.p + l.at[29], 0, l.at[30] - l.at[29]);
    write_file(l.name, l.p, l.n);
    cr_assert_eq(journal_check(dir, &r, &f), 1, "%s", f.why);
    cr_assert(places.from[0] == 30 && places.to[0] == 30, "30 is lost");
    memset(l.p + l.at[30] + 4, 0, 60);
    write_file(l.name, l.p, l.n);
    cr_assert_eq(journal_check(dir, &r, &f), 0, "nobody knows of it any more: a torn tail");
    cr_assert_eq(r.torn_bytes, l.n - l.at[29], "%llu torn", (unsigned long long)r.torn_bytes);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 0, "which an opening cuts");
    free(l.p);
    remove_all(dir);
}

/* Three changes in one batch, of which nothing later tells, and the first of them broken; with
 * that alone it is a torn tail. */
Test(journal_tools, a_repair_keeps_what_is_whole_behind_a_torn_place_too)
{
    static const struct { const char *name; int second; int want; uint64_t lost; } rows[] = {
        { "a torn tail", -1, 0, 0 }, { "and damage", 5, 1, 2 }, { "and the header", 0, 1, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64], kept[64];
        struct model s = { 0 }, got = { 0 };
        struct told t;
        struct fault f = { 0 };
        struct journal_report r = { 0 };
        struct item item;
        uint64_t seq;
        struct journal *j = open_at(&s, &t, temporary(dir), &f);
        run(j, &s, 7, 0, 20);
        for (uint32_t k = 20; k < 23; k++) {
            (void)model_op(&s, 7, k, &item);
            cr_assert_eq(journal_append(j, MEMORY_PUT, &item.m, &seq), 0);
        }
        cr_assert_eq(journal_wait(j, 20), 0);
        struct log l = load(dir);
        cr_assert_eq(l.records, 23);
        journal_close(j, 20, &f);
        l.p[l.at[20] + 70] ^= 1;
        if (rows[i].second > 0) l.p[l.at[rows[i].second] + 20] ^= 1;
        if (rows[i].second == 0) l.p[0] ^= 1;
        write_file(l.name, l.p, l.n);
        cr_assert_eq(journal_check(dir, &r, &f), rows[i].want, "%s: %s", rows[i].name, f.why);
        cr_assert_eq(r.lost, rows[i].lost, "%s: %llu lost", rows[i].name, (unsigned long long)r.lost);
        cr_assert_eq(r.torn_bytes, rows[i].want ? 0 : l.n - l.at[20], "%s", rows[i].name);
        uint64_t orphans = r.orphans;
        cr_assert_eq(journal_repair(dir, &r, kept, &f), rows[i].want, "%s: %s", rows[i].name, f.why);
        if (rows[i].want) cr_assert_str_eq(kept, "memory.damaged-23", "%s: the highest number seen", rows[i].name);
        cr_assert_eq(journal_check(dir, &r, &f), 0, "%s: %s", rows[i].name, f.why);
        cr_assert_eq(r.records, rows[i].want ? 23 - rows[i].lost : 20, "%s: %llu records", rows[i].name,
                     (unsigned long long)r.records);
        cr_assert_eq(r.orphans, orphans, "%s", rows[i].name);
        j = open_at(&got, &t, dir, &f);
        cr_assert_not_null(j, "%s: %s", rows[i].name, f.why);
        cr_assert_eq(journal_state(j).seq, rows[i].want ? 23 : 20, "%s", rows[i].name);
        journal_close(j, 0, &f);
        free(l.p);
        remove_all(dir);
    }
}

/* No number is lost, but there is a close record behind what does not belong there. */
Test(journal_tools, what_stops_a_start_is_damage_here_too)
{
    char dir[64], kept[64];
    struct model s, got = { 0 };
    struct told t;
    struct fault f = { 0 };
    struct places places = { 0 };
    struct journal_report r = { .damage = on_damage, .user = &places };
    make_log(temporary(dir), 30, true, &s);
    struct log l = load(dir);
    l.p = realloc(l.p, l.n + 64);
    memcpy(l.p + l.n, l.p + l.at[30], 64);
    write_file(l.name, l.p, l.n + 64);
    cr_assert_null(open_at(&got, &t, dir, &f), "a record that stands twice");
    cr_assert(f.exit == 65 && strstr(f.why, "--repair"), "%s", f.why);
    cr_assert_eq(journal_check(dir, &r, &f), 1, "%s", f.why);
    cr_assert(places.n == 1 && places.offset[0] == l.n && places.bytes[0] == 64, "told by place");
    cr_assert(!r.lost && !r.torn_bytes, "nothing is lost by it");
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "%s", f.why);
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(model_digest(&got), model_digest(&s), "all is there");
    journal_close(j, 0, &f);
    free(l.p);
    remove_all(dir);
}

/* A right checksum is no proof of right contents. */
Test(journal_tools, contents_that_the_server_never_writes_are_damage)
{
    static char big[65536] = "[\"";
    static const float one[DIM] = { 1 }, nan[DIM] = { 0, NAN }, infinite[DIM] = { [DIM - 1] = -INFINITY };
    const struct slice a = { "a", 1 }, none = { "{}", 2 }, list = { "[]", 2 };
    const struct { const char *name; bool whole; struct slice text, metadata, tags; const float *vector; } rows[] = {
        { "right", true, a, none, list, one },
        { "the longest text", true, { big, MEMORY_TEXT }, none, list, one },
        { "a longer one", false, { big, MEMORY_TEXT + 1 }, none, list, one },
        { "one beyond 16 bits", false, { big, 65536 }, none, list, one },
        { "no text", false, { "", 0 }, none, list, one },
        { "half a character", false, { "a\xc3", 2 }, none, list, one },
        { "no metadata", false, a, { "", 0 }, list, one },
        { "metadata that is a list", false, a, list, list, one },
        { "metadata that does not end", false, a, { "{\"a\":1", 6 }, list, one },
        { "metadata in no UTF-8", false, a, { "{\"a\":\"\xff\"}", 9 }, list, one },
        { "tags that are an object", false, a, none, none, one },
        { "tags with something behind", false, a, none, { "[]]", 3 }, one },
        { "tags too long", false, a, none, { big, MEMORY_LIST + 1 }, one },
        { "no number", false, a, none, list, nan },
        { "no finite number", false, a, none, list, infinite },
    };
    memset(big + 2, 'x', sizeof big - 2);
    memcpy(big + MEMORY_LIST - 1, "\"]", 2);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[64], kept[64];
        struct model got = { 0 };
        struct told t;
        struct fault f = { 0 };
        struct journal_report r = { 0 };
        uint64_t seq;
        struct journal *j = open_at(&got, &t, temporary(dir), &f);
        for (uint8_t k = 0; k < 3; k++) {
            struct memory m = { .id = { k }, .text = a, .metadata = none, .tags = list, .vector = one };
            if (k == 1) m.text = rows[i].text, m.metadata = rows[i].metadata, m.tags = rows[i].tags, m.vector = rows[i].vector;
            cr_assert_eq(journal_append(j, MEMORY_PUT, &m, &seq), 0, "%s", rows[i].name);
        }
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
        cr_assert_eq(journal_check(dir, &r, &f), !rows[i].whole, "%s", rows[i].name);
        cr_assert(r.lost == !rows[i].whole && r.live == 3 - r.lost, "%s: that one alone is lost", rows[i].name);
        if (!rows[i].whole) {
            struct journal_config c = { .dir = dir, .dimension = DIM, .fingerprint = model_print, .in_process = true };
            cr_assert(!journal_open(&c, &f) && f.exit == 65 && strstr(f.why, "--repair"), "%s: %s", rows[i].name, f.why);
            cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "%s", f.why);
            j = journal_open(&c, &f);
            cr_assert_not_null(j, "%s: %s", rows[i].name, f.why);
            journal_close(j, 0, &f);
        }
        remove_all(dir);
    }
}

Test(journal_tools, second_header_stands_in_for_the_first)
{
    char dir[64], kept[64];
    struct model s, got = { 0 };
    struct told t;
    struct fault f = { 0 };
    struct journal_report r = { 0 };
    make_log(temporary(dir), 30, true, &s);
    struct log l = load(dir);
    memset(l.p, 0, 512);
    write_file(l.name, l.p, l.n);
    cr_assert_null(open_at(&got, &t, dir, &f), "not without being asked");
    cr_assert(f.exit == 65 && strstr(f.why, "--repair"), "%s", f.why);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "%s", f.why);
    cr_assert(r.head_damaged && !r.damaged, "only the header");
    struct journal *j = open_at(&got, &t, dir, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert_eq(model_digest(&got), model_digest(&s), "all is there");
    journal_close(j, 0, &f);
    memset(l.p, 0, 4096);
    write_file(l.name, l.p, l.n);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), -1, "both are gone");
    cr_assert_eq(f.exit, 65, "%s", f.why);
    free(l.p);
    remove_all(dir);
}

Test(journal_tools, a_repair_cut_short_goes_on)
{
    char dir[64], kept[64], name[160];
    struct model s;
    struct fault f = { 0 };
    struct journal_report r = { 0 };
    make_log(temporary(dir), 30, true, &s);
    struct log l = load(dir);
    l.p[l.at[4] + 40] ^= 1;
    write_file(l.name, l.p, l.n);
    snprintf(name, sizeof name, "%s/memory.damaged-31", dir);
    cr_assert_eq(link(l.name, name), 0, "the old name's twin is there already");
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "%s", f.why);
    l.p[l.at[5] + 40] ^= 1;
    write_file(l.name, l.p, l.n);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), -1, "another file of that name is not overwritten");
    cr_assert_eq(f.exit, 74, "%s", f.why);
    free(l.p);
    remove_all(dir);
}

Test(journal_tools, who_holds_the_lock_is_left_alone)
{
    char dir[64], kept[64];
    struct model s = { 0 };
    struct told t;
    struct fault f;
    struct journal_report r = { 0 };
    struct journal *j = open_at(&s, &t, temporary(dir), &f);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), -1, "held");
    cr_assert_eq(f.exit, 75, "%s", f.why);
    journal_close(j, 0, &f);
    remove_all(dir);
}
