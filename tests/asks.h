/* Requests to an embedder with room for their answers, for tests. */
#ifndef ASKS_H
#define ASKS_H

#include <stdlib.h>
#include <string.h>

#include "servers/inference/builtin.h"
#include "servers/inference/embedder.h"
#include "servers/log.h"

#define COUNT(a) (sizeof (a) / sizeof *(a))
#define TINY "tests/models/tiny"
enum { DIM = 24, MAX = 40, N = 64 };    /* of the tiny model; most texts of a request here */

static inline struct embedder *open_with(const char *model, size_t max_queue, size_t batch)
{
    struct fault f = {0};
    struct embedder_options o = { .model = model, .max_queue = max_queue, .batch_tokens = batch };
    struct embedder *e = embedder_open(&o, &f);
    cr_assert_not_null(e, "%s", f.why);
    return e;
}

/* A request with room for its answers. */
struct ask {
    struct embed_request rq;    /* first */
    struct slice text[N];
    struct embed_span span[N];
    float vector[N * BUILTIN_DIMENSION];
    uint32_t tokens[N];
    bool truncated[N];
    int done, order;            /* how often; as which of all */
    bool dead, again;
};

static int answered;

static inline void on_done(struct embed_request *rq)
{
    struct ask *a = (struct ask *)rq;
    a->done++;
    a->order = ++answered;
}

static inline bool on_alive(struct embed_request *rq)
{
    return !((struct ask *)rq)->dead;
}

static inline struct ask *ask(uint64_t client, size_t n, const char *const *texts)
{
    struct ask *a = calloc(1, sizeof *a);
    for (size_t i = 0; i < n; i++) a->text[i] = (struct slice){ texts[i], strlen(texts[i]) };
    a->rq = (struct embed_request){.text = a->text,
                                   .n = n,
                                   .adapter = -1,
                                   .normalize = true,
                                   .truncate = true,
                                   .client = client,
                                   .vector = a->vector,
                                   .tokens = a->tokens,
                                   .truncated = a->truncated,
                                   .alive = on_alive,
                                   .done = on_done};
    return a;
}

static inline struct ask *ask_one(uint64_t client, const char *text)
{
    return ask(client, 1, &text);
}

static inline void run_all(struct embedder *e)
{
    while (embedder_step(e, 0)) {}
}

__attribute__((unused)) static const char *const letters[N] = {
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
    "q", "r", "s", "t", "u", "v", "w", "x", "y", "z", "a", "b", "c", "d", "e", "f",
    "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v",
    "w", "x", "y", "z", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l",
};

#endif
