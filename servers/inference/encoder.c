#include "encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../log.h"
#include "encoder_parts.h"

/* What is done to all rows of a batch, in this order, for every layer. */
enum kind { LOWER, LINEAR, ATTEND, QUANTIZE, NORM };

static const struct stage { enum kind kind; int which; } stages[] = {
    { LOWER, QUERY }, { LINEAR, QUERY }, { LOWER, KEY }, { LINEAR, KEY },
    { LOWER, VALUE }, { LINEAR, VALUE }, { ATTEND, 0 },
    { QUANTIZE, OUTPUT }, { LOWER, OUTPUT }, { LINEAR, OUTPUT }, { NORM, 0 },
    { LOWER, UP }, { LINEAR, UP },
    { QUANTIZE, DOWN }, { LOWER, DOWN }, { LINEAR, DOWN }, { NORM, 1 },
};
#define STAGES (sizeof stages / sizeof *stages)

/* Where a batch stands. */
enum phase { IDLE, EMBED, LAYERS, POOL };

struct text {
    struct encoder_text in;
    uint32_t first;             /* its rows are first .. first + in.n */
};

/* Neighbouring rows with the same adapter. */
struct run {
    uint32_t first, n;
    const struct lora *lora;
};

struct encoder {
    struct weights weights;
    size_t max_batch, granule;
    size_t ld, ld_up;           /* floats of a padded row of H, of I */

    struct text *text;          /* [max_batch] */
    struct run *run;            /* [max_batch] */
    uint32_t *id;               /* [max_batch] */
    size_t texts, runs;
    uint32_t tokens;

    enum phase phase;
    uint32_t layer, stage;
    uint32_t row, panel, item;  /* what of the stage comes next */

    float *x, *q, *k, *v;       /* [max_batch][ld] residual stream, queries (then context), .. */
    float *up;                  /* [max_batch][ld_up] */
    float *keys, *values, *scratch; /* of one head */
    uint8_t *quant;             /* int8: [max_batch][ld_up] integers of x, q or up */
    float *scale;               /* [max_batch] */
    float *zero;                /* [max_batch] */
    float *low;                 /* [max_batch][ld_low] A x, when adapters are in use */
    size_t low_floats;          /* of room there */
    size_t ld_low;              /* of this batch */
    void *memory;
};

/* Rows of the stage's input. */
static struct rows input(const struct encoder *e, int part, uint32_t row)
{
    const float *from = part == DOWN ? e->up : part == OUTPUT ? e->q : e->x;
    size_t ld = part == DOWN ? e->ld_up : e->ld;
    return (struct rows){
        .x = from + row * ld, .ld = ld,
        .q = e->quant ? e->quant + row * e->ld_up * e->weights.kernels->q_bytes : NULL,
        .ldq = e->ld_up,
        .scale = e->scale + row, .zero = e->zero + row,
    };
}

/* Rows of the stage's result: with the queries spent, the output goes where keys were. */
static float *output(const struct encoder *e, int part, uint32_t row, size_t *ld)
{
    float *to = part == UP ? e->up : part == QUERY ? e->q : part == VALUE ? e->v : e->k;
    *ld = part == UP ? e->ld_up : e->ld;
    return to + row * *ld;
}

static void quantize_row(const struct encoder *e, int part, uint32_t row)
{
    struct rows in = input(e, part, row);
    if (!e->quant) return;
    e->weights.kernels->quantize(in.x, weights_in(&e->weights.model, (enum part)part),
                                 e->quant + row * e->ld_up * e->weights.kernels->q_bytes,
                                 &e->scale[row], &e->zero[row]);
}

/* x = LN(x + y) for the next row; its text's adapter may have a beta of its own. */
static void norm(struct encoder *e, uint32_t which, const float *gamma, const float *beta)
{
    const struct weights *w = &e->weights;
    const struct text *t = &e->text[e->item];
    const float *own = t->in.lora ? lora_beta(t->in.lora, which) : NULL;
    uint32_t row = e->row++;
    w->kernels->norm(e->x + row * e->ld, e->k + row * e->ld, gamma, own ? own : beta,
                     w->model.hidden, w->model.eps);
    quantize_row(e, QUERY, row);
    if (e->row == t->first + t->in.n) e->item++;
}

