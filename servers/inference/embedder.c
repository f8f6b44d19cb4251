#include "embedder.h"

#include <stdlib.h>
#include <string.h>

#include "builtin.h"
#include "servers/log.h"
#include "wordpiece.h"

struct embedder {
    struct embedder_options o;
    struct embedder_stats stats;
};

struct embedder *embedder_open(const struct embedder_options *o, struct fault *f)
{
    if (strcmp(o->model, "builtin")) {
        fault_set(f, 65, "cannot read model %s: only builtin is known", o->model);
        return NULL;
    }
    struct embedder *e = calloc(1, sizeof *e);
    if (!e) {
        fault_set(f, 71, "out of memory for the embedder");
        return NULL;
    }
    e->o = *o;
    return e;
}

void embedder_close(struct embedder *e)
{
    free(e);
}

static int submit_builtin(struct embedder *e, struct embed_request *rq)
{
    for (size_t i = 0; i < rq->n; i++) {
        const struct embed_span *span = rq->span ? rq->span + i : NULL;
        struct slice part = rq->text[span ? span->text : i];
        if (span && span->count != EMBED_WHOLE) part = (struct slice){ part.p + span->start, span->end - span->start };
        uint32_t words = builtin_embed(part, rq->normalize, rq->vector + i * BUILTIN_DIMENSION);
        if (rq->tokens) rq->tokens[i] = words;
        if (rq->truncated) rq->truncated[i] = false;
        e->stats.tokens += words;
    }
    e->stats.texts += rq->n;
    return rq->status = EMBED_DONE;
}

int embedder_submit(struct embedder *e, struct embed_request *rq, int64_t now)
{
    (void)now;
    if (rq->adapter >= 0) return rq->status = EMBED_NO_ADAPTER;
    return submit_builtin(e, rq);
}

bool embedder_step(struct embedder *e, int64_t now)
{
    (void)e, (void)now;
    return false;
}

int embedder_run(struct embedder *e, struct embed_request *rq)
{
    return embedder_submit(e, rq, 0);
}

/* The words of a text as tokens; the same face as wordpiece_cut(). */
static size_t cut_words(struct slice text, struct wordpiece_token *out, size_t cap)
{
    size_t n = 0, at = 0;
    for (struct slice w; (w = builtin_word(text, &at)).len; n++)
        if (n < cap) out[n] = (struct wordpiece_token){ 0, (uint32_t)(at - w.len), (uint32_t)at };
    return n;
}

size_t embedder_spans(struct embedder *e, struct slice text, uint32_t max_length,
                      uint32_t stride, struct embed_span *out, size_t cap)
{
    (void)e;
    struct wordpiece_token *token = malloc((text.len + 1) * sizeof *token);
    if (!token) return 0;
    size_t n = cut_words(text, token, text.len), parts = 0, room = max_length;
    if (stride > room) stride = (uint32_t)room;
    for (size_t first = 0;; first += stride, parts++) {
        size_t count = n - first < room ? n - first : room;
        if (parts < cap)
            out[parts] = (struct embed_span){
                .first = (uint32_t)first, .count = (uint32_t)count,
                .start = count ? token[first].start : 0, .end = count ? token[first + count - 1].end : 0 };
        if (first + count == n) break;
    }
    free(token);
    return parts + 1;
}

uint32_t embedder_dimension(const struct embedder *e)
{
    (void)e;
    return BUILTIN_DIMENSION;
}

const char *embedder_name(const struct embedder *e)
{
    (void)e;
    return BUILTIN_NAME;
}

const char *embedder_dtype(const struct embedder *e)
{
    (void)e;
    return "F32";
}

const uint8_t *embedder_fingerprint(const struct embedder *e)
{
    (void)e;
    return builtin_fingerprint;
}

uint32_t embedder_max_tokens(const struct embedder *e)
{
    (void)e;
    return 32768;
}

double embedder_min_similarity(const struct embedder *e)
{
    (void)e;
    return BUILTIN_MIN_SIMILARITY;
}

int64_t embedder_retry_ms(const struct embedder *e)
{
    (void)e;
    return 1;
}

void embedder_stats(const struct embedder *e, struct embedder_stats *out)
{
    *out = e->stats;
}

int embedder_adapter(const struct embedder *e, struct slice name)
{
    (void)e, (void)name;
    return -1;
}

int embedder_adapter_next(const struct embedder *e, int after)
{
    (void)e, (void)after;
    return -1;
}

bool embedder_adapter_get(const struct embedder *e, int index, struct embedder_adapter *out)
{
    (void)e, (void)index, (void)out;
    return false;
}

int embedder_load_adapter(struct embedder *e, const char *name, const char *dir, struct fault *f)
{
    (void)e, (void)dir;
    return fault_set(f, 65, "%s: the builtin embedder takes no adapters", name);
}

bool embedder_unload_adapter(struct embedder *e, int index)
{
    (void)e, (void)index;
    return false;
}

int embedder_begin_load(struct embedder *e, struct embed_load *l, const char *dir, struct fault *f)
{
    return embedder_load_adapter(e, l->name, dir, f);
}
