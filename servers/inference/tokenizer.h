/* The tokenizer files of a sentence-encoder directory: vocab.txt (or the vocabulary in
 * tokenizer.json where it is absent), tokenizer_config.json, tokenizer.json. */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "wordpiece.h"

struct tokenizer {
    struct wordpiece wordpiece;
    char *text;                 /* what the vocabulary points into */
    char prefix[WORDPIECE_NAME];
};

/* Read them. 0, or -1 with f filled (exit 65): file, key, reason. In both cases
 * tokenizer_close() frees. What tokenizer_config.json says wins over tokenizer.json;
 * truncation and padding there are ignored, as by the reference. */
int tokenizer_open(struct tokenizer *t, const char *dir, struct fault *f);
void tokenizer_close(struct tokenizer *t);

/* The same with the files' texts in memory, which are modified; config and json may be
 * NULL. vocab NULL: it is taken from json. All must stay. */
struct tokenizer_text { char *p; size_t len; };
int tokenizer_read(struct tokenizer *t, struct tokenizer_text vocab, struct tokenizer_text config,
                   struct tokenizer_text json, struct fault *f);

#endif
