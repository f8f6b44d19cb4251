/* Vectors of the compiler's own kind, as wide as the instruction set that kernels.c is
 * being compiled for, and the functions of one float on them. For kernels.c alone. */
#ifndef VECTOR_H
#define VECTOR_H

#include <stdint.h>
#if defined __SSE2__
#include <immintrin.h>
#endif

#include "model.h"

/* Bytes of a vector; rows and vectors of a tile, whose accumulators must fit the
 * registers; float operations of a granule. */
#if defined __AVX512F__
#define BYTES   64
#define ROWS    8
#define COLS    3
#define GRANULE 30000000
#elif defined __AVX2__
#define BYTES   32
#define ROWS    6
#define COLS    2
#define GRANULE 30000000
#elif defined __aarch64__
#define BYTES   16
#define ROWS    8
#define COLS    3
#define GRANULE 4000000
#else
#define BYTES   16
#define ROWS    6
#define COLS    2
#define GRANULE 8000000
#endif
enum { LANES = BYTES / 4, WIDTH = LANES * COLS };

typedef float vf __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(BYTES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) { return *(const vf *)p; }
INLINE void store(float *p, vf v) { *(vf *)p = v; }
INLINE vf set(float x) { return (vf){ 0 } + x; }
INLINE vf pick(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }

/* Neither compiler makes one instruction of pick(a > b, a, b) where there is one. */
#if defined __AVX512F__
INLINE vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined __AVX2__
INLINE vf max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined __SSE2__
INLINE vf max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
INLINE vf min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
INLINE vf max(vf a, vf b) { return pick(a > b, a, b); }
INLINE vf min(vf a, vf b) { return pick(a < b, a, b); }
#endif

INLINE vf absolute(vf a) { return (vf)((vi)a & 0x7fffffff); }

/* Lanes below n. */
INLINE vi below(uint32_t n)
{
    static const int32_t numbers[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    return *(const vi *)numbers < (int32_t)n;
}

/* v with lane i where lane i ^ k was. */
#if BYTES == 64
#define SWAP(v, k)                                                                                 \
    __builtin_shufflevector(v, v, 0 ^ k, 1 ^ k, 2 ^ k, 3 ^ k, 4 ^ k, 5 ^ k, 6 ^ k, 7 ^ k, 8 ^ k,   \
                            9 ^ k, 10 ^ k, 11 ^ k, 12 ^ k, 13 ^ k, 14 ^ k, 15 ^ k)
#elif BYTES == 32
#define SWAP(v, k)                                                                                 \
    __builtin_shufflevector(v, v, 0 ^ k, 1 ^ k, 2 ^ k, 3 ^ k, 4 ^ k, 5 ^ k, 6 ^ k, 7 ^ k)
#else
#define SWAP(v, k) __builtin_shufflevector(v, v, 0 ^ k, 1 ^ k, 2 ^ k, 3 ^ k)
#endif

/* Over all lanes, by halves. */
INLINE float sum(vf v)
{
#if BYTES == 64
    v += SWAP(v, 8);
#endif
#if BYTES >= 32
    v += SWAP(v, 4);
#endif
    v += SWAP(v, 2);
    v += SWAP(v, 1);
    return v[0];
}

INLINE float greatest(vf v)
{
#if BYTES == 64
    v = max(v, SWAP(v, 8));
#endif
#if BYTES >= 32
    v = max(v, SWAP(v, 4));
#endif
    v = max(v, SWAP(v, 2));
    v = max(v, SWAP(v, 1));
    return v[0];
}

/* 2^t for -126 <= t <= 126: round to n by adding 1.5 * 2^23, whose low bits are then n;
 * minimax polynomial for 2^(t-n) on [-0.5, 0.5], relative error 7.5e-8. */
INLINE vf exp2v(vf t)
{
    vf magic = t + 12582912.0f, x = t - (magic - 12582912.0f);
    vf p = x * 0.00132764725f + 0.00967554748f;
    p = p * x + 0.0555071346f;
    p = p * x + 0.240221202f;
    p = p * x + 0.693146944f;
    p = p * x + 1.00000012f;
    return (vf)((vi)p + ((vi)magic << 23));
}

#define LOG2E 1.44269504f

/* x Phi(x) = max(x,0) - |x|/2 erfc(|x|/sqrt 2), and erfc(a/sqrt 2) = 2^(-a Q(a)) with a
 * minimax polynomial Q on [0,7], 4e-8 in the result; beyond 7 erfc is below 3e-12. */
INLINE vf gelu(vf x)
{
    vf whole = absolute(x), a = min(whole, set(7.0f));
    vf q = a * -4.27871373e-6f + 1.27978929e-5f;
    q = q * a + 0.000575787504f;
    q = q * a - 0.00767078623f;
    q = q * a + 0.0529485680f;
    q = q * a + 0.459043920f;
    q = q * a + 1.15112698f;
    return max(x, set(0)) - whole * 0.5f * exp2v(-a * q);
}

/* x/2 (1 + tanh u) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3). */
INLINE vf gelu_tanh(vf x)
{
    vf t = x * (-2.0f * 0.797884561f * LOG2E) * (1.0f + x * x * 0.044715f);
    return x / (1.0f + exp2v(max(min(t, set(126.0f)), set(-126.0f))));
}

INLINE vf activate(vf x, enum activation act)
{
    switch (act) {
    case ACT_GELU:      return gelu(x);
    case ACT_GELU_TANH: return gelu_tanh(x);
    case ACT_RELU:      return max(x, set(0));
    default:            return x;
    }
}

#endif
