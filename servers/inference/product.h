/* Products of matrices by tiles, whose accumulators stay in registers: of floats, and of
 * integers. For kernels.c alone. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include <stddef.h>
#include <string.h>

#include "vector.h"

enum { AHEAD = 32 };     /* rows of b that are asked for before their turn: a panel is larger
                            than the first cache, a model than the second */

/* c [rows][ldc] = a [rows][k] b [k][cols]. The accumulators stay in registers; each sum
 * runs over k, at least 1, in order. */
INLINE void tile(float *c, size_t ldc, const float *a, size_t lda, const float *b, size_t ldb,
                 size_t k, const int rows, const int cols)
{
    vf acc[ROWS][COLS], w[COLS];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < cols; j++) acc[r][j] = set(0);
    do {
        for (int j = 0; j < cols; j++) {
            __builtin_prefetch(b + AHEAD * ldb + j * LANES);
            w[j] = load(b + j * LANES);
        }
        for (int r = 0; r < rows; r++) {
            float x = a[(size_t)r * lda];
            for (int j = 0; j < cols; j++) acc[r][j] += w[j] * x;
        }
        a++;
        b += ldb;
    } while (--k);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < cols; j++) store(c + (size_t)r * ldc + j * LANES, acc[r][j]);
}

/* One case for each number of rows: the compiler sees constants. */
#if ROWS == 8
#define EACH_ROWS(X, cols) X(1, cols) X(2, cols) X(3, cols) X(4, cols) X(5, cols) X(6, cols) \
                           X(7, cols) X(8, cols)
#else
#define EACH_ROWS(X, cols) X(1, cols) X(2, cols) X(3, cols) X(4, cols) X(5, cols) X(6, cols)
#endif

struct tile {
    float *c;
    const float *a, *b;
    size_t ldc, lda, ldb, k;
};

#define CASE(r, n) case r: tile(t->c, t->ldc, t->a, t->lda, t->b, t->ldb, t->k, r, n); break;

static void tile_1(const struct tile *t, uint32_t rows) { switch (rows) { EACH_ROWS(CASE, 1) } }
static void tile_2(const struct tile *t, uint32_t rows) { switch (rows) { EACH_ROWS(CASE, 2) } }
#if COLS == 3
static void tile_3(const struct tile *t, uint32_t rows) { switch (rows) { EACH_ROWS(CASE, 3) } }
#endif

/* c [rows][n] = a [rows][k] b [k][n], n in whole vectors, rows <= ROWS. */
static void product(struct tile t, uint32_t rows, size_t n)
{
    for (; n >= WIDTH; n -= WIDTH, t.b += WIDTH, t.c += WIDTH) {
#if COLS == 3
        tile_3(&t, rows);
#else
        tile_2(&t, rows);
#endif
    }
#if COLS == 3
    if (n == 2 * LANES) tile_2(&t, rows);
#endif
    if (n == LANES) tile_1(&t, rows);
}

/* Integer products. VNNI multiplies four unsigned by four signed bytes at once; pmaddwd
 * two pairs of int16, which cannot overflow as pmaddubsw can. All give the same integers. */
#if defined __AVX512VNNI__
#define GROUP 4
typedef uint8_t quant;
INLINE vi dot_load(const int8_t *w) { vi v; memcpy(&v, w, sizeof v); return v; }
INLINE vi dot(vi acc, vi w, int32_t x)
{
    return (vi)_mm512_dpbusd_epi32((__m512i)acc, _mm512_set1_epi32(x), (__m512i)w);
}
#else
typedef int16_t quant;
typedef int8_t vb __attribute__((vector_size(2 * LANES)));
typedef int16_t vh __attribute__((vector_size(4 * LANES)));
#if defined __SSE2__
#define GROUP 2
INLINE vi dot_load(const int8_t *w)
{
    vb v;
    memcpy(&v, w, sizeof v);
    return (vi)__builtin_convertvector(v, vh);
}
INLINE vi dot(vi acc, vi w, int32_t x)
{
#if defined __AVX2__
    return acc + (vi)_mm256_madd_epi16((__m256i)w, _mm256_set1_epi32(x));
#else
    return acc + (vi)_mm_madd_epi16((__m128i)w, _mm_set1_epi32(x));
#endif
}
#else
#define GROUP 1
typedef int8_t vq __attribute__((vector_size(LANES)));
INLINE vi dot_load(const int8_t *w)
{
    vq v;
    memcpy(&v, w, sizeof v);
    return __builtin_convertvector(v, vi);
}
INLINE vi dot(vi acc, vi w, int32_t x) { return acc + w * x; }
#endif
#endif

