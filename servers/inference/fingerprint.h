/* Tells models apart; no protection against forgery. Eight lanes of CRC-32C over what
 * was added, taken in turn by blocks, each block with what came before it. */
#ifndef FINGERPRINT_H
#define FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

#define FINGERPRINT_BYTES 32

struct fingerprint {
    uint32_t lane[8];
    unsigned next;
};

void fingerprint_init(struct fingerprint *fp);

/* A part: its name, its length and its bytes. */
void fingerprint_add(struct fingerprint *fp, const char *name, const void *p, size_t n);

/* A number, as eight bytes little-endian. */
void fingerprint_number(struct fingerprint *fp, const char *name, uint64_t v);

/* Bytes alone, where the order says what they are. */
void fingerprint_bytes(struct fingerprint *fp, const uint8_t *p, size_t n);

void fingerprint_end(const struct fingerprint *fp, uint8_t out[FINGERPRINT_BYTES]);

#endif
