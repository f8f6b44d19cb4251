/* What an order does to the files: the same in the helper and in our own process. */
#ifndef DISK_WORK_H
#define DISK_WORK_H

#include "servers/memory/disk.h"

struct disk_work {
    int      dir, lock, log;
    int      tmp;           /* memory.log.tmp, or -1 */
    uint32_t dimension;
    uint64_t tmp_bytes, tmp_synced;
    uint64_t reserved;      /* the log has blocks up to here */
    bool     no_reserve;    /* this file system cannot allocate ahead */
    uint8_t *area[DISK_AREAS];
};

/* Carry out o and say in a how it went. Ends the new file when it fails on that. */
void disk_do(struct disk_work *w, const struct disk_order *o, struct disk_answer *a);

/* Write all of it, however often it takes. 0, or -1 with errno. */
int disk_write_all(int fd, const uint8_t *p, size_t n, uint64_t at);

/* Read n bytes. 0, or -1 with errno; EIO when the file ends before. */
int disk_read_all(int fd, uint8_t *p, size_t n, uint64_t at);

/* Give the log blocks from `from` to `end` and for the reserve behind it. 0, or -1
 * with errno. */
int disk_reserve(struct disk_work *w, uint64_t from, uint64_t end);

/* Does this errno say that there is no room? EFBIG: a file may not grow, by its file
 * system or by a limit of the process. */
bool disk_no_room(int error);

#define DISK_LOG "memory.log"
#define DISK_TMP "memory.log.tmp"

#endif
