/* What the parts of the journal share; nobody else includes this. */
#ifndef JOURNAL_PARTS_H
#define JOURNAL_PARTS_H

#include "servers/memory/disk.h"
#include "servers/memory/journal.h"
#include "servers/memory/walk.h"

_Static_assert(JOURNAL_BATCH_BYTES == DISK_AREA_BYTES, "a batch fills an area");

enum compact_stage {
    COMPACT_OFF,
    COMPACT_STREAM, /* what lives goes to the new file */
    COMPACT_TAIL,   /* and then what was stored meanwhile, in pieces */
    COMPACT_SWAP,   /* the last piece and the rename: no batch starts before that */
    COMPACT_DROP    /* given up; the disk has yet to say so */
};

/* A compaction under way (journal_compact.c). */
struct compact {
    enum compact_stage    stage;
    struct journal_living living;
    struct record_seal    seal;    /* of the new log */
    uint64_t              from;    /* where in the old log that begins which is copied after */
    uint64_t              last;    /* last number when all that lives had been handed over */
    size_t                fill;    /* bytes in DISK_COMPACT's area, */
    size_t                sent;    /* of which so many are with the disk */
    bool                  waiting; /* for an answer */
    bool                  overrun; /* something to keep found no room: it ends at its next step */
    int                   copies;  /* pieces of the tail so far */
    bool                  failed;  /* the last one did, at */
    int64_t               ended;
    char                  why[120]; /* what kept it */
};

struct journal {
    struct journal_config c;
    struct journal_head   head;     /* of the log; its fingerprint is what c's was at the start */
    struct disk          *disk;
    struct record_seal    seal;     /* of the log as written; seal.watermark is what is durable */
    uint64_t              end;      /* bytes in the log */
    uint64_t              seq;      /* last number given */
    uint64_t              data;     /* last number of a record that carries something */
    uint64_t              marked;   /* greatest watermark in the log */
    int                   area;     /* where the batch gathers */
    size_t                fill;     /* its bytes */
    bool                  reserve;  /* it holds more than deletes */
    struct record_seal    sent;     /* the seal when the batch under way is written */
    size_t                sent_len; /* its bytes, 0: none, or a sync alone */
    bool                  busy;     /* a write or sync is under way */
    uint64_t              sync_to;  /* asked for to be on disk, whatever the mode */
    int64_t               sync_at;  /* when what is written must be synced */
    int64_t               mark_at;  /* when an idle log gets its last watermark */
    bool                  closed;   /* the last record says so */
    bool                  full;
    uint64_t              lost;     /* how often what was appended could not be written */
    int64_t               now;      /* as last heard */
    int64_t               last_sync_ms;
    uint64_t              orphans;
    uint64_t              sure;     /* opening: what stands before this in the log is on disk */
    char                  why[120]; /* "" or why nothing can be written any more */
    struct compact        compact;
};

/* Take the answers that are there, with `wait` at least one that is owed. False: none was. */
bool journal_take(struct journal *j, bool wait);

/* Nothing can be written any more. */
void journal_stop(struct journal *j, const char *why);

/* Everything that is written is on disk. */
void journal_is_durable(struct journal *j);

/* Hand an order to the disk; a helper that is gone stops the journal. */
void journal_order(struct journal *j, const struct disk_order *o);

/* What a failed answer says for people: "disk full", "sync: Input/output error". */
void journal_say_why(char why[120], const struct disk_answer *a);

/* Take an answer that concerns the new log. */
void compact_answer(struct journal *j, const struct disk_answer *a);

/* End a compaction if one is under way, because of why. */
void compact_end(struct journal *j, const char *why);

/* Open and lock the directory, made where `make`, into *dir and *lock. 0, or -1 with f. One that
 * cannot be written is locked all the same where it need not be made. */
int journal_lock(const char *path, bool make, int *dir, int *lock, struct fault *f);

/* Read and judge the header of the log behind fd. 0; 1 when one copy or the end of it is
 * missing; -1 with f. Neither dimension nor embedder is judged. */
int journal_head_read(int fd, const char *path, struct journal_head *h, struct fault *f);

/* 0, or -1 with f: the record that the walk stands behind is of a type that only a newer
 * version knows, and may not be skipped. */
int journal_judge(const struct walk *w, const char *path, struct fault *f);

/* -1, with the sentence for a memory.log that is a symbolic link (it is opened with O_NOFOLLOW). */
int journal_is_link(const char *path, struct fault *f);

/* Copy bytes from..end of a file to one of this name, synced, with O_EXCL or O_TRUNC. 0, or -1
 * with errno and without the copy. */
int journal_save(int fd, uint64_t from, uint64_t end, int dir, const char *name, int how);

/* Make a log without records in `tmp`'s place, synced, its descriptor in *fd. The name is
 * DISK_TMP still. 0, or -1 with errno. */
int journal_make_tmp(int dir, struct journal_head *h, int *fd);

#endif
