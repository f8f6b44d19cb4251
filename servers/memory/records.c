#include "records.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cosine.h"
#include "hash.h"
#include "json.h"

#define HUGE_PAGE ((size_t)2 << 20)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static struct chunk *chunk_of(const struct records *rs, uint32_t row)
{
    return &rs->chunks[row / CHUNK_ROWS];
}

struct record *records_at(const struct records *rs, uint32_t row)
{
    return &chunk_of(rs, row)->record[row % CHUNK_ROWS];
}

const float *records_vector(const struct records *rs, uint32_t row)
{
    return chunk_of(rs, row)->vectors + (size_t)(row % CHUNK_ROWS) * rs->dimension;
}

uint64_t records_hash(const struct records *rs, struct slice s)
{
    if (!s.p) return 0;
    uint64_t h = hash_bytes(rs->key, s.p, s.len);
    return h ? h : 1;
}

void meta_read(struct meta *meta, struct slice metadata)
{
    char copy[MEMORY_METADATA];
    struct json in;
    struct slice s = { NULL, 0 };
    size_t at = 0;
    meta->type = meta->session = s;
    meta->importance = -1;
    meta->bad_importance = false;
    if (metadata.len > sizeof copy) return;
    memcpy(copy, metadata.p, metadata.len);
    json_init(&in, copy, metadata.len);
    if (json_next(&in) != JSON_OBJECT) return;
    json_enter(&in);
    while (json_next(&in) > JSON_END) {
        bool type = json_key(&in, "type"), session = json_key(&in, "session_id");
        if ((type || session) && in.type == JSON_STRING) {
            s = json_slice(&in);
            if (at + s.len > sizeof meta->room) return;
            memcpy(meta->room + at, s.p, s.len);
            *(type ? &meta->type : &meta->session) = (struct slice){ meta->room + at, s.len };
            at += s.len;
        } else if (json_key(&in, "importance") && in.type != JSON_NULL) {
            double x = in.type == JSON_NUMBER ? json_number(&in) : -1;
            meta->bad_importance = !(x >= 0 && x <= 1);
            meta->importance = meta->bad_importance ? -1 : x;
        }
    }
}

/* ---- tables: open addressing, rows alone; what they are found by stands in the record */

static uint32_t id_hash(const struct records *rs, const uint8_t *id)
{
    return (uint32_t)hash_bytes(rs->key, id, MEMORY_ID);
}

static uint32_t hash_of(const struct records *rs, const struct table *t, uint32_t row)
{
    const struct record *r = records_at(rs, row);
    return t == &rs->by_id ? id_hash(rs, r->id) : r->text_hash;
}

static void table_place(struct table *t, uint32_t row, uint32_t hash)
{
    size_t i = hash & (t->cap - 1);
    while (t->row[i] != ROW_NONE) i = (i + 1) & (t->cap - 1);
    t->row[i] = row;
    t->used++;
}

/* Room for one more. An eighth stays free. */
static int table_room(const struct records *rs, struct table *t)
{
    if (t->cap && (t->used + 1) * 8 <= t->cap * 7) return 0;
    struct table bigger = { .cap = t->cap ? t->cap * 2 : 64 };
    bigger.row = malloc(bigger.cap * sizeof *bigger.row);
    if (!bigger.row) return -1;
    memset(bigger.row, 0xff, bigger.cap * sizeof *bigger.row);
    for (size_t i = 0; i < t->cap; i++)
        if (t->row[i] != ROW_NONE) table_place(&bigger, t->row[i], hash_of(rs, t, t->row[i]));
    free(t->row);
    *t = bigger;
    return 0;
}

/* Take a row out, and let those move up that stood behind it only for want of its place. */
static void table_remove(const struct records *rs, struct table *t, uint32_t row)
{
    size_t mask = t->cap - 1, hole = hash_of(rs, t, row) & mask;
    while (t->row[hole] != row) hole = (hole + 1) & mask;
    for (size_t i = (hole + 1) & mask; t->row[i] != ROW_NONE; i = (i + 1) & mask) {
        size_t home = hash_of(rs, t, t->row[i]) & mask;
        if (((i - home) & mask) < ((i - hole) & mask)) continue;
        t->row[hole] = t->row[i];
        hole = i;
    }
    t->row[hole] = ROW_NONE;
    t->used--;
}

