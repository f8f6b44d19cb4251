/* UTF-8, checked as it arrives (RFC 3629; Unicode 15, table 3-7).
 *
 * Pure functions on bytes: no memory of its own, no locale. */
#ifndef UTF8_H
#define UTF8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A run of bytes that somebody else owns; not terminated by NUL. */
struct slice {
    const char *p;
    size_t      len;
};

/* Where a text that comes in pieces stands. All zero: between characters. */
struct utf8 {
    uint8_t need;   /* continuation bytes still missing, 0..3 */
    uint8_t lo, hi; /* range that the next continuation byte must be in */
};

/* Check the next n bytes of a text. Returns n when they are right so far,
 * else the offset of the first byte that cannot stand where it stands
 * (overlong forms, surrogates and values above U+10FFFF fail at the earliest
 * byte that proves them). After a failure the state is of no use.
 * A text is whole when u->need is 0 after its last byte. */
size_t utf8_check(struct utf8 *u, const uint8_t *p, size_t n);

/* 1 when n bytes are a whole valid text. */
int utf8_valid(const uint8_t *p, size_t n);

/* Write code point c (must be a scalar value) at out, 1..4 bytes; returns how many. */
size_t utf8_put(uint8_t *out, uint32_t c);

/* An ASCII letter in lower case; any other byte as it is. */
static inline char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c; }

/* Read one code point of a text known to be valid; *p moves behind it. */
uint32_t utf8_get(const uint8_t **p);

#ifdef __cplusplus
}
#endif
#endif
