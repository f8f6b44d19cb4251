/* The memories: what SPEC 5 means, over records, index and significance.
 *
 * Knows no JSON on the wire, no socket, no file and no clock. Every change goes
 * to the log through config.append before it is made here, and counts at once;
 * it stays pending until store_durable() names its sequence number, and
 * store_failed() undoes what is pending from one on, in reverse, streams and
 * document frequencies included. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index.h"
#include "memory.h"
#include "records.h"
#include "significance.h"

enum store_status {
    STORE_OK = 0,
    STORE_FULL = -1,     /* and nothing may be evicted */
    STORE_LOG = -2,      /* config.append refused: nothing has changed */
    STORE_NO_ROOM = -3   /* out of memory: nothing has changed */
};

enum store_event { STORE_ADDED, STORE_UPDATED, STORE_REMOVED };
enum store_reason { STORE_DELETED, STORE_FORGOTTEN, STORE_EVICTED, STORE_CLEARED };

struct store_config {
    uint32_t dimension;
    size_t   max_memories;
    bool     evict;          /* --when-full evict */
    double   forget;         /* --forget; 0: never */
    uint64_t seed[2];        /* of the hashes, random */
    void    *user;
    /* Put one change into the log: 0 and its sequence number, or negative. May be NULL (tests). */
    int    (*append)(void *user, enum memory_change what, const struct memory *m, uint64_t *seq);
    /* This one is about to go, and store_living_next() has not given it yet. May be NULL. */
    void   (*keep)(void *user, const struct memory *m);
    /* A change has become durable. m is valid during the call; may be NULL. */
    void (*event)(void *user, enum store_event what, enum store_reason why, const struct memory *m);
};

struct store;

/* A new, empty store; NULL: out of memory. */
struct store *store_new(const struct store_config *config);
void store_free(struct store *st);

/* Take what the log holds, record by record, as journal_replay.take; then store_loaded()
 * once, which rebuilds the streams. */
bool store_load(void *store, enum memory_change what, const struct memory *m);
void store_loaded(struct store *st);

/* Tell the time, before anything that needs it: wall clock and a clock that
 * never jumps, both in ms. Gives the clock that counts (SPEC 5.5): never earlier
 * than the newest memory stored. */
int64_t store_clock(struct store *st, int64_t wall_ms, int64_t steady_ms);

struct store_added {
    uint8_t  id[MEMORY_ID];
    uint64_t seq;
    struct memory_fields f;
    bool     duplicate;
    uint32_t n_evicted;          /* 0 or 1, more only after --max-memories was lowered */
    uint8_t  evicted[4][MEMORY_ID];
    size_t   count;              /* memories afterwards */
};

/* The row that holds this text with this metadata's type, or ROW_NONE: a store
 * of it needs no vector. */
uint32_t store_duplicate(const struct store *st, struct slice text, struct slice metadata);

/* Would a new text be refused as things stand? (Ask before embedding it.) */
bool store_full(const struct store *st);

/* Keep a text, or reinforce the one that is there already. Of t's fields count pinned,
 * significance (negative: none was given), time_ms (INT64_MIN: now), and what an imported one
 * brings: access_count and last_access_ms (0: now). Its id is one that nobody has; its vector
 * may be NULL for a duplicate only. `near` is a finished scan_nearest(), or NULL to look here
 * and now. */
int store_add(struct store *st, const struct memory *t, struct scan *near,
              struct store_added *out);

/* Keep one with all its fields as they come (import); a full store evicts as in
 * store_add(). Its id must be free. STORE_OK with the put's seq, or 1 when it was a
 * duplicate and has been left out. */
int store_import(struct store *st, const struct memory *m, uint64_t *seq);

/* Make the memory in a row what m says: what records_view() gave, with other fields, or with
 * slices and a vector from elsewhere. Or remove it, or reinforce it. */
int store_update(struct store *st, uint32_t row, const struct memory *m, uint64_t *seq);
int store_remove(struct store *st, uint32_t row, enum store_reason why, uint64_t *seq);
int store_reinforce(struct store *st, uint32_t row, uint64_t *seq);

/* Remove the oldest, pinned ones too, at most so many, and the streams with the last one that
 * there is; how many, or a status. */
long store_clear(struct store *st, size_t most, uint64_t *seq);

/* Give memory back in parts that no row needs (records_spare()): true while there is more. */
bool store_give_back(struct store *st);

/* The same in parts: may a sweep begin now? Then look at `most` rows from *row on (0 at
 * first), which is ROW_NONE when those were the last; how many were removed, or a status. */
bool store_sweep(struct store *st, bool now);
long store_sweep_part(struct store *st, uint32_t *row, uint32_t most, uint64_t *seq);

/* Components of a text that is not stored (`score`). */
int store_score(struct store *st, const struct memory *t, struct scan *near,
                struct memory_fields *out);

/* Strength of a row by the clock that counts. */
double store_strength(const struct store *st, uint32_t row);

/* For a compaction: how many memories there are now; then each of them in the
 * order of storing, as it is by then, false at the end. */
uint64_t store_living(struct store *st);
bool     store_living_next(void *store, struct memory *m);   /* as journal_living.next */

/* Everything up to seq is on disk: events go out, old versions are let go. */
void store_durable(struct store *st, uint64_t seq);

/* Nothing from seq on will be: undo it in reverse. */
void store_failed(struct store *st, uint64_t seq);

/* What was removed as DELETED from seq on and is not on disk, in that order: the first
 * `cap` of them into out. Returns how many there are. */
struct store_gone { uint64_t seq; uint8_t id[MEMORY_ID]; };
size_t store_deletes(const struct store *st, uint64_t seq, struct store_gone *out, size_t cap);

/* Begin a scan of the rows (index.h) by the store's clock. 0, or -1: no room. */
int  store_scan(const struct store *st, struct scan *sc, const struct scan_config *config);

/* What was answered, by row: where its type is "user" and the next of its session is of type
 * "assistant", that one; else ROW_NONE. To be freed; NULL: no room. */
uint32_t *store_replies(const struct store *st);

struct store_counts {
    size_t   memories, pending;
    uint64_t duplicates, forgotten, evicted;
    uint64_t bytes;              /* really held for the memories */
    double   avg_significance;
    size_t   distribution[5];    /* significance in fifths */
};
struct store_counts store_count(const struct store *st);
uint64_t store_log_bytes(const struct store *st); /* that the log needs for what lives */

/* The memories, to be looked at only. */
const struct records *store_records(const struct store *st);

#endif
