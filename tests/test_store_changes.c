// uses: servers/memory/store.c servers/memory/store_life.c servers/memory/store_changes.c servers/memory/index.c servers/memory/records.c servers/memory/significance.c servers/memory/cosine.c servers/memory/hash.c json.c number.c utf8.c base64.c
/* Long random sessions: what is undone leaves no trace, and what the log holds
 * gives the same store again. */
#include "servers/memory/store.h"


#include "memories.h"
#include "test.h"

enum { DIM = 5, STEPS = 400, TEXTS = 60 };
static const int64_t START = INT64_C(1700000000000);

/* Everything that went to the log, whole. */
struct logged {
    enum memory_change what;
    struct memory m;
    float vector[DIM];
    char bytes[200];
};
struct log { struct logged *all; size_t n; };

static int append(void *user, enum memory_change what, const struct memory *m, uint64_t *seq)
{
    struct log *log = user;
    struct logged *l = &log->all[log->n++];
    *l = (struct logged){ .what = what, .m = *m };
    if (what == MEMORY_PUT) {
        memcpy(l->vector, m->vector, sizeof l->vector);
        memcpy(l->bytes, m->text.p, m->text.len);
        memcpy(l->bytes + m->text.len, m->metadata.p, m->metadata.len);
        memcpy(l->bytes + m->text.len + m->metadata.len, m->tags.p, m->tags.len);
    }
    *seq = log->n;
    return 0;
}

static struct store *new_store(struct log *log, size_t max)
{
    struct store *st = store_new(&(struct store_config){ .dimension = DIM, .max_memories = max, .evict = true,
        .forget = 0.05, .seed = { 15, 16 }, .user = log, .append = append });
    store_clock(st, START, 0);
    return st;
}

static void nth_text(int n, char text[64], float x[DIM])
{
    uint64_t seed = (uint64_t)n;
    int len = snprintf(text, 64, "text %d word%d", n, n % 7);
    for (int i = 0; i < n % 5; i++) len += snprintf(text + len, 64 - (size_t)len, " more%d", i);
    random_vector(&seed, x, DIM);
}

static const char *const metadata[] = { "{}", "{\"type\":\"user\"}", "{\"session_id\":\"s\"}",
                                        "{\"session_id\":\"t\",\"importance\":0.7}" };

/* All that can be told of a store, streams included when asked for. */
static void describe(struct store *st, char *out, size_t cap, bool streams)
{
    size_t len = 0, fifths[5] = { 0 };
    double sum = 0;
    struct store_counts counts = store_count(st);
    for (uint32_t row = oldest(st); row != ROW_NONE; row = younger(st, row)) {
        struct memory m = view(st, row);
        len += (size_t)snprintf(out + len, cap - len, "%02x%02x %.*s %.*s %.*s %a %d %d %lld %a\n", m.id[0], m.id[8],
            (int)m.text.len, m.text.p, (int)m.metadata.len, m.metadata.p, (int)m.tags.len, m.tags.p, m.f.significance,
            (int)m.f.access_count, m.f.pinned, (long long)m.f.last_access_ms, (double)m.vector[0]);
        cr_assert_eq(row_of(st, m.id), row);
        cr_assert_neq(store_duplicate(st, m.text, m.metadata), ROW_NONE);
        fifths[m.f.significance < 1 ? (int)(m.f.significance * 5) : 4]++;
        sum += m.f.significance;
    }
    cr_assert_arr_eq(counts.distribution, fifths, sizeof fifths);
    cr_assert(fabs(counts.avg_significance * (double)counts.memories - sum) < 1e-9);
    for (int n = 0; n < TEXTS; n += 7) {
        char text[64];
        float x[DIM];
        struct memory_fields f;
        nth_text(n, text, x);
        for (int k = 0; k < (streams ? 4 : 1); k++) {
            struct memory t = { .text = { text, strlen(text) }, .metadata = { metadata[k], strlen(metadata[k]) },
                                .vector = x, .f.significance = -1 };
            store_score(st, &t, NULL, &f);
            len += (size_t)snprintf(out + len, cap - len, "%a %a %a\n", (double)f.diversity, (double)f.information,
                                    streams ? (double)f.surprise : 0);
        }
    }
    cr_assert(len < cap);
}

