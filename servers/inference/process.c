/* process: how significant a text is against a context (SPEC 4.3 with the sums of 5.1 to
 * 5.4). It looks at its context alone: the store's streams, memories and words play no part. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "servers/inference/work.h"
#include "servers/memory/cosine.h"
#include "servers/memory/memory.h"
#include "servers/memory/significance.h"

enum { CONTEXT_MAX = 64, CHUNKS_MAX = 256, CHUNKS_BYTES = 1 << 20, LENGTH_MIN = 8 };

struct process {
    struct slice text, adapter, context;
    struct slice max_length, stride;    /* integers, whose bounds the model gives */
    struct param_vector embedding;
    int64_t top_k;
    bool include_embeddings, chunk;
};

static const struct param process_config[] = {
    { "top_k",      PARAM_INT,  .at = offsetof(struct process, top_k), .min = 0, .max = 64 },
    { "include_embeddings", PARAM_BOOL, .at = offsetof(struct process, include_embeddings) },
    { "chunk",      PARAM_BOOL, .at = offsetof(struct process, chunk) },
    { "max_length", PARAM_ANY,  .at = offsetof(struct process, max_length) },
    { "stride",     PARAM_ANY,  .at = offsetof(struct process, stride) },
    { 0 }
};
static const struct param process_params[] = {
    { "text",      PARAM_TEXT,   .at = offsetof(struct process, text) },
    { "embedding", PARAM_VECTOR, .at = offsetof(struct process, embedding) },
    { "context",   PARAM_LIST,   .at = offsetof(struct process, context) },
    { "adapter",   PARAM_TEXT,   .at = offsetof(struct process, adapter) },
    { "config",    PARAM_GROUP,  .group = process_config },
    { 0 }
};

/* What is embedded: the context oldest first, the text, then its chunks where they are
 * not the text itself; and what is made of it. */
struct plan {
    struct process p;
    int adapter;
    struct slice text[CONTEXT_MAX + 1];                         /* the context, then the text */
    size_t contexts;
    struct embed_span span[CONTEXT_MAX + 1 + CHUNKS_MAX];       /* [n] */
    size_t n, chunks;                                           /* chunks 0: the one is the text */
    struct stream *stream;
    struct vocabulary words;
    float given[MEMORY_DIMENSION];                              /* embedding, of unit length */
};

/* What is measured of the text and of each chunk. */
struct score { double significance, surprise, diversity, information; };

/* ---- the sums */

static const float *vector_of(const struct work *w, size_t i)
{
    return w->ask.vector + i * w->rq->ep->dimension;
}

/* Everything of one text whose unit vector is x; false: memory is short. */
static bool measure(struct work *w, const float *x, struct slice text, struct score *out)
{
    struct plan *plan = w->own;
    double nearest = 0;
    for (size_t i = 0; i < plan->contexts; i++) {
        double cosine = cosine_clamp(cosine_exact(x, vector_of(w, i), w->rq->ep->dimension));
        if (cosine > nearest) nearest = cosine;
    }
    out->surprise = stream_surprise(plan->stream, x, w->rq->ep->dimension);
    out->diversity = 1 - nearest;
    out->information = vocabulary_information(&plan->words, text);
    out->significance = significance_of(out->surprise, out->information, out->diversity,
                                        significance_floor(text, -1));
    return out->information >= 0;
}

/* Stream and words of the context, oldest first; false: memory is short. */
static bool read_stream(struct work *w)
{
    struct plan *plan = w->own;
    if (!(plan->stream = stream_new(w->rq->ep->dimension))) return false;
    for (size_t i = 0; i < plan->contexts; i++) {
        const float *x = vector_of(w, i);
        double s = stream_surprise(plan->stream, x, w->rq->ep->dimension);
        stream_push(plan->stream, x, w->rq->ep->dimension, s);
        if (vocabulary_add(&plan->words, plan->text[i])) return false;
    }
    return true;
}

/* ---- the reply */

static void put_embedding(struct work *w, struct json_out *out, const float *x)
{
    json_put_key(out, "embedding");
    put_vector(out, x, w->rq->ep->dimension, false);
}

/* One of chunks, with what was measured of it. */
struct chunk { size_t index; uint32_t start, end, tokens; const float *x; struct score score; };

