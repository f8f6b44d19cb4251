#include <stdlib.h>
#include <string.h>

#include "store_state.h"

#define DAY_MS    INT64_C(86400000)
#define MINUTE_MS INT64_C(60000)
#define LATEST_MS INT64_C(253402300799999)  /* the year 9999 ends: no clock showed a later time */
#define RECENT    50    /* texts that the streams are made of again at start */

struct store *store_new(const struct store_config *config)
{
    struct store *st = calloc(1, sizeof *st);
    if (!st) return NULL;
    st->c = *config;
    st->swept_ms = st->quiet_ms = st->newest_ms = INT64_MIN;
    records_open(&st->records, config->dimension, config->seed);
    st->words.key[0] = config->seed[0];
    st->words.key[1] = ~config->seed[1];
    return st;
}

/* ---- loading and the clock */

bool store_load(void *store, enum memory_change what, const struct memory *m)
{
    struct store *st = store;
    struct records *rs = &st->records;
    uint32_t old = records_find(rs, m->id);
    bool timed = what != MEMORY_DELETE && m->f.stored_ms <= LATEST_MS;
    if (timed && m->f.stored_ms > st->newest_ms) st->newest_ms = m->f.stored_ms;
    if (old == ROW_NONE && what != MEMORY_PUT) return false;
    if (what == MEMORY_CHANGE) {
        records_fields(rs, old, &m->f);
        return true;
    }
    if (old != ROW_NONE) remove_row(st, old);
    if (what == MEMORY_PUT && put_row(st, m, old) == ROW_NONE) {
        if (old != ROW_NONE) restore_row(st, old);
        return false;
    }
    if (old != ROW_NONE) records_free(rs, old);
    return true;
}

void store_loaded(struct store *st)
{
    struct records *rs = &st->records;
    uint32_t row = rs->last;
    struct stream *gone;
    for (int i = 1; i < RECENT && row != ROW_NONE; i++) {
        uint32_t before = records_at(rs, row)->prev;
        if (before == ROW_NONE) break;
        row = before;
    }
    for (; row != ROW_NONE; row = records_at(rs, row)->next) {
        const float *x = records_vector(rs, row);
        struct stream *stream = streams_take(&st->streams, records_at(rs, row)->session_hash,
                                             st->c.dimension, &gone);
        if (!stream) return;
        stream_push(stream, x, st->c.dimension, stream_surprise(stream, x, st->c.dimension));
    }
}

int64_t store_clock(struct store *st, int64_t wall_ms, int64_t steady_ms)
{
    int64_t jump = st->told ? (wall_ms - st->wall_ms) - (steady_ms - st->steady_ms) : 0;
    if (jump > DAY_MS || jump < -DAY_MS) st->quiet_ms = steady_ms + 10 * MINUTE_MS;
    st->told = true;
    st->wall_ms = wall_ms;
    st->steady_ms = steady_ms;
    st->now_ms = wall_ms > st->newest_ms ? wall_ms : st->newest_ms;
    return st->now_ms;
}

/* ---- strength, eviction and forgetting */

static bool quiet(const struct store *st) { return st->steady_ms < st->quiet_ms; }

double store_strength(const struct store *st, uint32_t row)
{
    const struct memory_fields *f = &records_at(&st->records, row)->f;
    return significance_strength(f->significance, (double)st->now_ms - (double)f->time_ms);
}

uint32_t weakest(const struct store *st, uint32_t keep)
{
    const struct records *rs = &st->records;
    uint32_t best = ROW_NONE;
    double least = 2;
    for (uint32_t row = 0; row < rs->used; row++) {
        const struct record *r = records_at(rs, row);
        if (r->state != ROW_LIVE || r->f.pinned || row == keep) continue;
        double s = quiet(st) ? r->f.significance : store_strength(st, row);
        const struct record *b = best == ROW_NONE ? NULL : records_at(rs, best);
        if (b && (s > least || (s == least && (r->f.time_ms > b->f.time_ms ||
            (r->f.time_ms == b->f.time_ms && memcmp(r->id, b->id, MEMORY_ID) > 0))))) continue;
        best = row;
        least = s;
    }
    return best;
}

bool store_sweep(struct store *st, bool now)
{
    if (st->c.forget <= 0 || quiet(st)) return false;
    if (!now && st->swept_ms != INT64_MIN && st->steady_ms - st->swept_ms < MINUTE_MS) return false;
    st->swept_ms = st->steady_ms;
    return true;
}