/* One random change; how many of the log's numbers it took is the log's affair. */
static void change(struct store *st, uint64_t *seed, int *id, bool clear)
{
    char text[64];
    float x[DIM];
    uint64_t seq;
    struct store_added a;
    int n = (int)(random_next(seed) % TEXTS), what = (int)(random_next(seed) % 16);
    uint32_t row = oldest(st);
    uint8_t victim[MEMORY_ID] = { 0 };
    nth_text(n, text, x);
    for (uint32_t skip = random_next(seed) % 8; row != ROW_NONE && skip; skip--) row = younger(st, row);
    if (row != ROW_NONE) memcpy(victim, records_at(store_records(st), row)->id, MEMORY_ID);
    store_clock(st, START + (int64_t)random_next(seed) % 1000, (int64_t)random_next(seed) % 1000);
    if (what < 9) {
        const char *meta = metadata[random_next(seed) % 4];
        struct memory t = { .text = { text, strlen(text) }, .metadata = { meta, strlen(meta) }, .tags = S("[]"),
                            .vector = x, .f.significance = what == 8 ? 0.01 : -1, .f.time_ms = INT64_MIN,
                            .f.pinned = random_next(seed) % 9 == 0 };
        number_id(t.id, (uint64_t)++*id);
        store_add(st, &t, NULL, &a);
    } else if (what < 11) {
        delete(st, victim, &seq);
    } else if (what < 13) {
        struct update u = { .significance = 0.5, .pinned = -1 };
        if (what == 12) {
            u.text = (struct slice){ text, strlen(text) };
            u.vector = x;
            u.tags = S("[\"t\"]");
        }
        update(st, victim, &u, &seq);
    } else if (what == 13) {
        store_forget(st, true, &seq);
    } else if (what == 14) {
        struct memory m = memory_of((uint64_t)++*id + 1000000, (struct slice){ text, strlen(text) }, x);
        store_import(st, &m, &seq);
    } else if (clear && random_next(seed) % 4 == 0) {
        store_clear(st, SIZE_MAX, &seq);
    }
}

static char before[STEPS + 1][24000], after[24000];

Test(store_changes, undone_in_reverse_they_leave_no_trace)
{
    for (uint64_t round = 1; round <= 12; round++) {
        struct log log = { calloc(STEPS * 40, sizeof(struct logged)), 0 };
        struct store *st = new_store(&log, 25);
        size_t seq[STEPS + 1];
        uint64_t seed = round;
        int id = 0, settled = 0;
        for (int i = 0; i < STEPS; i++) {
            seq[i] = log.n;
            describe(st, before[i], sizeof *before, true);
            change(st, &seed, &id, true);
            if (random_next(&seed) % 40 == 0) {
                settled = i + 1;
                store_durable(st, log.n);
            }
        }
        for (int back = STEPS - 1; back >= settled; back -= 1 + (int)(random_next(&seed) % 3)) {
            store_failed(st, seq[back] + 1);
            store_clock(st, START, 0);
            describe(st, after, sizeof after, true);
            cr_assert_str_eq(after, before[back], "round %d, back to step %d", (int)round, back);
        }
        struct store_counts n = store_count(st);
        cr_assert(n.pending <= seq[STEPS - 1]);
        store_free(st);
        free(log.all);
    }
}

static void replay(struct store *st, const struct log *log)
{
    for (size_t i = 0; i < log->n; i++) {
        struct logged *l = &log->all[i];
        l->m.vector = l->vector;
        l->m.text.p = l->bytes;
        l->m.metadata.p = l->bytes + l->m.text.len;
        l->m.tags.p = l->m.metadata.p + l->m.metadata.len;
        cr_assert(store_load(st, l->what, &l->m), "record %zu", i);
    }
    store_loaded(st);
}

