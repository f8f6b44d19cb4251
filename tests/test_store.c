// uses: servers/memory/store.c servers/memory/store_life.c servers/memory/store_changes.c servers/memory/index.c servers/memory/records.c servers/memory/significance.c servers/memory/cosine.c servers/memory/hash.c json.c number.c utf8.c base64.c
#include "servers/memory/store.h"

#include "memories.h"
#include "test.h"

enum { DIM = 3 };
static const int64_t DAY = 86400000, START = INT64_C(1700000000000);

/* A log that counts, may refuse, and what became durable, as text. */
struct log { uint64_t seq; int refuse_after; char events[4096]; };

static int append(void *user, enum memory_change what, const struct memory *m, uint64_t *seq)
{
    struct log *log = user;
    (void)what;
    (void)m;
    if (log->refuse_after == 0) return -1;
    log->refuse_after--;
    *seq = ++log->seq;
    return 0;
}

static void event(void *user, enum store_event what, enum store_reason why, const struct memory *m)
{
    static const char *const events[] = { "added", "updated", "removed" };
    static const char *const reasons[] = { "deleted", "forgotten", "evicted", "cleared" };
    struct log *log = user;
    size_t len = strlen(log->events);
    snprintf(log->events + len, sizeof log->events - len, "%s%s%s(%.*s) ", events[what],
             what == STORE_REMOVED ? " " : "", what == STORE_REMOVED ? reasons[why] : "", (int)m->text.len, m->text.p);
}

static struct store *open_store(struct log *log, size_t max, bool evict, double forget)
{
    *log = (struct log){ .refuse_after = -1 };
    struct store *st = store_new(&(struct store_config){ .dimension = DIM, .max_memories = max, .evict = evict,
        .forget = forget, .seed = { 5, 6 }, .user = log, .append = append, .event = event });
    store_clock(st, START, 0);
    return st;
}

static void at_day(struct store *st, double days)
{
    store_clock(st, START + (int64_t)(days * (double)DAY), (int64_t)(days * (double)DAY));
}

static uint64_t next_id = 1;

static void look_for(struct store *st, struct scan *sc, const float *x)
{
    struct scan_config config = scan_nearest(x);
    store_scan(st, sc, &config);
}

static struct memory text_of(const char *text, const float *x)
{
    struct memory t = { .text = { text, strlen(text) }, .metadata = S("{}"), .tags = S("[]"), .vector = x,
                        .f.significance = -1, .f.time_ms = INT64_MIN };
    number_id(t.id, next_id++);
    return t;
}

static const float X[DIM] = { 1, 0, 0 }, Y[DIM] = { 0, 1, 0 }, Z[DIM] = { 0, 0, 1 };

static struct store_added add(struct store *st, const char *text, const float *x)
{
    struct memory t = text_of(text, x);
    struct store_added a;
    int failed = store_add(st, &t, NULL, &a);
    cr_assert_eq(failed, STORE_OK, "%s: %d", text, failed);
    return a;
}

static void add_check_values(struct store *st)
{
    static const struct { const char *text; float x[3]; double s, d, q, sigma; } days[] = {
        { "red apple", { 1, 0, 0 }, 0.5, 1, 0.117503, 0.535251 },
        { "green apple", { 0.8f, 0.6f, 0 }, 0.2, 0.2, 0.096910, 0.169073 },
        { "my bicycle is broken", { 0, 0, 1 }, 1, 1, 0.221199, 0.766360 },
        { "red apple pie", { 0.96f, 0.28f, 0 }, 0.350078, 0.04, 0.128959, 0.190719 },
    };
    for (int i = 0; i < 4; i++) {
        at_day(st, i);
        struct store_added a = add(st, days[i].text, days[i].x);
        cr_assert_float_eq(a.f.surprise, days[i].s, 5e-7, "s of %s", days[i].text);
        cr_assert_float_eq(a.f.diversity, days[i].d, 5e-7, "d of %s", days[i].text);
        cr_assert_float_eq(a.f.information, days[i].q, 5e-7, "q of %s", days[i].text);
        cr_assert_float_eq(a.f.significance, days[i].sigma, 5e-7, "sigma of %s", days[i].text);
        cr_assert_eq(a.count, (size_t)i + 1);
    }
}

