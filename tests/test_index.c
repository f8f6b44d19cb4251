// uses: servers/memory/index.c servers/memory/records.c servers/memory/significance.c servers/memory/cosine.c servers/memory/hash.c json.c number.c utf8.c base64.c
#include "servers/memory/index.h"

#include "memories.h"
#include "servers/memory/significance.h"
#include "test.h"

enum { DIM = 48, DAY = 86400000 };
static const uint64_t key[2] = { 21, 22 };
static const int64_t now = INT64_C(1700000000000);

/* Vectors of several kinds, ties and all, so that nothing is easy. */
static void some_vector(uint64_t *seed, uint64_t n, int kind, float v[DIM])
{
    if (kind == 0) random_vector(seed, v, DIM);
    else if (kind == 1) clustered_vector(seed, v, DIM, 7);
    else { /* few distinct ones: mostly ties */
        uint64_t which = 100 + n % 5;
        random_vector(&which, v, DIM);
    }
}

static void fill(struct records *rs, uint64_t count, int kind, uint64_t seed)
{
    static const char *const metadata[] = { "{}", "{\"type\":\"user\"}", "{\"type\":\"assistant\"}" };
    static const char *const tags[] = { "[]", "[\"a\"]", "[\"a\",\"b\"]", "[\"b\",\"a\\\"c\",\",\"]" };
    char text[32];
    float v[DIM];
    records_open(rs, DIM, key);
    for (uint64_t n = 0; n < count; n++) {
        some_vector(&seed, n, kind, v);
        int len = snprintf(text, sizeof text, "text %llu", (unsigned long long)n);
        struct memory m = memory_of(n, (struct slice){ text, (size_t)len }, v);
        const char *meta = metadata[random_next(&seed) % 3], *tag = tags[random_next(&seed) % 4];
        m.metadata = (struct slice){ meta, strlen(meta) };
        m.tags = (struct slice){ tag, strlen(tag) };
        m.f.significance = kind == 2 ? (n % 3) / 2.0 : random_unit(&seed);
        m.f.time_ms = now - (int64_t)(random_next(&seed) % 60) * DAY / 2;
        cr_assert_neq(records_put(rs, &m, ROW_NONE), ROW_NONE);
    }
}

/* The same by the plainest way: everything in double, everything sorted. */
struct plain { double key, cosine; int64_t time_ms; const uint8_t *id; uint32_t row; };

static int plain_before(const void *a, const void *b)
{
    const struct plain *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    if (x->time_ms != y->time_ms) return x->time_ms > y->time_ms ? -1 : 1;
    return memcmp(x->id, y->id, MEMORY_ID);
}

static bool plain_tag(struct slice list, struct slice tag)
{
    char pattern[64], text[64];
    snprintf(pattern, sizeof pattern, ",%.*s,", (int)tag.len, tag.p);
    snprintf(text, sizeof text, ",%.*s,", (int)list.len - 2, list.p + 1);
    return strstr(text, pattern) != NULL;
}

static bool plain_passes(const struct records *rs, uint32_t row, const struct scan_config *c)
{
    struct memory m;
    const struct scan_filter *f = &c->filter;
    m = records_view(rs, row);
    if (records_at(rs, row)->state != ROW_LIVE) return false;
    if (m.f.significance < f->min_significance || m.f.time_ms < f->since_ms || m.f.time_ms > f->until_ms) return false;
    if (significance_strength(m.f.significance, now - m.f.time_ms) < f->min_strength) return false;
    for (size_t i = 0; i < f->n_tags; i++) if (!plain_tag(m.tags, f->tags[i])) return false;
    struct meta meta;
    meta_read(&meta, m.metadata);
    return !f->type.p || (meta.type.p && meta.type.len == f->type.len && !memcmp(meta.type.p, f->type.p, f->type.len));
}

