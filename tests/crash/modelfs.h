/* One directory of files that exists only here, under the system calls of the code
 * that is tested (-Wl,--wrap=...; tests/crash/seam.txt lists them).
 *
 * Every file has what the page cache shows and what is on disk; a write or a new
 * length is pending until a sync of that file, a name until a sync of the
 * directory. A power cut keeps any part of what is pending: whole writes, single
 * sectors of them, a length without its bytes, names in any order; bytes that were
 * never written read as zeros or as what lay in those blocks before. A failed sync
 * drops what it should have written and the cache keeps showing it, as Linux does.
 *
 * Calls can be made to fail: the k-th of a kind, once or from then on. */
#ifndef MODELFS_H
#define MODELFS_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum call {
    CALL_OPEN, CALL_PREAD, CALL_PWRITE, CALL_FDATASYNC, CALL_FSYNC, CALL_RENAME, CALL_FTRUNCATE,
    CALL_FALLOCATE, CALL_UNLINK, CALL_LINK, CALL_FSTAT, CALL_MKDIR, CALL_FLOCK, CALL_GETRANDOM,
    CALL_MALLOC, CALL_MMAP, CALLS
};
extern const char *const call_names[CALLS];

extern struct modelfs_faults {
    int      kind;     /* enum call, or -1: nothing fails */
    int      k;        /* the k-th from now, counted from 0 */
    bool     forever;  /* and all after it */
    int      error;    /* errno; 0: falls short (pread and pwrite do half) */
    uint64_t capacity; /* bytes of all files together, 0: no bound */
    bool     no_fallocate; /* this file system cannot */
    int      hits;     /* how often it failed */
} mfs_faults;

extern int      mfs_calls[CALLS];   /* so far */
extern int      mfs_leaks;          /* allocations, mappings and descriptors still held */
extern int      mfs_crash_at;       /* at the how manieth changing call, -1: never */
extern jmp_buf  mfs_crashed;        /* where that goes */

/* Numbers for everything that happens by chance here. */
extern uint64_t mfs_seed;
uint32_t mfs_random(uint32_t below);

void mfs_reset(void);               /* an empty disk */
void mfs_start(void);               /* a process begins: nothing is open, counts are 0 */
void mfs_kill(void);                /* it has ended: the cache stays */
void mfs_power_cut(void);           /* and the cache is gone */

/* What a bound of capacity would have to be for the disk to be full now. */
uint64_t mfs_used(void);

/* The bytes of a file as the cache shows them, NULL: no such name. */
uint8_t *mfs_file(const char *name, size_t *n);

#endif
