// uses: servers/memory/records.c servers/memory/cosine.c servers/memory/hash.c json.c number.c utf8.c base64.c
// flags: -Wl,--wrap=madvise
#include "servers/memory/records.h"

#include <sys/mman.h>

#include "memories.h"
#include "test.h"

static const uint64_t key[2] = { 11, 12 };

/* What was said of pages, the first of it. */
static struct { char *p; size_t bytes; int advice; } advised[16];
static size_t n_advised;

int __real_madvise(void *p, size_t n, int advice);
int __wrap_madvise(void *p, size_t n, int advice);
int __wrap_madvise(void *p, size_t n, int advice)
{
    if (n_advised < sizeof advised / sizeof *advised) {
        advised[n_advised].p = p;
        advised[n_advised].bytes = n;
        advised[n_advised++].advice = advice;
    }
    return __real_madvise(p, n, advice);
}

static void was_advised(size_t i, const struct chunk *c, size_t from, size_t bytes, int advice)
{
    cr_assert_lt(i, n_advised);
    cr_assert_eq(advised[i].p, (char *)c->vectors + from, "call %zu", i);
    cr_assert_eq(advised[i].bytes, bytes, "call %zu: %zu bytes", i, advised[i].bytes);
    cr_assert_eq(advised[i].advice, advice, "call %zu: %d", i, advised[i].advice);
}

/* The n-th memory of a fixed series; the text goes into a buffer of its own. */
static struct memory nth(uint64_t n, char text[32], float vector[4])
{
    uint64_t seed = n;
    random_vector(&seed, vector, 4);
    int len = snprintf(text, 32, "text %llu", (unsigned long long)n);
    struct memory m = memory_of(n, (struct slice){ text, (size_t)len }, vector);
    if (n % 3 == 0) m.metadata = S("{\"type\":\"user\",\"session_id\":\"s\"}");
    if (n % 5 == 0) m.tags = S("[\"a\",\"b\"]");
    m.f.time_ms = (int64_t)n;
    return m;
}

static void same_memory(const struct records *rs, uint32_t row, uint64_t n)
{
    char text[32];
    float vector[4];
    struct memory want = nth(n, text, vector), is;
    is = records_view(rs, row);
    cr_assert_arr_eq(is.id, want.id, MEMORY_ID, "id of %llu", (unsigned long long)n);
    cr_assert_arr_eq(is.vector, want.vector, sizeof vector, "vector of %llu", (unsigned long long)n);
    cr_assert_eq(is.text.len, want.text.len);
    cr_assert_arr_eq(is.text.p, want.text.p, want.text.len);
    cr_assert_eq(is.metadata.len, want.metadata.len);
    cr_assert_arr_eq(is.metadata.p, want.metadata.p, want.metadata.len);
    cr_assert_eq(is.tags.len, want.tags.len);
    cr_assert_arr_eq(is.tags.p, want.tags.p, want.tags.len);
    cr_assert_eq(is.f.time_ms, (int64_t)n);
}

/* Ten thousand random steps against a plain array. */
Test(records, are_found_by_id_and_text_whatever_came_and_went)
{
    enum { MOST = 6000 };
    static uint32_t rows[MOST]; /* 0: not there, else row + 1 */
    char text[32];
    float vector[4];
    struct records rs;
    size_t live = 0;
    uint64_t seed = 6;
    records_open(&rs, 4, key);
    for (int step = 0; step < 40000; step++) {
        uint64_t n = random_next(&seed) % MOST;
        struct memory m = nth(n, text, vector);
        struct slice type = n % 3 == 0 ? S("user") : NO_TEXT;
        cr_assert_eq(records_find(&rs, m.id), rows[n] ? rows[n] - 1 : ROW_NONE);
        cr_assert_eq(records_same(&rs, m.text, type), rows[n] ? rows[n] - 1 : ROW_NONE);
        cr_assert_eq(records_same(&rs, m.text, S("other")), ROW_NONE);
        if (rows[n]) {
            same_memory(&rs, rows[n] - 1, n);
            records_hide(&rs, rows[n] - 1);
            records_free(&rs, rows[n] - 1);
            rows[n] = 0;
            live--;
        } else {
            rows[n] = records_put(&rs, &m, ROW_NONE) + 1;
            cr_assert_neq(rows[n], 0);
            live++;
        }
        cr_assert_eq(rs.live, live);
    }
    cr_assert(rs.used <= MOST, "freed rows are taken again: %u", rs.used);
    records_close(&rs);
    cr_assert_eq(rs.live, 0);
}

