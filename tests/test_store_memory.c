// uses: servers/memory/store.c servers/memory/store_life.c servers/memory/store_changes.c servers/memory/index.c servers/memory/records.c servers/memory/significance.c servers/memory/cosine.c servers/memory/hash.c json.c number.c utf8.c base64.c
// flags: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=mmap
/* Memory runs out at the k-th request, for every k of a session: what was asked
 * is refused and has changed nothing, and the store goes on when there is some again. */
#include "servers/memory/store.h"

#include <sys/mman.h>

#include "memories.h"
#include "test.h"

static long left = -1; /* requests that are granted; negative: all */
static long refused;

static int grant(void)
{
    if (left < 0 || left-- > 0) return 1;
    left = 0;
    refused++;
    return 0;
}

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_malloc(size_t n) { return grant() ? __real_malloc(n) : NULL; }
void *__wrap_calloc(size_t n, size_t size) { return grant() ? __real_calloc(n, size) : NULL; }
void *__wrap_realloc(void *p, size_t n) { return grant() ? __real_realloc(p, n) : NULL; }
void *__wrap_mmap(void *p, size_t n, int prot, int flags, int fd, off_t at)
{
    return grant() ? __real_mmap(p, n, prot, flags, fd, at) : MAP_FAILED;
}

enum { DIM = 4, STEPS = 40 };
static uint64_t logged;

static int append(void *user, enum memory_change what, const struct memory *m, uint64_t *seq)
{
    (void)user, (void)what, (void)m;
    *seq = ++logged;
    return 0;
}

static void text_at(int n, char *text, size_t cap, float x[DIM])
{
    uint64_t seed = (uint64_t)n;
    int len = snprintf(text, cap, "text %d", n);
    for (int i = 0; i < n * 3 && len + 12 < (int)cap; i++) len += snprintf(text + len, cap - (size_t)len, " more%d", i);
    random_vector(&seed, x, DIM);
}

/* Step n of the session: a status, and whether it may change something at all. */
static long step(struct store *st, int n)
{
    char text[600];
    float x[DIM];
    uint64_t seq;
    uint8_t id[MEMORY_ID];
    struct store_added a;
    char session[40];
    int len = snprintf(session, sizeof session, "{\"session_id\":\"s%d\"}", n % 3);
    text_at(n % 11 == 10 ? n - 3 : n, text, sizeof text, x); /* some twice */
    number_id(id, (uint64_t)(n - 5));
    if (n % 13 == 12) return store_clear(st, SIZE_MAX, &seq);
    if (n % 7 == 5) return delete(st, id, &seq);
    if (n % 7 == 6) {
        struct update u = { .text = S("another text"), .vector = x, .significance = -1, .pinned = -1 };
        return update(st, id, &u, &seq);
    }
    struct memory t = { .text = { text, strlen(text) }, .metadata = { session, (size_t)len }, .tags = S("[]"), .vector = x,
                        .f.significance = -1, .f.time_ms = INT64_MIN };
    number_id(t.id, (uint64_t)n);
    return store_add(st, &t, NULL, &a);
}

/* What there is, and what a new text would be worth. */
static void describe(struct store *st, char *out, size_t cap)
{
    size_t len = 0;
    float x[DIM] = { 1 };
    struct memory_fields f;
    struct memory t = { .text = S("text more1 more7 another"), .metadata = S("{\"session_id\":\"s1\"}"), .vector = x, .f.significance = -1 };
    for (uint32_t row = oldest(st); row != ROW_NONE; row = younger(st, row)) {
        struct memory m = view(st, row);
        len += (size_t)snprintf(out + len, cap - len, "%.20s %a\n", m.text.p, m.f.significance);
    }
    store_score(st, &t, NULL, &f);
    snprintf(out + len, cap - len, "%a %a %a", (double)f.surprise, (double)f.diversity, (double)f.information);
}

Test(store_memory, a_request_that_is_refused_has_changed_nothing)
{
    static char before[8192], after[8192];
    long runs = 0, total = 0;
    for (int n = 1; n <= STEPS; n++) {
        for (long k = 0;; k++, runs++) {
            struct store *st = store_new(&(struct store_config){ .dimension = DIM, .max_memories = 12, .evict = true,
                                                                 .seed = { 1, 2 }, .append = append });
            store_clock(st, 1000, 0);
            for (int i = 1; i < n; i++) step(st, i);
            describe(st, before, sizeof before);
            left = k;
            refused = 0;
            long status = step(st, n);
            left = -1;
            describe(st, after, sizeof after);
            if (status == STORE_NO_ROOM) cr_assert_str_eq(after, before, "step %d, request %ld", n, k);
            cr_assert(status >= 0 || status == STORE_NO_ROOM, "step %d, request %ld: %ld", n, k, status);
            total += status == STORE_NO_ROOM;
            long again = status == STORE_NO_ROOM ? step(st, n) : 0;
            cr_assert(again >= 0, "step %d works once there is memory: %ld", n, again);
            store_failed(st, 1);
            cr_assert_eq(oldest(st), ROW_NONE, "and all of it can be undone");
            store_free(st);
            if (!refused) break;
        }
    }
    cr_assert(total > 100, "%ld of %ld runs were refused", total, runs);
}

Test(store_memory, no_store_without_memory)
{
    struct store_config c = { .dimension = DIM };
    for (long k = 0;; k++) {
        left = k;
        struct store *st = store_new(&c);
        left = -1;
        if (!st) continue;
        cr_assert(k > 0);
        store_free(st);
        break;
    }
}

Test(store_memory, a_scan_without_memory_says_so)
{
    struct store *st = store_new(&(struct store_config){ .dimension = DIM, .max_memories = 100, .seed = { 1, 2 } });
    for (int n = 1; n <= 5; n++) step(st, n);
    for (long k = 0;; k++) {
        float x[DIM] = { 1 };
        struct scan sc;
        struct scan_config c = { .filter = scan_any(), .vector = x, .min_similarity = -2, .k = 3 };
        left = k;
        int failed = store_scan(st, &sc, &c);
        int finished = failed ? failed : scan_finish(&sc);
        left = -1;
        if (!failed) scan_end(&sc);
        if (!finished) { cr_assert_eq(k, 2, "two requests: %ld", k); break; }
        cr_assert_eq(finished, -1);
    }
    store_free(st);
}

/* The table of words is full but for four; the text that comes back has fifty, all there. */
Test(store_memory, undoing_a_delete_needs_none)
{
    static const struct { int from, n; } words[] = { { 0, 50 }, { 0, 110 }, { 110, 100 }, { 210, 10 } };
    struct store *st = store_new(&(struct store_config){ .dimension = DIM, .max_memories = 100, .seed = { 1, 2 } });
    for (int i = 0; i < 4; i++) {
        char text[800];
        size_t len = 0;
        float x[DIM] = { 1 };
        struct store_added a;
        for (int k = 0; k < words[i].n; k++) len += (size_t)snprintf(text + len, sizeof text - len, "w%d ", words[i].from + k);
        struct memory t = { .text = { text, len - 1 }, .metadata = S("{}"), .tags = S("[]"), .vector = x, .f.significance = 0.9 };
        number_id(t.id, (uint64_t)i);
        cr_assert_eq(store_add(st, &t, NULL, &a), STORE_OK);
    }
    uint64_t seq;
    uint8_t id[MEMORY_ID];
    number_id(id, 0);
    cr_assert_eq(delete(st, id, &seq), STORE_OK);
    left = 0;
    store_failed(st, seq);
    left = -1;
    cr_assert_neq(row_of(st, id), ROW_NONE);
    store_free(st);
}