/* x = LN(word + type + position). */
static size_t embed_row(struct encoder *e)
{
    const struct weights *w = &e->weights;
    uint32_t row = e->row, h = w->model.hidden;
    const struct text *t = &e->text[e->item];
    float *x = e->x + row * e->ld, *y = e->k + row * e->ld;
    tensor_floats(w->words, (uint64_t)e->id[row] * h, h, x);
    tensor_floats(w->positions, (uint64_t)(row - t->first) * h, h, y);
    for (size_t i = h; i < e->ld; i++) x[i] = y[i] = 0;
    for (size_t i = 0; i < h; i++) y[i] += w->type[i];
    norm(e, 0, w->gamma, w->beta);
    return 80u * h;
}

static size_t norm_row(struct encoder *e, int which)
{
    const struct weights *w = &e->weights;
    const struct layer *l = &w->layer[e->layer];
    norm(e, 1 + 2 * e->layer + (uint32_t)which, l->gamma[which], l->beta[which]);
    return 60u * w->model.hidden;
}

/* Does this part of the layer take rows first.. of run r through an adapter? */
static const struct lora_part *adapter(const struct encoder *e, const struct run *r, int part)
{
    return r->lora ? lora_part(r->lora, e->layer, (enum part)part) : NULL;
}

/* One panel of A x for one run. */
static size_t lower(struct encoder *e, int part)
{
    const struct run *r = &e->run[e->item];
    const struct lora_part *a = adapter(e, r, part);
    const struct kernels *k = e->weights.kernels;
    if (!a || e->panel * k->width >= a->a.out) {
        e->panel = 0;
        e->row = r->first + r->n;
        e->item++;
        return 0;
    }
    struct panel p = {
        .linear = &a->a, .index = e->panel, .in = input(e, part, r->first), .n = r->n,
        .bias = a->a.bias, .act = ACT_NONE,
        .y = e->low + r->first * e->ld_low + e->panel * k->width, .ld = e->ld_low,
    };
    k->panel(&p);
    e->panel++;
    return (size_t)2 * r->n * a->a.in * k->width;
}

/* How many rows go through the panels together: the more, the less often weights are
 * read; as many as stay in the cache beside one panel. */
static uint32_t rows_at_once(const struct encoder *e, uint32_t in)
{
    uint32_t n = (e->quant ? 4u : 1u) * 98304u / in / KERNELS_ROWS * KERNELS_ROWS;
    return n < 2 * KERNELS_ROWS ? 2 * KERNELS_ROWS : n;
}

/* One panel for some rows, run by run. */
static size_t linear(struct encoder *e, int part)
{
    const struct weights *w = &e->weights;
    const struct linear *l = &w->layer[e->layer].part[part];
    uint32_t end = e->row + rows_at_once(e, l->in), width = w->kernels->width;
    if (end > e->tokens) end = e->tokens;
    for (const struct run *r = e->run; r < e->run + e->runs; r++) {
        uint32_t first = r->first > e->row ? r->first : e->row;
        uint32_t last = r->first + r->n < end ? r->first + r->n : end;
        if (first >= last) continue;
        const struct lora_part *a = adapter(e, r, part);
        struct panel p = { .linear = l, .index = e->panel, .in = input(e, part, first),
                           .n = last - first, .bias = a && a->bias ? a->bias : l->bias,
                           .b = a && a->b.weight ? &a->b : NULL,
                           .t = e->low + first * e->ld_low, .ld_t = e->ld_low,
                           .act = part == UP ? w->model.act : ACT_NONE };
        p.y = output(e, part, first, &p.ld);
        p.y += e->panel * width;
        (w->int8 ? w->kernels->panel_int8 : w->kernels->panel)(&p);
    }
    size_t cost = (size_t)2 * (end - e->row) * l->in * width / (w->int8 ? 4 : 1);
    if (++e->panel * width >= l->out) {
        e->panel = 0;
        e->row = end;
    }
    return cost;
}

/* Some rows of one head of one text; item counts heads of all texts. */
static size_t attend(struct encoder *e)
{
    const struct weights *w = &e->weights;
    uint32_t heads = w->model.heads, head = e->item % heads;
    const struct text *t = &e->text[e->item / heads];
    struct head h = { .tokens = t->in.n, .dim = w->model.hidden / heads, .int8 = w->int8,
                      .keys = e->keys, .values = e->values, .scratch = e->scratch };
    size_t at = t->first * e->ld + head * h.dim;
    if (!e->panel) w->kernels->head_pack(&h, e->k + at, e->v + at, e->ld);
    uint32_t n = t->in.n - e->panel < w->kernels->rows ? t->in.n - e->panel : w->kernels->rows;
    w->kernels->head_rows(&h, e->q + at + e->panel * e->ld, e->ld, n);
    if ((e->panel += n) == t->in.n) {
        e->panel = 0;
        e->item++;
        if (head + 1 == heads) e->row += t->in.n;
    }
    return (size_t)n * t->in.n * (4u * h.dim + 40u);
}

