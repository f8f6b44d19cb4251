// uses: servers/memory/journal.c servers/memory/journal_open.c servers/memory/journal_compact.c servers/memory/journal_tools.c servers/memory/walk.c servers/memory/record.c servers/memory/disk.c servers/memory/disk_work.c servers/crc32c.c json.c number.c utf8.c base64.c
/* Logs longer than the buffers that they are read through. */
#include "test.h"

#include "journal_dir.h"
#include "journal_log.h"
#include "servers/memory/journal.h"
#include "servers/memory/journal_tools.h"

#define DIM   16
#define MOST  4000
#define BYTES 3000

static struct { uint64_t n, wrong; bool there[MOST]; } got;
static const uint8_t print[32];
static char dir[64], text[BYTES];

static struct memory sample(uint32_t k)
{
    struct memory m = { .id = { (uint8_t)k, (uint8_t)(k >> 8) }, .vector = (float[DIM]){ 0 },
                        .text = { text, BYTES - k % 500 }, .metadata = { "{}", 2 }, .tags = { "[]", 2 } };
    static float vector[DIM];
    for (int i = 0; i < DIM; i++) vector[i] = (float)(k * 17 + (uint32_t)i);
    m.vector = vector;
    memset(text, 'a' + (int)(k % 26), sizeof text);
    return m;
}

static bool on_put(void *user, enum memory_change what, const struct memory *m)
{
    (void)user;
    if (what != MEMORY_PUT) return true;
    uint32_t k = m->id[0] | (uint32_t)m->id[1] << 8;
    struct memory want = sample(k);
    got.wrong += m->text.len != want.text.len || memcmp(m->text.p, want.text.p, want.text.len) ||
                 memcmp(m->vector, want.vector, 4 * DIM) || m->tags.len != 2;
    got.n += !got.there[k];
    got.there[k] = true;
    return true;
}

static struct journal *start(bool inlined, struct fault *f)
{
    struct journal_config c = { .dir = dir, .dimension = DIM, .fingerprint = print, .in_process = inlined,
                                .sync_ms = JOURNAL_SYNC_NEVER, .replay = { .take = on_put } };
    memset(&got, 0, sizeof got);
    return journal_open(&c, f);
}

static void put(struct journal *j, uint32_t from, uint32_t to)
{
    uint64_t seq;
    for (uint32_t k = from; k < to; k++) {
        struct memory m = sample(k);
        while (journal_append(j, MEMORY_PUT, &m, &seq) == JOURNAL_BUSY) {
            journal_wait(j, 0); /* which may hand over others from the same buffer */
            m = sample(k);
        }
    }
}

static void fill(uint32_t n)
{
    struct fault f;
    temporary(dir);
    struct journal *j = start(false, &f);
    cr_assert_not_null(j, "%s", f.why);
    put(j, 0, n);
    cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
}

