/* Compiled once for each instruction set, -DKERNELS=<name>: see kernels.h and the Makefile. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "product.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
#ifndef KERNELS
#define KERNELS base
#endif

/* Rows of the next tile: n in as few tiles of so many as can be, as even as can be. */
static uint32_t next_rows(uint32_t n, uint32_t most)
{
    uint32_t tiles = (n + most - 1) / most;
    return (n + tiles - 1) / tiles;
}

/* B t of some rows of a panel, for finish(). */
static const float *low_rank(const struct panel *p, uint32_t first, uint32_t rows, float *low)
{
    if (!p->b) return NULL;
    const float *b = (const float *)p->b->weight + (size_t)p->index * p->b->in * WIDTH;
    product((struct tile){ low, p->t + first * p->ld_t, b, WIDTH, p->ld_t, WIDTH, p->b->in }, rows,
            WIDTH);
    return low;
}

static void act_all(float *x, size_t n, enum activation act)
{
    for (size_t i = 0; i < n; i += LANES) store(x + i, activate(load(x + i), act));
}

/* What comes after products and bias: y [rows][WIDTH] = act(y + B t). */
static void finish(float *y, size_t ld, uint32_t rows, const float *low, enum activation act)
{
    for (uint32_t r = 0; r < rows; r++, y += ld) {
        for (uint32_t j = 0; low && j < WIDTH; j += LANES)
            store(y + j, load(y + j) + load(low + r * WIDTH + j));
        if (act != ACT_NONE) act_all(y, WIDTH, act);
    }
}

static void panel(const struct panel *p)
{
    const struct linear *l = p->linear;
    const float *w = (const float *)l->weight + (size_t)p->index * l->in * WIDTH;
    const float *bias = p->bias + (size_t)p->index * WIDTH;
    float room[ROWS * WIDTH];
    for (uint32_t i = 0, rows; i < p->n; i += rows) {
        rows = next_rows(p->n - i, ROWS);
        float *y = p->y + i * p->ld;
        product((struct tile){ y, p->in.x + i * p->in.ld, w, p->ld, p->in.ld, WIDTH, l->in },
                rows, WIDTH);
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t j = 0; j < WIDTH; j += LANES)
                store(y + r * p->ld + j, load(y + r * p->ld + j) + load(bias + j));
        finish(y, p->ld, rows, low_rank(p, i, rows, room), p->act);
    }
}

static struct tile_int8 first_tile(const struct panel *p)
{
    const struct linear *l = p->linear;
    size_t k = (l->in + GROUP - 1) / GROUP * GROUP, at = (size_t)p->index * WIDTH;
    return (struct tile_int8){ .y = p->y, .a = (const quant *)p->in.q,
                               .b = (const int8_t *)l->weight + at * k, .scale = p->in.scale,
                               .zero = p->in.zero, .scales = l->scale + at, .sums = l->sum + at,
                               .bias = p->bias + at, .ld = p->ld, .lda = p->in.ldq, .k = k };
}

static void next_tile(struct tile_int8 *t, uint32_t rows)
{
    t->y += rows * t->ld;
    t->a += rows * t->lda;
    t->scale += rows;
    t->zero += rows;
}

static void panel_int8(const struct panel *p)
{
    struct tile_int8 t = first_tile(p);
    float room[ROWS * WIDTH];
    for (uint32_t i = 0, rows; i < p->n; i += rows) {
        rows = next_rows(p->n - i, ROWS);
        product_int8(&t, rows);
        finish(t.y, p->ld, rows, low_rank(p, i, rows, room), p->act);
        next_tile(&t, rows);
    }
}

#if GROUP == 4
AMX static void panel_amx(const struct panel *p)
{
    struct tile_int8 t = first_tile(p);
    if (t.k % AMX_BYTES || p->n <= ROWS) {
        panel_int8(p);
        return;
    }
    for (uint32_t i = 0, rows, last = 0; i < p->n; i += rows, last = rows) {
        rows = next_rows(p->n - i, AMX_ROWS);
        if (rows != last) amx_begin(rows);
        product_amx(&t, rows);
        next_tile(&t, rows);
    }
    _tile_release();
    float room[ROWS * WIDTH], *y = p->y;
    for (uint32_t i = 0, rows; i < p->n; i += rows, y += rows * p->ld) {
        rows = next_rows(p->n - i, ROWS);
        finish(y, p->ld, rows, low_rank(p, i, rows, room), p->act);
    }
}
#endif

