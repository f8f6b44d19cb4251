/* Texts that wait for the encoder, in turn from each client, and batches of them. */
#include <stdlib.h>
#include <string.h>

#include "embedder_parts.h"

/* ---- from texts to tokens */

/* The ids of a request while they are gathered. */
struct gather {
    uint32_t *ids;
    size_t n, cap;
    struct wordpiece_token *token;      /* all tokens of text number `text`, for its parts */
    uint32_t text;
};

static bool append(struct gather *g, const struct wordpiece_token *token, size_t n,
                   struct embed_sequence *seq)
{
    if (g->n + n > g->cap) {
        size_t cap = 2 * (g->n + n);
        uint32_t *more = realloc(g->ids, cap * sizeof *more);
        if (!more) return false;
        g->ids = more;
        g->cap = cap;
    }
    *seq = (struct embed_sequence){ (uint32_t)g->n, (uint32_t)n };
    for (size_t i = 0; i < n; i++) g->ids[g->n++] = token[i].id;
    return true;
}

/* Cut all of a text into g->token, unless it is there. */
static bool cut_text(struct embedder *e, struct gather *g, const struct embed_request *rq,
                     uint32_t text)
{
    if (g->token && g->text == text) return true;
    struct slice s = rq->text[text];
    free(g->token);
    g->text = text;
    g->token = malloc((s.len + 1) * sizeof *g->token);
    if (g->token) wordpiece_cut(&e->tokenizer.wordpiece, s, g->token, s.len);
    return g->token != NULL;
}

/* Tokens of text i of the request; EMBED_DONE, or why not. */
static int gather(struct embedder *e, struct gather *g, struct embed_request *rq, size_t i)
{
    const struct embed_span *span = rq->span ? rq->span + i : NULL;
    size_t most = encoder_max_tokens(e->encoder) - 2, n;
    bool cut = false;
    const struct wordpiece_token *token = e->scratch;
    if (span && span->count != EMBED_WHOLE) {
        if (!cut_text(e, g, rq, span->text)) return EMBED_NO_MEMORY;
        token = g->token + span->first;
        n = span->count;
    } else {
        struct slice whole = rq->text[span ? span->text : i];
        n = wordpiece_cut(&e->tokenizer.wordpiece, whole, e->scratch, most);
        cut = n > most;
    }
    if (cut && !rq->truncate) return EMBED_TOO_LONG;
    if (n > most) n = most;
    if (!append(g, token, n, rq->seq + i)) return EMBED_NO_MEMORY;
    if (rq->tokens) rq->tokens[i] = (uint32_t)n + 2;
    if (rq->truncated) rq->truncated[i] = cut;
    return EMBED_DONE;
}

/* Give back what tokenize() made. */
static void forget(struct embed_request *rq)
{
    free(rq->seq);
    free(rq->ids);
}

static int tokenize(struct embedder *e, struct embed_request *rq)
{
    struct gather g = {0};
    int r = EMBED_DONE;
    rq->seq = malloc(rq->n * sizeof *rq->seq);
    if (!rq->seq) return EMBED_NO_MEMORY;
    for (size_t i = 0; r == EMBED_DONE && i < rq->n; i++) r = gather(e, &g, rq, i);
    free(g.token);
    rq->ids = g.ids;
    if (r != EMBED_DONE) forget(rq);
    return r;
}

/* ---- lanes */

static void add_lane(struct embedder *e, struct embed_request *rq)
{
    rq->next = NULL;
    if (e->lane) e->last_lane->next = rq;
    else e->lane = rq;
    e->last_lane = rq;
}

/* Behind the others of its client. */
static void add(struct embedder *e, struct embed_request *rq)
{
    struct embed_request *l = e->lane;
    rq->after = NULL;
    while (l && l->client != rq->client) l = l->next;
    if (!l) {
        add_lane(e, rq);
        return;
    }
    while (l->after) l = l->after;
    l->after = rq;
}

/* Take the first lane away; its client's next turn is behind all others. */
static void turn(struct embedder *e)
{
    struct embed_request *rq = e->lane, *rest = rq->begun < rq->n ? rq : rq->after;
    e->lane = rq->next;
    if (rest) add_lane(e, rest);
}

int queue_submit(struct embedder *e, struct embed_request *rq, int64_t now_us)
{
    if (e->waiting && e->waiting + rq->n > e->o.max_queue) return EMBED_BUSY;
    int r = tokenize(e, rq);
    if (r != EMBED_DONE) return r;
    bool idle = embedder_idle(e);
    rq->begun = rq->running = 0;
    rq->queued_us = now_us;
    rq->status = EMBED_QUEUED;
    e->waiting += rq->n;
    for (size_t i = 0; i < rq->n; i++) e->waiting_tokens += rq->seq[i].n + 2;
    adapter_use(e, rq->adapter);
    add(e, rq);
    if (idle) embedder_wake(e);
    return EMBED_QUEUED;
}

