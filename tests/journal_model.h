/* A tiny store over the journal, and what it does: operation k of a seed is the same
 * in every run, so a state recovered can be told by its digest. */
#ifndef JOURNAL_MODEL_H
#define JOURNAL_MODEL_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "servers/memory/journal.h"
#include "servers/memory/journal_tools.h"

#define DIM       4
#define MAX_ITEMS 64
#define MAX_TEXT  400

struct item {
    struct memory m;
    float         vector[DIM];
    char          text[MAX_TEXT], metadata[64], tags[40];
    bool          flagged; /* a compaction has yet to hand it over */
};

struct model {
    struct item  items[MAX_ITEMS];
    int          n;
    int          next;          /* of a compaction */
    int          unknown;       /* changes of what is not there */
};

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

__attribute__((unused)) static uint64_t model_digest(const struct model *s)
{
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < s->n; i++) {
        const struct item *t = &s->items[i];
        const struct memory_fields *f = &t->m.f;
        h = mix(h, t->m.id, MEMORY_ID);
        h = mix(h, &f->time_ms, 8);
        h = mix(h, &f->stored_ms, 8);
        h = mix(h, &f->last_access_ms, 8);
        h = mix(h, &f->significance, 8);
        h = mix(h, &f->surprise, 4);
        h = mix(h, &f->diversity, 4);
        h = mix(h, &f->information, 4);
        h = mix(h, &f->floor, 4);
        h = mix(h, &f->access_count, 4);
        h = mix(h, &f->pinned, 1);
        h = mix(h, t->vector, sizeof t->vector);
        h = mix(h, t->text, t->m.text.len);
        h = mix(h, t->metadata, t->m.metadata.len);
        h = mix(h, t->tags, t->m.tags.len);
    }
    return h;
}

__attribute__((unused)) static struct item *model_find(struct model *s, const uint8_t *id)
{
    for (int i = 0; i < s->n; i++)
        if (!memcmp(s->items[i].m.id, id, MEMORY_ID)) return &s->items[i];
    return NULL;
}

static struct slice keep_slice(char *to, struct slice from)
{
    if (from.len) memcpy(to, from.p, from.len);
    return (struct slice){ to, from.len };
}

__attribute__((unused)) static bool model_put(struct model *s, const struct memory *m)
{
    struct item *t = model_find(s, m->id);
    if (!t) {
        if (s->n == MAX_ITEMS) return false;
        t = &s->items[s->n++];
        t->flagged = false;
    }
    t->m = *m;
    memcpy(t->vector, m->vector, sizeof t->vector);
    t->m.vector = t->vector;
    t->m.text = keep_slice(t->text, m->text);
    t->m.metadata = keep_slice(t->metadata, m->metadata);
    t->m.tags = keep_slice(t->tags, m->tags);
    return true;
}

__attribute__((unused)) static bool model_change(struct model *s, const struct memory *m)
{
    struct item *t = model_find(s, m->id);
    if (t) t->m.f = m->f;
    else s->unknown++;
    return t != NULL;
}

static void model_refit(struct item *t)
{
    t->m.vector = t->vector;
    t->m.text.p = t->text;
    t->m.metadata.p = t->metadata;
    t->m.tags.p = t->tags;
}

__attribute__((unused)) static bool model_delete(struct model *s, const uint8_t *id)
{
    struct item *t = model_find(s, id);
    if (!t) {
        s->unknown++;
        return false;
    }
    int i = (int)(t - s->items);
    memmove(t, t + 1, (size_t)(s->n - i - 1) * sizeof *t);
    s->n--;
    for (; i < s->n; i++) model_refit(&s->items[i]);
    if (s->next > (int)(t - s->items)) s->next--;
    return true;
}

__attribute__((unused)) static bool model_take(void *user, enum memory_change kind, const struct memory *m)
{
    if (kind == MEMORY_PUT) return model_put(user, m);
    return kind == MEMORY_CHANGE ? model_change(user, m) : model_delete(user, m->id);
}

/* What a compaction asks for. */
static bool model_living(void *user, struct memory *m)
{
    struct model *s = user;
    while (s->next < s->n && !s->items[s->next].flagged) s->next++;
    if (s->next == s->n) return false;
    s->items[s->next].flagged = false;
    *m = s->items[s->next++].m;
    return true;
}

__attribute__((unused)) static struct journal_living model_flag(struct model *s)
{
    for (int i = 0; i < s->n; i++) s->items[i].flagged = true;
    s->next = 0;
    return (struct journal_living){ (uint64_t)s->n, model_living, s };
}

/* Numbers that depend on two alone. */
__attribute__((unused)) static uint32_t roll(uint32_t seed, uint32_t k)
{
    uint64_t x = ((uint64_t)seed << 32 | k) * 0x9e3779b97f4a7c15u + 0x7f4a7c15u;
    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9u;
    return (uint32_t)(x >> 29);
}

/* Operation k of a seed on the state s: which, and on what; it is not applied yet.
 * The item belongs to the caller. */
__attribute__((unused)) static enum memory_change model_op(const struct model *s, uint32_t seed, uint32_t k, struct item *t)
{
    uint32_t r = roll(seed, k);
    enum memory_change kind = MEMORY_PUT;
    memset(t, 0, sizeof *t);
    if (s->n > 24 || (s->n > 3 && r % 8 < 5)) {
        *t = s->items[r / 8 % (uint32_t)s->n];
        kind = s->n > 24 || r % 8 < 2 ? MEMORY_DELETE : r % 8 < 4 ? MEMORY_CHANGE : MEMORY_PUT;
    } else {
        for (uint32_t i = 0; i < MEMORY_ID; i++) t->m.id[i] = (uint8_t)roll(seed + i + 1, k);
    }
    t->m.f.last_access_ms = (int64_t)k * 1000 + 1700000000000;
    t->m.f.significance = (double)(r % 1000) / 999;
    t->m.f.access_count++;
    if (kind == MEMORY_PUT) {
        t->m.f.time_ms = -(int64_t)k;
        t->m.f.stored_ms = INT64_MAX - k;
        t->m.f.surprise = (float)k / 7;
        t->m.f.diversity = -0.0f;
        t->m.f.information = 1e-30f;
        t->m.f.floor = 0.75f;
        t->m.f.pinned = r >> 9 & 1;
        for (int i = 0; i < DIM; i++) t->vector[i] = (float)roll(k, (uint32_t)i) / 3e9f;
        size_t len = 1 + r / 64 % (r % 64 == 0 ? MAX_TEXT : 60);
        for (size_t i = 0; i < len; i++) t->text[i] = (char)('a' + (k + i) % 26);
        t->m.text.len = len;
        t->m.metadata.len = (size_t)snprintf(t->metadata, sizeof t->metadata, "{\"k\":%u}", k);
        t->m.tags.len = (size_t)snprintf(t->tags, sizeof t->tags, r & 16 ? "[\"t%u\"]" : "[]", k % 9);
    }
    model_refit(t);
    return kind;
}

__attribute__((unused)) static void model_apply(struct model *s, enum memory_change kind, const struct item *t)
{
    model_take(s, kind, &t->m);
}

static const uint8_t model_print[32] = { 1, 2, 3, [31] = 9 };

/* A configuration whose replay fills s. */
__attribute__((unused)) static struct journal_config model_config(struct model *s, const char *dir)
{
    return (struct journal_config){ .dir = dir, .dimension = DIM, .fingerprint = model_print,
                                    .in_process = true, .replay = { model_take, s } };
}

#endif