static void put_chunk(struct work *w, struct json_out *out, const struct chunk *c)
{
    const struct plan *plan = w->own;
    json_open(out, '{');
    member_count(out, "index", c->index);
    member_int(out, "start", c->start);
    member_int(out, "end", c->end);
    member_int(out, "tokens", c->tokens);
    member_double(out, "significance", c->score.significance);
    member_double(out, "surprise", c->score.surprise);
    if (plan->p.include_embeddings) put_embedding(w, out, c->x);
    json_close(out, '}');
}

/* The chunks, or the text as the only one; false: memory is short. */
static bool put_chunks(struct work *w, struct json_out *out, const struct chunk *whole)
{
    const struct plan *plan = w->own;
    struct slice text = plan->text[plan->contexts];
    bool right = true;
    member_open(out, "chunks", '[');
    if (!plan->chunks) put_chunk(w, out, whole);
    for (size_t i = 0; right && i < plan->chunks; i++) {
        size_t at = plan->n - plan->chunks + i;
        const struct embed_span *s = plan->span + at;
        struct chunk c = { .index = i, .start = s->start, .end = s->end,
                           .tokens = w->ask.tokens[at], .x = vector_of(w, at) };
        right = measure(w, c.x, (struct slice){ text.p + c.start, c.end - c.start }, &c.score);
        put_chunk(w, out, &c);
    }
    json_close(out, ']');
    return right;
}

static void put_context(struct work *w, struct json_out *out, const float *x)
{
    const struct plan *plan = w->own;
    const struct inference_service *is = w->rq->ep->app;
    member_count(out, "context_used", plan->contexts);
    member_open(out, "context_similarity", '[');
    for (size_t i = 0; i < plan->contexts; i++)
        json_put_double(out, cosine_clamp(cosine_exact(x, vector_of(w, i), w->rq->ep->dimension)));
    json_close(out, ']');
    member_open(out, "predictions", '[');
    if (is->predict && plan->p.top_k)
        is->predict(is->memory, x, (size_t)plan->p.top_k, out);
    json_close(out, ']');
}

static void put_score(struct json_out *out, const struct score *score)
{
    member_double(out, "significance", score->significance);
    member_double(out, "surprise", score->surprise);
    member_double(out, "diversity", score->diversity);
    member_double(out, "information", score->information);
    member_bool(out, "shock", score->surprise > 0.8);
}

/* The members of data; false: memory is short. */
static bool put_all(struct work *w, struct json_out *out)
{
    struct plan *plan = w->own;
    size_t at = plan->contexts;
    bool given = plan->p.embedding.n;
    struct chunk whole = { .end = (uint32_t)plan->text[at].len,
                           .tokens = given ? 0 : w->ask.tokens[at],
                           .x = given ? plan->given : vector_of(w, at) };
    if (!read_stream(w) || !measure(w, whole.x, plan->text[at], &whole.score)) return false;
    put_score(out, &whole.score);
    member_int(out, "tokens", whole.tokens);
    member_bool(out, "truncated", !given && w->ask.truncated[at]);
    if (!put_chunks(w, out, &whole)) return false;
    put_context(w, out, whole.x);
    if (plan->p.include_embeddings) put_embedding(w, out, whole.x);
    member_double(out, "processing_time_ms", request_ms(w->rq));
    return true;
}

static void process_reply(struct work *w)
{
    struct plan *plan = w->own;
    if (put_all(w, reply_begin(w->rq))) reply_end(w->rq);
    else reply_error(w->rq, REPLY_INTERNAL, "Internal error");
    free(plan->stream);
    vocabulary_free(&plan->words);
}

/* ---- what is asked */

static bool invalid(struct request *rq, const char *name, const char *allowed)
{
    return reply_error(rq, REPLY_INVALID_PARAMETER, "Invalid parameter: %s (%s)", name, allowed);
}

static bool invalid_context(struct request *rq)
{
    return invalid(rq, "context", "a list of at most 64 strings or {role, text, timestamp}");
}

static bool read_time(struct request *rq, struct json *in)
{
    int64_t ms;
    if (in->type == JSON_NULL) return true;
    return json_time(in, &ms) ||
           reply_error(rq, REPLY_INVALID_TIMESTAMP, "Invalid timestamp: context");
}

/* One of the context: a string, or {role, text, timestamp}. */
static bool read_entry(struct request *rq, struct json *in, struct slice *text)
{
    bool right = in->type == JSON_STRING;
    if (in->type != JSON_OBJECT) {
        *text = json_slice(in);
        return right ? work_text(rq, "context", text) : invalid_context(rq);
    }
    json_enter(in);
    while (json_next(in) > JSON_END) {
        if (json_key(in, "timestamp") && !read_time(rq, in)) return false;
        if (json_key(in, "role") && in->type != JSON_STRING && in->type != JSON_NULL)
            return invalid_context(rq);
        if (!json_key(in, "text")) continue;
        right = in->type == JSON_STRING;
        *text = json_slice(in);
    }
    return right ? work_text(rq, "context", text) : invalid_context(rq);
}

