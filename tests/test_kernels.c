// uses: servers/inference/kernels.c servers/inference/processor.c
#include "test.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../servers/inference/kernels.h"

static uint32_t state = 1;

/* -1..1, from a fixed sequence. */
static float noise(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}

static void fill(float *p, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) p[i] = noise() * scale;
}

#define EACH(k) (const struct kernels *const *k = kernels_all(); *k; k++)

Test(kernels, the_baseline_is_always_there_and_choosing_is_by_name)
{
    size_t n = 0;
    for EACH(k) {
        cr_assert(kernels_choose((*k)->name));
        cr_assert(kernels_best() == *k);
        cr_assert((*k)->rows <= KERNELS_ROWS && KERNELS_PAD % (*k)->width == 0);
        n++;
    }
    cr_assert(n > 0 && !strcmp(kernels_all()[n - 1]->name, "base"));
    cr_assert(!kernels_choose("abacus"));
    cr_assert(kernels_choose(NULL));
    cr_assert(kernels_best() == kernels_all()[0]);
}

Test(kernels, exp_is_within_its_bound)
{
    enum { N = 48 * 4000 };
    float *x = malloc(N * sizeof *x), *at = malloc(N * sizeof *at);
    for (int i = 0; i < N; i++) at[i] = -85.0f * (float)i / N;
    for EACH(k) {
        memcpy(x, at, N * sizeof *x);
        (*k)->exp(x, N);
        for (int i = 0; i < N; i++) {
            double want = exp((double)at[i]), bound = 4e-7 - (double)at[i] * 8e-8;
            cr_assert(fabs((double)x[i] - want) <= want * bound, "%s: exp(%g) = %g", (*k)->name,
                      (double)at[i], (double)x[i]);
        }
        for (int i = 0; i < 48; i++) x[i] = i == 7 ? -INFINITY : i == 9 ? 0 : -3e38f;
        (*k)->exp(x, 48);
        for (int i = 0; i < 48; i++)
            cr_assert(i == 9 ? fabsf(x[i] - 1) < 3e-7f : x[i] >= 0 && x[i] < 2e-38f, "%s: %g",
                      (*k)->name, (double)x[i]);
    }
    free(x);
    free(at);
}

