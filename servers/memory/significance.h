/* Significance of a text, SPEC 5.1 to 5.5: surprise against a stream, information
 * of its words, and how it fades. Usable without a store (`process`).
 *
 * Whatever decides an order is summed in double precision in one fixed order. */
#ifndef SIGNIFICANCE_H
#define SIGNIFICANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utf8.h"

#define STREAMS_MAX 1024

/* 5.1: what was said lately. All zero at first but for c, [dimension] zeros. */
struct stream {
    uint64_t key;      /* whose it is */
    uint64_t used;     /* the greater, the later */
    double   w;
    double   c[];      /* [dimension] */
};

struct stream *stream_new(uint32_t dimension);

/* s of x against the stream, 0.5 for an empty one. */
double stream_surprise(const struct stream *stream, const float *x, uint32_t dimension);

/* Let x, whose surprise was s, into the stream. */
void stream_push(struct stream *stream, const float *x, uint32_t dimension, double s);

/* At most STREAMS_MAX of them; the one unused for longest goes first. */
struct streams { struct stream *all[STREAMS_MAX]; uint32_t n; uint64_t used; };

struct stream *streams_find(const struct streams *ss, uint64_t key); /* or NULL */

/* The stream of key, a new one where there is none; then *gone is the stream
 * that had to make room, which is the caller's now, or NULL. NULL: no room. */
struct stream *streams_take(struct streams *ss, uint64_t key, uint32_t dimension,
                            struct stream **gone);
void streams_drop(struct streams *ss, struct stream *stream);    /* frees it */
void streams_restore(struct streams *ss, struct stream *stream); /* one that had gone */
void streams_clear(struct streams *ss);

/* 5.3: how many texts hold a word. All zero is the empty one. */
struct vocabulary {
    uint64_t *hash;        /* [cap] of a word, 0: free */
    uint32_t *df;          /* [cap] */
    size_t    cap, used;
    uint32_t  texts;       /* D */
    uint64_t  key[2];
    uint64_t *room;        /* [n_room] to take a text apart in; as large as the longest wanted */
    size_t    n_room;
};

/* Count a text in. -1, and nothing changed: no room. */
int  vocabulary_add(struct vocabulary *v, struct slice text);
/* Count out one that was counted in: there is room for it since then. */
void vocabulary_remove(struct vocabulary *v, struct slice text);
void vocabulary_free(struct vocabulary *v);

/* q of a text; negative: no room. */
double vocabulary_information(struct vocabulary *v, struct slice text);

/* 5.4: least significance by how the text begins, or by what its metadata says
 * (negative: nothing). */
double significance_floor(struct slice text, double importance);

/* 5.4: from components to sigma. */
double significance_of(double s, double q, double d, double floor);

/* 5.5: strength after age_ms. */
double significance_strength(double significance, double age_ms);

double significance_reinforced(double significance);

#endif