Test(store, check_values_hold_to_six_digits)
{
    static const struct { const char *text; double score; } want[] = {
        { "red apple", 0.783714 }, { "red apple pie", 0.712890 }, { "green apple", 0.585586 } };
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    struct scan sc;
    add_check_values(st);
    at_day(st, 5);
    struct scan_config c = { .filter = scan_any(), .vector = X, .min_similarity = 0.3, .order = SCAN_SCORE, .k = 5 };
    store_scan(st, &sc, &c);
    scan_finish(&sc);
    cr_assert_eq(sc.n, 3);
    cr_assert_eq(sc.searched, 4);
    cr_assert_eq(sc.below, 1, "the bicycle");
    for (size_t i = 0; i < 3; i++) {
        struct memory m = view(st, sc.hits[i].row);
        cr_assert(!strncmp(m.text.p, want[i].text, m.text.len), "place %zu", i);
        cr_assert_float_eq(sc.hits[i].key, want[i].score, 5e-7, "place %zu: %.7f", i, sc.hits[i].key);
    }
    scan_end(&sc);
    store_free(st);
}

Test(store, queries_change_nothing)
{
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    struct memory_fields f, again;
    add_check_values(st);
    struct memory t = text_of("blue apple", Y);
    store_score(st, &t, NULL, &f);
    store_score(st, &t, NULL, &again);
    cr_assert_float_eq(f.significance, again.significance, 0);
    cr_assert_eq(log.seq, 4);
    struct store_added a = add(st, "blue apple", Y);
    cr_assert_float_eq(a.f.significance, f.significance, 0, "score says what store will give");
    store_free(st);
}

Test(store, the_client_may_give_significance_and_time)
{
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    struct memory t = text_of("given", X);
    struct store_added a;
    t.f.significance = 0;
    t.f.time_ms = 12345;
    t.f.pinned = true;
    t.metadata = S("{\"importance\":0.9}");
    cr_assert_eq(store_add(st, &t, NULL, &a), 0);
    cr_assert_float_eq(a.f.significance, 0, 0, "zero is given too");
    cr_assert_float_eq(a.f.floor, 0.9, 1e-7);
    cr_assert_eq(a.f.time_ms, 12345);
    cr_assert_eq(a.f.stored_ms, START);
    cr_assert_eq(a.f.pinned, 1);
    store_free(st);
}

/* 5.7 */
Test(store, a_duplicate_is_reinforced_and_not_stored)
{
    struct log log;
    struct store *st = open_store(&log, 1, false, 0);
    struct store_added first = add(st, "same", X), again;
    at_day(st, 1);
    struct memory t = text_of("same", NULL);
    cr_assert_eq(store_duplicate(st, t.text, t.metadata), row_of(st, first.id));
    cr_assert_eq(store_add(st, &t, NULL, &again), 0, "not refused though the store is full, no vector wanted");
    cr_assert(again.duplicate);
    cr_assert_arr_eq(again.id, first.id, MEMORY_ID);
    cr_assert_eq(again.seq, 2);
    cr_assert_eq(again.f.access_count, 1);
    cr_assert_eq(again.f.last_access_ms, START + DAY);
    cr_assert_float_eq(again.f.significance, first.f.significance + 0.1 * (1 - first.f.significance), 1e-15);
    cr_assert_float_eq(again.f.surprise, first.f.surprise, 0);
    cr_assert_eq(again.f.time_ms, START, "the clock is never reset");
    t.metadata = S("{\"type\":\"user\"}");
    t.vector = X;
    cr_assert_eq(store_add(st, &t, NULL, &again), STORE_FULL, "another type is another text");
    t.metadata = S("{\"other\":\"user\"}");
    cr_assert_eq(store_add(st, &t, NULL, &again), 0);
    cr_assert(again.duplicate);
    store_free(st);
}