Test(store_changes, the_log_gives_the_same_store_again)
{
    for (uint64_t round = 1; round <= 12; round++) {
        struct log log = { calloc(STEPS * 40, sizeof(struct logged)), 0 }, none = { NULL, 0 };
        struct store *st = new_store(&log, 25), *again = new_store(&none, 25);
        uint64_t seed = 100 + round;
        int id = 0;
        for (int i = 0; i < STEPS; i++) change(st, &seed, &id, true);
        replay(again, &log);
        describe(st, before[0], sizeof *before, false);
        describe(again, after, sizeof after, false);
        cr_assert_str_eq(after, before[0], "round %d", (int)round);
        store_free(again);
        store_free(st);
        free(log.all);
    }
}

Test(store_changes, streams_are_rebuilt_from_the_last_fifty)
{
    struct log log = { calloc(200, sizeof(struct logged)), 0 };
    struct store *st = new_store(&log, 1000), *again = new_store(&log, 1000);
    struct store_added a;
    for (int n = 0; n < 30; n++) {
        char text[64];
        float x[DIM];
        nth_text(n, text, x);
        struct memory t = { .text = { text, strlen(text) }, .metadata = { metadata[n % 4], strlen(metadata[n % 4]) },
                            .tags = S("[]"), .vector = x, .f.significance = -1, .f.time_ms = INT64_MIN };
        number_id(t.id, (uint64_t)n + 1);
        store_add(st, &t, NULL, &a);
    }
    replay(again, &log);
    describe(st, before[0], sizeof *before, true);
    describe(again, after, sizeof after, true);
    cr_assert_str_eq(after, before[0], "fewer than fifty: the same streams");
    store_free(again);
    store_free(st);
    free(log.all);
}

/* A stream made of all sixty would say something else. */
Test(store_changes, older_texts_than_the_last_fifty_leave_no_stream)
{
    struct log log = { calloc(200, sizeof(struct logged)), 0 }, last;
    struct store *st = new_store(&log, 1000), *all, *some;
    struct memory_fields a, b;
    float y[DIM] = { 0, 1 }, x[DIM] = { 1 };
    for (int n = 0; n < 60; n++) {
        char text[16];
        int len = snprintf(text, sizeof text, "%d", n);
        struct store_added added;
        struct memory t = { .text = { text, (size_t)len }, .metadata = S("{}"), .tags = S("[]"), .vector = n < 10 ? y : x,
                            .f.significance = -1, .f.time_ms = INT64_MIN };
        number_id(t.id, (uint64_t)n + 1);
        store_add(st, &t, NULL, &added);
    }
    last = (struct log){ log.all + 10, log.n - 10 };
    all = new_store(&log, 1000), some = new_store(&log, 1000);
    replay(all, &log);
    replay(some, &last);
    struct memory t = { .text = S("new"), .metadata = S("{}"), .vector = y, .f.significance = -1 };
    store_score(all, &t, NULL, &a);
    store_score(some, &t, NULL, &b);
    cr_assert_float_eq(a.surprise, b.surprise, 0);
    cr_assert_float_eq(a.surprise, 1, 0, "nothing like it in the last fifty");
    store_free(all);
    store_free(some);
    store_free(st);
    free(log.all);
}