static double gelu(double x) { return 0.5 * x * erfc(-x / sqrt(2)); }
static double gelu_tanh(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
static double relu(double x) { return x > 0 ? x : 0; }
static double none(double x) { return x; }

Test(kernels, activations_are_within_their_bounds)
{
    static const struct { enum activation act; double (*exact)(double), bound; } acts[] = {
        { ACT_GELU, gelu, 1.5e-7 }, { ACT_GELU_TANH, gelu_tanh, 4e-7 }, { ACT_RELU, relu, 0 }, { ACT_NONE, none, 0 },
    };
    enum { N = 48 * 5000 };
    float *x = malloc(N * sizeof *x), *at = malloc(N * sizeof *at);
    for (int i = 0; i < N; i++)
        at[i] = i < N / 2 ? -14 + 28.0f * (float)i / (N / 2) : noise() * (i % 3 ? 1 : 1000);
    at[0] = 0;
    at[1] = 1e30f;
    at[2] = -1e30f;
    at[3] = 1e-38f;
    for EACH(k) {
        for (int a = 0; a < 4; a++) {
            memcpy(x, at, N * sizeof *x);
            (*k)->act(x, N, acts[a].act);
            for (int i = 0; i < N; i++) {
                double want = acts[a].exact((double)at[i]), size = fmax(1, fabs((double)at[i]));
                cr_assert(fabs((double)x[i] - want) <= acts[a].bound * size,
                          "%s: act %d(%g) = %g, not %g", (*k)->name, a, (double)at[i], (double)x[i],
                          want);
            }
            cr_assert_eq(x[0], 0.0f);
        }
    }
    free(x);
    free(at);
}

/* A layer of out x in with an int8 twin, and rows to put through it. */
struct layer {
    uint32_t in, out, n;
    float *w, *x, *y, *t, *b;       /* [out][in] [n][LD] [n][LD] [n][48] [out][RANK] */
    float bias[192];
    struct linear packed;
};
enum { LD = 432, RANK = 5 };

/* Panels as kernels.h says, written down the plain way. */
static float *pack(const struct kernels *k, const float *w, uint32_t out, uint32_t in)
{
    float *p = calloc((out + 47) / 48 * 48 * in, sizeof *p);
    for (uint32_t o = 0; o < out; o++)
        for (uint32_t i = 0; i < in; i++)
            p[((o / k->width) * in + i) * k->width + o % k->width] = w[o * in + i];
    return p;
}

static void make_layer(struct layer *l, const struct kernels *k, uint32_t out, uint32_t in,
                       uint32_t n)
{
    *l = (struct layer){ .in = in,
                         .out = out,
                         .n = n,
                         .w = malloc(out * in * sizeof(float)),
                         .x = calloc(n * LD, sizeof(float)),
                         .y = calloc(n * LD, sizeof(float)),
                         .t = malloc(n * 48 * sizeof(float)),
                         .b = malloc(out * RANK * sizeof(float)) };
    fill(l->w, out * in, 1);
    fill(l->t, n * 48, 1);
    fill(l->b, out * RANK, 1);
    fill(l->bias, out, 1);
    for (uint32_t r = 0; r < n; r++) fill(l->x + r * LD, in, 1);
    l->packed = (struct linear){
        .in = in, .out = out, .weight = pack(k, l->w, out, in), .bias = l->bias
    };
}

static void free_layer(struct layer *l)
{
    free(l->w);
    free(l->x);
    free(l->y);
    free(l->t);
    free(l->b);
    free(l->packed.weight);
    free(l->packed.scale);
    free(l->packed.sum);
}

static void run_layer(struct layer *l, const struct kernels *k, const struct linear *b,
                      enum activation act, struct rows in)
{
    for (uint32_t p = 0; p * k->width < l->out; p++) {
        struct panel job = { &l->packed, p, in, l->n, l->bias, b, l->t, 48,
                             act, l->y + p * k->width, LD };
        (l->packed.scale ? k->panel_int8 : k->panel)(&job);
    }
}

static double exact(const struct layer *l, uint32_t r, uint32_t o, bool low)
{
    double s = (double)l->bias[o];
    for (uint32_t i = 0; i < l->in; i++)
        s += (double)l->w[o * l->in + i] * (double)l->x[r * LD + i];
    for (uint32_t i = 0; low && i < RANK; i++)
        s += (double)l->b[o * RANK + i] * (double)l->t[r * 48 + i];
    return s;
}

static const struct {
    uint32_t out, in;
} shapes[] = { { 1, 1 }, { 5, 3 }, { 16, 7 }, { 48, 32 }, { 49, 64 }, { 130, 384 } };

Test(kernels, panels_are_products_for_every_number_of_rows)
{
    for EACH(k) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            for (uint32_t n = 1; n <= 20; n++) {
                struct layer l;
                make_layer(&l, *k, shapes[s].out, shapes[s].in, n);
                float *b = pack(*k, l.b, l.out, RANK);
                struct linear low = { .in = RANK, .out = l.out, .weight = b };
                for (int with = 0; with < 2; with++) {
                    run_layer(&l, *k, with ? &low : NULL, ACT_RELU,
                              (struct rows){ .x = l.x, .ld = LD });
                    for (uint32_t r = 0; r < n; r++)
                        for (uint32_t o = 0; o < l.out; o++) {
                            double want = relu(exact(&l, r, o, with));
                            cr_assert(fabs((double)l.y[r * LD + o] - want) < 5e-5,
                                      "%s %ux%u row %u of %u: %g, not %g", (*k)->name, l.out, l.in,
                                      r, n, (double)l.y[r * LD + o], want);
                        }
                    for (uint32_t o = l.out; o % (*k)->width; o++) cr_assert_eq(l.y[o], 0.0f);
                }
                free(b);
                free_layer(&l);
            }
        }
    }
}

