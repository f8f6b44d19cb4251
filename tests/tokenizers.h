/* Tokenizers made of texts, for tests. */
#ifndef TOKENIZERS_H
#define TOKENIZERS_H

#include <stdlib.h>
#include <string.h>

#include "servers/inference/tokenizer.h"
#include "servers/log.h"

#define COUNT(a) (sizeof (a) / sizeof *(a))
#define SPECIALS "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"

static inline struct slice text_of(const char *s)
{
    return (struct slice){ s, strlen(s) };
}

static inline struct tokenizer_text copy(const char *s)
{
    return (struct tokenizer_text){ s ? strdup(s) : NULL, s ? strlen(s) : 0 };
}

/* A tokenizer of these texts; freed by put_away(). */
struct made { struct tokenizer t; struct tokenizer_text file[3]; struct fault f; int r; };

static inline void make(struct made *m, const char *vocab, const char *config, const char *json)
{
    *m = (struct made){ .file = { copy(vocab), copy(config), copy(json) } };
    m->r = tokenizer_read(&m->t, m->file[0], m->file[1], m->file[2], &m->f);
}

static inline void put_away(struct made *m)
{
    tokenizer_close(&m->t);
    for (size_t i = 0; i < 3; i++) free(m->file[i].p);
}

#endif