Test(store_changes, a_session_that_had_to_go_comes_back_when_undone)
{
    struct log log = { calloc(STREAMS_MAX + 8, sizeof(struct logged)), 0 };
    struct store *st = new_store(&log, 5000);
    float x[DIM] = { 1 };
    struct memory_fields f;
    for (int n = 0; n <= STREAMS_MAX; n++) {
        char text[16], session[48];
        int len = snprintf(text, sizeof text, "%d", n), slen = snprintf(session, sizeof session, "{\"session_id\":\"%d\"}", n);
        struct store_added a;
        struct memory t = { .text = { text, (size_t)len }, .metadata = { session, (size_t)slen }, .tags = S("[]"), .vector = x,
                            .f.significance = -1, .f.time_ms = INT64_MIN };
        number_id(t.id, (uint64_t)n + 1);
        store_add(st, &t, NULL, &a);
    }
    struct memory first = { .text = S("new"), .metadata = S("{\"session_id\":\"0\"}"), .vector = x, .f.significance = -1 };
    store_score(st, &first, NULL, &f);
    cr_assert_float_eq(f.surprise, 0.5, 0, "it had to make room");
    store_failed(st, log.n);
    store_score(st, &first, NULL, &f);
    cr_assert_float_eq(f.surprise, 0, 1e-7, "and is back");
    store_free(st);
    free(log.all);
}

Test(store_changes, records_without_their_put_are_skipped)
{
    struct log none = { NULL, 0 };
    struct store *st = new_store(&none, 10);
    struct memory m = { .id = { 1 } };
    cr_assert(!store_load(st, MEMORY_CHANGE, &m));
    cr_assert(!store_load(st, MEMORY_DELETE, &m));
    store_loaded(st);
    cr_assert_eq(oldest(st), ROW_NONE);
    store_free(st);
}

/* ---- compaction: what it was handed, with what came after, is the store */

struct kept { struct log log; int keeps; };
static struct kept *keeping;

static void keep(void *user, const struct memory *m)
{
    uint64_t seq;
    (void)user;
    keeping->keeps++;
    append(&keeping->log, MEMORY_PUT, m, &seq);
}

Test(store_changes, a_compaction_fed_in_slices_gives_the_same_store)
{
    int keeps = 0;
    for (uint64_t round = 1; round <= 30; round++) {
        struct log log = { calloc(STEPS * 40, sizeof(struct logged)), 0 }, none = { NULL, 0 };
        struct kept new = { { calloc(STEPS * 40, sizeof(struct logged)), 0 }, 0 };
        struct store *st = store_new(&(struct store_config){ .dimension = DIM, .max_memories = 40, .evict = true,
            .seed = { 15, 16 }, .user = &log, .append = append, .keep = keep });
        struct store *again = new_store(&none, 40);
        uint64_t seed = 200 + round, seq;
        int id = 0;
        store_clock(st, START, 0);
        for (int i = 0; i < 60; i++) change(st, &seed, &id, false);
        keeping = &new;
        uint64_t n = store_living(st);
        size_t first = log.n;
        struct memory m;
        for (bool more = true; more; change(st, &seed, &id, false)) {
            if ((more = store_living_next(st, &m))) append(&new.log, MEMORY_PUT, &m, &seq);
        }
        cr_assert_eq(new.log.n, n, "each once: %d of %d", (int)new.log.n, (int)n);
        keeps += new.keeps;
        memcpy(new.log.all + new.log.n, log.all + first, (log.n - first) * sizeof *log.all);
        new.log.n += log.n - first;
        replay(again, &new.log);
        /* What was handed over late stands later in the order of storing; nothing else differs. */
        for (uint32_t row = oldest(st); row != ROW_NONE; row = younger(st, row)) {
            struct memory is;
            m = view(st, row);
            uint32_t other = row_of(again, m.id);
            cr_assert_neq(other, ROW_NONE);
            is = view(again, other);
            cr_assert_eq(is.text.len, m.text.len);
            cr_assert_arr_eq(is.text.p, m.text.p, m.text.len);
            cr_assert_float_eq(is.f.significance, m.f.significance, 0);
        }
        cr_assert_eq(store_records(again)->live, store_records(st)->live);
        store_free(again);
        store_free(st);
        free(log.all);
        free(new.log.all);
    }
    cr_assert(keeps > 10, "some went while they waited: %d", keeps);
}

