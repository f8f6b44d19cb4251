/* The arithmetic of the encoder, one source compiled for several instruction sets.
 *
 * Weights lie in panels of `width` outputs: panel p holds, for each input k, the
 * weights of outputs p*width .. p*width + width - 1; what is over the end is zero. Rows
 * of activations are padded with zeros to a multiple of KERNELS_PAD floats.
 *
 * Every sum runs in one order that depends on the row alone: a row's result is the
 * same bit for bit whatever rows it is computed with.
 *
 * Error bounds against exact arithmetic, tested: exp(x), x <= 0, 4e-7 + 8e-8 |x| relative;
 * GELU 1.5e-7 x max(1,|x|) absolute. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model.h"

#define KERNELS_PAD 48u     /* floats; a multiple of every width and vector */
#define KERNELS_ROWS 8u     /* most rows of a tile */

/* One linear layer, packed: y = Wx + b. */
struct linear {
    uint32_t in, out;
    void *weight;           /* [panels][in][width] float, or
                               [panels][in/group][width][group] int8 */
    float *bias;            /* [panels * width] */
    float *scale;           /* int8: [panels * width]; NULL: float */
    float *sum;             /* int8: [panels * width] sums of the integer weights */
};

/* Rows of activations: as floats, and for int8 layers also as integers:
 * float = scale * (integer - zero). */
struct rows {
    const float *x;         /* [n][ld] */
    size_t ld;
    const void *q;          /* [n][ldq] of q_bytes each */
    size_t ldq;             /* in elements */
    const float *scale;     /* [n] */
    const float *zero;      /* [n] a whole number */
};

/* Some rows of one panel of y = act(Wx + b + B t). */
struct panel {
    const struct linear *linear;
    uint32_t index;
    struct rows in;
    uint32_t n;
    const float *bias;      /* [panels * width] */
    const struct linear *b; /* [out, rank] float, or NULL: there is no B t */
    const float *t;         /* [n][ld_t] rank numbers for each row */
    size_t ld_t;
    enum activation act;
    float *y;               /* [n][ld] */
    size_t ld;
};

/* Attention of one head over one text. The kernels lay out the room as they need it;
 * it is enough when tokens and dim are rounded up to KERNELS_PAD. */
struct head {
    uint32_t tokens, dim;
    bool int8;              /* keys, values and the softmax may be rounded to 8 bits */
    float *keys;            /* [dim][tokens] */
    float *values;          /* [tokens][dim] */
    float *scratch;         /* [KERNELS_ROWS][2 tokens + dim] */
};

struct kernels {
    const char *name;
    uint32_t width;         /* outputs of a panel */
    uint32_t rows;          /* of a tile */
    uint32_t group;         /* inputs side by side in an int8 panel */
    uint32_t q_bytes;       /* of one integer activation */
    size_t granule;         /* float operations that take about 0.3 ms */

    void (*panel)(const struct panel *p);
    void (*panel_int8)(const struct panel *p);
    /* x [n] floats padded with zeros to a multiple of group: integers, scale, zero */
    void (*quantize)(const float *x, uint32_t n, void *q, float *scale, float *zero);
    /* w [n] floats padded with zeros to KERNELS_PAD = scale * integer, greatest magnitude 127 */
    void (*quantize_weights)(const float *w, uint32_t n, int8_t *q, float *scale, float *sum);
    /* x = LN(x + y) over n elements; rows padded */
    void (*norm)(float *x, const float *y, const float *gamma, const float *beta, uint32_t n,
                 float eps);
    /* keys and values of h, from [tokens][ld] */
    void (*head_pack)(const struct head *h, const float *k, const float *v, size_t ld);
    /* n (up to KERNELS_ROWS) rows of queries [n][ld] become rows of context, in place */
    void (*head_rows)(const struct head *h, float *q, size_t ld, uint32_t n);
    /* Elementwise, for tests: act(x), and exp(x) for x <= 0. n a multiple of KERNELS_PAD. */
    void (*act)(float *x, size_t n, enum activation act);
    void (*exp)(float *x, size_t n);
};

/* All that this processor can run, the best first, NULL at the end. */
const struct kernels *const *kernels_all(void);

/* The best for this processor, or what kernels_choose() asked for; never NULL. */
const struct kernels *kernels_best(void);

/* For tests: encoders opened from now on use these; false: there are none of this name.
 * NULL: the best again. */
bool kernels_choose(const char *name);

#endif