long store_sweep_part(struct store *st, uint32_t *row, uint32_t most, uint64_t *seq)
{
    struct records *rs = &st->records;
    if (quiet(st)) {                     /* the clock has jumped since it began */
        *row = ROW_NONE;
        return 0;
    }
    uint32_t end = rs->used < *row || rs->used - *row < most ? rs->used : *row + most;
    long n = 0;
    for (uint32_t i = *row; i < end; i++) {
        const struct record *r = records_at(rs, i);
        if (r->state != ROW_LIVE || r->f.pinned || store_strength(st, i) >= st->c.forget) continue;
        int failed = store_remove(st, i, STORE_FORGOTTEN, seq);
        if (failed) return n ? n : failed;
        n++;
    }
    *row = end == rs->used ? ROW_NONE : end;
    return n;
}

/* What goes with the newest change comes back when that is undone. */
static void clear_streams(struct store *st, struct streams *room)
{
    struct change *c = st->newest;
    if (c && !c->cleared) {
        c->cleared = room;
        *room = st->streams;
        st->streams = (struct streams){ 0 };
    } else {
        streams_clear(&st->streams);
        free(room);
    }
}

long store_clear(struct store *st, size_t most, uint64_t *seq)
{
    struct streams *room = NULL;
    if (st->records.live <= most && !(room = malloc(sizeof *room))) return STORE_NO_ROOM;
    long n = 0;
    int failed = STORE_OK;
    while (st->records.first != ROW_NONE && (size_t)n < most && !failed) {
        failed = store_remove(st, st->records.first, STORE_CLEARED, seq);
        n += !failed;
    }
    if (room && !failed) clear_streams(st, room);
    else free(room);
    return failed && !n ? failed : n;
}

/* ---- scans and walks */

int store_scan(const struct store *st, struct scan *sc, const struct scan_config *config)
{
    struct scan_config c = *config;
    c.now_ms = st->now_ms;
    return scan_begin(sc, &st->records, &c);
}

/* From the youngest on, with the last seen of each session: one pass whatever is asked. */
uint32_t *store_replies(const struct store *st)
{
    const struct records *rs = &st->records;
    size_t cap = 64;
    while (cap < 2 * rs->live) cap *= 2;
    uint32_t *reply = malloc((rs->used + 1) * sizeof *reply), *next = malloc(cap * sizeof *next);
    if (!reply || !next) {
        free(reply);
        free(next);
        return NULL;
    }
    memset(reply, 0xff, rs->used * sizeof *reply);
    memset(next, 0xff, cap * sizeof *next);
    uint64_t user = records_hash(rs, (struct slice){ "user", 4 });
    uint64_t assistant = records_hash(rs, (struct slice){ "assistant", 9 });
    for (uint32_t row = rs->last; row != ROW_NONE; row = records_at(rs, row)->prev) {
        const struct record *r = records_at(rs, row);
        size_t i = (size_t)r->session_hash & (cap - 1);
        while (next[i] != ROW_NONE && records_at(rs, next[i])->session_hash != r->session_hash)
            i = (i + 1) & (cap - 1);
        bool answered = next[i] != ROW_NONE && records_at(rs, next[i])->type_hash == assistant;
        if (r->type_hash == user && answered) reply[row] = next[i];
        next[i] = row;
    }
    free(next);
    return reply;
}

const struct records *store_records(const struct store *st) { return &st->records; }

struct store_counts store_count(const struct store *st)
{
    const struct records *rs = &st->records;
    struct store_counts n = { .memories = rs->live, .pending = st->pending,
                              .duplicates = st->duplicates, .forgotten = st->forgotten,
                              .evicted = st->evicted };
    n.bytes = records_bytes(rs) + st->words.cap * (sizeof(uint64_t) + sizeof(uint32_t));
    memcpy(n.distribution, rs->fifths, sizeof n.distribution);
    n.avg_significance = rs->live ? (double)rs->weight / RECORDS_WEIGHT / (double)rs->live : 0;
    return n;
}

/* A header and the fixed fields of 64 bytes each, then the rest (FORMATS 4). */
uint64_t store_log_bytes(const struct store *st)
{
    return 64 * (2 * (uint64_t)st->records.live + st->records.units);
}

/* ---- compaction */

uint64_t store_living(struct store *st)
{
    const struct records *rs = &st->records;
    st->living = rs->live > 0;
    st->handed = 0;
    st->last = rs->live ? records_at(rs, rs->last)->order : 0;
    st->cursor = rs->first;
    return rs->live;
}

bool store_living_next(void *store, struct memory *m)
{
    struct store *st = store;
    if (!st->living || st->cursor == ROW_NONE) return false;
    const struct record *r = records_at(&st->records, st->cursor);
    if (r->order > st->last) {
        st->cursor = ROW_NONE;
        return false;
    }
    *m = records_view(&st->records, st->cursor);
    st->handed = r->order;
    st->cursor = r->next;
    return true;
}
