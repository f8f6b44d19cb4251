/* Looking at a log and mending it, for `recalld --check` and `--repair`. */
#ifndef JOURNAL_TOOLS_H
#define JOURNAL_TOOLS_H

#include "servers/memory/record.h"
#include "servers/log.h"

/* The file header, without a lock: what dimension and embedder a log is of. 0; 1
 * when there is no log yet; -1 with f. */
int journal_peek(const char *dir, struct journal_head *h, struct fault *f);

struct journal_report {
    struct journal_head head;
    uint64_t bytes, records, live, live_bytes, seq, watermark;
    uint64_t damaged;       /* places where records are broken or missing */
    uint64_t lost;          /* sequence numbers missing there */
    uint64_t damaged_bytes;
    uint64_t orphans;       /* changes and deletes whose put is lost */
    uint64_t torn_bytes;    /* behind the last record, never acknowledged */
    bool     closed;        /* ended by a clean stop */
    bool     head_damaged;  /* read from the second copy */
    /* Called for each place: lost numbers from..to, none when from > to. */
    void   (*damage)(void *user, uint64_t offset, uint64_t bytes, uint64_t from, uint64_t to);
    void    *user;
};

/* Read all of it and change nothing. Takes the lock as an opening does, also where nothing can
 * be written. 0 when whole (a torn tail is whole), 1 when damaged, -1 with f when it cannot be
 * read. damage and user are the caller's to set before. */
int journal_check(const char *dir, struct journal_report *r, struct fault *f);

/* Write a new log with every whole record, and keep the old file as
 * memory.damaged-<seq>; leaves a whole log alone. As journal_check(), which tells what
 * was found; `kept` (room for 64 bytes) is the old file's name, or "". */
int journal_repair(const char *dir, struct journal_report *r, char *kept, struct fault *f);

#endif
