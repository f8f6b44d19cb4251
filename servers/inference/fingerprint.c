#include "fingerprint.h"

#include <string.h>

#include "../crc32c.h"

#define BLOCK 4096

void fingerprint_init(struct fingerprint *fp)
{
    *fp = (struct fingerprint){ .next = 0 };
    for (uint32_t i = 0; i < 8; i++) fp->lane[i] = i;
}

void fingerprint_bytes(struct fingerprint *fp, const uint8_t *p, size_t n)
{
    for (size_t len; n; p += len, n -= len) {
        len = n < BLOCK ? n : BLOCK;
        uint32_t *lane = &fp->lane[fp->next++ % 8];
        *lane = crc32c(*lane, p, len);
    }
}

void fingerprint_number(struct fingerprint *fp, const char *name, uint64_t v)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(v >> 8 * i);
    fingerprint_bytes(fp, (const uint8_t *)name, strlen(name));
    fingerprint_bytes(fp, bytes, sizeof bytes);
}

void fingerprint_add(struct fingerprint *fp, const char *name, const void *p, size_t n)
{
    fingerprint_number(fp, name, n);
    fingerprint_bytes(fp, p, n);
}

/* Each lane is mixed with all: a difference in one shows in every word. */
void fingerprint_end(const struct fingerprint *fp, uint8_t out[FINGERPRINT_BYTES])
{
    uint8_t all[32];
    for (int i = 0; i < 32; i++) all[i] = (uint8_t)(fp->lane[i / 4] >> 8 * (i % 4));
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t c = crc32c(fp->lane[i], all, sizeof all);
        for (int j = 0; j < 4; j++) out[4 * i + (uint32_t)j] = (uint8_t)(c >> 8 * j);
    }
}
