/* What the tests of the memory share: numbers, vectors and memories from fixed seeds. */
#ifndef MEMORIES_H
#define MEMORIES_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/memory/memory.h"
#include "servers/memory/store.h"

#define S(text) ((struct slice){ (text), sizeof(text) - 1 })
#define NO_TEXT ((struct slice){ NULL, 0 })

static inline uint32_t random_next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static inline double random_unit(uint64_t *seed) { return random_next(seed) / 2147483648.0; }

/* About normal, by twelve of even distribution. */
static inline double random_normal(uint64_t *seed)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += random_unit(seed);
    return sum;
}

static inline void unit_length(float *v, size_t n)
{
    double square = 0;
    for (size_t i = 0; i < n; i++) square += (double)v[i] * v[i];
    for (size_t i = 0; i < n; i++) v[i] = (float)(v[i] / sqrt(square));
}

static inline void random_vector(uint64_t *seed, float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) v[i] = (float)random_normal(seed);
    unit_length(v, n);
}

/* Around one of `centres` directions. */
static inline void clustered_vector(uint64_t *seed, float *v, size_t n, unsigned centres)
{
    uint64_t centre = 77 + random_next(seed) % centres;
    random_vector(&centre, v, n);
    for (size_t i = 0; i < n; i++) v[i] += (float)(0.3 * random_normal(seed) / sqrt((double)n));
    unit_length(v, n);
}

/* The plain sum, in double. */
static inline double plain_cosine(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static inline void number_id(uint8_t id[MEMORY_ID], uint64_t number)
{
    memset(id, 0, MEMORY_ID);
    for (int i = 0; i < 8; i++) id[i] = (uint8_t)(number * 0x9e3779b97f4a7c15u >> 8 * i);
    for (int i = 0; i < 8; i++) id[8 + i] = (uint8_t)(number >> 8 * i);
}

/* A memory around a text and a vector; the caller sets what it wants otherwise. */
static inline struct memory memory_of(uint64_t number, struct slice text, const float *vector)
{
    struct memory m = { .vector = vector, .text = text, .metadata = S("{}"), .tags = S("[]") };
    number_id(m.id, number);
    m.f.significance = 0.5;
    return m;
}

/* Rows by their ids and in the order of storing. */
static inline uint32_t row_of(const struct store *st, const uint8_t *id) { return records_find(store_records(st), id); }
static inline uint32_t oldest(const struct store *st) { return store_records(st)->first; }
static inline uint32_t younger(const struct store *st, uint32_t row) { return records_at(store_records(st), row)->next; }
static inline struct memory view(const struct store *st, uint32_t row) { return records_view(store_records(st), row); }

/* What `update` may change; a slice with p NULL and a negative number stay. It
 * and delete() give 1 where there is no such id. */
struct update {
    struct slice text, metadata, tags;
    const float *vector;
    double significance;
    int pinned;
};
static inline int update(struct store *st, const uint8_t *id, const struct update *u, uint64_t *seq)
{
    uint32_t row = row_of(st, id);
    if (row == ROW_NONE) return 1;
    struct memory m = view(st, row);
    if (u->text.p) m.text = u->text, m.vector = u->vector;
    if (u->metadata.p) m.metadata = u->metadata;
    if (u->tags.p) m.tags = u->tags;
    if (u->significance >= 0) m.f.significance = u->significance;
    if (u->pinned >= 0) m.f.pinned = u->pinned != 0;
    return store_update(st, row, &m, seq);
}
static inline int delete(struct store *st, const uint8_t *id, uint64_t *seq)
{
    uint32_t row = row_of(st, id);
    return row == ROW_NONE ? 1 : store_remove(st, row, STORE_DELETED, seq);
}

/* The whole sweep at once; how many it forgot. */
static inline long store_forget(struct store *st, bool now, uint64_t *seq)
{
    uint32_t row = 0;
    *seq = 0;
    return store_sweep(st, now) ? store_sweep_part(st, &row, UINT32_MAX, seq) : 0;
}

#endif
