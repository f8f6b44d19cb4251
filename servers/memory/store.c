#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "store_state.h"

bool store_full(const struct store *st)
{
    const struct records *rs = &st->records;
    if (rs->live < st->c.max_memories) return false;
    for (uint32_t row = rs->first; row != ROW_NONE && st->c.evict;
         row = records_at(rs, row)->next) {
        if (!records_at(rs, row)->f.pinned) return false;
    }
    return true;
}

/* ---- storing */

uint32_t store_duplicate(const struct store *st, struct slice text, struct slice metadata)
{
    struct meta meta;
    meta_read(&meta, metadata);
    return records_same(&st->records, text, meta.type);
}

/* Write other fields of a row. */
static int change_fields(struct store *st, uint32_t row, const struct memory_fields *f,
                         bool duplicate, uint64_t *seq)
{
    struct change *c = change_new(FIELDS, row);
    if (!c) return STORE_NO_ROOM;
    struct memory m = records_view(&st->records, row);
    c->fields = m.f;
    c->duplicate = duplicate;
    m.f = *f;
    if (change_log(st, c, MEMORY_CHANGE, &m)) {
        change_free(c);
        return STORE_LOG;
    }
    *seq = c->seq;
    records_fields(&st->records, row, f);
    return STORE_OK;
}

static int reinforce(struct store *st, uint32_t row, bool duplicate, uint64_t *seq)
{
    struct memory_fields f = records_at(&st->records, row)->f;
    f.significance = significance_reinforced(f.significance);
    f.access_count += f.access_count < UINT32_MAX;
    f.last_access_ms = st->now_ms;
    return change_fields(st, row, &f, duplicate, seq);
}

int store_reinforce(struct store *st, uint32_t row, uint64_t *seq)
{
    return reinforce(st, row, false, seq);
}

/* Greatest cosine to what is stored, exactly, into *most; 0 when nothing is. A
 * finished scan counts while no vector has come since it began. */
static int nearest(struct store *st, const float *vector, struct scan *near, double *diversity)
{
    struct scan own;
    bool usable = near && near->puts == st->records.puts && !near->status;
    if (!usable) {
        struct scan_config config = scan_nearest(vector);
        if (store_scan(st, &own, &config)) return STORE_NO_ROOM;
        near = &own;
    }
    int failed = scan_finish(near) ? STORE_NO_ROOM : STORE_OK;
    double d = near->n ? 1 - near->hits[0].cosine : 1;
    *diversity = d < 0 ? 0 : d > 1 ? 1 : d;
    if (!usable) scan_end(&own);
    return failed;
}

/* Significance and its components of a text, and the exact surprise. */
static int rate(struct store *st, const struct memory *t, struct scan *near,
                struct memory_fields *f, double *surprise)
{
    struct meta meta;
    double d, q = vocabulary_information(&st->words, t->text);
    if (q < 0 || nearest(st, t->vector, near, &d)) return STORE_NO_ROOM;
    meta_read(&meta, t->metadata);
    uint64_t session = records_hash(&st->records, meta.session);
    double s = stream_surprise(streams_find(&st->streams, session), t->vector, st->c.dimension);
    double floor = significance_floor(t->text, meta.importance);
    f->surprise = (float)s;
    f->diversity = (float)d;
    f->information = (float)q;
    f->floor = (float)floor;
    f->significance = t->f.significance >= 0 ? t->f.significance : significance_of(s, q, d, floor);
    *surprise = s;
    return STORE_OK;
}

int store_score(struct store *st, const struct memory *t, struct scan *near,
                struct memory_fields *out)
{
    double s;
    *out = (struct memory_fields){ .time_ms = st->now_ms };
    return rate(st, t, near, out, &s);
}

/* Keep the stream as it was and let the new one in. -1: no room, nothing changed. */
static int push_stream(struct store *st, struct change *c, double s)
{
    size_t bytes = sizeof(struct stream) + st->c.dimension * sizeof(double);
    uint64_t session = records_at(&st->records, c->row)->session_hash;
    struct stream *stream = streams_find(&st->streams, session);
    if (stream) {
        c->was = malloc(bytes);
        if (!c->was) return -1;
        memcpy(c->was, stream, bytes);
    }
    stream = streams_take(&st->streams, session, st->c.dimension, &c->gone);
    if (!stream) return -1;
    c->streamed = true;
    stream_push(stream, records_vector(&st->records, c->row), st->c.dimension, s);
    return 0;
}

/* A row, its words and, unless s is negative, its stream, then the log; all or nothing. */
static int add_row(struct store *st, const struct memory *m, double s, uint64_t *seq)
{
    struct change *c = change_new(ADDED, ROW_NONE);
    if (!c) return STORE_NO_ROOM;
    c->newest_ms = st->newest_ms;
    c->row = put_row(st, m, ROW_NONE);
    bool no_room = c->row == ROW_NONE || (s >= 0 && push_stream(st, c, s));
    int failed = no_room ? STORE_NO_ROOM : change_log(st, c, MEMORY_PUT, m);
    if (failed) {
        if (c->row != ROW_NONE) change_undo(st, c);
        change_free(c);
        return failed;
    }
    if (m->f.stored_ms > st->newest_ms) st->newest_ms = m->f.stored_ms;
    *seq = c->seq;
    return STORE_OK;
}

