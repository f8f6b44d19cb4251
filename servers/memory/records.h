/* The records in memory: rows of vectors, codes, fields and texts.
 *
 * Rows live in chunks that never move: vectors and codes in one aligned mapping
 * each (huge pages where the system has them), freed rows are taken again. Two
 * hash tables find a row by id and by text; a list keeps the order of storing.
 * When the last row is given back, all begins anew, and the chunks can be let go.
 * A hidden row is out of tables, list and scans but whole, so that it can be
 * shown again; hide and show nest like the undoing of changes does: in reverse. */
#ifndef RECORDS_H
#define RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cosine.h"
#include "memory.h"

#define ROW_NONE   UINT32_MAX
#define CHUNK_ROWS 2048u

struct record {
    uint8_t  id[MEMORY_ID];
    struct memory_fields f;
    char    *bytes;                        /* text, metadata, tags, one behind the other */
    uint16_t text_len, metadata_len, tags_len;
    uint8_t  state;                        /* ROW_FREE, ROW_LIVE, ROW_HIDDEN */
    uint32_t prev, next;                   /* order of storing; free rows: the next free one */
    uint64_t order;                        /* of storing: unique; who replaces one keeps it */
    uint32_t text_hash;                    /* of text and type */
    uint64_t type_hash, session_hash;      /* of metadata.type and .session_id; 0: none */
};

enum { ROW_FREE, ROW_LIVE, ROW_HIDDEN };

struct chunk {
    float   *vectors;                      /* [CHUNK_ROWS][dimension] */
    uint8_t *upper, *lower;                /* codes, [CHUNK_ROWS][COSINE_STRIDE(dimension)] each */
    float   *scale, *coarse;               /* of the codes, [CHUNK_ROWS]; -infinity: not live */
    float   *weight;                       /* significance, rounded up, [CHUNK_ROWS] */
    struct record *record;                 /* [CHUNK_ROWS] */
    size_t   bytes;
};

/* One of them is so much: what is added and taken away in whole numbers comes to 0 again. */
#define RECORDS_WEIGHT 68719476736.0       /* 2 to the 36: a hundred million fit */

struct table { uint32_t *row; size_t cap, used; };

struct records {
    uint32_t dimension, n_chunks;
    uint32_t used;                         /* all rows below are or were taken */
    uint32_t taken;                        /* those that are: live or hidden */
    uint32_t free, first, last;            /* free list; oldest and newest, or ROW_NONE */
    uint64_t order;                        /* given last */
    uint64_t puts, moves;                  /* how often a vector came, and a memory to another
                                              row or back from hiding */
    size_t   live;
    size_t   text_bytes;                   /* held for texts */
    uint64_t units;                        /* of 64 bytes that the live ones fill in the log */
    size_t   fifths[5];                    /* live ones by their significance */
    uint64_t weight;                       /* theirs together, in parts of RECORDS_WEIGHT */
    double   longest;                      /* no vector is longer */
    uint64_t key[2];
    struct table by_id, by_text;
    struct chunk *chunks;
};

/* What the metadata says that means something here. The strings are decoded
 * into `room`; p is NULL where there is none. */
struct meta {
    struct slice type, session;
    double importance;                     /* negative: none */
    bool   bad_importance;                 /* there, but not a number in 0..1 */
    char   room[MEMORY_METADATA];
};
void meta_read(struct meta *meta, struct slice metadata);

void records_open(struct records *rs, uint32_t dimension, const uint64_t key[2]);
void records_close(struct records *rs);

/* Is the last chunk out of use? Let it go; true while there is one more. */
bool records_spare(const struct records *rs);
bool records_trim(struct records *rs);

/* Take a row for m, all of it copied, as the newest, or in the place of a row
 * that was hidden just before. ROW_NONE: no room. */
uint32_t records_put(struct records *rs, const struct memory *m, uint32_t instead);

void records_hide(struct records *rs, uint32_t row);
void records_show(struct records *rs, uint32_t row);

/* Give a hidden row back. */
void records_free(struct records *rs, uint32_t row);

/* Write the fields of a live row. */
void records_fields(struct records *rs, uint32_t row, const struct memory_fields *f);

uint32_t records_find(const struct records *rs, const uint8_t *id);    /* or ROW_NONE */
uint32_t records_same(const struct records *rs, struct slice text, struct slice type);

struct record *records_at(const struct records *rs, uint32_t row);
const float   *records_vector(const struct records *rs, uint32_t row);
struct memory  records_view(const struct records *rs, uint32_t row); /* until the next change */
uint64_t       records_hash(const struct records *rs, struct slice s); /* never 0; 0 for p NULL */

/* Bytes held for all of it. */
size_t records_bytes(const struct records *rs);

#endif