static bool read_context(struct request *rq, struct plan *plan)
{
    if (!plan->p.context.p) return true;
    struct json in = json_inside(plan->p.context);
    for (; json_next(&in) > JSON_END; plan->contexts++) {
        if (plan->contexts == CONTEXT_MAX) return invalid_context(rq);
        if (!read_entry(rq, &in, plan->text + plan->contexts)) return false;
    }
    return true;
}

static bool read_embedding(struct request *rq, struct plan *plan)
{
    const struct process *p = &plan->p;
    if (p->embedding.n) return work_vector(rq, &p->embedding, rq->ep->dimension);
    return p->text.p || reply_error(rq, REPLY_MISSING_FIELD, "Missing required field: text");
}

/* An integer from..to, or as it is where none is given. */
static bool take_length(struct slice given, int64_t from, int64_t to, int64_t *out)
{
    struct json in;
    if (!given.p) return true;
    json_before(&in, given);
    return json_int(&in, out) && *out >= from && *out <= to;
}

/* Windows of the text; they are entries of their own unless one covers it all. */
static bool cut_chunks(struct request *rq, struct plan *plan, struct embedder *e)
{
    struct process *p = &plan->p;
    int64_t most = embedder_max_tokens(e), max_length = most;
    char allowed[64];
    snprintf(allowed, sizeof allowed, "an integer from %d to %d", LENGTH_MIN, (int)most);
    if (!take_length(p->max_length, LENGTH_MIN, most, &max_length))
        return invalid(rq, "config.max_length", allowed);
    int64_t stride = max_length;
    if (!take_length(p->stride, 1, max_length, &stride))
        return invalid(rq, "config.stride", "an integer from 1 to max_length");
    if (!p->chunk) return true;
    struct embed_span *span = plan->span + plan->n;
    size_t n = embedder_spans(e, plan->text[plan->contexts], (uint32_t)max_length,
                              (uint32_t)stride, span, CHUNKS_MAX);
    if (n > CHUNKS_MAX)
        return reply_error(rq, REPLY_TOO_LARGE, "Text too long: %zu chunks, at most %d are "
                           "computed; take a greater stride", n, CHUNKS_MAX);
    if (n < 2) return true;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += span[i].end - span[i].start;
    if (bytes > CHUNKS_BYTES)
        return reply_error(rq, REPLY_TOO_LARGE, "Text too long: chunks of %zu bytes, at most %d "
                           "are computed; take a greater stride", bytes, CHUNKS_BYTES);
    for (size_t i = 0; i < n; i++) span[i].text = (uint32_t)plan->contexts;
    plan->chunks = n;
    plan->n += n;
    return true;
}

static bool read_plan(struct request *rq, struct plan *plan)
{
    struct embedder *e = rq->ep->embedder;
    plan->p = (struct process){ .top_k = 5,
                                .embedding = { .v = plan->given, .cap = MEMORY_DIMENSION } };
    if (!params_read(rq, process_params, &plan->p)) return false;
    if (!read_embedding(rq, plan) || !read_context(rq, plan)) return false;
    if (plan->p.text.p && !work_text(rq, "text", &plan->p.text)) return false;
    if (!work_adapter(rq, plan->p.adapter, &plan->adapter)) return false;
    plan->text[plan->contexts] = plan->p.text;
    plan->n = plan->contexts + !plan->p.embedding.n;
    for (size_t i = 0; i < plan->n; i++)
        plan->span[i] = (struct embed_span){ .text = (uint32_t)i, .count = EMBED_WHOLE };
    return cut_chunks(rq, plan, e);
}

void process_run(struct request *rq)
{
    struct plan *plan = calloc(1, sizeof *plan);
    struct work *w = NULL;
    if (!plan) reply_error(rq, REPLY_INTERNAL, "Internal error");
    else if (read_plan(rq, plan)) w = work_new(rq, plan->n, sizeof *plan, process_reply);
    if (w) {
        struct plan *kept = memcpy(w->own, plan, sizeof *plan);
        w->ask.text = kept->text;
        w->ask.span = kept->span;
        w->ask.adapter = kept->adapter;
        work_submit(w);
    }
    free(plan);
}