static int reinforce_same(struct store *st, uint32_t row, struct store_added *out)
{
    int failed = reinforce(st, row, true, &out->seq);
    const struct record *r = records_at(&st->records, row);
    memcpy(out->id, r->id, MEMORY_ID);
    out->f = r->f;
    out->duplicate = true;
    out->count = st->records.live;
    return failed;
}

/* Make room for the row that has just come: put first, it cannot be lost by a failure between. */
static void evict(struct store *st, uint32_t keep, struct store_added *out)
{
    while (st->records.live > st->c.max_memories &&
           out->n_evicted < sizeof out->evicted / sizeof *out->evicted) {
        uint32_t row = weakest(st, keep);
        if (row == ROW_NONE) return;
        memcpy(out->evicted[out->n_evicted], records_at(&st->records, row)->id, MEMORY_ID);
        if (store_remove(st, row, STORE_EVICTED, &out->seq)) return;
        out->n_evicted++;
    }
}

int store_add(struct store *st, const struct memory *t, struct scan *near,
              struct store_added *out)
{
    struct memory m = *t;
    uint32_t same = store_duplicate(st, t->text, t->metadata);
    double s;
    memset(out, 0, sizeof *out);
    if (same != ROW_NONE) return reinforce_same(st, same, out);
    if (store_full(st)) return STORE_FULL;
    m.f = (struct memory_fields){ .pinned = t->f.pinned, .access_count = t->f.access_count };
    int failed = rate(st, t, near, &m.f, &s);
    if (failed) return failed;
    m.f.stored_ms = st->now_ms;
    m.f.last_access_ms = t->f.last_access_ms ? t->f.last_access_ms : st->now_ms;
    m.f.time_ms = t->f.time_ms == INT64_MIN ? st->now_ms : t->f.time_ms;
    failed = add_row(st, &m, s, &out->seq);
    if (failed) return failed;
    evict(st, st->records.last, out);
    memcpy(out->id, m.id, MEMORY_ID);
    out->f = m.f;
    out->count = st->records.live;
    return STORE_OK;
}

int store_import(struct store *st, const struct memory *m, uint64_t *seq)
{
    if (store_duplicate(st, m->text, m->metadata) != ROW_NONE) return 1;
    if (store_full(st)) return STORE_FULL;
    int failed = add_row(st, m, -1, seq);
    struct store_added out = { .n_evicted = 0 };
    if (!failed) evict(st, st->records.last, &out);
    return failed;
}

/* ---- changing and removing */

/* A compaction has still to get what its snapshot held and is about to go. */
static void hand_over(struct store *st, uint32_t row, const struct memory *m)
{
    const struct record *r = records_at(&st->records, row);
    if (!st->living || r->order <= st->handed || r->order > st->last) return;
    if (st->cursor == row) st->cursor = r->next;
    if (st->c.keep) st->c.keep(st->c.user, m);
}

int store_remove(struct store *st, uint32_t row, enum store_reason why, uint64_t *seq)
{
    struct change *c = change_new(REMOVED, row);
    if (!c) return STORE_NO_ROOM;
    c->reason = why;
    struct memory m = records_view(&st->records, row);
    if (change_log(st, c, MEMORY_DELETE, &m)) {
        change_free(c);
        return STORE_LOG;
    }
    *seq = c->seq;
    hand_over(st, row, &m);
    remove_row(st, row);
    return STORE_OK;
}

static int replace_row(struct store *st, uint32_t old, const struct memory *m, uint64_t *seq)
{
    struct change *c = change_new(REPLACED, ROW_NONE);
    if (!c) return STORE_NO_ROOM;
    c->old = old;
    remove_row(st, old);
    c->row = put_row(st, m, old);
    int failed = c->row == ROW_NONE ? STORE_NO_ROOM : change_log(st, c, MEMORY_PUT, m);
    if (failed) {
        if (c->row == ROW_NONE) restore_row(st, old);
        else change_undo(st, c);
        change_free(c);
        return failed;
    }
    if (st->cursor == old) st->cursor = c->row;
    *seq = c->seq;
    return STORE_OK;
}

int store_update(struct store *st, uint32_t row, const struct memory *m, uint64_t *seq)
{
    struct memory is = records_view(&st->records, row);
    bool same = m->text.p == is.text.p && m->metadata.p == is.metadata.p && m->tags.p == is.tags.p;
    return same ? change_fields(st, row, &m->f, false, seq) : replace_row(st, row, m, seq);
}
