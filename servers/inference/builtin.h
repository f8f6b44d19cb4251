/* The embedder that needs no files: words, word pairs and character n-grams hashed
 * with sign into 384 dimensions, square roots of counts, unit length.
 *
 * It finds shared wording, not meaning. Only integers, and sqrt and division in
 * double in one fixed order: the same bits on every platform. Allocates nothing. */
#ifndef BUILTIN_H
#define BUILTIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../utf8.h"

#define BUILTIN_DIMENSION 384
#define BUILTIN_NAME      "builtin-hash-384"

/* Four of five random pairs of sentences have a cosine below this:
 * tests/test_builtin.c measures it over tests/data/sentences.txt. */
#define BUILTIN_MIN_SIMILARITY 0.15

/* What tells these vectors from those of any other embedder or version. */
extern const uint8_t builtin_fingerprint[32];

/* Embed text into v[BUILTIN_DIMENSION]; not normalised, the signed square roots as
 * they are. Never all zero, whatever the text. Returns the number of words. */
uint32_t builtin_embed(struct slice text, bool normalize, float *v);

/* The next word of text at or behind *at, as it stands (not lower-cased): a run of
 * ASCII letters, digits and bytes from 0x80. *at moves behind it. len 0: there is none. */
struct slice builtin_word(struct slice text, size_t *at);

#endif