Test(store, streams_are_one_for_each_session)
{
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    struct store_added a;
    add(st, "one", X);
    struct memory t = text_of("two", X);
    t.metadata = S("{\"session_id\":\"s\"}");
    store_add(st, &t, NULL, &a);
    cr_assert_float_eq(a.f.surprise, 0.5, 0, "new stream");
    a = add(st, "three", X);
    cr_assert_float_eq(a.f.surprise, 0, 1e-7, "the stream of all without");
    t = text_of("four", Y);
    t.metadata = S("{\"session_id\":\"s\"}");
    store_add(st, &t, NULL, &a);
    cr_assert_float_eq(a.f.surprise, 1, 0);
    store_free(st);
}

/* 5.6 */
Test(store, a_full_store_refuses)
{
    struct log log;
    struct store *st = open_store(&log, 2, false, 0);
    struct store_added a;
    add(st, "one", X);
    cr_assert(!store_full(st));
    add(st, "two", Y);
    cr_assert(store_full(st));
    struct memory t = text_of("three", Z);
    cr_assert_eq(store_add(st, &t, NULL, &a), STORE_FULL);
    cr_assert_eq(log.seq, 2);
    store_free(st);
}

static struct store_added add_rated(struct store *st, const char *text, double significance, int64_t time_ms, bool pinned)
{
    struct memory t = text_of(text, X);
    struct store_added a;
    t.f.significance = significance;
    t.f.time_ms = time_ms;
    t.f.pinned = pinned;
    cr_assert_eq(store_add(st, &t, NULL, &a), 0, "%s", text);
    return a;
}

Test(store, a_full_store_evicts_the_weakest_that_is_not_pinned)
{
    struct log log;
    struct store *st = open_store(&log, 3, true, 0);
    struct store_added pinned = add_rated(st, "pinned", 0, START, true), a;
    struct store_added old = add_rated(st, "old", 0.9, START - 400 * DAY, false);
    struct store_added weak = add_rated(st, "weak", 0.1, START, false);
    a = add_rated(st, "new", 0, START, false);
    cr_assert_eq(a.n_evicted, 1);
    cr_assert_arr_eq(a.evicted[0], old.id, MEMORY_ID, "age counts");
    cr_assert_eq(a.count, 3);
    struct store_added b = add_rated(st, "newer", 0, START, false);
    cr_assert_arr_eq(b.evicted[0], a.id, MEMORY_ID, "never the new one");
    struct store_added c = add_rated(st, "newest", 0.05, START - 5, false);
    cr_assert_arr_eq(c.evicted[0], b.id, MEMORY_ID);
    (void)weak;
    store_durable(st, log.seq);
    cr_assert_str_eq(log.events, "added(pinned) added(old) added(weak) added(new) removed evicted(old) added(newer) "
                     "removed evicted(new) added(newest) removed evicted(newer) ");
    struct store_counts n = store_count(st);
    cr_assert_eq(n.evicted, 3);
    cr_assert_neq(row_of(st, pinned.id), ROW_NONE);
    store_free(st);
}

Test(store, of_equal_strength_the_earlier_goes_then_the_smaller_id)
{
    struct log log;
    struct store *st = open_store(&log, 3, true, 0);
    struct store_added a = add_rated(st, "a", 0, START, false), b = add_rated(st, "b", 0, START - 1, false);
    struct store_added c = add_rated(st, "c", 0, START, false);
    struct store_added d = add_rated(st, "d", 0.5, START, false);
    cr_assert_arr_eq(d.evicted[0], b.id, MEMORY_ID);
    struct store_added e = add_rated(st, "e", 0.5, START, false);
    cr_assert_arr_eq(e.evicted[0], memcmp(a.id, c.id, MEMORY_ID) < 0 ? a.id : c.id, MEMORY_ID);
    store_free(st);
}

