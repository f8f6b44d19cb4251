/* The journal: one append-only log, in which everything that was ever
 * acknowledged stands (FORMATS.md 4, docs/storage.md).
 *
 * Opening replays it. From then on changes are appended to a batch in memory,
 * and journal_flush() hands the batch to the disk (disk.h); while one batch
 * syncs, the next gathers. What became of them is told by callbacks, in order of
 * sequence numbers. Knows neither sockets nor a loop: the caller polls
 * journal_fd() and brings the time, in monotonic milliseconds.
 *
 * A full disk fails what has not been written and leaves the log as it was; the
 * next append tries again. Any other failure of the log is final: a sync that
 * failed is never tried again, appends are refused with JOURNAL_STOPPED. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "servers/log.h"
#include "servers/memory/memory.h"
#include "servers/memory/record.h"

/* What an opening finds, in the order in which it was written. Slices and vector are valid
 * until the callback returns. A put is new, or in place of the one with this id; false: no
 * memory for it. Of a change only id and f are filled in, of a delete the id alone; false: no
 * such id. */
struct journal_replay {
    bool (*take)(void *user, enum memory_change what, const struct memory *m);
    void  *user;
};

/* What becomes of appended changes. Called from journal_ready(), journal_flush(),
 * journal_wait() and journal_close(); may append, must not close. */
struct journal_events {
    /* Everything up to seq is in the file, so that a kill of this process cannot
     * lose it: what may be answered with --sync SECONDS or never. */
    void (*written)(void *user, uint64_t seq);
    /* Everything up to seq is on disk: what may be answered with --sync always. */
    void (*durable)(void *user, uint64_t seq);
    /* Everything from `from` on is lost and to be undone in reverse; numbers are
     * given anew from there. With `full` the disk is full and the caller may
     * append deletes again: they use the reserve (once; they may fail too), and
     * journal_pad() gives them the numbers that they had. Else
     * nothing can be written any more, ever. In both cases `from` is the first number
     * that was not reported as written, or with --sync always as durable. */
    void (*failed)(void *user, uint64_t from, bool full, const char *why);
    /* A compaction has ended; why is NULL when the log is new, else what kept it. May not
     * append: this may be amid a failure. */
    void (*compacted)(void *user, const char *why);
    void *user;
};

#define JOURNAL_SYNC_ALWAYS 0
#define JOURNAL_SYNC_NEVER  (-1)

struct journal_config {
    const char    *dir;             /* made with its parents, 0700, where missing */
    uint32_t       dimension;       /* 1..MEMORY_DIMENSION */
    const uint8_t *fingerprint;     /* [32], of the embedder; read by journal_open() alone */
    int64_t        sync_ms;         /* at most so much may be lost, or one of the two above */
    bool           in_process;      /* --inline-sync: no helper */
    bool           reading;         /* only replay a log that is there: nothing is written */
    void         (*child)(void *);  /* runs first in the helper (its sandbox); may be NULL */
    void          *child_user;
    struct journal_replay replay;   /* take may be NULL: then nothing is replayed */
    struct journal_events events;   /* callbacks may be NULL */
};

struct journal;

/* Lock the directory (waits up to 3 s for one that is ending), make the log where
 * there is none, replay it, cut a torn tail off, start the helper. NULL with f:
 * exit 65 damage, another version, dimension or embedder; 71 no memory; 74 input
 * or output; 75 somebody holds the lock. Call it early: the helper inherits what
 * is open and mapped, and closes every descriptor but its own. */
struct journal *journal_open(const struct journal_config *c, struct fault *f);

#define JOURNAL_BATCH_BYTES ((size_t)4 << 20) /* that a batch has room for */

#define JOURNAL_BUSY    (-1) /* no room in the batch until a flush has been answered */
#define JOURNAL_STOPPED (-2) /* storage failed: journal_state() says why */
#define JOURNAL_MISUSE  (-3) /* text, metadata or tags too long for a record */
#define JOURNAL_FULL    (-4) /* disk full: what was appended is lost (journal_wait()) */

