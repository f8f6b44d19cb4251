/* A store's life on the model file system, and what must hold at every start of it. */
#ifndef LIFE_H
#define LIFE_H

#include "../journal_model.h"
#include "modelfs.h"

#define MAX_OPS 160

struct life {
    uint32_t        seed, k;          /* operation k comes next */
    struct model    now, base;        /* the state, and that at the last start */
    struct { enum memory_change kind; struct item item; } op[MAX_OPS];
    uint64_t        digest[MAX_OPS + 1]; /* after so many operations since the start */
    uint64_t        seq[MAX_OPS + 1];    /* their numbers; [0] at the start */
    int             sent, written, durable;
    uint64_t        durable_seq;      /* greatest number told to be on disk */
    uint64_t        witnessed;        /* this and all before are called durable by a later record */
    bool            unmarked;         /* nothing was written since a compaction */
    uint64_t        again;            /* deletes up to here were appended a second time, or 0 */
    int             failures;         /* batches that failed */
    bool            stopped;
    bool            over;             /* this session should end now */
    struct journal *j;
    int64_t         clock, sync_ms;
    char            bad[300];         /* what was violated, "" while nothing is */
};

/* The session that the events belong to. */
void life_reset(struct life *l, uint32_t seed);

/* Start: open, and judge what was recovered: the state after at least `least` of the
 * operations sent. 0; 1 when opening failed with f; violations go to l->bad. */
int life_start(struct life *l, int64_t sync_ms, int least, struct fault *f);

/* One step of what a server does, by chance: an operation, a turn, a pause, a compaction. */
void life_step(struct life *l);

/* A turn: answers, compaction, flush. */
void life_turn(struct life *l);

int life_close(struct life *l, struct fault *f);

#endif