static void compare(const struct records *rs, const struct scan_config *c, const char *what)
{
    struct plain *all = calloc(rs->used + 1, sizeof *all);
    size_t n = 0, searched = 0, below = 0;
    for (uint32_t row = 0; row < rs->used; row++) {
        struct memory m;
        if (!plain_passes(rs, row, c)) continue;
        searched++;
        m = records_view(rs, row);
        double cosine = c->order <= SCAN_SCORE ? plain_cosine(c->vector, m.vector, DIM) : 0;
        double strength = significance_strength(m.f.significance, now - m.f.time_ms);
        if (c->order <= SCAN_SCORE && cosine_clamp(cosine) < c->min_similarity) { below++; continue; }
        double keys[] = { cosine, 0.7 * fmax(0, cosine) + 0.3 * strength, strength, m.f.significance, (double)m.f.time_ms };
        double k = c->ascending ? -keys[c->order] : keys[c->order];
        all[n++] = (struct plain){ k, cosine, m.f.time_ms, records_at(rs, row)->id, row };
    }
    qsort(all, n, sizeof *all, plain_before);
    struct scan sc;
    cr_assert_eq(scan_begin(&sc, rs, c), 0);
    scan_finish(&sc);
    cr_assert_eq(sc.status, 0);
    cr_assert_eq(sc.searched, searched, "%s: searched %d, is %d", what, (int)sc.searched, (int)searched);
    cr_assert_eq(sc.below, below, "%s: below %d, is %d", what, (int)sc.below, (int)below);
    cr_assert_eq(sc.n, n < c->k ? n : c->k, "%s: %zu hits", what, sc.n);
    for (size_t i = 0; i < sc.n; i++) {
        /* The two sums differ in their order, so that near ties may change places. */
        cr_assert_float_eq(sc.hits[i].key, all[i].key, 1e-12, "%s: place %zu", what, i);
        cr_assert_float_eq(sc.hits[i].cosine, all[i].cosine, 1e-12, "%s: cosine of place %zu", what, i);
        if (i && all[i - 1].key - all[i].key < 1e-12) continue;
        if (i + 1 < n && all[i].key - all[i + 1].key < 1e-12) continue;
        cr_assert_eq(sc.hits[i].row, all[i].row, "%s: place %zu", what, i);
    }
    scan_end(&sc);
    free(all);
}

static const struct slice a_tag[] = { { "\"a\"", 3 } }, two_tags[] = { { "\"a\"", 3 }, { "\"b\"", 3 } };
static const struct slice odd_tag[] = { { "\"a\\\"c\"", 6 } }, comma[] = { { "\",\"", 3 } }, none[] = { { "\"x\"", 3 } };

static const struct { const char *name; struct scan_config c; } queries[] = {
    { "cosine", { .min_similarity = -2, .k = 10 } },
    { "farthest", { .min_similarity = -2, .k = 10, .ascending = true } },
    { "nearest one", { .min_similarity = -2, .k = 1 } },
    { "gated", { .min_similarity = 0.3, .k = 10 } },
    { "gated at nothing", { .min_similarity = 1, .k = 10 } },
    { "score", { .min_similarity = 0.1, .order = SCAN_SCORE, .k = 10 } },
    { "score of all", { .min_similarity = -1, .order = SCAN_SCORE, .k = 100 } },
    { "score, one", { .min_similarity = 0.3, .order = SCAN_SCORE, .k = 1 } },
    { "strength", { .order = SCAN_STRENGTH, .k = 20 } },
    { "weakest", { .order = SCAN_STRENGTH, .k = 20, .ascending = true } },
    { "significance", { .order = SCAN_SIGNIFICANCE, .k = 20 } },
    { "recent", { .order = SCAN_TIME, .k = 20 } },
    { "oldest", { .order = SCAN_TIME, .k = 20, .ascending = true } },
    { "all of them", { .order = SCAN_TIME, .k = 1000000 } },
    { "type", { .min_similarity = -2, .k = 10, .filter = { .type = { "user", 4 } } } },
    { "unknown type", { .min_similarity = -2, .k = 10, .filter = { .type = { "nobody", 6 } } } },
    { "tag", { .order = SCAN_TIME, .k = 1000, .filter = { .tags = a_tag, .n_tags = 1 } } },
    { "two tags", { .order = SCAN_TIME, .k = 1000, .filter = { .tags = two_tags, .n_tags = 2 } } },
    { "tag with a quote", { .order = SCAN_TIME, .k = 1000, .filter = { .tags = odd_tag, .n_tags = 1 } } },
    { "tag that is a comma", { .order = SCAN_TIME, .k = 1000, .filter = { .tags = comma, .n_tags = 1 } } },
    { "unknown tag", { .order = SCAN_TIME, .k = 1000, .filter = { .tags = none, .n_tags = 1 } } },
    { "since", { .min_similarity = 0, .order = SCAN_SCORE, .k = 5, .filter = { .since_ms = 1700000000000 - 5 * DAY } } },
    { "until", { .min_similarity = -2, .k = 5, .filter = { .until_ms = 1700000000000 - 5LL * DAY } } },
    { "significant", { .min_similarity = -1, .order = SCAN_SCORE, .k = 5, .filter = { .min_significance = 0.5 } } },
    { "strong", { .min_similarity = -2, .k = 5, .filter = { .min_strength = 0.2 } } },
    { "strong and typed", { .order = SCAN_STRENGTH, .k = 5, .filter = { .min_strength = 0.2, .type = { "user", 4 } } } },
};