static void quantize(const float *x, uint32_t n, void *out, float *scale, float *zero)
{
    typedef quant vq_out __attribute__((vector_size(LANES * sizeof(quant))));
    vf low = set(0), high = set(0);
    for (uint32_t i = 0; i < n; i += LANES) {
        low = min(low, load(x + i));
        high = max(high, load(x + i));
    }
    float lo = -greatest(-low), range = greatest(high) - lo;
    bool flat = !(range > 1e-30f);
    float inverse = flat ? 0 : 255 / range, shift = flat ? 0 : -lo * inverse;
    *scale = flat ? 1 : range / 255;
    float middle = (float)(int32_t)(shift + 0.5f);
    *zero = middle;
    for (uint32_t i = 0; i < n; i += LANES) {
        vf t = load(x + i) * inverse + middle;
        t = min(max(t, set(0)), set(255)) + 12582912.0f;
        vq_out v = __builtin_convertvector((vi)t - 0x4b400000, vq_out);
        memcpy((quant *)out + i, &v, sizeof v);
    }
}

static void quantize_weights(const float *w, uint32_t n, int8_t *out, float *scale,
                             float *sum_of_all)
{
    typedef int8_t v8 __attribute__((vector_size(LANES)));
    vf most = set(0);
    vi total = { 0 };
    for (uint32_t i = 0; i < n; i += LANES) most = max(most, absolute(load(w + i)));
    float top = greatest(most), inverse = top > 1e-30f ? 127 / top : 0;
    for (uint32_t i = 0; i < n; i += LANES) {
        vi q = (vi)(load(w + i) * inverse + 12582912.0f) - 0x4b400000;
        v8 v = __builtin_convertvector(q, v8);
        memcpy(out + i, &v, sizeof v);
        total += q;
    }
    *scale = top > 1e-30f ? top / 127 : 0;
    *sum_of_all = sum(__builtin_convertvector(total, vf));
}

static void norm(float *x, const float *y, const float *gamma, const float *beta, uint32_t n,
                 float eps)
{
    vf s = set(0), squares = set(0);
    for (uint32_t i = 0; i < n; i += LANES) {
        vf v = load(x + i) + load(y + i);
        store(x + i, v);
        s += v;
    }
    float mean = sum(s) / (float)n;
    for (uint32_t i = 0; i < n; i += LANES) {
        vf d = load(x + i) - mean;
        if (n - i < LANES) d = pick(below(n - i), d, set(0));
        store(x + i, d);
        squares += d * d;
    }
    float variance = sum(squares) / (float)n + eps;
    float inverse = variance > 0 ? 1 / sqrtf(variance) : 0;
    for (uint32_t i = 0; i < n; i += LANES)
        store(x + i, load(x + i) * inverse * load(gamma + i) + load(beta + i));
}

INLINE size_t whole(uint32_t n) { return (n + LANES - 1) / LANES * LANES; }

#if GROUP == 4
/* Attention in integers, for int8 models and texts where it pays: keys and values become
 * int8 (a scale for each key, for each column of the values), and so both products are
 * panels of linear layers. */
#define NARROW_DIM 256

struct narrow {
    struct linear keys, values;
    float *zeros;           /* [tokens + dim] bias of both */
    float *scores;          /* [KERNELS_ROWS][tokens] */
    uint8_t *chances;       /* [KERNELS_ROWS][tokens] exp() in 255 steps */
    float *context;         /* [KERNELS_ROWS][dim] */
    size_t tokens, dim;     /* rounded up to whole panels */
};

static bool is_narrow(const struct head *h)
{
    return h->int8 && h->tokens >= WIDTH && h->dim % LANES == 0 && h->dim <= NARROW_DIM;
}

/* Where things lie in the room of h: [dim][tokens] and [tokens][dim] floats are far more
 * than the integers and their scales take. */
static struct narrow narrow(const struct head *h)
{
    struct narrow n = { .tokens = (h->tokens + WIDTH - 1u) / WIDTH * WIDTH,
                        .dim = (h->dim + WIDTH - 1u) / WIDTH * WIDTH };
    float *at = h->keys;
    n.keys = (struct linear){ .in = h->dim, .out = h->tokens, .scale = at, .sum = at + n.tokens,
                              .weight = at + 3 * n.tokens + n.dim };
    n.zeros = at + 2 * n.tokens;
    n.values = (struct linear){ .in = h->tokens, .out = h->dim, .scale = h->values, .sum = n.zeros,
                                .weight = h->values + n.dim };
    n.scores = h->scratch;
    n.context = n.scores + KERNELS_ROWS * n.tokens;
    n.chances = (uint8_t *)(n.context + KERNELS_ROWS * n.dim);
    return n;
}

