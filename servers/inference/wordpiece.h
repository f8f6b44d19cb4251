/* WordPiece as Hugging Face's BertTokenizer cuts text (the steps stand in docs/inference.md):
 * text to the ids of its pieces, each with the bytes of the text it came from. Allocates
 * nothing, takes any bytes; what is no UTF-8 is dropped like U+FFFD. */
#ifndef WORDPIECE_H
#define WORDPIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vocab.h"

#define WORDPIECE_CHARS   100   /* a longer word is one [UNK] */
#define WORDPIECE_NAME    64    /* bytes of a special token's name */

enum wordpiece_special { WP_CLS, WP_SEP, WP_UNK, WP_PAD, WP_MASK, WP_SPECIALS };

struct wordpiece {
    struct vocab vocab;
    bool lower, strip_accents, ideographs;
    struct slice prefix;            /* of continuations: "##" */
    struct {
        char name[WORDPIECE_NAME];
        size_t len;
        uint32_t id;                /* VOCAB_NONE: it has none ([PAD] and [MASK] need not) */
    } special[WP_SPECIALS];

    /* made by wordpiece_ready() */
    uint32_t prefix_hash;
    unsigned char ascii[128];       /* what a plain ASCII character becomes; 0: it needs a look */
    bool opens[256];                /* a special token begins with this byte */
};

struct wordpiece_token { uint32_t id, start, end; };  /* bytes start..end of the text */

/* What BERT has where the files say nothing. */
void wordpiece_defaults(struct wordpiece *w);

/* Once vocabulary and options are there: finds the special tokens. 0, or -1 with f filled. */
int wordpiece_ready(struct wordpiece *w, struct fault *f);

/* The pieces of text, without [CLS] and [SEP]: writes at most cap of them and returns how
 * many there are; any number above cap when there are more (it stops looking then). */
size_t wordpiece_cut(const struct wordpiece *w, struct slice text, struct wordpiece_token *out,
                     size_t cap);

#endif