uint32_t records_find(const struct records *rs, const uint8_t *id)
{
    const struct table *t = &rs->by_id;
    if (!t->cap) return ROW_NONE;
    for (size_t i = id_hash(rs, id) & (t->cap - 1); t->row[i] != ROW_NONE;
         i = (i + 1) & (t->cap - 1)) {
        if (!memcmp(records_at(rs, t->row[i])->id, id, MEMORY_ID)) return t->row[i];
    }
    return ROW_NONE;
}

static uint32_t text_hash(const struct records *rs, struct slice text, uint64_t type_hash)
{
    uint64_t key[2] = { rs->key[0], rs->key[1] ^ type_hash };
    return (uint32_t)hash_bytes(key, text.p, text.len);
}

uint32_t records_same(const struct records *rs, struct slice text, struct slice type)
{
    const struct table *t = &rs->by_text;
    uint64_t type_hash = records_hash(rs, type);
    uint32_t hash = text_hash(rs, text, type_hash);
    if (!t->cap) return ROW_NONE;
    for (size_t i = hash & (t->cap - 1); t->row[i] != ROW_NONE; i = (i + 1) & (t->cap - 1)) {
        const struct record *r = records_at(rs, t->row[i]);
        if (r->text_hash == hash && r->type_hash == type_hash && r->text_len == text.len &&
            !memcmp(r->bytes, text.p, text.len)) return t->row[i];
    }
    return ROW_NONE;
}

/* ---- chunks */