/* Four rows of values side by side: bytes [dim][4], with the scale of each column. */
static void narrow_values(const struct narrow *n, const float *v, size_t ld)
{
    for (uint32_t d = 0; d < n->values.out; d += LANES) {
        vf most = set(1e-30f);
        for (uint32_t t = 0; t < n->values.in; t++)
            most = max(most, absolute(load(v + t * ld + d)));
        store(n->values.scale + d, most / 127.0f);
        vf inverse = 127.0f / most;
        size_t depth = (n->values.in + GROUP - 1) / GROUP * GROUP;
        int8_t *to = (int8_t *)n->values.weight + d / WIDTH * WIDTH * depth + d % WIDTH * GROUP;
        for (uint32_t t = 0; t < n->values.in; t += GROUP, to += WIDTH * GROUP) {
            vi all = { 0 };
            for (uint32_t g = 0; g < GROUP && t + g < n->values.in; g++)
                all |= ((vi)(load(v + (t + g) * ld + d) * inverse + 12582912.0f) & 255)
                    << (int)(8 * g);
            memcpy(to, &all, sizeof all);
        }
    }
}

static void narrow_pack(const struct head *h, const float *k, const float *v, size_t ld)
{
    struct narrow n = narrow(h);
    int8_t row[NARROW_DIM];
    memset(n.zeros, 0, (n.tokens + n.dim) * sizeof *n.zeros);
    for (uint32_t t = 0; t < h->tokens; t++) {
        int8_t *to = (int8_t *)n.keys.weight + t / WIDTH * WIDTH * h->dim + t % WIDTH * GROUP;
        quantize_weights(k + t * ld, h->dim, row, &n.keys.scale[t], &n.keys.sum[t]);
        for (uint32_t d = 0; d < h->dim; d += GROUP) memcpy(to + d * WIDTH, row + d, GROUP);
    }
    narrow_values(&n, v, ld);
}
#endif

static void head_pack(const struct head *h, const float *k, const float *v, size_t ld)
{
#if GROUP == 4
    if (is_narrow(h)) {
        narrow_pack(h, k, v, ld);
        return;
    }
#endif
    size_t tokens = whole(h->tokens), dim = whole(h->dim);
    for (uint32_t t = 0; t < h->tokens; t += LANES) {
        uint32_t n = h->tokens - t < LANES ? h->tokens - t : LANES;
        for (uint32_t d = 0; d < h->dim; d++) {
            float *to = h->keys + d * tokens + t;
            for (uint32_t i = 0; i < LANES; i++) to[i] = i < n ? k[(t + i) * ld + d] : 0;
        }
    }
    for (uint32_t t = 0; t < h->tokens; t++) {
        const float *from = v + t * ld;
        float *to = h->values + t * dim;
        uint32_t d = 0;
        for (; d + LANES <= h->dim; d += LANES) store(to + d, load(from + d));
        for (; d < h->dim; d++) to[d] = from[d];
        for (; d < dim; d++) to[d] = 0;
    }
}

/* The greatest of s [n]; what is behind n in its vector becomes very little. */
static float greatest_of(float *s, uint32_t n)
{
    uint32_t last = (n - 1) / LANES * LANES;
    vf m = pick(below(n - last), load(s + last), set(-3e38f));
    store(s + last, m);
    for (uint32_t i = 0; i < last; i += LANES) m = max(m, load(s + i));
    return greatest(m);
}

/* s [n] becomes exp((s - max s) factor), what is behind n in its vector zero; gives 1 / sum. */
static float softmax(float *s, uint32_t n, float factor)
{
    float top = greatest_of(s, n), f = factor * LOG2E;
    vf total = set(0);
    for (uint32_t i = 0; i < n; i += LANES) {
        vf e = exp2v(max((load(s + i) - top) * f, set(-126)));
        if (n - i < LANES) e = pick(below(n - i), e, set(0));
        store(s + i, e);
        total += e;
    }
    return 1 / sum(total);
}