Test(store, a_store_full_of_pinned_ones_refuses)
{
    struct log log;
    struct store *st = open_store(&log, 1, true, 0);
    struct store_added a;
    add_rated(st, "pinned", 0, START, true);
    struct memory t = text_of("new", Y);
    cr_assert(store_full(st));
    cr_assert_eq(store_add(st, &t, NULL, &a), STORE_FULL);
    store_free(st);
}

Test(store, weak_ones_are_forgotten_once_a_minute)
{
    struct log log;
    uint64_t seq;
    struct store *st = open_store(&log, 100, false, 0.1);
    add_rated(st, "weak", 0.05, START, false);
    add_rated(st, "pinned", 0.05, START, true);
    add_rated(st, "fading", 0.2, START, false);
    add_rated(st, "strong", 0.9, START, false);
    cr_assert_eq(store_forget(st, false, &seq), 1);
    cr_assert_eq(seq, 5);
    at_day(st, 5);
    cr_assert_eq(store_forget(st, false, &seq), 1, "0.2 fades to below 0.1 in five days");
    add_rated(st, "weak again", 0.05, START, false);
    cr_assert_eq(store_forget(st, false, &seq), 0, "not twice within a minute");
    cr_assert_eq(seq, 0);
    cr_assert_eq(store_forget(st, true, &seq), 1, "but when asked for");
    add_rated(st, "weak once more", 0.05, START, false);
    store_clock(st, START + 5 * DAY + 60000, 5 * DAY + 60000);
    cr_assert_eq(store_forget(st, false, &seq), 1);
    store_durable(st, log.seq);
    cr_assert_not_null(strstr(log.events, "removed forgotten(weak) "));
    struct store_counts n = store_count(st);
    cr_assert_eq(n.forgotten, 4);
    cr_assert_eq(n.memories, 2);
    store_free(st);
}

/* 5.5 */
Test(store, the_clock_is_never_earlier_than_the_newest_memory)
{
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    add(st, "now", X);
    cr_assert_eq(store_clock(st, 1000, 1000), START, "1970");
    cr_assert_eq(store_clock(st, START + 5, 2000), START + 5);
    store_free(st);
}

Test(store, after_a_jump_of_the_clock_nothing_ages_for_ten_minutes)
{
    struct log log;
    uint64_t seq;
    struct store *st = open_store(&log, 2, true, 0.1);
    struct store_added strong = add_rated(st, "strong", 0.9, INT64_MIN, false);
    struct store_added weak = add_rated(st, "weak", 0.2, INT64_MIN, false), a;
    store_clock(st, START + 50 * 365 * DAY, 1000);
    cr_assert_eq(store_forget(st, true, &seq), 0, "fifty years in a second");
    a = add_rated(st, "new", 0.5, INT64_MIN, false);
    cr_assert_arr_eq(a.evicted[0], weak.id, MEMORY_ID, "by significance alone");
    store_clock(st, START + 50 * 365 * DAY + 599000, 600000);
    cr_assert_eq(store_forget(st, true, &seq), 0);
    store_clock(st, START + 50 * 365 * DAY + 601000, 602000);
    cr_assert_eq(store_forget(st, true, &seq), 1, "then it ages");
    cr_assert_eq(row_of(st, strong.id), ROW_NONE);
    store_free(st);
}

Test(store, a_sweep_under_way_ends_where_the_clock_jumps)
{
    struct log log;
    uint64_t seq = 0;
    uint32_t row = 0;
    struct store *st = open_store(&log, 100, false, 0.1);
    add_rated(st, "weak", 0.05, START, false);
    add_rated(st, "strong", 0.9, START, false);
    cr_assert(store_sweep(st, false));
    cr_assert_eq(store_sweep_part(st, &row, 1, &seq), 1);
    store_clock(st, START + 50 * 365 * DAY, 1000);
    cr_assert_eq(store_sweep_part(st, &row, 1, &seq), 0);
    cr_assert_eq(row, ROW_NONE);
    cr_assert_neq(oldest(st), ROW_NONE, "fifty years in a second");
    store_free(st);
}

