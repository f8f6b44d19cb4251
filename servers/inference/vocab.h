/* A WordPiece vocabulary: tokens by id, and ids by hash. Pure, but for malloc. */
#ifndef VOCAB_H
#define VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "../../utf8.h"

#define VOCAB_NONE UINT32_MAX
#define VOCAB_MAX  (1u << 24)   /* tokens */

struct fault;

struct vocab {
    struct slice *token;        /* [n] by id; point into the text it was read from */
    uint32_t n;
    size_t longest;             /* bytes of the longest token */
    struct vocab_slot { uint32_t hash, id; } *slot;  /* [mask + 1], open addressing */
    uint32_t mask;
};

/* Read a vocab.txt: line number is the id, only the line end (LF or CR LF) is stripped.
 * The text must stay. 0, or -1 with f filled (what the file is called must be put before it). */
int vocab_lines(struct vocab *v, const char *text, size_t len, struct fault *f);

void vocab_free(struct vocab *v);

/* A hash is made byte by byte, so that all beginnings of a word cost one pass. */
#define VOCAB_HASH 2166136261u
static inline uint32_t vocab_hash(uint32_t h, unsigned char byte)
{
    return (h ^ byte) * 16777619u;
}

/* Id of the token that is prefix followed by the len bytes at p, or VOCAB_NONE. hash is
 * that of the whole. A token that stands twice has its last id. */
uint32_t vocab_find(const struct vocab *v, uint32_t hash, struct slice prefix, const char *p,
                    size_t len);
uint32_t vocab_id(const struct vocab *v, struct slice token);

#endif
