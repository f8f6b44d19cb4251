/* Exact search: the true best k of all rows that pass the filters.
 *
 * A scan goes through the rows in granules of about half a millisecond, so that
 * a long one can be a job; in one go it gives the same. The codes of cosine.h
 * tell with their bound which rows cannot matter; the others are computed in
 * double. Rows may come and go between granules: what is given is there, and was
 * the best when it was looked at; should all rows go, the scan begins anew. */
#ifndef INDEX_H
#define INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cosine.h"
#include "records.h"

enum scan_order { SCAN_COSINE, SCAN_SCORE, SCAN_STRENGTH, SCAN_SIGNIFICANCE, SCAN_TIME };

struct scan_filter {
    struct slice type;           /* metadata.type; p NULL: any */
    const struct slice *tags;    /* all must be there; JSON strings, as the list has them */
    size_t  n_tags;
    int64_t since_ms, until_ms;  /* inclusive; INT64_MIN, INT64_MAX: open */
    double  min_significance, min_strength;
    /* Or NULL: of a scan by vector, asked last, of those that would be hits. */
    bool  (*wanted)(const void *user, uint32_t row);
    const void *user;
};

/* What a query says. The slices and tags must stay until the scan is over; the vector is copied. */
struct scan_config {
    struct scan_filter filter;
    const float *vector;         /* [dimension]; may be NULL for the last three orders */
    double  min_similarity;      /* below it is gated out and counted; -2: no gate */
    enum scan_order order;       /* by 0.7 max(0,cosine) + 0.3 strength: SCAN_SCORE */
    bool    ascending;           /* least first (not with SCAN_SCORE) */
    size_t  k;
    int64_t now_ms;              /* the clock that strengths go by */
};

struct hit {
    double   key;                /* what ranks, greater is better (negated when ascending) */
    double   cosine;             /* 0 without a vector */
    int64_t  time_ms;            /* ties: newer first, then id in byte order */
    uint64_t order;              /* which memory it was, */
    uint32_t row;                /* there; its row may be another's by now */
    uint8_t  id[MEMORY_ID];
};

struct scan {
    const struct records *rs;
    struct scan_config c;
    struct cosine_query q;
    void    *buffer;             /* query and its vector */
    const float *vector;
    bool     filtered;
    uint64_t type_hash;
    uint32_t at, end;            /* next row to look at; rows from end on are too new */
    size_t   n, cap, sorted;     /* hits: a heap, the worst on top, until sorted */
    struct hit *hits;            /* best first when done */
    uint64_t searched, below;    /* rows that passed the filters; those gated out */
    int      status;             /* 0, or -1: out of memory, hits are not all */
    uint64_t puts, moves;        /* the records' when this began */
};

/* A filter that lets everything pass; a scan for the one nearest row. */
struct scan_filter scan_any(void);
struct scan_config scan_nearest(const float *vector);

/* 0, or -1: no room. scan_end() is due in the first case. */
int  scan_begin(struct scan *sc, const struct records *rs, const struct scan_config *config);

/* One granule; true while there is more to do. */
bool scan_step(struct scan *sc);

/* All that is left, at once; then sc->hits[0..n) are in order and all live. The status. */
int  scan_finish(struct scan *sc);
void scan_end(struct scan *sc);

#endif