/* Of a log whose checksums are right: none runs over (UBSan), and none is taken for the clock's. */
Test(store, any_time_of_a_log_has_an_age)
{
    struct log log;
    struct store *st = open_store(&log, 10, false, 0);
    struct memory m = text_of("old", (float[]){ 1, 0, 0 });
    struct scan sc;
    struct scan_config config = { .filter = scan_any(), .vector = (float[]){ 1, 0, 0 }, .order = SCAN_SCORE, .k = 1 };
    m.f.significance = 1;
    cr_assert(store_load(st, MEMORY_PUT, &m));
    cr_assert_eq(store_strength(st, 0), 0);
    cr_assert_eq(store_scan(st, &sc, &config), 0);
    scan_finish(&sc);
    cr_assert_float_eq(sc.hits[0].key, 0.7, 1e-9);
    scan_end(&sc);
    m.f.time_ms = m.f.stored_ms = INT64_MAX;
    cr_assert(store_load(st, MEMORY_CHANGE, &m));
    cr_assert_eq(store_strength(st, 0), 1, "it has none yet");
    cr_assert_eq(store_clock(st, START, 0), START, "no clock showed that");
    store_free(st);
}

Test(store, a_store_that_is_undone_does_not_move_the_clock)
{
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    add(st, "now", X);
    store_clock(st, START + DAY, 1000);
    struct store_added later = add(st, "tomorrow", Y);
    cr_assert_eq(store_clock(st, START, 2000), START + DAY);
    store_failed(st, later.seq);
    cr_assert_eq(store_clock(st, START + 5, 3000), START + 5);
    store_free(st);
}

Test(store, hours_of_sleep_are_no_jump)
{
    struct log log;
    uint64_t seq;
    struct store *st = open_store(&log, 10, false, 0.1);
    add_rated(st, "weak", 0.11, INT64_MIN, false);
    at_day(st, 30);
    cr_assert_eq(store_forget(st, true, &seq), 1);
    store_free(st);
}

static struct update no_update(void) { return (struct update){ .significance = -1, .pinned = -1 }; }

static const char *text_at(struct store *st, const uint8_t *id)
{
    static char text[64];
    struct memory m = view(st, row_of(st, id));
    snprintf(text, sizeof text, "%.*s %.*s %.*s", (int)m.text.len, m.text.p, (int)m.metadata.len, m.metadata.p,
             (int)m.tags.len, m.tags.p);
    return text;
}

Test(store, an_update_changes_what_it_names_and_keeps_the_place)
{
    struct log log;
    uint64_t seq;
    struct memory m;
    struct store *st = open_store(&log, 10, false, 0);
    struct store_added a = add(st, "one", X), b = add(st, "two", Y);
    struct update u = no_update();
    u.significance = 0.25;
    u.pinned = 1;
    cr_assert_eq(update(st, a.id, &u, &seq), 0);
    m = view(st, row_of(st, a.id));
    cr_assert_float_eq(m.f.significance, 0.25, 0);
    cr_assert_eq(m.f.pinned, 1);
    u = no_update();
    u.metadata = S("{\"type\":\"user\"}");
    u.tags = S("[\"t\"]");
    cr_assert_eq(update(st, a.id, &u, &seq), 0);
    cr_assert_str_eq(text_at(st, a.id), "one {\"type\":\"user\"} [\"t\"]");
    u = no_update();
    u.text = S("three");
    u.vector = Z;
    cr_assert_eq(update(st, a.id, &u, &seq), 0);
    cr_assert_str_eq(text_at(st, a.id), "three {\"type\":\"user\"} [\"t\"]");
    m = view(st, row_of(st, a.id));
    cr_assert_arr_eq(m.vector, Z, sizeof Z);
    cr_assert_float_eq(m.f.significance, 0.25, 0, "stays");
    cr_assert_eq(oldest(st), row_of(st, a.id));
    cr_assert_eq(younger(st, oldest(st)), row_of(st, b.id));
    cr_assert_eq(store_duplicate(st, S("one"), S("{}")), ROW_NONE);
    cr_assert_eq(store_duplicate(st, S("three"), S("{\"type\":\"user\"}")), row_of(st, a.id));
    store_durable(st, log.seq);
    cr_assert_str_eq(log.events, "added(one) added(two) updated(one) updated(one) updated(three) ");
    store_free(st);
}

