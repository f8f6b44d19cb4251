#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store_state.h"

/* ---- state */

struct state *state_new(const struct store *st)
{
    struct state *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    records_open(&s->records, st->c.dimension, st->c.seed);
    s->words.key[0] = st->c.seed[0];
    s->words.key[1] = ~st->c.seed[1];
    return s;
}

void state_free(struct state *s)
{
    records_close(&s->records);
    vocabulary_free(&s->words);
    streams_clear(&s->streams);
    free(s);
}

static struct slice text_of(const struct state *s, uint32_t row)
{
    const struct record *r = records_at(&s->records, row);
    return (struct slice){ r->bytes, r->text_len };
}

void remove_row(struct state *s, uint32_t row)
{
    vocabulary_remove(&s->words, text_of(s, row));
    records_hide(&s->records, row);
}

void restore_row(struct state *s, uint32_t row)
{
    records_show(&s->records, row);
    int no_room = vocabulary_add(&s->words, text_of(s, row));
    assert(!no_room); /* it was there before, and room never shrinks */
    (void)no_room;
}

uint32_t put_row(struct state *s, const struct memory *m, uint32_t instead)
{
    if (vocabulary_add(&s->words, m->text)) return ROW_NONE;
    uint32_t row = records_put(&s->records, m, instead);
    if (row == ROW_NONE) vocabulary_remove(&s->words, m->text);
    return row;
}

/* ---- changes that wait for the disk */

struct change *change_new(struct store *st, enum kind kind, uint32_t row)
{
    struct change *c = calloc(1, sizeof *c);
    if (c) *c = (struct change){ .kind = kind, .row = row, .state = st->s };
    return c;
}

void change_free(struct change *c)
{
    free(c->was);
    free(c);
}

void change_keep(struct store *st, struct change *c)
{
    c->older = st->newest;
    *(st->newest ? &st->newest->newer : &st->oldest) = c;
    st->newest = c;
    st->pending++;
}

int change_log(struct store *st, struct change *c, enum memory_change what,
                      const struct memory *m)
{
    c->now = m->f;
    if (!st->c.append) c->seq = ++st->seq;
    else if (st->c.append(st->c.user, what, m, &c->seq)) return STORE_LOG;
    change_keep(st, c);
    return STORE_OK;
}

static void undo_stream(struct store *st, struct change *c)
{
    struct stream *stream = streams_find(&c->state->streams, c->key);
    if (c->was) memcpy(stream, c->was, sizeof *stream + st->c.dimension * sizeof(double));
    else streams_drop(&c->state->streams, stream);
    streams_restore(&c->state->streams, c->gone);
}

void change_undo(struct store *st, struct change *c)
{
    struct state *s = c->state;
    switch (c->kind) {
    case ADDED:
        remove_row(s, c->row);
        records_free(&s->records, c->row);
        st->newest_ms = c->newest_ms;
        if (c->streamed) undo_stream(st, c);
        break;
    case REMOVED:
        restore_row(s, c->row);
        break;
    case REPLACED:
        remove_row(s, c->row);
        records_free(&s->records, c->row);
        restore_row(s, c->old);
        break;
    case FIELDS:
        records_fields(&s->records, c->row, &c->fields);
        break;
    case CLEARED:
        state_free(st->s);
        st->s = s;
        st->era++;
        break;
    }
    st->puts++;
    st->moves++;
    st->living = false;
}

static void tell(const struct store *st, enum store_event what, const struct change *c,
                 uint32_t row)
{
    if (!st->c.event) return;
    struct memory m = records_view(&c->state->records, row);
    if (what != STORE_REMOVED) m.f = c->now;
    st->c.event(st->c.user, what, c->reason, &m);
}

bool store_cleared(const struct store *st) { return st->cleared != NULL; }

bool store_give_back(struct store *st)
{
    struct state *s = st->cleared;
    if (s && !records_close_part(&s->records)) {
        st->cleared = s->next;
        state_free(s);
    }
    return st->cleared != NULL;
}

static void settle(struct store *st, struct change *c)
{
    struct records *rs = &c->state->records;
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
    case CLEARED:
        for (uint32_t row = rs->first; row != ROW_NONE; row = records_at(rs, row)->next)
            tell(st, STORE_REMOVED, c, row);
        c->state->next = st->cleared;
        st->cleared = c->state;
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
        memcpy(out[n - 1].id, records_at(&c->state->records, c->row)->id, MEMORY_ID);
    }
    return n;
}

void store_free(struct store *st)
{
    st->c.event = NULL;
    store_durable(st, UINT64_MAX);
    while (store_give_back(st)) { }
    state_free(st->s);
    free(st);
}
