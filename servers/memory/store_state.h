/* What the sources of the store share; nobody else includes this. */
#ifndef STORE_STATE_H
#define STORE_STATE_H

#include "store.h"

enum kind { ADDED, REMOVED, REPLACED, FIELDS };

/* One change that is not on disk yet, and how to undo it. */
struct change {
    struct change *older, *newer;
    uint64_t seq;
    enum kind kind;
    enum store_reason reason;
    bool duplicate;
    uint32_t row, old;           /* REPLACED: old is the hidden one */
    struct memory_fields fields; /* FIELDS: as they were */
    struct memory_fields now;    /* as it made them */
    int64_t newest_ms;           /* ADDED: the store's from before */
    bool streamed;               /* ADDED: its session's stream was touched; */
    struct stream *was, *gone;   /* its copy from before, NULL: it was new; who made room */
    struct streams *cleared;     /* NULL, or all that went with it */
};

struct store {
    struct store_config c;
    struct records    records;
    struct vocabulary words;
    struct streams    streams;
    struct change *oldest, *newest;
    size_t   pending;
    uint64_t seq;                /* without a log */
    int64_t  now_ms;             /* the clock that counts */
    int64_t  newest_ms;          /* stored_ms of the newest */
    int64_t  wall_ms, steady_ms; /* as last told */
    int64_t  quiet_ms, swept_ms; /* steady: no ageing until; last swept */
    bool     told;
    uint64_t duplicates, forgotten, evicted;
    bool     living;             /* a compaction is being fed, */
    uint64_t handed, last;       /* it has all up to this order of storing, and ends with that; */
    uint32_t cursor;             /* next row for it */
};

/* Rows with their words. restore_row() brings back what remove_row() took; put_row()
 * is records_put() and ROW_NONE without room. */
void     remove_row(struct store *st, uint32_t row);
void     restore_row(struct store *st, uint32_t row);
uint32_t put_row(struct store *st, const struct memory *m, uint32_t instead);

/* A change, not yet made; NULL: no room. */
struct change *change_new(enum kind kind, uint32_t row);
void change_free(struct change *c);

/* Tell the log, then keep the change until the disk has it. On failure it is still the caller's. */
int change_log(struct store *st, struct change *c, enum memory_change what, const struct memory *m);
void change_undo(struct store *st, struct change *c);

/* The unpinned row of least strength but for `keep`; after a jump of the clock age does not
 * count. */
uint32_t weakest(const struct store *st, uint32_t keep);

#endif