Test(store, unknown_ids_are_not_found)
{
    struct log log;
    uint64_t seq;
    uint8_t id[MEMORY_ID] = { 9 };
    struct store *st = open_store(&log, 10, false, 0);
    struct update u = no_update();
    cr_assert_eq(update(st, id, &u, &seq), 1);
    cr_assert_eq(delete(st, id, &seq), 1);
    cr_assert_eq(row_of(st, id), ROW_NONE);
    store_free(st);
}

Test(store, tells_which_deletes_are_not_on_disk)
{
    struct log log;
    uint64_t seq;
    struct store_gone gone[2];
    struct store *st = open_store(&log, 10, false, 0.1);
    struct store_added a = add_rated(st, "one", 0.9, START, false), b = add_rated(st, "two", 0.9, START, false);
    struct store_added c = add_rated(st, "three", 0.9, START, false);
    add_rated(st, "weak", 0.05, START, false);
    delete(st, a.id, &seq);
    store_durable(st, seq);
    store_forget(st, true, &seq);
    cr_assert_eq(store_deletes(st, 0, NULL, 0), 0, "what is on disk and what was forgotten are none");
    delete(st, b.id, &seq);
    delete(st, c.id, &seq);
    cr_assert_eq(store_deletes(st, 0, gone, 1), 2, "of more than there is room for, the first");
    cr_assert(gone[0].seq == seq - 1 && !memcmp(gone[0].id, b.id, MEMORY_ID));
    cr_assert_eq(store_deletes(st, seq, gone, 2), 1);
    cr_assert(gone[0].seq == seq && !memcmp(gone[0].id, c.id, MEMORY_ID));
    store_free(st);
}

Test(store, a_sweep_in_parts_looks_at_every_row_once)
{
    struct log log;
    uint64_t seq = 0;
    uint32_t row = 0;
    struct store *st = open_store(&log, 100, false, 0.1);
    static const char *const weak[] = { "a", "b", "c", "d", "e" };
    for (int i = 0; i < 5; i++) add_rated(st, weak[i], i == 2 ? 0.9 : 0.05, START, false);
    cr_assert(store_sweep(st, false) && !store_sweep(st, false), "once a minute");
    cr_assert_eq(store_sweep_part(st, &row, 2, &seq), 2);
    cr_assert_eq(row, 2);
    cr_assert_eq(store_sweep_part(st, &row, 2, &seq), 1);
    cr_assert_eq(row, 4);
    log.refuse_after = 0;
    cr_assert_eq(store_sweep_part(st, &row, 2, &seq), STORE_LOG);
    cr_assert_eq(row, 4, "and is asked for again");
    log.refuse_after = -1;
    cr_assert_eq(store_sweep_part(st, &row, 2, &seq), 1);
    cr_assert_eq(row, ROW_NONE);
    row = 9;
    cr_assert_eq(store_sweep_part(st, &row, 2, &seq), 0, "rows that are not there any more");
    cr_assert_eq(row, ROW_NONE);
    store_free(st);
}

