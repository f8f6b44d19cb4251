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

enum disk_order_kind {
    DISK_WRITE = 1, /* area's first len bytes to the log at `at`; synced with .sync */
    DISK_SYNC,      /* the log */
    DISK_NEW,       /* begin memory.log.tmp with the area's first len bytes */
    DISK_ADD,       /* append the area's first len bytes to it */
    DISK_COPY,      /* append the log's records from `at` to `end`, sealed anew for `seal` */
    DISK_SWAP,      /* as COPY, then sync, rename, sync the directory: it is the log now */
    DISK_DROP       /* forget memory.log.tmp */
};

struct disk_order {
    enum disk_order_kind kind;
    int                  area;
    size_t               len;
    uint64_t             at, end;
    bool                 sync;    /* WRITE: and sync */
    bool                 reserve; /* WRITE: only if the reserve stays whole behind it */
    struct record_seal   seal;    /* COPY, SWAP: of the new log, where it stands */
};

/* How far an order came. Only a FULL leaves the log as it was, cut back to `at`. */
enum disk_state {
    DISK_DONE,
    DISK_FULL,      /* no room: nothing of it is in the file */
    DISK_FAILED,    /* of the new file: the old log stands as before */
    DISK_BROKEN     /* the log can no longer be relied on: never write again */
};

struct disk_answer {
    enum disk_order_kind kind;
    enum disk_state      state;
    int                  error;   /* errno */
    const char          *call;    /* what failed: "write", "sync", … ; a constant string */
    struct record_seal   seal;    /* COPY, SWAP: where the new log stands now */
    uint64_t             end;     /* NEW, ADD, COPY, SWAP: its length */
};

struct disk;

/* What the disk takes over; closed by disk_stop(), by the helper alone where there is one. */
struct disk_files {
    int dir, lock, log;
    void (*child)(void *user); /* runs in the helper before its first order (sandbox); may be NULL */
    void *user;
};

/* Start; NULL with f filled in when there is no memory or no process. The caller's
 * descriptors stay open and its own (disk_release() closes them). */
struct disk *disk_start(const struct disk_files *files, bool in_process, struct fault *f);

/* Close what disk_start() was given, in this process; the inline variant keeps it. */
void disk_release(struct disk *d);

/* DISK_AREA_BYTES of memory, 64-byte aligned, ours until an order names it and
 * again once that is answered. */
uint8_t *disk_area(struct disk *d, int area);

/* Hand over an order. At most four may be unanswered. 0, or -1: the helper is gone. */
int disk_order(struct disk *d, const struct disk_order *o);

/* The next answer, in the order of the orders: 1 got it, 0 none yet (with wait:
 * none outstanding), -1 the helper is gone. */
int disk_answer(struct disk *d, bool wait, struct disk_answer *a);

/* Readable when an answer waits, for a poll; -1 for the inline variant. */
int disk_fd(const struct disk *d);

/* Wait for the helper's end and let everything go. 0, or -1 when it ended badly. */
int disk_stop(struct disk *d);

#endif
