/* A memory: what the log writes and the store keeps.
 *
 * Plain data, shared by journal.h and records.h so that neither needs the other. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdint.h>

#include "utf8.h"

#define MEMORY_ID        16    /* bytes of an id; a UUID in lower case on the wire */
#define MEMORY_TEXT      16384 /* most bytes of a text, after trimming */
#define MEMORY_METADATA  4096  /* most bytes of metadata, compact */
#define MEMORY_TAGS      16    /* most tags */
#define MEMORY_TAG       64    /* most bytes of one tag */
#define MEMORY_LIST      (MEMORY_TAGS * (6 * MEMORY_TAG + 3) + 2) /* most bytes of their list */
#define MEMORY_DIMENSION 8192  /* longest vector */

/* The fixed fields: all that a change (FORMATS: type 4) writes again. At most
 * 64 bytes when written one behind the other, in this order. */
struct memory_fields {
    int64_t  time_ms;        /* when it was said: data.timestamp, else the clock; ms since 1970 */
    int64_t  stored_ms;      /* the server's clock when it was stored */
    int64_t  last_access_ms; /* last reinforcement, else stored_ms */
    double   significance;   /* sigma, 0..1 */
    float    surprise, diversity, information, floor; /* components as they were when stored */
    uint32_t access_count;   /* reinforcements */
    uint8_t  pinned;         /* 0 or 1 */
};

struct memory {
    uint8_t id[MEMORY_ID];
    struct memory_fields f;
    const float *vector;     /* [dimension], unit length */
    struct slice text;       /* 1..MEMORY_TEXT bytes of UTF-8, trimmed */
    struct slice metadata;   /* a compact JSON object, "{}" at least */
    struct slice tags;       /* a JSON list of strings as json_put_str() writes them, "[]" at
                                least */
};

/* What can happen to one; the numbers are the log's record types. A put of an
 * id that is there replaces it and keeps its place in the order of storing. A
 * change carries id and f alone, a delete the id alone. */
enum memory_change { MEMORY_PUT = 1, MEMORY_DELETE = 2, MEMORY_CHANGE = 4 };

#endif
