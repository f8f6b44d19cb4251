/* Products of vectors: exact ones, and fast ones with a bound on their error.
 *
 * A row x is kept beside its float32 values as int8 codes q with a scale s and
 * the length e of what that leaves out, |x - s q| <= e. A query y is rounded to
 * integers p of up to 15 bits with a scale t. Then
 *
 *     | y.x - s t (p.q) | <= |t p| e + |y - t p| |x|          (Cauchy-Schwarz)
 *
 * p.q is an integer, so every kernel gives the same. What is decided, is decided
 * by cosine_exact(): double precision, summed in one fixed order. */
#ifndef COSINE_H
#define COSINE_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the codes of one row: the dimension, rounded up; the rest is zero. */
#define COSINE_STRIDE(dimension) (((size_t)(dimension) + 63) / 64 * 64)

/* Product of two vectors, the same on every processor. */
double cosine_exact(const float *a, const float *b, size_t dimension);

/* Elements of a vector of unit length are rounded once, by at most 2^-24 of themselves: so
 * far may the product of one with itself be from 1. */
#define COSINE_ROUNDING 1.2e-7

/* To be shown: what rounding cannot tell from 1 or -1, or leads beyond, is that. */
double cosine_clamp(double cosine);

/* Length 1, out may be in. 0, or -1 when there is nothing to normalise (zeros, not finite). */
int cosine_normalise(float *out, const float *in, size_t dimension);

/* Write the codes of a row, [COSINE_STRIDE(dimension)], its scale and its error; gives |x|,
 * rounded up. */
double cosine_encode(const float *x, size_t dimension, int8_t *codes, float *scale, float *error);

struct cosine_query {
    size_t   stride;
    double   scale;      /* t */
    double   length;     /* |t p|, rounded up: times e */
    double   error;      /* |y - t p|, rounded up: times |x| */
    int32_t  sum;        /* of p */
    int16_t *whole;      /* p [stride] */
    int8_t  *high, *low; /* p = 128 high + low [stride] each */
};

/* Bytes of the buffer that a query of this dimension wants, 64-byte aligned. */
size_t cosine_query_bytes(size_t dimension);

/* Make a query of y in that buffer; negate looks for the farthest instead. */
void cosine_query(struct cosine_query *q, void *buffer, const float *y, size_t dimension,
                  int negate);

/* p.q of n rows that lie one behind the other. */
void cosine_rows(const struct cosine_query *q, const int8_t *codes, size_t n, int32_t *out);

/* The kernels that this processor can run, best first; the best is used unless
 * cosine_use() chose another. Name of kernel i, or NULL behind the last. */
const char *cosine_kernel(unsigned i);
void cosine_use(unsigned i);

#endif