static struct scan_config query_of(size_t i, const float *vector)
{
    struct scan_config c = queries[i].c;
    c.vector = vector;
    c.now_ms = now;
    if (!c.filter.since_ms) c.filter.since_ms = INT64_MIN;
    if (!c.filter.until_ms) c.filter.until_ms = INT64_MAX;
    return c;
}

Test(index, every_query_gives_what_the_full_sort_gives)
{
    static const uint64_t counts[] = { 0, 1, 9, 300, 5000 };
    for (int kind = 0; kind < 3; kind++) {
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            struct records rs;
            uint64_t seed = 31 + k;
            float v[DIM];
            fill(&rs, counts[k], kind, seed);
            for (uint32_t row = 0; row < rs.used; row += 7) records_hide(&rs, row);
            for (int round = 0; round < 3; round++) {
                some_vector(&seed, (uint64_t)round, kind, v);
                for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
                    struct scan_config c = query_of(i, v);
                    compare(&rs, &c, queries[i].name);
                }
            }
            records_close(&rs);
        }
    }
}

Test(index, opposite_vectors_are_not_below_the_least_similarity)
{
    uint64_t seed = 51;
    for (int round = 0; round < 100; round++) {
        struct records rs;
        float v[DIM];
        random_vector(&seed, v, DIM);
        records_open(&rs, DIM, key);
        struct memory m = memory_of(1, (struct slice){ "text", 4 }, v);
        cr_assert_neq(records_put(&rs, &m, ROW_NONE), ROW_NONE);
        for (int j = 0; j < DIM; j++) v[j] = -v[j];
        struct scan_config c = query_of(6, v);          /* score of all: -1 */
        struct scan sc;
        cr_assert_eq(scan_begin(&sc, &rs, &c), 0);
        scan_finish(&sc);
        cr_assert(sc.n == 1 && sc.searched == 1 && sc.below == 0, "round %d", round);
        scan_end(&sc);
        records_close(&rs);
    }
}

Test(index, like_vectors_reach_the_greatest_similarity_and_others_do_not)
{
    uint64_t seed = 53;
    int short_of_1 = 0;
    for (int round = 0; round < 100; round++) {
        struct records rs;
        float v[DIM], other[DIM];
        random_vector(&seed, v, DIM);
        records_open(&rs, DIM, key);
        memcpy(other, v, sizeof other);
        other[round % DIM] += other[round % DIM] < 0 ? 1e-3f : -1e-3f;
        cosine_normalise(other, other, DIM);
        cr_assert_lt(plain_cosine(v, other, DIM), 1 - 2.5e-7, "far enough apart for floats");
        struct memory m = memory_of(1, (struct slice){ "other", 5 }, other);
        cr_assert_neq(records_put(&rs, &m, ROW_NONE), ROW_NONE);
        m = memory_of(2, (struct slice){ "like", 4 }, v);
        cr_assert_neq(records_put(&rs, &m, ROW_NONE), ROW_NONE);
        short_of_1 += plain_cosine(v, v, DIM) < 1;
        for (int order = SCAN_COSINE; order <= SCAN_SCORE; order++) {
            struct scan_config c = { .filter = scan_any(), .vector = v, .min_similarity = 1,
                                     .order = (enum scan_order)order, .k = 10, .now_ms = now };
            struct scan sc;
            cr_assert_eq(scan_begin(&sc, &rs, &c), 0);
            scan_finish(&sc);
            cr_assert(sc.n == 1 && sc.searched == 2 && sc.below == 1, "round %d: %zu", round, sc.n);
            cr_assert_eq(cosine_clamp(sc.hits[0].cosine), 1, "and is told of as 1");
            scan_end(&sc);
        }
        records_close(&rs);
    }
    cr_assert_gt(short_of_1, 0, "rounding matters");
}

