#include "embedder.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../log.h"
#include "../memory/memory.h"
#include "builtin.h"
#include "embedder_parts.h"

enum { BATCH_TOKENS = 256, BUILTIN_MAX_TOKENS = 32768, SPARE_ROWS = 63 };
#define ENCODER_MIN_SIMILARITY 0.30

/* ---- opening */

/* The directory's own name, whatever way led there. */
static void take_name(struct embedder *e)
{
    char path[PATH_MAX];
    const char *real = realpath(e->o.model, path), *slash = real ? strrchr(real, '/') : NULL;
    const char *name = slash && slash[1] ? slash + 1 : "model";
    size_t len = strlen(name);
    if (len >= sizeof e->name) len = sizeof e->name - 1;
    while (!utf8_valid((const uint8_t *)name, len) && len) len--;
    memcpy(e->name, name, len);
}

/* The vocabulary may be shorter than the table by what pads it, never longer. */
static int check_model(const struct embedder *e, struct fault *f)
{
    uint32_t rows = encoder_vocabulary(e->encoder), tokens = e->tokenizer.wordpiece.vocab.n;
    if (tokens > rows || rows - tokens > SPARE_ROWS)
        return fault_set(f, 65, "%s: the vocabulary has %u tokens, the embedding table %u rows",
                         e->o.model, tokens, rows);
    if (encoder_dimension(e->encoder) > MEMORY_DIMENSION)
        return fault_set(f, 65, "%s: vectors of %u, at most %d are kept", e->o.model,
                         encoder_dimension(e->encoder), MEMORY_DIMENSION);
    if (encoder_max_tokens(e->encoder) < 3)
        return fault_set(f, 65, "%s: a length of %u tokens leaves no room for text", e->o.model,
                         encoder_max_tokens(e->encoder));
    return 0;
}

static int open_model(struct embedder *e, struct fault *f)
{
    size_t batch = e->o.batch_tokens ? e->o.batch_tokens : BATCH_TOKENS;
    if (!(e->encoder = encoder_open(e->o.model, e->o.int8, batch, f))) return -1;
    if (tokenizer_open(&e->tokenizer, e->o.model, f) || check_model(e, f)) return -1;
    take_name(e);
    return queue_open(e) ? fault_set(f, 71, "out of memory for the embedder") : 0;
}

struct embedder *embedder_open(const struct embedder_options *o, struct fault *f)
{
    struct embedder *e = calloc(1, sizeof *e);
    if (!e) {
        fault_set(f, 71, "out of memory for the embedder");
        return NULL;
    }
    e->o = *o;
    if (!strcmp(o->model, "builtin")) {
        memcpy(e->name, BUILTIN_NAME, sizeof BUILTIN_NAME);
        return e;
    }
    if (!open_model(e, f)) return e;
    embedder_close(e);
    return NULL;
}

void embedder_close(struct embedder *e)
{
    queue_close(e);
    adapters_close(e);
    tokenizer_close(&e->tokenizer);
    encoder_close(e->encoder);
    free(e);
}

/* ---- embedding */

static double clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int submit_builtin(struct embedder *e, struct embed_request *rq)
{
    double began = clock_ms();
    for (size_t i = 0; i < rq->n; i++) {
        const struct embed_span *span = rq->span ? rq->span + i : NULL;
        struct slice part = rq->text[span ? span->text : i];
        if (span && span->count != EMBED_WHOLE)
            part = (struct slice){ part.p + span->start, span->end - span->start };
        uint32_t words = builtin_embed(part, rq->normalize, rq->vector + i * BUILTIN_DIMENSION);
        if (rq->tokens) rq->tokens[i] = words;
        if (rq->truncated) rq->truncated[i] = false;
        e->tokens_done += words;
    }
    e->texts_done += rq->n;
    e->requests_done++;
    e->ms_done += clock_ms() - began;
    return EMBED_DONE;
}

int embedder_submit(struct embedder *e, struct embed_request *rq, int64_t now_us)
{
    if (rq->adapter >= 0 && !adapter_lora(e, rq->adapter)) rq->status = EMBED_NO_ADAPTER;
    else if (!rq->n) rq->status = EMBED_DONE;
    else if (!e->encoder) rq->status = submit_builtin(e, rq);
    else rq->status = queue_submit(e, rq, now_us);
    return rq->status;
}

