/* What WordPiece asks of Unicode: what a code point is, what is left of it without
 * accents, and its lower case. Tables made by unicode_tables.py; pure functions. */
#ifndef UNICODE_H
#define UNICODE_H

#include <stddef.h>
#include <stdint.h>

enum unicode_kind {
    UNICODE_OTHER,
    UNICODE_DROP,          /* NUL, U+FFFD, Cc, Cf and Co, except tab, LF and CR */
    UNICODE_SPACE,         /* White_Space that is not dropped */
    UNICODE_PUNCT,         /* P*, and ASCII's symbols */
    UNICODE_MARK,          /* Mn that moves in canonical ordering */
    UNICODE_MARK_STARTER,  /* Mn that stands still and parts what moves */
    UNICODE_IDEOGRAPH,     /* CJK that stands alone */
    UNICODE_ORDERED        /* moves in canonical ordering, and is no Mn */
};

/* Kind of a code point. Any number is allowed. */
enum unicode_kind unicode_kind(uint32_t c);

/* NFD without what is Mn: writes 1..4 code points, returns how many. What has no
 * decomposition comes back as it is; do not ask for Mn. */
size_t unicode_base(uint32_t c, uint32_t out[4]);

/* Simple lower case (U+0130 gives i). */
uint32_t unicode_lower(uint32_t c);

/* Canonical combining class of a code point of kind UNICODE_ORDERED; else 0. */
unsigned unicode_order_of(uint32_t c);

/* Decode one code point at p < end, moving it on; bytes that are no UTF-8 give U+FFFD,
 * one at a time. */
uint32_t unicode_next(const unsigned char **p, const unsigned char *end);

#endif
