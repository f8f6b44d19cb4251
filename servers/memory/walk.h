/* Going through a log from record to record, and past what is broken.
 *
 * Reads with pread() through a buffer of its own: a bad block is an error here,
 * where under a mapping it would be the end of the process. */
#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "servers/memory/record.h"

struct walk {
    int                 fd;
    uint64_t            size;      /* of the file */
    struct journal_head head;
    uint64_t            at;        /* where the next record begins */
    uint64_t            seq;       /* the last whole record's number */
    uint32_t            chain;     /* its header's checksum */
    uint64_t            watermark; /* greatest seen in any header */
    uint64_t            close_at;  /* where the last close record stands, 0: none was seen */
    bool                looked;    /* at every header to the end */
    struct record_head       r;         /* the record that walk_next() found */
    uint8_t            *p;         /* its header and payload, until the next call */
    int                 error;     /* errno of a failed read, ENOMEM; sticky */
    uint8_t            *buf;       /* [cap], 64-byte aligned */
    size_t              cap, len;
    uint64_t            from;      /* what lies in buf: file bytes from..from+len */
};

/* Begin behind the header that h was read from. 0, or -1: no memory. */
int  walk_begin(struct walk *w, int fd, uint64_t size, const struct journal_head *h);
void walk_end(struct walk *w);

enum walk_found {
    WALK_RECORD,  /* a whole one, the next in order */
    WALK_END,     /* the file ends here */
    WALK_BROKEN,  /* no whole record at w->at, or not the next one */
    WALK_ERROR    /* w->error */
};
enum walk_found walk_next(struct walk *w);

/* At a broken place: look at all later headers. True when nobody was told of anything
 * behind it, which makes it a torn tail; else it is damage. Check w->error. */
bool walk_torn(struct walk *w);

/* From a broken place go to the next whole record of a higher number: RECORD, as
 * walk_next() gives it, whose r.seq tells what is missing; END: there is none; ERROR. */
enum walk_found walk_skip(struct walk *w);

#endif
