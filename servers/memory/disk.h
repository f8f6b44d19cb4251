/* Who touches the disk once the journal is open.
 *
 * A helper process, forked at start, holds the only writable descriptor of the
 * log and that of the lock; it is joined to us by a socketpair, over which small
 * orders and answers go, and by shared memory, in which the bytes to be written
 * lie. While it syncs, we go on. It works off its orders one after another and
 * ends at end of file on the socket, after what it was ordered before. The
 * inline variant does the same in our own process, during disk_order().
 *
 * Knows the records of record.h, but neither sequence numbers' meaning nor a loop. */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "servers/log.h"
#include "servers/memory/record.h"

/* Areas in shared memory: two for batches, which take turns, one for compaction. */
enum { DISK_BATCH_A, DISK_BATCH_B, DISK_COMPACT, DISK_AREAS };
#define DISK_AREA_BYTES  ((size_t)4 << 20) /* of address space; memory only where touched */
#define DISK_RESERVE     65536             /* bytes kept allocated behind the log's end */

enum disk_kind {
    DISK_WRITE = 1, /* area's first len bytes to the log at `at`, then perhaps sync */
    DISK_SYNC,      /* the log */
    DISK_NEW,       /* begin memory.log.tmp with the area's first len bytes */
    DISK_ADD,       /* append the area's first len bytes to it */
    DISK_COPY,      /* append the log's records from `at` on, sealed anew, before `end`
                       and about 1 MiB of them; uses DISK_COMPACT's area */
    DISK_SWAP,      /* as COPY, all of them, then sync, rename, sync the directory */
    DISK_DROP       /* forget memory.log.tmp */
};

struct disk_order {
    enum disk_kind     kind;
    int                area;
    size_t             len;
    uint64_t           at, end;
    uint32_t           sync;      /* bool of a WRITE: and sync (a word: no padding is sent) */
    uint32_t           reserve;   /* bool of a WRITE: only if the reserve stays whole behind it */
    struct record_seal seal;      /* COPY, SWAP: where the new log stands */
    uint8_t            old_id[16]; /* COPY, SWAP: file id of the log as it is */
};

/* How far an order came. */
enum disk_state {
    DISK_DONE,
    DISK_FULL,    /* no room: the log is as it was before */
    DISK_FAILED,  /* the new file is forgotten, the log as it was before */
    DISK_BROKEN   /* the log can no longer be relied on: never write again */
};

struct disk_answer {
    enum disk_kind     kind;
    enum disk_state    state;
    int                error;     /* errno */
    const char        *call;      /* what failed: "write", "sync", ...; a constant string */
    struct record_seal seal;      /* COPY, SWAP: where the new log stands now */
    uint64_t           at;        /* COPY, SWAP: where in the old log the rest begins */
    uint64_t           bytes;     /* NEW, ADD, COPY, SWAP: length of the new log */
    int64_t            sync_ms;   /* how long the log's sync took; -1: there was none */
};

struct disk;

struct disk_files {
    int      dir, lock, log;   /* open descriptors */
    uint32_t dimension;        /* of the log's vectors */
    void   (*child)(void *user); /* runs in the helper before its first order; may be NULL */
    void    *user;
};

/* Start. The descriptors are the disk's from now on, and the caller may use them
 * until disk_release(). NULL with f (71) when there is no memory or no process:
 * then they stay the caller's. */
struct disk *disk_start(const struct disk_files *files, bool in_process, struct fault *f);

/* From here on only orders touch the log: with a helper, close our descriptors. */
void disk_release(struct disk *d);

/* DISK_AREA_BYTES of memory, 64-byte aligned, ours until an order names it and
 * again once that is answered. */
uint8_t *disk_area(struct disk *d, int area);

/* Hand over an order. At most DISK_ORDERS may be unanswered. 0, or -1: the helper
 * is gone, and with it the right to write. */
#define DISK_ORDERS 4
int disk_order(struct disk *d, const struct disk_order *o);

/* The next answer, in the order of the orders. 1 got it; 0 none is there yet (and
 * with `wait`: none is owed); -1 the helper is gone. */
int disk_answer(struct disk *d, bool wait, struct disk_answer *a);

/* Readable when an answer waits, for a poll; -1 for the inline variant. */
int disk_fd(const struct disk *d);

/* Let the helper end after its orders, wait for that, let everything go.
 * 0, or -1 when it ended badly. */
int disk_stop(struct disk *d);

#endif
