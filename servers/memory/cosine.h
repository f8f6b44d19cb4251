/* Products of vectors: exact ones, and fast ones with a bound on their error.
 *
 * A row x is kept beside its float32 values as 8-bit codes q with a scale s. The upper four
 * bits of all codes lie apart from the lower four, so that half the memory is read first:
 * with c, the middle of what those upper bits leave open, the row is s c, or closer s q. The
 * length of what c leaves out is kept, |x - s c| <= e4; that of q is at most half a step for
 * each of n elements, |x - s q| <= e8 = s sqrt(n) / 2. A query y is rounded to 8-bit codes p
 * with a scale t. Then, by Cauchy-Schwarz,
 *
 *     | y.x - s t (c.p) | <= |t p| e4 + |y - t p| |x|,  and with q and e8 alike.
 *
 * Both products are integers, so every kernel gives the same. What is decided, is decided
 * by cosine_exact(): double precision, summed in one fixed order. */
#ifndef COSINE_H
#define COSINE_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of half the bits of the codes of one row: of 128 elements, byte j has those of element
 * j below those of element j + 64. What is over is filled up with codes of 0. */
#define COSINE_STRIDE(dimension) (((size_t)(dimension) + 127) / 128 * 64)

/* Product of two vectors, the same on every processor. */
double cosine_exact(const float *a, const float *b, size_t dimension);

/* Elements of a vector of unit length are rounded once, by at most 2^-24 of themselves: so
 * far may the product of one with itself be from 1. */
#define COSINE_ROUNDING 1.2e-7

/* To be shown: what rounding cannot tell from 1 or -1, or leads beyond, is that. */
double cosine_clamp(double cosine);

/* Length 1, out may be in. 0, or -1 when there is nothing to normalise (zeros, not finite). */
int cosine_normalise(float *out, const float *in, size_t dimension);

/* What goes with the codes of a row. */
struct cosine_row { float scale, coarse; /* s; e4, rounded up */ };

/* Write the codes of a row, [COSINE_STRIDE(dimension)] each; gives |x|, rounded up. */
double cosine_encode(const float *x, size_t dimension, uint8_t *upper, uint8_t *lower,
                     struct cosine_row *row);

struct cosine_query {
    size_t   stride;     /* of one row */
    double   scale;      /* t */
    double   length;     /* |t p|, rounded up: times e4 or e8 */
    double   error;      /* |y - t p|, rounded up: times |x| */
    double   steps;      /* e8 / s, rounded up */
    int32_t  sum;        /* of p */
    int8_t  *codes;      /* p [2 stride] */
    int16_t *wide;       /* p as the plain kernel has it [2 stride] */
};

/* Bytes of the buffer that a query of this dimension wants, 64-byte aligned. */
size_t cosine_query_bytes(size_t dimension);

/* Make a query of y in that buffer; negate looks for the farthest instead. */
void cosine_query(struct cosine_query *q, void *buffer, const float *y, size_t dimension,
                  int negate);

/* c.p of n rows that lie one behind the other, by the upper bits of their codes; q.p - c.p of
 * one row by the lower bits. */
void cosine_coarse(const struct cosine_query *q, const uint8_t *upper, size_t n,
                   int32_t *product);
int32_t cosine_rest(const struct cosine_query *q, const uint8_t *lower);

/* The kernels that this processor can run, best first; the best is used unless
 * cosine_use() chose another. Name of kernel i, or NULL behind the last. */
const char *cosine_kernel(unsigned i);
void cosine_use(unsigned i);

#endif