/* Append a change to the gathering batch; no input or output. A delete reads
 * m->id, a change id and f. Its number, previous + 1, goes to *seq. */
int journal_append(struct journal *j, enum memory_change kind, const struct memory *m,
                   uint64_t *seq);

/* Spend numbers on marks until the next change would get seq. 0, or as journal_append(). */
int journal_pad(struct journal *j, uint64_t seq);

/* True when n more changes of `bytes` in all (record_bytes()) would find room:
 * to be asked before changes that belong together. */
bool journal_room(const struct journal *j, size_t bytes);

/* Hand over what gathered, unless a batch is under way. Once a turn of the loop,
 * and at journal_due(). Writes the sync of --sync SECONDS and the watermark of an
 * idle log when they are due. */
void journal_flush(struct journal *j, int64_t now);

/* When journal_flush() wants to be called although nothing happens; INT64_MAX: never. */
int64_t journal_due(const struct journal *j);

/* Readable when journal_ready() has something to do; -1 without a helper. Stop
 * watching it once storage has failed for good: it may then be readable for ever. */
int  journal_fd(const struct journal *j);
void journal_ready(struct journal *j, int64_t now);

/* Have everything appended so far made durable in any mode, by the next flush. */
void journal_sync(struct journal *j);

/* Flush and wait until all that was appended is written, and durable where it is to
 * be: for maintenance, which may stand still. 0, JOURNAL_STOPPED, or JOURNAL_FULL
 * when some of it was lost meanwhile. */
int journal_wait(struct journal *j, int64_t now);

/* Why something could not be written. */
const char *journal_why(const struct journal *j);

/* Sync, mark the log as closed, wait for the helper's end, unlock, free. 0, or -1
 * with f: not everything is on disk. */
int journal_close(struct journal *j, int64_t now, struct fault *f);

/* A compaction writes all that lives to a new file and lets it take the log's
 * place. The caller remembers which memories live when it begins, n of them, and
 * hands them over through `next`, each once, as it is at that moment and in the
 * order of storing; false at the end. One of them that is about to be deleted
 * and has not been handed over goes to journal_compact_keep() first. Not those that
 * were put later. Any failure ends the compaction and leaves the old log. */
struct journal_living {
    uint64_t n;
    bool   (*next)(void *user, struct memory *m);
    void    *user;
};

/* 0, or -1: one is under way or being given up, or storage has stopped. */
int  journal_compact_begin(struct journal *j, const struct journal_living *living);
bool journal_compacting(const struct journal *j);   /* under way, with an end that will be told */
void journal_compact_keep(struct journal *j, const struct memory *m);
/* One slice of at most 256 KiB; true while there is more to do right now. Else what an answer
 * of the disk makes possible is to be asked for in every turn. */
bool journal_compact_step(struct journal *j, int64_t now);
bool journal_compact_ready(const struct journal *j);
/* Run it to its end, standing still. 0, or -1 with the reason in f. */
int  journal_compact_all(struct journal *j, const struct journal_living *living,
                         int64_t now, struct fault *f);

/* The next compaction's memories have vectors of another embedder: from then on the log is
 * that one's. Nothing may be appended before. */
void journal_adopt(struct journal *j, uint32_t dimension, const uint8_t *fingerprint);

/* Whether one is due: more than half of the log and 1 MiB are garbage. live is the
 * sum of record_bytes() over what lives. Not again within a minute of a failure. */
bool journal_compact_due(const struct journal *j, uint64_t live, int64_t now);

struct journal_state {
    uint64_t    bytes;        /* of the log */
    uint64_t    seq, written, durable;
    int64_t     last_sync_ms; /* how long the last sync took, -1 before the first */
    bool        full;         /* the last batch found no room */
    const char *why;          /* NULL, or why nothing can be written any more */
    uint64_t    orphans;      /* changes whose put was lost, skipped when it was opened */
};
struct journal_state journal_state(const struct journal *j);

#endif
