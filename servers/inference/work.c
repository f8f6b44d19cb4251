#include "servers/inference/work.h"

#include <stdlib.h>
#include <string.h>

#include "servers/memory/cosine.h"
#include "servers/memory/memory.h"
#include "servers/values.h"

static void done(struct embed_request *ask)
{
    struct work *w = (struct work *)(void *)ask;
    if (ask->status == EMBED_DONE) w->reply(w);
    else work_refused(w->rq, ask->status);
    free(w);
}

static bool alive(struct embed_request *ask)
{
    return request_alive(((struct work *)(void *)ask)->rq);
}

struct work *work_new(struct request *rq, size_t n, size_t own_bytes, void (*reply)(struct work *))
{
    size_t dimension = rq->ep->dimension;
    size_t own_at = (sizeof(struct work) + n * sizeof(struct slice) + 15) / 16 * 16;
    size_t vector_at = own_at + (own_bytes + 15) / 16 * 16;
    size_t token_at = vector_at + n * dimension * sizeof(float);
    size_t cut_at = token_at + n * sizeof(uint32_t);
    char *p = calloc(1, cut_at + n);
    if (!p) {
        reply_error(rq, REPLY_INTERNAL, "Internal error");
        return NULL;
    }
    struct work *w = (struct work *)(void *)p;
    w->rq = rq;
    w->reply = reply;
    w->own = p + own_at;
    w->ask = (struct embed_request){
        .text = w->text, .n = n, .adapter = -1, .normalize = true, .truncate = true,
        .client = 1ull << 63 | (uint64_t)rq->conn.slot << 32 | rq->conn.generation,
        .vector = (float *)(void *)(p + vector_at), .tokens = (uint32_t *)(void *)(p + token_at),
        .truncated = (bool *)(void *)(p + cut_at), .alive = alive, .done = done };
    return w;
}

void work_submit(struct work *w)
{
    struct embedder *e = w->rq->ep->embedder;
    if (embedder_submit(e, &w->ask, loop_clock_us()) != EMBED_QUEUED) done(&w->ask);
}

void work_refused(struct request *rq, int status)
{
    const struct embedder *e = rq->ep->embedder;
    switch (status) {
    case EMBED_BUSY:       reply_busy(rq, embedder_retry_ms(e)); break;
    case EMBED_DROPPED:    reply_drop(rq); break;
    case EMBED_NO_ADAPTER: reply_error(rq, REPLY_UNKNOWN_ADAPTER, "Unknown adapter"); break;
    case EMBED_TOO_LONG:
        reply_error(rq, REPLY_TOO_LARGE, "Text too long: above %u tokens; let it be truncated",
                    embedder_max_tokens(e));
        break;
    default:               reply_error(rq, REPLY_INTERNAL, "Internal error");
    }
}

bool work_text(struct request *rq, const char *name, struct slice *text)
{
    *text = trim_unicode(*text);
    return text->len <= TEXT_MAX ||
           reply_error(rq, REPLY_TOO_LARGE, "Text too long: %s has %zu bytes, at most %d are "
                       "allowed", name, text->len, TEXT_MAX);
}

bool work_vector(struct request *rq, const struct param_vector *v, uint32_t dimension)
{
    if (v->n != dimension)
        return reply_error(rq, REPLY_BAD_DIMENSION,
                           "Invalid embedding dimension: got %zu, expected %u", v->n, dimension);
    return !cosine_normalise(v->v, v->v, dimension) ||
           reply_error(rq, REPLY_INVALID_PARAMETER,
                       "Invalid parameter: embedding (numbers that are not all zero)");
}

bool work_adapter(struct request *rq, struct slice name, int *index)
{
    *index = -1;
    if (!name.p) return true;
    if ((*index = embedder_adapter(rq->ep->embedder, name)) >= 0) return true;
    int shown = name.len < 128 ? (int)name.len : 128;
    return reply_error(rq, REPLY_UNKNOWN_ADAPTER, "Unknown adapter: %.*s", shown, name.p);
}

void put_vector(struct json_out *out, const float *v, size_t n, bool base64)
{
    uint8_t bytes[4 * MEMORY_DIMENSION];
    if (!base64) {
        json_put_f32s(out, v, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, v + i, sizeof u);
        for (size_t k = 0; k < 4; k++) bytes[4 * i + k] = (uint8_t)(u >> 8 * k);
    }
    json_put_base64(out, bytes, 4 * n);
}

void put_fingerprint(struct json_out *out, const uint8_t *fingerprint)
{
    char hex[65];
    json_put_text(out, hex_text(hex, fingerprint, 32));
}