Test(kernels, int8_products_are_those_of_the_integers)
{
    for EACH(k) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            struct layer l;
            uint32_t n = 11, g = (*k)->group, w = (*k)->width;
            make_layer(&l, *k, shapes[s].out, shapes[s].in, n);
            uint32_t depth = (l.in + g - 1) / g * g, outs = (l.out + 47) / 48 * 48;
            int8_t *q = calloc(outs * depth, 1), row[LD];
            void *xq = calloc(n * LD, 4);
            float scale[16], zero[16];
            l.packed.scale = calloc(outs, sizeof(float));
            l.packed.sum = calloc(outs, sizeof(float));
            for (uint32_t o = 0; o < l.out; o++) {
                float wide[LD] = { 0 };
                memcpy(wide, l.w + o * l.in, l.in * sizeof *wide);
                (*k)->quantize_weights(wide, l.in, row, &l.packed.scale[o], &l.packed.sum[o]);
                for (uint32_t i = 0; i < l.in; i++) {
                    cr_assert(fabsf(l.w[o * l.in + i] - row[i] * l.packed.scale[o]) <=
                              0.51f * l.packed.scale[o]);
                    q[((o / w) * depth + i / g * g) * w + o % w * g + i % g] = row[i];
                    l.w[o * l.in + i] = row[i] * l.packed.scale[o];
                }
            }
            free(l.packed.weight);
            l.packed.weight = q;
            for (uint32_t r = 0; r < n; r++) {
                uint8_t *to = (uint8_t *)xq + r * LD * (*k)->q_bytes;
                if (r == 3) memset(l.x + r * LD, 0, l.in * sizeof(float));
                (*k)->quantize(l.x + r * LD, l.in, to, &scale[r], &zero[r]);
                for (uint32_t i = 0; i < l.in; i++) {
                    int16_t v;
                    memcpy(&v, to + 2 * i, 2);
                    int whole = (*k)->q_bytes == 1 ? to[i] : v;
                    float back = ((float)whole - zero[r]) * scale[r];
                    cr_assert(whole >= 0 && whole <= 255 &&
                                  fabsf(back - l.x[r * LD + i]) <= 0.51f * scale[r] + 1e-6f,
                              "%s: %g became %g", (*k)->name, (double)l.x[r * LD + i],
                              (double)back);
                    l.x[r * LD + i] = back;
                }
            }
            run_layer(&l, *k, NULL, ACT_NONE,
                      (struct rows){
                          .x = l.x, .ld = LD, .q = xq, .ldq = LD, .scale = scale, .zero = zero });
            for (uint32_t r = 0; r < n; r++)
                for (uint32_t o = 0; o < l.out; o++) {
                    double want = exact(&l, r, o, false);
                    cr_assert(fabs((double)l.y[r * LD + o] - want) < 2e-5, "%s %ux%u: %g, not %g",
                              (*k)->name, l.out, l.in, (double)l.y[r * LD + o], want);
                }
            free(xq);
            free_layer(&l);
        }
    }
}

Test(kernels, largest_integers_do_not_overflow)
{
    enum { IN = 65536 };
    for EACH(k) {
        uint32_t w = (*k)->width;
        int8_t *q = malloc((size_t)IN * w);
        uint8_t *x = malloc((size_t)IN * (*k)->q_bytes);
        float y[48], bias[48] = { 0 }, sum[48], scale[48], one = 1, zero = 255;
        memset(q, -127, (size_t)IN * w);
        for (size_t i = 0; i < (size_t)IN; i++) {
            int16_t v = 255;
            if ((*k)->q_bytes == 1) x[i] = 255;
            else memcpy(x + 2 * i, &v, 2);
        }
        for (uint32_t i = 0; i < w; i++) {
            sum[i] = -127.0f * IN;
            scale[i] = 1;
        }
        struct linear l = { IN, w, q, bias, scale, sum };
        struct panel p = { .linear = &l,
                           .in = { .q = x, .ldq = IN, .scale = &one, .zero = &zero },
                           .n = 1,
                           .bias = bias,
                           .y = y,
                           .ld = 48 };
        (*k)->panel_int8(&p);
        for (uint32_t i = 0; i < w; i++)
            cr_assert_eq(y[i], 0.0f, "%s: %g", (*k)->name, (double)y[i]);
        free(q);
        free(x);
    }
}

