/* The tokenizer files of a sentence-encoder directory: vocab.txt, tokenizer_config.json and
 * tokenizer.json (of which only the options are read). */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "wordpiece.h"

struct tokenizer {
    struct wordpiece wordpiece;
    char *text;                 /* vocab.txt, which the vocabulary points into */
    char prefix[WORDPIECE_NAME];
};

/* Read them. 0, or -1 with f filled (exit 65): file, key, reason. In both cases
 * tokenizer_close() frees. What tokenizer_config.json says wins over tokenizer.json;
 * truncation and padding there are ignored, as by the reference. */
int tokenizer_open(struct tokenizer *t, const char *dir, struct fault *f);
void tokenizer_close(struct tokenizer *t);

/* The same with the files' texts in memory; config and json are modified and may be NULL,
 * vocab must stay. */
struct tokenizer_text { char *p; size_t len; };
int tokenizer_read(struct tokenizer *t, struct tokenizer_text vocab, struct tokenizer_text config,
                   struct tokenizer_text json, struct fault *f);

#endif