bool embedder_idle(const struct embedder *e)
{
    return !e->lane && !e->n && !e->load;
}

void embedder_wake(struct embedder *e)
{
    if (!e->stepping && e->o.wake) e->o.wake(e->o.wake_user);
}

bool embedder_step(struct embedder *e, int64_t now_us)
{
    e->stepping = true;
    adapters_step(e);
    if (e->encoder) queue_step(e, now_us);
    e->stepping = false;
    return !embedder_idle(e);
}

int embedder_run(struct embedder *e, struct embed_request *rq)
{
    embedder_submit(e, rq, 0);
    while (rq->status == EMBED_QUEUED) embedder_step(e, 0);
    if (!embedder_idle(e)) embedder_wake(e);    /* what others submitted meanwhile */
    return rq->status;
}

int embedder_text(struct embedder *e, struct slice text, float *vector)
{
    struct embed_request rq = { .text = &text, .n = 1, .adapter = -1, .normalize = true,
                                .truncate = true, .vector = vector };
    return embedder_run(e, &rq) == EMBED_DONE ? 0 : -1;
}

/* ---- parts of a text */

/* The words of a text as tokens; the same face as wordpiece_cut(). */
static size_t cut_words(struct slice text, struct wordpiece_token *out, size_t cap)
{
    size_t n = 0, at = 0;
    for (struct slice w; (w = builtin_word(text, &at)).len; n++)
        if (n < cap) out[n] = (struct wordpiece_token){ 0, (uint32_t)(at - w.len), (uint32_t)at };
    return n;
}

/* The part of n tokens, the first of which stands at token. Of marks that were put in order the
 * last may stand first in the text. */
static struct embed_span part(const struct wordpiece_token *token, size_t first, size_t n)
{
    struct embed_span s = { .first = (uint32_t)first, .count = (uint32_t)n };
    for (size_t i = 0; i < n; i++) {
        if (!i || token[i].start < s.start) s.start = token[i].start;
        if (token[i].end > s.end) s.end = token[i].end;
    }
    return s;
}

size_t embedder_spans(struct embedder *e, struct slice text, uint32_t max_length,
                      uint32_t stride, struct embed_span *out, size_t cap)
{
    struct wordpiece_token *token = calloc(text.len + 1, sizeof *token);
    if (!token) return 0;
    size_t n = e->encoder ? wordpiece_cut(&e->tokenizer.wordpiece, text, token, text.len)
                          : cut_words(text, token, text.len);
    size_t parts = 0, room = e->encoder ? max_length - 2 : max_length;
    if (stride > room) stride = (uint32_t)room;
    for (size_t first = 0;; first += stride, parts++) {
        size_t count = n - first < room ? n - first : room;
        if (parts < cap) out[parts] = part(token + first, first, count);
        if (first + count == n) break;
    }
    free(token);
    return parts + 1;
}

/* ---- what it is */

uint32_t embedder_dimension(const struct embedder *e)
{
    return e->encoder ? encoder_dimension(e->encoder) : BUILTIN_DIMENSION;
}

const char *embedder_name(const struct embedder *e)
{
    return e->name;
}

const char *embedder_dtype(const struct embedder *e)
{
    return e->encoder ? encoder_dtype(e->encoder) : "F32";
}

const uint8_t *embedder_fingerprint(const struct embedder *e)
{
    return e->encoder ? encoder_fingerprint(e->encoder) : builtin_fingerprint;
}

uint32_t embedder_max_tokens(const struct embedder *e)
{
    return e->encoder ? encoder_max_tokens(e->encoder) : BUILTIN_MAX_TOKENS;
}

double embedder_min_similarity(const struct embedder *e)
{
    return e->encoder ? ENCODER_MIN_SIMILARITY : BUILTIN_MIN_SIMILARITY;
}

int64_t embedder_retry_ms(const struct embedder *e)
{
    double ms = e->ms_per_token * (double)(e->waiting_tokens + (e->n ? e->tokens : 0));
    return ms < 1 ? 1 : (int64_t)ms;
}

void embedder_stats(const struct embedder *e, struct embedder_stats *out)
{
    *out = (struct embedder_stats){
        .texts = e->texts_done, .tokens = e->tokens_done, .queue = e->waiting,
        .avg_ms = e->requests_done ? e->ms_done / (double)e->requests_done : 0 };
}