static size_t quantize(struct encoder *e, int part)
{
    quantize_row(e, part, e->row++);
    return e->quant ? 12u * weights_in(&e->weights.model, (enum part)part) : 0;
}

/* One unit of the stage; what it cost, about, in float operations. */
static size_t advance(struct encoder *e)
{
    const struct stage *s = &stages[e->stage];
    size_t cost = 0;
    switch (s->kind) {
    case LOWER:    cost = lower(e, s->which); break;
    case LINEAR:   cost = linear(e, s->which); break;
    case ATTEND:   cost = attend(e); break;
    case QUANTIZE: cost = quantize(e, s->which); break;
    case NORM:     cost = norm_row(e, s->which); break;
    }
    if (e->row < e->tokens) return cost;
    e->row = e->panel = e->item = 0;
    if (++e->stage < STAGES) return cost;
    e->stage = 0;
    if (++e->layer == e->weights.model.layers) e->phase = POOL;
    return cost;
}

static void normalize(float *v, uint32_t n)
{
    double squares = 0;
    for (uint32_t i = 0; i < n; i++) squares += (double)v[i] * (double)v[i];
    double length = sqrt(squares);
    if (length < 1e-12) length = 1e-12;
    for (uint32_t i = 0; i < n; i++) v[i] = (float)((double)v[i] / length);
}

static size_t pool(struct encoder *e)
{
    const struct text *t = &e->text[e->item++];
    const struct model *m = &e->weights.model;
    const float *x = e->x + t->first * e->ld;
    float *out = t->in.vector;
    memcpy(out, x, m->hidden * sizeof *out);
    for (uint32_t row = 1; row < t->in.n && m->pooling != POOL_CLS; row++) {
        x += e->ld;
        if (m->pooling == POOL_MEAN)
            for (uint32_t i = 0; i < m->hidden; i++) out[i] += x[i];
        else
            for (uint32_t i = 0; i < m->hidden; i++) out[i] = x[i] > out[i] ? x[i] : out[i];
    }
    if (m->pooling == POOL_MEAN)
        for (uint32_t i = 0; i < m->hidden; i++) out[i] /= (float)t->in.n;
    if (t->in.normalize) normalize(out, m->hidden);
    if (e->item == e->texts) e->phase = IDLE;
    return (size_t)t->in.n * m->hidden;
}

bool encoder_step(struct encoder *e)
{
    size_t cost = 0;
    while (e->phase != IDLE && cost < e->granule) {
        switch (e->phase) {
        case EMBED:
            cost += embed_row(e);
            if (e->row < e->tokens) break;
            e->phase = LAYERS;
            e->row = e->item = e->layer = e->stage = 0;
            break;
        case LAYERS:
            cost += advance(e);
            break;
        default:
            cost += pool(e);
        }
    }
    return e->phase != IDLE;
}

bool encoder_reserve(struct encoder *e, uint32_t rank)
{
    size_t want = weights_padded(rank) * e->max_batch;
    if (want <= e->low_floats) return true;
    float *more = realloc(e->low, want * sizeof *more);
    if (!more) return false;
    e->low = more;
    e->low_floats = want;
    return true;
}

static bool acceptable(const struct encoder *e, const struct encoder_text *texts, size_t n)
{
    size_t tokens = 0;
    for (size_t i = 0; i < n; i++) {
        if (!texts[i].n || texts[i].n > e->weights.model.max_tokens) return false;
        if ((tokens += texts[i].n) > e->max_batch) return false;
        for (uint32_t t = 0; t < texts[i].n; t++)
            if (texts[i].ids[t] >= e->weights.model.vocabulary) return false;
    }
    return n > 0;
}

