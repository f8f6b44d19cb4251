/* Records of the journal: bytes to fields and back (FORMATS.md 4, docs/storage.md).
 *
 * Pure functions on bytes: no file, no allocation. Everything is little-endian,
 * written byte by byte, so a log moves between machines. */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "servers/memory/memory.h"

#define JOURNAL_HEAD_BYTES 4096
#define RECORD_HEAD_BYTES  64
#define RECORD_FIXED_BYTES 64
#define RECORD_MAX_PAYLOAD ((uint32_t)1 << 20)

enum record_type {
    RECORD_PUT = MEMORY_PUT, RECORD_DELETE = MEMORY_DELETE, RECORD_CLOSE = 3,
    RECORD_CHANGE = MEMORY_CHANGE,
    RECORD_MARK = 5 /* carries nothing but its watermark; flag SKIP */
};
#define RECORD_FLAG_SKIP 0x8000u /* a reader that does not know the type may go on */

/* The file header. */
struct journal_head {
    uint16_t major, minor;
    uint32_t dimension;
    uint32_t element;         /* 1: float32; written as that */
    uint8_t  file_id[16];     /* random; salts every header's checksum */
    uint8_t  fingerprint[32]; /* of the embedder */
    uint64_t base;            /* the first record's number is base + 1 */
};

/* Write it, both copies and the zeros, JOURNAL_HEAD_BYTES at out. */
void head_put(uint8_t *out, const struct journal_head *h);

/* Read it (JOURNAL_HEAD_BYTES at p): 0; 1 when only the second copy has a right
 * checksum; -1 when neither has. What the fields say is for the caller to judge. */
int head_get(const uint8_t *p, struct journal_head *h);

/* What binds a record to its place: the next one's number, and all that its
 * header's checksum stands on. */
struct record_seal {
    uint8_t  file_id[16];
    uint64_t seq;       /* the last record's number */
    uint32_t chain;     /* its header's checksum; 0 before the first */
    uint64_t watermark; /* highest number known to be on disk */
};

/* One record's header, decoded. */
struct record_head {
    uint32_t       crc, payload_crc, chain;
    uint32_t       payload_bytes;
    uint16_t       type, flags;
    uint64_t       seq, watermark;
    uint8_t        id[MEMORY_ID];
    uint32_t       text_bytes;
    uint16_t       metadata_bytes, tags_bytes;
};

/* Bytes that a record of this type takes in the log, header included. m is read
 * for a put only. */
size_t record_bytes(enum record_type type, uint32_t dimension, const struct memory *m);

/* Write one at out (room for record_bytes()), with its payload's checksum but not
 * yet sealed. m may be NULL for close and mark. Returns its bytes. */
size_t record_put(uint8_t *out, enum record_type type, uint32_t dimension,
                  const struct memory *m);

/* Give the record at p its number, chain, watermark and header checksum, and
 * move s on to it. Returns its bytes. */
size_t record_seal(uint8_t *p, struct record_seal *s);

/* Decode the header at p (RECORD_HEAD_BYTES): false when it is no header of this
 * file (magic, checksum) or when its length cannot be. */
bool record_get(const uint8_t *p, const uint8_t file_id[16], uint32_t dimension,
                struct record_head *r);

/* True when the payload at p is the one that r was written with. */
bool record_whole(const struct record_head *r, const uint8_t *payload);

/* Fill in m from r and its payload. Slices and vector point into the payload,
 * whose vector must be 4-byte aligned and is turned into this machine's byte
 * order where it lies: do it once. */
void record_memory(const struct record_head *r, uint8_t *payload, uint32_t dimension,
                   struct memory *m);

#endif