static int order_of(const struct records *rs, uint64_t *out)
{
    int n = 0;
    uint32_t before = ROW_NONE;
    for (uint32_t row = rs->first; row != ROW_NONE; row = records_at(rs, row)->next) {
        cr_assert_eq(records_at(rs, row)->prev, before);
        before = row;
        out[n++] = (uint64_t)records_at(rs, row)->f.time_ms;
    }
    cr_assert_eq(rs->last, before);
    return n;
}

Test(records, hiding_and_showing_in_reverse_restores_the_order_of_storing)
{
    char text[32];
    float vector[4];
    struct records rs;
    uint32_t row[6];
    uint64_t order[8];
    static const uint64_t all[] = { 0, 1, 2, 3, 4, 5 };
    static const int hidden[] = { 2, 3, 0, 5, 1 };
    records_open(&rs, 4, key);
    for (uint64_t n = 0; n < 6; n++) {
        struct memory m = nth(n, text, vector);
        row[n] = records_put(&rs, &m, ROW_NONE);
    }
    for (int i = 0; i < 5; i++) records_hide(&rs, row[hidden[i]]);
    cr_assert_eq(order_of(&rs, order), 1);
    cr_assert_eq(order[0], 4);
    for (int i = 5; i--;) records_show(&rs, row[hidden[i]]);
    cr_assert_eq(order_of(&rs, order), 6);
    cr_assert_arr_eq(order, all, sizeof all);
    records_close(&rs);
}

Test(records, one_in_place_of_another_keeps_its_order)
{
    char text[32];
    float vector[4];
    struct records rs;
    uint32_t row[3];
    uint64_t order[4];
    records_open(&rs, 4, key);
    for (uint64_t n = 0; n < 3; n++) {
        struct memory m = nth(n, text, vector);
        row[n] = records_put(&rs, &m, ROW_NONE);
    }
    uint64_t place = records_at(&rs, row[1])->order;
    struct memory m = nth(9, text, vector);
    records_hide(&rs, row[1]);
    uint32_t new = records_put(&rs, &m, row[1]);
    cr_assert_eq(order_of(&rs, order), 3);
    cr_assert_eq(order[1], 9);
    cr_assert_eq(records_at(&rs, new)->order, place);
    cr_assert_neq(new, row[1]);
    records_hide(&rs, new);
    records_show(&rs, row[1]);
    order_of(&rs, order);
    cr_assert_eq(order[1], 1);
    records_close(&rs);
}

static const struct {
    const char *metadata, *type, *session;
    double importance;
    bool bad;
} metas[] = {
    { "{}", NULL, NULL, -1, false },
    { "{\"type\":\"user\"}", "user", NULL, -1, false },
    { "{\"type\":\"\"}", "", NULL, -1, false },
    { "{\"type\":\"a\\u0062c\",\"session_id\":\"x\\ny\"}", "abc", "x\ny", -1, false },
    { "{\"type\":5,\"session_id\":null}", NULL, NULL, -1, false },
    { "{\"inner\":{\"type\":\"no\"},\"list\":[{\"type\":\"no\"}]}", NULL, NULL, -1, false },
    { "{\"importance\":0.5}", NULL, NULL, 0.5, false },
    { "{\"importance\":0}", NULL, NULL, 0, false },
    { "{\"importance\":1}", NULL, NULL, 1, false },
    { "{\"importance\":1.01}", NULL, NULL, -1, true },
    { "{\"importance\":-0.01}", NULL, NULL, -1, true },
    { "{\"importance\":\"high\"}", NULL, NULL, -1, true },
    { "{\"importance\":null}", NULL, NULL, -1, false },
    { "{\"Type\":\"user\"}", NULL, NULL, -1, false },
};