/* ---- batches */

/* Everything of it is computed, or it was dropped. */
static void answer(struct embedder *e, struct embed_request *rq, int64_t now_us)
{
    forget(rq);
    adapter_release(e, rq->adapter);
    if (rq->status != EMBED_DROPPED) {
        if (rq->status == EMBED_QUEUED) rq->status = EMBED_DONE;
        e->requests_done++;
        e->ms_done += (double)(now_us - rq->queued_us) / 1e3;
    }
    if (rq->done) rq->done(rq);
}

/* Nobody waits for the first request any more. */
static void drop(struct embedder *e, int64_t now_us)
{
    struct embed_request *rq = e->lane;
    e->waiting -= rq->n - rq->begun;
    for (size_t i = rq->begun; i < rq->n; i++) e->waiting_tokens -= rq->seq[i].n + 2;
    rq->begun = rq->n;
    rq->status = EMBED_DROPPED;
    turn(e);
    if (!rq->running) answer(e, rq, now_us);
}

/* Put the next text of the first lane into the batch; false: it has no room. */
static bool take(struct embedder *e)
{
    const struct wordpiece *w = &e->tokenizer.wordpiece;
    struct embed_request *rq = e->lane;
    struct embed_sequence seq = rq->seq[rq->begun];
    size_t n = seq.n + 2;
    if (e->tokens + n > encoder_max_batch(e->encoder)) return false;
    uint32_t *ids = e->ids + e->tokens;
    ids[0] = w->special[WP_CLS].id;
    if (seq.n) memcpy(ids + 1, rq->ids + seq.at, seq.n * sizeof *ids);
    ids[n - 1] = w->special[WP_SEP].id;
    e->texts[e->n] = (struct encoder_text){
        .ids = ids, .n = (uint32_t)n, .normalize = rq->normalize,
        .lora = adapter_lora(e, rq->adapter),
        .vector = rq->vector + rq->begun * encoder_dimension(e->encoder) };
    e->entry[e->n++] = rq;
    e->tokens += n;
    rq->begun++;
    rq->running++;
    e->waiting--;
    e->waiting_tokens -= n;
    turn(e);
    return true;
}

static void begin(struct embedder *e, int64_t now_us)
{
    e->n = e->tokens = 0;
    while (e->lane) {
        if (e->lane->alive && !e->lane->alive(e->lane)) drop(e, now_us);
        else if (!take(e)) break;
    }
    e->began_us = now_us;
    if (e->n) encoder_begin(e->encoder, e->texts, e->n);    /* lengths and ids were checked */
}

static bool finite(const float *v, uint32_t n)
{
    float sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += v[i] * 0;   /* 0, or NaN from the first that is not */
    return sum == 0;
}

static void end(struct embedder *e, int64_t now_us)
{
    size_t n = e->n;
    double each = (double)(now_us - e->began_us) / 1e3 / (double)e->tokens;
    e->ms_per_token += (each - e->ms_per_token) / 8;
    e->texts_done += n;
    e->tokens_done += e->tokens;
    e->n = 0;
    e->computed = false;
    for (size_t i = 0; i < n; i++) {
        struct embed_request *rq = e->entry[i];
        if (rq->status == EMBED_QUEUED &&
            !finite(e->texts[i].vector, encoder_dimension(e->encoder)))
            rq->status = EMBED_NOT_FINITE;
        if (!--rq->running && rq->begun == rq->n) answer(e, rq, now_us);
    }
}

void queue_step(struct embedder *e, int64_t now_us)
{
    if (!e->n) begin(e, now_us);
    else if (e->computed) end(e, now_us);
    else e->computed = !encoder_step(e->encoder);
}

int queue_open(struct embedder *e)
{
    size_t batch = encoder_max_batch(e->encoder);
    size_t most = batch / 2;    /* texts: each has [CLS] and [SEP] at least */
    e->entry = malloc(most * sizeof *e->entry);
    e->texts = malloc(most * sizeof *e->texts);
    e->ids = malloc(batch * sizeof *e->ids);
    e->scratch = malloc(encoder_max_tokens(e->encoder) * sizeof *e->scratch);
    e->ms_per_token = 0.2;
    return e->entry && e->texts && e->ids && e->scratch ? 0 : -1;
}

void queue_close(struct embedder *e)
{
    /* One whose last texts are in the batch stands in no lane any more. */
    for (size_t i = 0; i < e->n; i++) {
        struct embed_request *rq = e->entry[i];
        if (rq->begun == rq->n && !--rq->running) forget(rq);
    }
    for (struct embed_request *lane = e->lane; lane; lane = lane->next)
        for (struct embed_request *rq = lane; rq; rq = rq->after) forget(rq);
    free(e->entry);
    free(e->texts);
    free(e->ids);
    free(e->scratch);
}