Test(store, what_was_cleared_is_given_back_in_parts)
{
    struct log log;
    uint64_t seq;
    char text[16];
    struct scan sc;
    struct store *st = open_store(&log, 10000, false, 0);
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < CHUNK_ROWS + 10; i++) {
            snprintf(text, sizeof text, "%u", i);
            struct memory m = memory_of(i + 1, (struct slice){ text, strlen(text) }, X);
            cr_assert_eq(store_import(st, &m, &seq), 0);
        }
        look_for(st, &sc, X);
        cr_assert(scan_step(&sc));
        cr_assert_eq(store_clear(st, CHUNK_ROWS, &seq), CHUNK_ROWS, "the oldest");
        cr_assert_eq(store_clear(st, SIZE_MAX, &seq), 10);
        cr_assert(!records_spare(store_records(st)), "not before it is durable");
        store_durable(st, seq);
        cr_assert(records_spare(store_records(st)));
        int parts = 1;
        while (store_give_back(st)) parts++;
        cr_assert_eq(parts, 2, "two chunks");
        cr_assert(!records_spare(store_records(st)) && !store_give_back(st));
        cr_assert_eq(store_count(st).bytes, 0);
        cr_assert(scan_finish(&sc) == 0 && sc.n == 0, "a scan that was under way finds nothing");
        scan_end(&sc);
    }
    store_free(st);
}

Test(store, a_memory_that_moves_to_another_row_is_not_missed_by_a_scan)
{
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    struct store_added a = add(st, "moves", X);
    add(st, "stays", Y);
    struct scan sc;
    uint64_t seq;
    look_for(st, &sc, X);
    struct update u = { .significance = -1, .pinned = -1, .metadata = S("{\"a\":1}") };
    cr_assert_eq(update(st, a.id, &u, &seq), STORE_OK);
    cr_assert_eq(scan_finish(&sc), 0);
    cr_assert_eq(sc.n, 1);
    cr_assert_eq(sc.hits[0].row, row_of(st, a.id), "what it was when the scan began lies in another row now");
    scan_end(&sc);
    store_free(st);
}

Test(store, clear_removes_pinned_ones_and_streams_too)
{
    struct log log;
    uint64_t seq;
    struct scan sc;
    struct store *st = open_store(&log, 10, false, 0);
    add_rated(st, "pinned", 1, START, true);
    add(st, "two", X);
    look_for(st, &sc, X);
    cr_assert_eq(store_clear(st, SIZE_MAX, &seq), 2);
    cr_assert_eq(seq, 4);
    scan_finish(&sc);
    cr_assert_eq(sc.n, 0, "a scan that was under way finds nothing");
    scan_end(&sc);
    struct store_added a = add(st, "two", X);
    cr_assert_float_eq(a.f.surprise, 0.5, 0);
    cr_assert_float_eq(a.f.diversity, 1, 0);
    cr_assert_float_eq(a.f.information, 1 - exp(-1 / 16.0), 1e-7);
    store_durable(st, log.seq);
    cr_assert_str_eq(log.events, "added(pinned) added(two) removed cleared(pinned) removed cleared(two) added(two) ");
    cr_assert_eq(store_clear(st, SIZE_MAX, &seq), 1);
    cr_assert_eq(store_clear(st, SIZE_MAX, &seq), 0, "nothing left, one pending");
    store_durable(st, log.seq);
    store_free(st);
}

/* The log says no: nothing has changed, whatever was asked. */
Test(store, what_the_log_refuses_changes_nothing)
{
    struct log log;
    uint64_t seq;
    struct store *st = open_store(&log, 2, true, 0.5);
    struct store_added a = add_rated(st, "one", 0.3, START, false), b;
    add_rated(st, "two", 0.9, START, false);
    struct memory t = text_of("three", Z);
    struct update u = no_update();
    struct memory_fields before, after;
    store_score(st, &t, NULL, &before);
    log.refuse_after = 0;
    cr_assert_eq(store_add(st, &t, NULL, &b), STORE_LOG);
    cr_assert_eq(delete(st, a.id, &seq), STORE_LOG);
    cr_assert_eq(store_reinforce(st, row_of(st, a.id), &seq), STORE_LOG);
    u.pinned = 1;
    cr_assert_eq(update(st, a.id, &u, &seq), STORE_LOG);
    u.tags = S("[\"x\"]");
    cr_assert_eq(update(st, a.id, &u, &seq), STORE_LOG);
    cr_assert_eq(store_clear(st, SIZE_MAX, &seq), STORE_LOG);
    cr_assert_eq(store_forget(st, true, &seq), STORE_LOG);
    struct memory m = memory_of(4711, S("imported"), Y);
    struct store_counts n = store_count(st);
    cr_assert_eq(n.memories, 2);
    cr_assert_eq(n.pending, 2);
    cr_assert_str_eq(text_at(st, a.id), "one {} []");
    store_score(st, &t, NULL, &after);
    cr_assert_arr_eq(&after, &before, sizeof before);
    log.refuse_after = 1;
    cr_assert_eq(delete(st, a.id, &seq), 0);
    cr_assert_eq(store_import(st, &m, &seq), STORE_LOG);
    cr_assert_eq(row_of(st, m.id), ROW_NONE);
    store_free(st);
}