#if GROUP == 4
/* The same in steps of 1/255. */
static float narrow_softmax(float *s, uint32_t n, float factor, uint8_t *out)
{
    typedef uint8_t v8 __attribute__((vector_size(LANES)));
    float top = greatest_of(s, n), f = factor * LOG2E;
    vi total = { 0 };
    for (uint32_t i = 0; i < n; i += LANES) {
        vf e = exp2v(max((load(s + i) - top) * f, set(-126)));
        vi q = (vi)(e * 255.0f + 12582912.0f) - 0x4b400000;
        v8 bytes = __builtin_convertvector(q, v8);
        memcpy(out + i, &bytes, sizeof bytes);
        total += q;
    }
    return 1 / sum(__builtin_convertvector(total, vf));
}

static void narrow_panels(const struct linear *l, const struct rows *in, uint32_t rows,
                          const float *bias, float *y, size_t ld)
{
    struct panel p = { .linear = l, .in = *in, .n = rows, .bias = bias, .y = y, .ld = ld };
    for (; p.index * WIDTH < l->out; p.index++, p.y += WIDTH) panel_int8(&p);
}

static void narrow_rows(const struct head *h, float *q, size_t ld, uint32_t rows)
{
    struct narrow n = narrow(h);
    uint8_t queries[ROWS * NARROW_DIM];
    float scale[ROWS], zero[ROWS], factor = 1 / sqrtf((float)h->dim);
    struct rows in = { .q = queries, .ldq = h->dim, .scale = scale, .zero = zero };
    for (uint32_t r = 0; r < rows; r++)
        quantize(q + r * ld, h->dim, queries + r * h->dim, &scale[r], &zero[r]);
    narrow_panels(&n.keys, &in, rows, n.zeros, n.scores, n.tokens);
    for (uint32_t r = 0; r < rows; r++) {
        scale[r] = narrow_softmax(n.scores + r * n.tokens, h->tokens, factor,
                                  n.chances + r * n.tokens);
        zero[r] = 0;
    }
    in = (struct rows){ .q = n.chances, .ldq = n.tokens, .scale = scale, .zero = zero };
    narrow_panels(&n.values, &in, rows, n.zeros, n.context, n.dim);
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t d = 0; d < h->dim; d += LANES)
            store(q + r * ld + d, load(n.context + r * n.dim + d));
}
#endif

static void head_rows(const struct head *h, float *q, size_t ld, uint32_t n)
{
#if GROUP == 4
    if (is_narrow(h)) {
        narrow_rows(h, q, ld, n);
        return;
    }
#endif
    size_t tokens = whole(h->tokens), dim = whole(h->dim);
    float *scores = h->scratch, *context = scores + KERNELS_ROWS * tokens, inverse[KERNELS_ROWS];
    float factor = 1 / sqrtf((float)h->dim);
    for (uint32_t i = 0, rows; i < n; i += rows) {
        rows = next_rows(n - i, ROWS);
        product((struct tile){ scores, q + i * ld, h->keys, tokens, ld, tokens, h->dim }, rows,
                tokens);
        for (uint32_t r = 0; r < rows; r++)
            inverse[r] = softmax(scores + r * tokens, h->tokens, factor);
        product((struct tile){ context, scores, h->values, dim, tokens, dim, h->tokens }, rows,
                dim);
        for (uint32_t r = 0; r < rows; r++) {
            const float *from = context + r * dim;
            float *to = q + (i + r) * ld;
            uint32_t d = 0;
            for (; d + LANES <= h->dim; d += LANES) store(to + d, load(from + d) * inverse[r]);
            for (; d < h->dim; d++) to[d] = from[d] * inverse[r];
        }
    }
}

static void exp_all(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) store(x + i, exp2v(max(load(x + i) * LOG2E, set(-126))));
}

#define TABLE(called, int8)                                                              \
    { .name = called, .width = WIDTH, .rows = ROWS, .group = GROUP,                      \
      .q_bytes = sizeof(quant), .granule = GRANULE,                                      \
      .panel = panel, .panel_int8 = int8,                                                \
      .quantize = quantize, .quantize_weights = quantize_weights, .norm = norm,          \
      .head_pack = head_pack, .head_rows = head_rows, .act = act_all, .exp = exp_all }

const struct kernels JOIN(kernels_, KERNELS);
const struct kernels JOIN(kernels_, KERNELS) = TABLE(TEXT(KERNELS), panel_int8);
#if GROUP == 4
const struct kernels JOIN(kernels_amx_, KERNELS);
const struct kernels JOIN(kernels_amx_, KERNELS) = TABLE("amx", panel_amx);
#endif