/* ---- orders of events */

static struct { enum store_event what; double significance; int n; } told;

static void on_event(void *user, enum store_event what, enum store_reason why, const struct memory *m)
{
    (void)user; (void)why;
    told.what = what;
    told.significance = m->f.significance;
    told.n++;
}

static struct store *three_orders(struct log *log)
{
    struct store *st = store_new(&(struct store_config){ .dimension = DIM, .max_memories = 100, .seed = { 15, 16 },
        .user = log, .append = append, .event = on_event, .keep = keep });
    memset(&told, 0, sizeof told);
    store_clock(st, START, 0);
    return st;
}

static uint64_t add_one(struct store *st, const char *text, uint8_t id)
{
    float x[DIM] = { 0 };
    struct store_added a;
    struct memory t = { .text = { text, strlen(text) }, .metadata = { "{}", 2 }, .tags = { "[]", 2 },
                        .vector = x, .f.significance = 0.5, .f.time_ms = START };
    x[id % DIM] = 1;
    memset(t.id, id, sizeof t.id);
    cr_assert_eq(store_add(st, &t, NULL, &a), 0);
    return a.seq;
}

Test(store_changes, an_event_tells_of_its_own_change_alone)
{
    struct log log = { calloc(10, sizeof *log.all), 0 };
    struct store *st = three_orders(&log);
    uint64_t seq, added = add_one(st, "said", 1);
    struct update u = { .significance = 0.9, .pinned = 1 };
    uint8_t id[MEMORY_ID];
    memset(id, 1, sizeof id);
    cr_assert_eq(update(st, id, &u, &seq), 0);
    store_durable(st, added);
    cr_assert(told.n == 1 && told.what == STORE_ADDED && told.significance == 0.5, "%g", told.significance);
    store_failed(st, seq);
    cr_assert_eq(told.n, 1, "what has failed is not told of");
    store_free(st);
    free(log.all);
}

Test(store_changes, a_clear_hands_over_what_a_compaction_has_not_had)
{
    struct log log = { calloc(20, sizeof *log.all), 0 };
    struct kept new = { { calloc(20, sizeof *log.all), 0 }, 0 };
    struct store *st = three_orders(&log);
    struct memory m;
    uint64_t seq;
    keeping = &new;
    for (uint8_t i = 1; i <= 4; i++) add_one(st, (const char[]){ (char)('a' + i), 0 }, i);
    cr_assert_eq(store_living(st), 4);
    cr_assert(store_living_next(st, &m));
    cr_assert_eq(store_clear(st, SIZE_MAX, &seq), 4);
    cr_assert_eq(new.keeps, 3, "%d", new.keeps);
    cr_assert(!store_living_next(st, &m));
    store_free(st);
    free(new.log.all);
    free(log.all);
}

Test(store_changes, a_compaction_gets_each_once_whoever_takes_a_freed_place)
{
    struct log log = { calloc(20, sizeof *log.all), 0 };
    struct store *st = three_orders(&log);
    struct memory m;
    uint64_t seq;
    uint8_t id[MEMORY_ID];
    float x[DIM] = { 0, 0, 0, 1 };
    struct update u = { .text = { "A2", 2 }, .vector = x, .significance = -1, .pinned = -1 };
    add_one(st, "A", 1);
    store_durable(st, add_one(st, "B", 2));
    store_living(st);
    store_durable(st, add_one(st, "C", 3));
    cr_assert(store_living_next(st, &m) && store_living_next(st, &m) && !store_living_next(st, &m));
    memset(id, 3, sizeof id);
    delete(st, id, &seq);
    store_durable(st, seq);
    memset(id, 1, sizeof id);
    cr_assert_eq(update(st, id, &u, &seq), 0);
    store_durable(st, seq);
    cr_assert(!store_living_next(st, &m), "%.*s again", (int)m.text.len, m.text.p);
    store_free(st);
    free(log.all);
}