static void same_string(struct slice s, const char *want, size_t row)
{
    cr_assert_eq(s.p == NULL, want == NULL, "row %zu", row);
    if (want) cr_assert(s.len == strlen(want) && !memcmp(s.p, want, s.len), "row %zu: %.*s", row, (int)s.len, s.p);
}

Test(records, metadata_is_read_for_what_means_something)
{
    for (size_t i = 0; i < sizeof metas / sizeof *metas; i++) {
        struct meta meta;
        meta_read(&meta, (struct slice){ metas[i].metadata, strlen(metas[i].metadata) });
        same_string(meta.type, metas[i].type, i);
        same_string(meta.session, metas[i].session, i);
        cr_assert_float_eq(meta.importance, metas[i].importance, 0, "row %zu", i);
        cr_assert_eq(meta.bad_importance, metas[i].bad, "row %zu", i);
    }
}

Test(records, rows_never_move)
{
    enum { MANY = 3 * CHUNK_ROWS };
    char text[32];
    float vector[4];
    struct records rs;
    records_open(&rs, 4, key);
    struct memory m = nth(0, text, vector);
    const float *first = records_vector(&rs, records_put(&rs, &m, ROW_NONE));
    for (uint64_t n = 1; n < MANY; n++) {
        m = nth(n, text, vector);
        cr_assert_neq(records_put(&rs, &m, ROW_NONE), ROW_NONE);
    }
    cr_assert_eq(records_vector(&rs, 0), first);
    for (uint64_t n = 0; n < MANY; n += 97) same_memory(&rs, (uint32_t)n, n);
    for (uint32_t i = 0; i < rs.n_chunks; i++) {
        cr_assert_eq((uintptr_t)rs.chunks[i].vectors % 64, 0);
        cr_assert_eq((uintptr_t)rs.chunks[i].upper % 64, 0);
        cr_assert_eq((uintptr_t)rs.chunks[i].lower % 64, 0);
    }
    records_close(&rs);
}

/* One takes about a millisecond: not two of them for one row. 25 is MADV_COLLAPSE. */
Test(records, the_first_rows_get_huge_pages_one_by_one_once_there_are_more)
{
    enum { DIM = 1024 };
    static float vector[DIM] = { 1 };
    char text[32];
    float other[4];
    struct records rs;
    n_advised = 0;
    records_open(&rs, DIM, key);
    for (uint64_t n = 0; n < CHUNK_ROWS + 40; n++) {
        struct memory m = nth(n, text, other);
        m.vector = vector;
        cr_assert_eq(records_put(&rs, &m, ROW_NONE), n);
        records_hide(&rs, (uint32_t)n);
        records_free(&rs, (uint32_t)n);
        size_t calls = n_advised;
        cr_assert_eq(records_put(&rs, &m, ROW_NONE), n);
        cr_assert_eq(n_advised, calls, "row %d, taken again", (int)n);
    }
    size_t i = 0, pages = rs.chunks[0].bytes >> 21;
    was_advised(i++, &rs.chunks[0], 0, rs.chunks[0].bytes, MADV_NOHUGEPAGE);
    was_advised(i++, &rs.chunks[1], 0, rs.chunks[1].bytes, MADV_HUGEPAGE);
    was_advised(i++, &rs.chunks[0], 0, rs.chunks[0].bytes, MADV_HUGEPAGE);
    for (size_t page = 0; page < pages; page++) was_advised(i++, &rs.chunks[0], page << 21, 2 << 20, 25);
    cr_assert_eq(n_advised, i);
    records_close(&rs);
}