Test(index, every_kernel_gives_the_same_hits)
{
    struct records rs;
    uint64_t seed = 41;
    float v[DIM];
    fill(&rs, 3000, 1, 42);
    clustered_vector(&seed, v, DIM, 7);
    struct scan_config c = query_of(5, v);
    struct scan first;
    cosine_use(0);
    scan_begin(&first, &rs, &c);
    scan_finish(&first);
    for (unsigned k = 1; cosine_kernel(k); k++) {
        struct scan sc;
        cosine_use(k);
        scan_begin(&sc, &rs, &c);
        scan_finish(&sc);
        cr_assert_eq(sc.n, first.n);
        for (size_t i = 0; i < sc.n; i++) {
            cr_assert_eq(sc.hits[i].row, first.hits[i].row, "%s", cosine_kernel(k));
            cr_assert_eq(sc.hits[i].key, first.hits[i].key, "%s", cosine_kernel(k));
        }
        scan_end(&sc);
    }
    scan_end(&first);
    records_close(&rs);
}

Test(index, equal_keys_come_newer_first_then_by_id)
{
    struct records rs;
    float v[DIM] = { 1 };
    struct scan sc;
    records_open(&rs, DIM, key);
    for (uint64_t n = 0; n < 40; n++) {
        char text[8];
        int len = snprintf(text, sizeof text, "%d", (int)n);
        struct memory m = memory_of(n, (struct slice){ text, (size_t)len }, v);
        m.f.time_ms = now + (int64_t)(n % 3); /* to come: of age 0 */
        records_put(&rs, &m, ROW_NONE);
    }
    struct scan_config c = { .filter = scan_any(), .vector = v, .min_similarity = 0, .order = SCAN_SCORE, .k = 20, .now_ms = now };
    scan_begin(&sc, &rs, &c);
    scan_finish(&sc);
    cr_assert_eq(sc.n, 20);
    for (size_t i = 1; i < sc.n; i++) {
        const struct hit *a = &sc.hits[i - 1], *b = &sc.hits[i];
        cr_assert(a->time_ms > b->time_ms || (a->time_ms == b->time_ms &&
                  memcmp(records_at(&rs, a->row)->id, records_at(&rs, b->row)->id, MEMORY_ID) < 0), "place %zu", i);
    }
    cr_assert_eq(sc.hits[0].time_ms, now + 2);
    scan_end(&sc);
    records_close(&rs);
}

/* A large store in steps: what goes away between them is not given, the rest is. */
Test(index, a_scan_in_granules_gives_what_is_there_at_its_end)
{
    struct records rs;
    struct scan sc, fresh;
    uint64_t seed = 51;
    float v[DIM];
    fill(&rs, 60000, 0, 52);
    random_vector(&seed, v, DIM);
    struct scan_config c = query_of(0, v);
    int steps = 0;
    scan_begin(&sc, &rs, &c);
    while (scan_step(&sc)) steps++;
    cr_assert(steps > 1, "%d steps", steps);
    uint32_t best = sc.hits[0].row, second = sc.hits[1].row;
    scan_end(&sc);

    scan_begin(&sc, &rs, &c);
    scan_step(&sc);
    records_hide(&rs, best);                            /* gone, */
    records_free(&rs, best);
    struct memory other = memory_of(999999, S("other"), v);
    float far[DIM];
    for (int i = 0; i < DIM; i++) far[i] = -v[i];
    other.vector = far;
    cr_assert_eq(records_put(&rs, &other, ROW_NONE), best); /* and its row taken by another */
    scan_finish(&sc);
    scan_begin(&fresh, &rs, &c);
    scan_finish(&fresh);
    cr_assert_eq(sc.n, 10);
    cr_assert_eq(sc.hits[0].row, second);
    for (size_t i = 0; i < 10; i++) cr_assert_eq(sc.hits[i].row, fresh.hits[i].row, "place %zu", i);
    scan_end(&fresh);
    scan_end(&sc);
    records_close(&rs);
}