int encoder_begin(struct encoder *e, const struct encoder_text *texts, size_t n)
{
    uint32_t rank = 0;
    if (!acceptable(e, texts, n)) return -1;
    e->phase = IDLE;
    e->texts = n;
    e->runs = 0;
    e->tokens = 0;
    for (size_t i = 0; i < n; i++) {
        e->text[i] = (struct text){ texts[i], e->tokens };
        memcpy(e->id + e->tokens, texts[i].ids, texts[i].n * sizeof *e->id);
        if (!e->runs || e->run[e->runs - 1].lora != texts[i].lora)
            e->run[e->runs++] = (struct run){ e->tokens, 0, texts[i].lora };
        e->run[e->runs - 1].n += texts[i].n;
        e->tokens += texts[i].n;
        uint32_t r = texts[i].lora ? lora_greatest_rank(texts[i].lora) : 0;
        rank = r > rank ? r : rank;
    }
    e->ld_low = weights_padded(rank);
    e->row = e->panel = e->item = 0;
    e->phase = EMBED;
    return 0;
}

/* Give out 64-byte aligned parts of one block; with base 0 only counts. */
static void *take(uintptr_t base, uint64_t *used, uint64_t bytes)
{
    uint64_t at = (*used + 63) / 64 * 64;
    *used = at + bytes;
    return base ? (void *)(base + (uintptr_t)at) : NULL;
}

/* In 64 bits: what a model asks for may be more than this machine can address. */
static void lay_out(struct encoder *e, uintptr_t base, uint64_t *used)
{
    const struct model *m = &e->weights.model;
    uint64_t n = e->max_batch, f = sizeof(float), head = weights_padded(m->hidden / m->heads);
    uint64_t longest = weights_padded(m->max_tokens);
    *used = 0;
    e->text = take(base, used, n * sizeof *e->text);
    e->run = take(base, used, n * sizeof *e->run);
    e->id = take(base, used, n * sizeof *e->id);
    e->x = take(base, used, n * e->ld * f);
    e->q = take(base, used, n * e->ld * f);
    e->k = take(base, used, n * e->ld * f);
    e->v = take(base, used, n * e->ld * f);
    e->up = take(base, used, n * e->ld_up * f);
    e->keys = take(base, used, longest * head * f);
    e->values = take(base, used, longest * head * f);
    e->scratch = take(base, used, KERNELS_ROWS * (2 * longest + head) * f);
    e->scale = take(base, used, n * f);
    e->zero = take(base, used, n * f);
    if (e->weights.int8) e->quant = take(base, used, n * e->ld_up * e->weights.kernels->q_bytes);
}

struct encoder *encoder_open(const char *dir, bool int8, size_t max_tokens, struct fault *f)
{
    struct encoder *e = calloc(1, sizeof *e);
    uint64_t used;
    if (!e) {
        fault_set(f, 71, "%s: out of memory", dir);
        return NULL;
    }
    if (weights_open(&e->weights, dir, int8, f)) goto fail;
    const struct model *m = &e->weights.model;
    e->max_batch = max_tokens > m->max_tokens ? max_tokens : m->max_tokens;
    e->granule = e->weights.kernels->granule;
    e->ld = weights_padded(m->hidden);
    e->ld_up = weights_padded(m->intermediate > m->hidden ? m->intermediate : m->hidden);
    lay_out(e, 0, &used);
    if (used > SIZE_MAX / 2 || !(e->memory = malloc((size_t)used + 64))) {
        fault_set(f, 71, "%s: no memory for batches of %zu tokens", dir, e->max_batch);
        goto fail;
    }
    lay_out(e, ((uintptr_t)e->memory + 63) / 64 * 64, &used);
    return e;
fail:
    encoder_close(e);
    return NULL;
}

void encoder_close(struct encoder *e)
{
    if (!e) return;
    weights_close(&e->weights);
    free(e->memory);
    free(e->low);
    free(e);
}

void encoder_set_granule(struct encoder *e, size_t operations)
{
    e->granule = operations ? operations : e->weights.kernels->granule;
}

uint32_t encoder_dimension(const struct encoder *e) { return e->weights.model.hidden; }
uint32_t encoder_max_tokens(const struct encoder *e) { return e->weights.model.max_tokens; }
size_t encoder_max_batch(const struct encoder *e) { return e->max_batch; }
uint32_t encoder_vocabulary(const struct encoder *e) { return e->weights.model.vocabulary; }
const char *encoder_kernels(const struct encoder *e) { return e->weights.kernels->name; }
const uint8_t *encoder_fingerprint(const struct encoder *e) { return e->weights.fingerprint; }
const struct weights *encoder_weights(const struct encoder *e) { return &e->weights; }

const char *encoder_dtype(const struct encoder *e)
{
    return e->weights.int8 ? "I8" : e->weights.words->dtype_name;
}