/* Some rows of a panel. */
struct tile_int8 {
    float *y;               /* [rows][ld] */
    const quant *a;         /* [rows][lda] */
    const int8_t *b;        /* [k / GROUP][WIDTH][GROUP] */
    const float *scale, *zero;              /* [rows] of a */
    const float *scales, *sums, *bias;      /* [WIDTH] of b */
    size_t ld, lda, k;      /* k at least one whole group */
};

/* y = scale scales (a b - zero sums) + bias for column j of vectors, whose a b stand at every
 * `step` of ab. */
INLINE void put_int8(const struct tile_int8 *t, const vi *ab, size_t step, int rows, int j)
{
    vf sums = load(t->sums + j * LANES), scales = load(t->scales + j * LANES);
    vf bias = load(t->bias + j * LANES);
    for (int r = 0; r < rows; r++, ab += step) {
        vf v = (__builtin_convertvector(*ab, vf) - sums * t->zero[r]) * t->scale[r];
        store(t->y + (size_t)r * t->ld + j * LANES, v * scales + bias);
    }
}

INLINE void tile_int8(const struct tile_int8 *t, const int rows)
{
    const quant *a = t->a;
    const int8_t *b = t->b;
    size_t k = t->k, lda = t->lda;
    vi acc[ROWS][COLS], w[COLS];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < COLS; j++) acc[r][j] = (vi){ 0 };
    do {
        for (int j = 0; j < COLS; j++) w[j] = dot_load(b + j * LANES * GROUP);
        for (int r = 0; r < rows; r++) {
#if GROUP == 1
            int32_t x = a[(size_t)r * lda];
#else
            int32_t x;
            memcpy(&x, a + (size_t)r * lda, sizeof x);
#endif
            for (int j = 0; j < COLS; j++) acc[r][j] = dot(acc[r][j], w[j], x);
        }
        a += GROUP;
        b += WIDTH * GROUP;
    } while (k -= GROUP);
    for (int j = 0; j < COLS; j++) put_int8(t, &acc[0][j], COLS, rows, j);
}

#define CASE_INT8(r, n) case r: tile_int8(t, r); break;

static void product_int8(const struct tile_int8 *t, uint32_t rows)
{
    switch (rows) { EACH_ROWS(CASE_INT8, 0) }
}

#if GROUP == 4
/* The same of depths in whole tiles on AMX, whose registers are tiles of 16 rows of 64 bytes
 * (Intel SDM volume 1, chapter 18): 0 to 2 are sums, 3 is of a, 4 to 6 are of b. */
#define AMX __attribute__((target("amx-tile,amx-int8")))

enum { AMX_ROWS = 16, AMX_BYTES = 64 };

AMX static void amx_begin(uint32_t rows)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = { .palette = 1 };
    for (int i = 0; i < 7; i++) {
        shape.bytes[i] = AMX_BYTES;
        shape.rows[i] = i < 4 ? (uint8_t)rows : AMX_ROWS;
    }
    __asm__ volatile("" : : "r"(&shape) : "memory");      /* of which gcc sees 8 bytes read */
    _tile_loadconfig(&shape);
}

AMX static void product_amx(const struct tile_int8 *t, uint32_t rows)
{
    vi c[AMX_ROWS][COLS];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    for (size_t k = 0; k < t->k; k += AMX_BYTES) {
        const int8_t *b = t->b + k * WIDTH;
        _tile_loadd(3, t->a + k, t->lda);
        _tile_loadd(4, b, WIDTH * GROUP);
        _tile_loadd(5, b + AMX_BYTES, WIDTH * GROUP);
        _tile_loadd(6, b + 2 * AMX_BYTES, WIDTH * GROUP);
        _tile_dpbusd(0, 3, 4);
        _tile_dpbusd(1, 3, 5);
        _tile_dpbusd(2, 3, 6);
    }
    _tile_stored(0, &c[0][0], sizeof c[0]);
    _tile_stored(1, &c[0][1], sizeof c[0]);
    _tile_stored(2, &c[0][2], sizeof c[0]);
    for (int j = 0; j < COLS; j++) put_int8(t, &c[0][j], COLS, (int)rows, j);
}
#endif

#endif