/* Among equals the least id wins, and that of the one that was best so far is not that of who
 * came to its row. */
Test(index, who_takes_the_row_of_the_best_does_not_change_what_it_was)
{
    enum { ROWS = 5000 };
    struct records rs;
    struct scan sc;
    float v[DIM] = { 1 }, far[DIM] = { -1 };
    char text[16];
    records_open(&rs, DIM, key);
    for (uint32_t n = 0; n < ROWS; n++) {
        struct memory m = memory_of(0, (struct slice){ text, (size_t)snprintf(text, sizeof text, "%u", n) }, v);
        memset(m.id, 0, sizeof m.id);
        m.id[0] = (uint8_t)(n >> 8);
        m.id[1] = (uint8_t)n;
        cr_assert_eq(records_put(&rs, &m, ROW_NONE), n);
    }
    struct scan_config c = { .filter = scan_any(), .vector = v, .min_similarity = -2, .k = 1, .now_ms = now };
    cr_assert_eq(scan_begin(&sc, &rs, &c), 0);
    scan_step(&sc);
    cr_assert(sc.at < ROWS && sc.n == 1 && sc.hits[0].row == 0, "the first ones only, to row %u", sc.at);
    records_hide(&rs, 0);
    records_free(&rs, 0);
    struct memory last = memory_of(0, S("last"), far);
    memset(last.id, 0xff, sizeof last.id);
    cr_assert_eq(records_put(&rs, &last, ROW_NONE), 0);
    scan_finish(&sc);
    cr_assert_eq(sc.n, 1);
    cr_assert_eq(sc.hits[0].row, 1);
    scan_end(&sc);
    records_close(&rs);
}

/* All of `odd` but the first is rounded down by half a step, and what is left out of `even` points where
 * it does itself: nothing but the whole bound reaches from the estimate to the cosine. */
Test(index, bounds_reach_as_far_as_roundings_go)
{
    float even[DIM], odd[DIM];
    for (int j = 0; j < DIM; j++) even[j] = 1, odd[j] = j ? 100.49f : 127;
    unit_length(even, DIM);
    unit_length(odd, DIM);
    for (int which = 0; which < 2; which++) {
        struct records rs;
        records_open(&rs, DIM, key);
        struct memory m = memory_of(1, S("text"), which ? odd : even);
        cr_assert_eq(records_put(&rs, &m, ROW_NONE), 0);
        double cosine = cosine_exact(even, odd, DIM);
        for (int above = 0; above < 2; above++) {
            struct scan_config c = { .filter = scan_any(), .vector = which ? even : odd, .k = 1, .now_ms = now,
                                     .min_similarity = above ? nextafter(cosine, 2) : cosine };
            struct scan sc;
            cr_assert_eq(scan_begin(&sc, &rs, &c), 0);
            scan_finish(&sc);
            cr_assert_eq(sc.searched, 1);
            cr_assert_eq(sc.below, (uint64_t)above, "row %d, gate %.17g", which, c.min_similarity);
            scan_end(&sc);
        }
        records_close(&rs);
    }
}

Test(index, who_became_more_significant_is_found_by_score)
{
    enum { ROWS = 600 };
    struct records rs;
    struct scan sc;
    float v[DIM] = { 1 };
    char text[16];
    records_open(&rs, DIM, key);
    for (uint32_t n = 0; n < ROWS; n++) {
        struct memory m = memory_of(n, (struct slice){ text, (size_t)snprintf(text, sizeof text, "%u", n) }, v);
        m.f.significance = n < ROWS - 1 ? 0.5 : 0.1;
        m.f.time_ms = now;
        cr_assert_eq(records_put(&rs, &m, ROW_NONE), n);
    }
    struct memory_fields f = { .significance = 0.6, .time_ms = now };
    records_fields(&rs, ROWS - 1, &f);
    struct scan_config c = { .filter = scan_any(), .vector = v, .order = SCAN_SCORE, .k = 1, .now_ms = now };
    cr_assert_eq(scan_begin(&sc, &rs, &c), 0);
    scan_finish(&sc);
    cr_assert_eq(sc.n, 1);
    cr_assert_eq(sc.hits[0].row, ROWS - 1);
    scan_end(&sc);
    records_close(&rs);
}