Test(journal_large, every_record_is_read_across_the_buffer)
{
    struct fault f = { 0 };
    struct journal_report r = { 0 };
    fill(MOST);
    cr_assert_eq(journal_check(dir, &r, &f), 0, "%s", f.why);
    cr_assert(r.live == MOST && r.records == MOST + 1, "%llu live", (unsigned long long)r.live);
    cr_assert_gt(r.bytes, 10u << 20, "%llu bytes", (unsigned long long)r.bytes);
    struct journal *j = start(true, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert(got.n == MOST && !got.wrong, "%llu, %llu wrong", (unsigned long long)got.n,
              (unsigned long long)got.wrong);
    journal_close(j, 0, &f);
    remove_all(dir);
}

Test(journal_large, an_unclean_start_finds_all_and_stores_go_on)
{
    struct fault f = { 0 };
    char log[96];
    fill(MOST);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    size_t n;
    uint8_t *p = read_file(log, &n);
    write_file(log, p, n - 64); /* no close record: the last megabytes are written once more */
    free(p);
    for (int i = 0; i < 2; i++) {
        struct journal *j = start(i, &f);
        cr_assert_not_null(j, "%s", f.why);
        cr_assert(got.n == MOST && !got.wrong, "%llu, %llu wrong", (unsigned long long)got.n,
                  (unsigned long long)got.wrong);
        put(j, 0, 10);
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
    }
    remove_all(dir);
}

struct places { int n; uint64_t first, last; };

static void on_damage(void *user, uint64_t offset, uint64_t bytes, uint64_t from, uint64_t to)
{
    struct places *p = user;
    (void)bytes, (void)offset;
    if (!p->n++) p->first = from;
    p->last = to;
}

Test(journal_large, many_places_of_damage_are_all_told_and_passed)
{
    struct fault f = { 0 };
    struct places places = { 0 };
    struct journal_report r = { .damage = on_damage, .user = &places };
    char log[96], kept[64];
    size_t n;
    fill(MOST);
    snprintf(log, sizeof log, "%s/memory.log", dir);
    uint8_t *p = read_file(log, &n);
    uint64_t seq = 0;
    for (size_t at = JOURNAL_HEAD_BYTES; at < n - 64; seq++) {
        size_t size = 64 + ((size_t)p[at + 8] | (size_t)p[at + 9] << 8);
        if (seq % 50 == 7) p[at + size / 2] ^= 1;
        at += size;
    }
    write_file(log, p, n);
    free(p);
    cr_assert_null(start(true, &f), "refused");
    cr_assert(f.exit == 65 && strstr(f.why, "8 to 8, 58 to 58,") && strstr(f.why, ", more"), "%s", f.why);
    cr_assert_eq(journal_check(dir, &r, &f), 1, "%s", f.why);
    cr_assert(places.n == MOST / 50 && r.lost == MOST / 50 && places.first == 8 && places.last == MOST - 42,
              "%d places, %llu lost, last %llu", places.n, (unsigned long long)r.lost, (unsigned long long)places.last);
    cr_assert_eq(journal_repair(dir, &r, kept, &f), 1, "%s", f.why);
    struct journal *j = start(true, &f);
    cr_assert_not_null(j, "%s", f.why);
    cr_assert(got.n == MOST - MOST / 50 && !got.wrong, "%llu kept", (unsigned long long)got.n);
    journal_close(j, 0, &f);
    remove_all(dir);
}

static uint32_t next_row;

static bool living(void *user, struct memory *m)
{
    if (next_row == *(uint32_t *)user) return false;
    *m = sample(next_row++);
    return true;
}

/* More is stored while a compaction runs than is copied at once. */
Test(journal_large, a_long_tail_is_copied_in_pieces)
{
    for (int inlined = 0; inlined < 2; inlined++) {
        struct fault f = { 0 };
        uint32_t n = 600, k = n;
        temporary(dir);
        struct journal *j = start(inlined, &f);
        cr_assert_not_null(j, "%s", f.why);
        put(j, 0, n);
        put(j, 0, n); /* garbage */
        cr_assert_eq(journal_wait(j, 0), 0, "written");
        next_row = 0;
        struct journal_living l = { n, living, &n };
        cr_assert_eq(journal_compact_begin(j, &l), 0, "begun");
        for (int turn = 0; journal_compacting(j) && turn < 1000000; turn++) {
            journal_ready(j, 0);
            if (k < MOST - 400) put(j, k, k + 400), k += 400;
            journal_compact_step(j, 0);
            journal_flush(j, 0);
        }
        cr_assert_not(journal_compacting(j), "it ends");
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
        j = start(true, &f);
        cr_assert_not_null(j, "%s", f.why);
        struct journal_state s = journal_state(j);
        cr_assert(got.n == k && !got.wrong && s.seq == n + k + 1, "%llu there, %u stored, %llu the last",
                  (unsigned long long)got.n, k, (unsigned long long)s.seq);
        cr_assert_lt(s.bytes, (uint64_t)k * (BYTES + 400), "the garbage is gone");
        journal_close(j, 0, &f);
        remove_all(dir);
    }
}

/* Nobody has to listen. */
Test(journal_large, callbacks_may_be_missing)
{
    struct fault f = { 0 };
    uint64_t seq;
    uint32_t n = 2;
    temporary(dir);
    for (int round = 0; round < 2; round++) {
        struct journal_config c = { .dir = dir, .dimension = DIM, .fingerprint = print, .in_process = round == 0 };
        struct journal *j = journal_open(&c, &f);
        cr_assert_not_null(j, "%s", f.why);
        put(j, 0, 3);
        struct memory m = sample(0);
        cr_assert_eq(journal_append(j, MEMORY_CHANGE, &m, &seq), 0, "change");
        cr_assert_eq(journal_append(j, MEMORY_DELETE, &m, &seq), 0, "delete");
        cr_assert_eq(journal_wait(j, 0), 0, "written");
        next_row = 0;
        struct journal_living l = { n, living, &n }, too_many = { 1000, living, &n };
        cr_assert_eq(journal_compact_all(j, &too_many, 0, &f), -1, "more than were ever put");
        cr_assert_eq(journal_compact_all(j, &l, 0, &f), 0, "%s", f.why);
        cr_assert_eq(journal_close(j, 0, &f), 0, "%s", f.why);
    }
    remove_all(dir);
}
