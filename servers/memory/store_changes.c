#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store_state.h"

static struct slice text_of(const struct store *st, uint32_t row)
{
    const struct record *r = records_at(&st->records, row);
    return (struct slice){ r->bytes, r->text_len };
}

void remove_row(struct store *st, uint32_t row)
{
    vocabulary_remove(&st->words, text_of(st, row));
    records_hide(&st->records, row);
}

void restore_row(struct store *st, uint32_t row)
{
    records_show(&st->records, row);
    int no_room = vocabulary_add(&st->words, text_of(st, row));
    assert(!no_room); /* it was there before, and room shrinks only when nothing is left */
    (void)no_room;
}

uint32_t put_row(struct store *st, const struct memory *m, uint32_t instead)
{
    if (vocabulary_add(&st->words, m->text)) return ROW_NONE;
    uint32_t row = records_put(&st->records, m, instead);
    if (row == ROW_NONE) vocabulary_remove(&st->words, m->text);
    return row;
}

/* ---- changes that wait for the disk */

struct change *change_new(enum kind kind, uint32_t row)
{
    struct change *c = calloc(1, sizeof *c);
    if (c) *c = (struct change){ .kind = kind, .row = row };
    return c;
}

void change_free(struct change *c)
{
    free(c->was);
    if (c->cleared) streams_clear(c->cleared);
    free(c->cleared);
    free(c);
}

int change_log(struct store *st, struct change *c, enum memory_change what, const struct memory *m)
{
    c->now = m->f;
    if (!st->c.append) c->seq = ++st->seq;
    else if (st->c.append(st->c.user, what, m, &c->seq)) return STORE_LOG;
    c->older = st->newest;
    *(st->newest ? &st->newest->newer : &st->oldest) = c;
    st->newest = c;
    st->pending++;
    return STORE_OK;
}

static void undo_stream(struct store *st, struct change *c)
{
    struct stream *stream =
        streams_find(&st->streams, records_at(&st->records, c->row)->session_hash);
    if (c->was) memcpy(stream, c->was, sizeof *stream + st->c.dimension * sizeof(double));
    else streams_drop(&st->streams, stream);
    streams_restore(&st->streams, c->gone);
}

void change_undo(struct store *st, struct change *c)
{
    if (c->cleared) {
        streams_clear(&st->streams);
        st->streams = *c->cleared;
        c->cleared->n = 0;
    }
    switch (c->kind) {
    case ADDED:
        if (c->streamed) undo_stream(st, c);
        remove_row(st, c->row);
        records_free(&st->records, c->row);
        st->newest_ms = c->newest_ms;
        break;
    case REMOVED:
        restore_row(st, c->row);
        break;
    case REPLACED:
        remove_row(st, c->row);
        records_free(&st->records, c->row);
        restore_row(st, c->old);
        break;
    case FIELDS:
        records_fields(&st->records, c->row, &c->fields);
        break;
    }
    st->living = false;
}

static void tell(const struct store *st, enum store_event what, const struct change *c,
                 uint32_t row)
{
    if (!st->c.event) return;
    struct memory m = records_view(&st->records, row);
    if (what != STORE_REMOVED) m.f = c->now;
    st->c.event(st->c.user, what, c->reason, &m);
}

bool store_give_back(struct store *st)
{
    if (!st->records.taken) vocabulary_free(&st->words);
    return records_trim(&st->records);
}

static void settle(struct store *st, struct change *c)
{
    struct records *rs = &st->records;
    switch (c->kind) {
    case ADDED:
        tell(st, STORE_ADDED, c, c->row);
        free(c->gone);
        break;
    case REMOVED:
        tell(st, STORE_REMOVED, c, c->row);
        records_free(rs, c->row);
        st->evicted += c->reason == STORE_EVICTED;
        st->forgotten += c->reason == STORE_FORGOTTEN;
        break;
    case REPLACED:
        tell(st, STORE_UPDATED, c, c->row);
        records_free(rs, c->old);
        break;
    case FIELDS:
        tell(st, STORE_UPDATED, c, c->row);
        st->duplicates += c->duplicate;
        break;
    }
}

void store_durable(struct store *st, uint64_t seq)
{
    while (st->oldest && st->oldest->seq <= seq) {
        struct change *c = st->oldest;
        st->oldest = c->newer;
        *(st->oldest ? &st->oldest->older : &st->newest) = NULL;
        st->pending--;
        settle(st, c);
        change_free(c);
    }
}

void store_failed(struct store *st, uint64_t seq)
{
    while (st->newest && st->newest->seq >= seq) {
        struct change *c = st->newest;
        st->newest = c->older;
        *(st->newest ? &st->newest->newer : &st->oldest) = NULL;
        st->pending--;
        change_undo(st, c);
        change_free(c);
    }
}

size_t store_deletes(const struct store *st, uint64_t seq, struct store_gone *out, size_t cap)
{
    size_t n = 0;
    for (const struct change *c = st->oldest; c; c = c->newer) {
        if (c->seq < seq || c->kind != REMOVED || c->reason != STORE_DELETED) continue;
        if (n++ >= cap) continue;
        out[n - 1].seq = c->seq;
        memcpy(out[n - 1].id, records_at(&st->records, c->row)->id, MEMORY_ID);
    }
    return n;
}

void store_free(struct store *st)
{
    st->c.event = NULL;
    store_durable(st, UINT64_MAX);
    records_close(&st->records);
    vocabulary_free(&st->words);
    streams_clear(&st->streams);
    free(st);
}