Test(kernels, norm_is_that_of_the_reference)
{
    static const uint32_t sizes[] = { 1, 2, 3, 15, 16, 17, 36, 48, 100, 384 };
    for EACH(k) {
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            uint32_t n = sizes[s];
            float x[432] = { 0 }, y[432] = { 0 }, gamma[432] = { 0 }, beta[432] = { 0 };
            double v[432], mean = 0, variance = 0;
            fill(x, n, 3);
            fill(y, n, 3);
            fill(gamma, n, 1);
            fill(beta, n, 1);
            for (uint32_t i = 0; i < n; i++) mean += (v[i] = (double)x[i] + (double)y[i]) / n;
            for (uint32_t i = 0; i < n; i++) variance += (v[i] - mean) * (v[i] - mean) / n;
            (*k)->norm(x, y, gamma, beta, n, 1e-5f);
            for (uint32_t i = 0; i < n; i++) {
                double want = (v[i] - mean) / sqrt(variance + 1e-5) * (double)gamma[i] +
                    (double)beta[i];
                cr_assert(fabs((double)x[i] - want) < 3e-6, "%s: %u of %u: %g, not %g", (*k)->name,
                          i, n, (double)x[i], want);
            }
            for (uint32_t i = n; i < (n + 15) / 16 * 16; i++) cr_assert_eq(x[i], 0.0f);
        }
        float x[48] = { 0 }, y[48] = { 0 }, gamma[48], beta[48];
        fill(gamma, 48, 1);
        fill(beta, 48, 1);
        (*k)->norm(x, y, gamma, beta, 48, 0);   /* no variance at all */
        for (int i = 0; i < 48; i++) cr_assert_eq(x[i], beta[i]);
    }
}

/* Attention over n tokens of dim values each, written down the plain way: out [n][dim]. */
enum { WIDE = 80, MOST = 200 };
static void plain_attention(const float *q, const float *k, const float *v, uint32_t n,
                            uint32_t dim, double *out)
{
    static double p[MOST];
    for (uint32_t i = 0; i < n; i++) {
        double top = -1e300, sum = 0;
        for (uint32_t j = 0; j < n; j++) {
            p[j] = 0;
            for (uint32_t d = 0; d < dim; d++)
                p[j] += (double)q[i * WIDE + d] * (double)k[j * WIDE + d];
            p[j] /= sqrt(dim);
            top = fmax(top, p[j]);
        }
        for (uint32_t j = 0; j < n; j++) sum += p[j] = exp(p[j] - top);
        for (uint32_t d = 0; d < dim; d++) {
            out[i * dim + d] = 0;
            for (uint32_t j = 0; j < n; j++)
                out[i * dim + d] += p[j] / sum * (double)v[j * WIDE + d];
        }
    }
}

/* The greatest difference of the kernels from that; what lies beside the head must stay. */
static double attention_error(const struct kernels *k, uint32_t n, uint32_t dim, bool int8)
{
    static float q[MOST * WIDE], was[MOST * WIDE], kv[2][MOST * WIDE];
    static float keys[96 * 240], values[240 * 96], scratch[8 * (2 * 240 + 96)];
    static double want[MOST * WIDE];
    struct head h = { n, dim, int8, keys, values, scratch };
    uint32_t at = 3;
    double worst = 0;
    fill(q, MOST * WIDE, 2);
    fill(kv[0], MOST * WIDE, 2);
    fill(kv[1], MOST * WIDE, 2);
    memcpy(was, q, sizeof was);
    plain_attention(q + at, kv[0] + at, kv[1] + at, n, dim, want);
    k->head_pack(&h, kv[0] + at, kv[1] + at, WIDE);
    for (uint32_t i = 0, rows; i < n; i += rows) {
        rows = n - i < k->rows ? n - i : k->rows;
        k->head_rows(&h, q + at + i * WIDE, WIDE, rows);
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < WIDE; d++) {
            if (d < at || d >= at + dim) cr_assert_eq(q[i * WIDE + d], was[i * WIDE + d]);
            else worst = fmax(worst, fabs((double)q[i * WIDE + d] - want[i * dim + d - at]));
        }
    return worst;
}

Test(kernels, attention_is_softmax_of_products_for_every_length)
{
    static const uint32_t dims[] = { 1, 8, 12, 32, 33, 64 };
    static const uint32_t lengths[] = { 1, 2, 7, 8, 15, 16, 17, 47, 48, 49, 96, 130, 200 };
    for EACH(k) {
        for (size_t c = 0; c < 6 * sizeof lengths / sizeof *lengths; c++) {
            uint32_t n = lengths[c / 6], dim = dims[c % 6];
            double exactly = attention_error(*k, n, dim, false),
                   roughly = attention_error(*k, n, dim, true);
            cr_assert(exactly < 2e-5, "%s: %u tokens of %u: off by %g", (*k)->name, n, dim,
                      exactly);
            cr_assert(roughly < 0.05, "%s: %u tokens of %u: off by %g in int8", (*k)->name, n, dim,
                      roughly);
        }
    }
}