/* A mapping that begins at a multiple of `align`, zero-filled. */
static void *map_aligned(size_t bytes, size_t align)
{
    char *p = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t before = (align - (uintptr_t)p % align) % align;
    if (before) munmap(p, before);
    if (align - before) munmap(p + before + bytes, align - before);
    return p + before;
}

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Vectors, codes, fields and bounds of one chunk lie in one mapping, each part at a whole page. */
static int chunk_add(struct records *rs)
{
    size_t page = 4096, one = CHUNK_ROWS * sizeof(float);
    size_t vectors = round_up(one * rs->dimension, page);
    size_t codes = round_up(CHUNK_ROWS * COSINE_STRIDE(rs->dimension), page);
    size_t rows = 3 * one + CHUNK_ROWS * sizeof(struct record);
    size_t bytes = round_up(vectors + 2 * codes + rows, 65536);
    struct chunk *all = realloc(rs->chunks, (rs->n_chunks + 1) * sizeof *all);
    if (!all) return -1;
    rs->chunks = all;
    /* The first has small pages until there is a second, even where the system prefers huge ones:
     * a small store stays small. */
    char *p = map_aligned(bytes, HUGE_PAGE);
    if (!p) return -1;
    (void)madvise(p, bytes, rs->n_chunks ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    if (rs->n_chunks == 1) (void)madvise(all->vectors, all->bytes, MADV_HUGEPAGE);
    float *scale = (float *)(void *)(p + vectors + 2 * codes);
    all[rs->n_chunks++] = (struct chunk){
        .vectors = (float *)(void *)p, .upper = (uint8_t *)p + vectors,
        .lower = (uint8_t *)p + vectors + codes, .scale = scale, .coarse = scale + CHUNK_ROWS,
        .weight = scale + 2 * CHUNK_ROWS,
        .record = (struct record *)(void *)(scale + 3 * CHUNK_ROWS), .bytes = bytes };
    return 0;
}

/* With each row that the second chunk takes one more page of the first becomes huge: all at
 * once would hold everything up for 0.1 s where vectors are long. */
static void collapse(const struct records *rs, uint32_t row)
{
    const struct chunk *first = rs->chunks;
    uint32_t page = row - CHUNK_ROWS;     /* of rows in the first: beyond its end */
    if (page < first->bytes / HUGE_PAGE)
        (void)madvise((char *)first->vectors + page * HUGE_PAGE, HUGE_PAGE, MADV_COLLAPSE);
}

void records_open(struct records *rs, uint32_t dimension, const uint64_t key[2])
{
    *rs = (struct records){ .dimension = dimension, .free = ROW_NONE, .first = ROW_NONE,
                            .last = ROW_NONE, .key = { key[0], key[1] } };
}

bool records_spare(const struct records *rs)
{
    return rs->n_chunks * CHUNK_ROWS >= rs->used + CHUNK_ROWS;
}

static void table_free(struct table *t)
{
    free(t->row);
    *t = (struct table){ 0 };
}

bool records_trim(struct records *rs)
{
    if (!records_spare(rs)) return false;
    const struct chunk *c = &rs->chunks[--rs->n_chunks];
    munmap(c->vectors, c->bytes);
    if (!rs->taken) {
        table_free(&rs->by_id);
        table_free(&rs->by_text);
    }
    return records_spare(rs);
}

void records_close(struct records *rs)
{
    for (; rs->used; rs->used--) free(records_at(rs, rs->used - 1)->bytes);
    rs->taken = 0;
    while (records_trim(rs)) { }
    free(rs->chunks);
    records_open(rs, rs->dimension, rs->key);
}

/* ---- rows */

/* What the scan may see of a row. */
static void expose(struct records *rs, uint32_t row, bool seen)
{
    struct chunk *c = chunk_of(rs, row);
    size_t i = row % CHUNK_ROWS;
    const float *x = records_vector(rs, row);
    if (!seen) {
        c->coarse[i] = -INFINITY;
        return;
    }
    size_t at = i * COSINE_STRIDE(rs->dimension);
    struct cosine_row left;
    double length = cosine_encode(x, rs->dimension, c->upper + at, c->lower + at, &left);
    c->scale[i] = left.scale;
    c->coarse[i] = left.coarse;
    if (length > rs->longest) rs->longest = length;
    c->weight[i] = nextafterf((float)c->record[i].f.significance, 2);
}

static void link_in(struct records *rs, uint32_t row)
{
    struct record *r = records_at(rs, row);
    *(r->prev == ROW_NONE ? &rs->first : &records_at(rs, r->prev)->next) = row;
    *(r->next == ROW_NONE ? &rs->last : &records_at(rs, r->next)->prev) = row;
}

static void link_out(struct records *rs, uint32_t row)
{
    const struct record *r = records_at(rs, row);
    *(r->prev == ROW_NONE ? &rs->first : &records_at(rs, r->prev)->next) = r->next;
    *(r->next == ROW_NONE ? &rs->last : &records_at(rs, r->next)->prev) = r->prev;
}

static size_t text_bytes(const struct record *r)
{
    return (size_t)r->text_len + r->metadata_len + r->tags_len;
}

static uint64_t units_of(const struct records *rs, const struct record *r)
{
    return (rs->dimension * sizeof(float) + text_bytes(r) + 63) / 64;
}

/* A live row more (1) or less (-1) of this significance. */
static void weigh(struct records *rs, double significance, int more)
{
    int fifth = (int)(significance * 5);
    rs->fifths[fifth > 4 ? 4 : fifth] += (size_t)more;
    rs->weight += (uint64_t)more * (uint64_t)(significance * RECORDS_WEIGHT + 0.5);
}

static void show(struct records *rs, uint32_t row)
{
    struct record *r = records_at(rs, row);
    link_in(rs, row);
    table_place(&rs->by_id, row, id_hash(rs, r->id));
    table_place(&rs->by_text, row, r->text_hash);
    expose(rs, row, true);
    r->state = ROW_LIVE;
    rs->units += units_of(rs, r);
    weigh(rs, r->f.significance, 1);
    rs->live++;
    rs->puts++;
}

void records_show(struct records *rs, uint32_t row)
{
    show(rs, row);
    rs->moves++;
}

void records_hide(struct records *rs, uint32_t row)
{
    link_out(rs, row);
    table_remove(rs, &rs->by_id, row);
    table_remove(rs, &rs->by_text, row);
    expose(rs, row, false);
    records_at(rs, row)->state = ROW_HIDDEN;
    rs->units -= units_of(rs, records_at(rs, row));
    weigh(rs, records_at(rs, row)->f.significance, -1);
    rs->live--;
}

void records_free(struct records *rs, uint32_t row)
{
    struct record *r = records_at(rs, row);
    rs->text_bytes -= text_bytes(r);
    free(r->bytes);
    r->bytes = NULL;
    r->state = ROW_FREE;
    r->next = rs->free;
    rs->free = row;
    if (--rs->taken) return;
    rs->free = ROW_NONE;
    rs->used = 0;
}

static char *bytes_of(const struct memory *m)
{
    char *p = malloc(m->text.len + m->metadata.len + m->tags.len);
    if (!p) return NULL;
    memcpy(p, m->text.p, m->text.len);
    memcpy(p + m->text.len, m->metadata.p, m->metadata.len);
    memcpy(p + m->text.len + m->metadata.len, m->tags.p, m->tags.len);
    return p;
}

static void fill(struct records *rs, struct record *r, const struct memory *m)
{
    struct meta meta;
    meta_read(&meta, m->metadata);
    memcpy(r->id, m->id, MEMORY_ID);
    r->f = m->f;
    r->text_len = (uint16_t)m->text.len;
    r->metadata_len = (uint16_t)m->metadata.len;
    r->tags_len = (uint16_t)m->tags.len;
    r->type_hash = records_hash(rs, meta.type);
    r->session_hash = records_hash(rs, meta.session);
    r->text_hash = text_hash(rs, m->text, r->type_hash);
    rs->text_bytes += text_bytes(r);
}

uint32_t records_put(struct records *rs, const struct memory *m, uint32_t instead)
{
    if (rs->free == ROW_NONE && rs->used == rs->n_chunks * CHUNK_ROWS && chunk_add(rs))
        return ROW_NONE;
    if (table_room(rs, &rs->by_id) || table_room(rs, &rs->by_text)) return ROW_NONE;
    char *bytes = bytes_of(m);
    if (!bytes) return ROW_NONE;
    uint32_t row = rs->free != ROW_NONE ? rs->free : rs->used++;
    struct record *r = records_at(rs, row);
    if (row == rs->free) rs->free = r->next;
    else collapse(rs, row);
    r->bytes = bytes;
    fill(rs, r, m);
    memcpy(chunk_of(rs, row)->vectors + (size_t)(row % CHUNK_ROWS) * rs->dimension, m->vector,
           rs->dimension * sizeof(float));
    const struct record *place = instead == ROW_NONE ? NULL : records_at(rs, instead);
    r->prev = place ? place->prev : rs->last;
    r->next = place ? place->next : ROW_NONE;
    r->order = place ? place->order : ++rs->order;
    rs->moves += place != NULL;
    rs->taken++;
    show(rs, row);
    return row;
}

void records_fields(struct records *rs, uint32_t row, const struct memory_fields *f)
{
    struct record *r = records_at(rs, row);
    weigh(rs, r->f.significance, -1);
    weigh(rs, f->significance, 1);
    r->f = *f;
    chunk_of(rs, row)->weight[row % CHUNK_ROWS] = nextafterf((float)f->significance, 2);
}

struct memory records_view(const struct records *rs, uint32_t row)
{
    const struct record *r = records_at(rs, row);
    const char *metadata = r->bytes + r->text_len;
    struct memory m = { .f = r->f, .vector = records_vector(rs, row),
                        .text = { r->bytes, r->text_len },
                        .metadata = { metadata, r->metadata_len },
                        .tags = { metadata + r->metadata_len, r->tags_len } };
    memcpy(m.id, r->id, MEMORY_ID);
    return m;
}

size_t records_bytes(const struct records *rs)
{
    size_t row = rs->dimension * sizeof(float) + 2 * COSINE_STRIDE(rs->dimension) +
                 3 * sizeof(float) + sizeof(struct record);
    return rs->used * row + rs->text_bytes + (rs->by_id.cap + rs->by_text.cap) * sizeof(uint32_t);
}