Test(store, import_keeps_every_field_and_skips_duplicates)
{
    struct log log;
    uint64_t seq;
    struct memory m = memory_of(4711, S("imported"), Y), is;
    struct store *st = open_store(&log, 2, false, 0);
    m.f = (struct memory_fields){ 1, 2, 3, 0.4, 0.5f, 0.6f, 0.7f, 0.8f, 9, 1 };
    cr_assert_eq(store_import(st, &m, &seq), 0);
    is = view(st, row_of(st, m.id));
    cr_assert_eq(is.f.time_ms, 1);
    cr_assert_eq(is.f.stored_ms, 2);
    cr_assert_eq(is.f.access_count, 9);
    cr_assert_float_eq(is.f.significance, 0.4, 0);
    number_id(m.id, 4712);
    cr_assert_eq(store_import(st, &m, &seq), 1, "a duplicate");
    add(st, "two", X);
    m.text = S("three");
    cr_assert_eq(store_import(st, &m, &seq), STORE_FULL);
    store_free(st);
}

Test(store, the_answer_to_a_user_is_the_next_of_his_session)
{
    static const struct { const char *text, *metadata; int answer; } rows[] = {
        { "q1", "{\"type\":\"user\",\"session_id\":\"a\"}", 2 },
        { "other", "{\"type\":\"assistant\",\"session_id\":\"b\"}", -1 },
        { "a1", "{\"type\":\"assistant\",\"session_id\":\"a\"}", -1 },
        { "q2", "{\"type\":\"user\",\"session_id\":\"a\"}", -1 },
        { "q3", "{\"type\":\"user\",\"session_id\":\"a\"}", -1 },
        { "q4", "{\"type\":\"user\"}", 6 },
        { "a4", "{\"type\":\"assistant\"}", -1 },
        { "last", "{\"type\":\"user\",\"session_id\":\"b\"}", -1 },
    };
    struct log log;
    struct store *st = open_store(&log, 100, false, 0);
    uint32_t row[8];
    for (int i = 0; i < 8; i++) {
        struct memory t = text_of(rows[i].text, X);
        struct store_added a;
        t.metadata = (struct slice){ rows[i].metadata, strlen(rows[i].metadata) };
        store_add(st, &t, NULL, &a);
        row[i] = row_of(st, a.id);
    }
    uint32_t *reply = store_replies(st);
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(reply[row[i]], rows[i].answer < 0 ? ROW_NONE : row[rows[i].answer], "%s", rows[i].text);
    }
    free(reply);
    store_free(st);
}

Test(store, a_scan_made_before_is_used_unless_a_vector_has_come)
{
    struct log log;
    struct scan near;
    struct store_added a;
    struct store *st = open_store(&log, 100, false, 0);
    add(st, "one", X);
    struct memory t = text_of("two", Y);
    look_for(st, &near, Y);
    scan_finish(&near);
    add(st, "in between", Y);
    cr_assert_eq(store_add(st, &t, &near, &a), 0);
    cr_assert_float_eq(a.f.diversity, 0, 1e-7, "what came in between counts");
    scan_end(&near);
    t = text_of("three", Z);
    look_for(st, &near, Z);
    scan_finish(&near);
    cr_assert_eq(store_add(st, &t, &near, &a), 0);
    cr_assert_float_eq(a.f.diversity, 1, 0);
    scan_end(&near);
    store_free(st);
}
