#include "cosine.h"

#include <math.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8, PARTS = 4 };
typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef float  narrow __attribute__((vector_size(LANES * sizeof(float))));

/* One order of summing for every processor: element j goes to sum j mod 32. The
 * product of two floats is exact in double, so that a fused kernel gives the same. */
INLINE double exact(const float *a, const float *b, size_t n)
{
    lanes sum[PARTS] = { { 0 }, { 0 }, { 0 }, { 0 } };
    size_t j = 0;
    for (; j + LANES * PARTS <= n; j += LANES * PARTS) {
        for (size_t k = 0; k < PARTS; k++) {
            narrow x, y;
            memcpy(&x, a + j + k * LANES, sizeof x);
            memcpy(&y, b + j + k * LANES, sizeof y);
            sum[k] += __builtin_convertvector(x, lanes) * __builtin_convertvector(y, lanes);
        }
    }
    double s[LANES * PARTS];
    memcpy(s, sum, sizeof s);
    for (size_t k = 0; j < n; j++, k++) s[k] += (double)a[j] * (double)b[j];
    for (size_t width = LANES * PARTS / 2; width; width /= 2)
        for (size_t k = 0; k < width; k++) s[k] += s[k + width];
    return s[0];
}

INLINE double sum_of(const lanes *v)
{
    double s[LANES], sum = 0;
    memcpy(s, v, sizeof s);
    for (size_t k = 0; k < LANES; k++) sum += s[k];
    return sum;
}

/* What integers of at most `most`, and so many of them, leave of x. */
struct rounded {
    double  step;            /* times p is about x; negative when `most` is */
    double  all, square, left;  /* of x, step p and x - step p: lengths, squared */
    int32_t sum;             /* of p */
};

/* x in integers p: int16 into whole, or int8 into codes, LANES at a time. */
INLINE struct rounded integers(const float *x, size_t n, double most, int16_t *whole, int8_t *codes)
{
    typedef int64_t longs __attribute__((vector_size(LANES * sizeof(int64_t))));
    typedef int32_t ints __attribute__((vector_size(LANES * sizeof(int32_t))));
    typedef int16_t shorts __attribute__((vector_size(LANES * sizeof(int16_t))));
    typedef int8_t  bytes __attribute__((vector_size(LANES)));
    const lanes half = (lanes){ 0 } + 0.5;
    float last[LANES] = { 0 }, greatest = 0;    /* what is over, with zeros behind */
    memcpy(last, x + n / LANES * LANES, n % LANES * sizeof *x);
    narrow part;
    ints top = { 0 }, total = { 0 };
    for (size_t j = 0; j < n; j += LANES) {
        memcpy(&part, n - j < LANES ? last : x + j, sizeof part);
        ints v = (ints)part & INT32_MAX, more = v > top;   /* floats compare as their bits do */
        top = (v & more) | (top & ~more);
    }
    float tops[LANES];
    memcpy(tops, &top, sizeof tops);
    for (size_t k = 0; k < LANES; k++) greatest = tops[k] > greatest ? tops[k] : greatest;
    struct rounded r = { .step = greatest > 1e-30f ? (double)(float)(greatest / most) : 0 };
    double inverse = r.step != 0 ? 1 / r.step : 0;
    lanes all = { 0 }, square = { 0 }, left = { 0 };
    for (size_t j = 0; j < n; j += LANES) {
        memcpy(&part, n - j < LANES ? last : x + j, sizeof part);
        lanes v = __builtin_convertvector(part, lanes), p = v * inverse;
        p += (lanes)((longs)half | ((longs)p & INT64_MIN));  /* away from zero, then cut */
        ints i = __builtin_convertvector(p, ints);
        lanes near = __builtin_convertvector(i, lanes) * r.step, rest = v - near;
        all += v * v;
        square += near * near;
        left += rest * rest;
        total += i;
        shorts s = __builtin_convertvector(i, shorts);
        bytes b = __builtin_convertvector(i, bytes);
        if (whole) memcpy(whole + j, &s, sizeof s);
        else memcpy(codes + j, &b, sizeof b);
    }
    r.all = sum_of(&all);
    r.square = sum_of(&square);
    r.left = sum_of(&left);
    int32_t totals[LANES];
    memcpy(totals, &total, sizeof totals);
    for (size_t k = 0; k < LANES; k++) r.sum += totals[k];
    return r;
}

/* Both, compiled for a processor. */
#define COMPILED(name, target)                                                          \
    target static double exact_##name(const float *a, const float *b, size_t n)         \
    {                                                                                   \
        return exact(a, b, n);                                                          \
    }                                                                                   \
    target static struct rounded integers_##name(const float *x, size_t n, double most, \
                                                 int16_t *whole, int8_t *codes)         \
    {                                                                                   \
        return integers(x, n, most, whole, codes);                                      \
    }
COMPILED(plain, )
#ifdef __x86_64__
COMPILED(avx2, __attribute__((target("avx2,fma"))))
COMPILED(avx512, __attribute__((target("avx512f,avx512vl,avx512dq"))))
#endif

/* Left to the compiler, which has a multiply-and-add of 16-bit integers on every target. */
static void rows_plain(const struct cosine_query *q, const int8_t *codes, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++, codes += q->stride) {
        int32_t sum = 0;
        for (size_t j = 0; j < q->stride; j += 16) {
            for (size_t k = 0; k < 16; k++) {
                int16_t x = codes[j + k];
                sum += (int32_t)x * q->whole[j + k];
            }
        }
        out[i] = sum;
    }
}

#ifdef __x86_64__

__attribute__((target("avx2")))
static void rows_avx2(const struct cosine_query *q, const int8_t *codes, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++, codes += q->stride) {
        __m256i sum = _mm256_setzero_si256();
        for (size_t j = 0; j < q->stride; j += 16) {
            __m256i x = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(codes + j)));
            __m256i y = _mm256_load_si256((const __m256i *)(q->whole + j));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, y));
        }
        __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
        out[i] = _mm_cvtsi128_si32(s);
    }
}

enum { AHEAD = 4096 };  /* bytes that are asked for before their turn, past the end too */

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

/* VNNI multiplies unsigned by signed bytes: codes are lifted by 128, which is taken off
 * again by the sum over the query. Wraps like the sum it equals. */
VNNI INLINE __m512i row_vnni(const struct cosine_query *q, const int8_t *codes)
{
    __m512i high = _mm512_setzero_si512(), low = high;
    for (size_t j = 0; j < q->stride; j += 64) {
        _mm_prefetch((const char *)codes + j + AHEAD, _MM_HINT_T0);
        __m512i x = _mm512_xor_si512(_mm512_load_si512(codes + j), _mm512_set1_epi8(-128));
        high = _mm512_dpbusd_epi32(high, x, _mm512_load_si512(q->high + j));
        low = _mm512_dpbusd_epi32(low, x, _mm512_load_si512(q->low + j));
    }
    return _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
}

/* One row behind the other, as the memory likes it; the sums of lanes are made for four at
 * once, with the last row again where fewer are left. */
VNNI static void rows_vnni(const struct cosine_query *q, const int8_t *codes, size_t n,
                           int32_t *out)
{
    const __m128i lifted = _mm_set1_epi32((int32_t)(128u * (uint32_t)q->sum));
    for (size_t i = 0, left; (left = n - i); i += left < 4 ? left : 4) {
        const int8_t *row = codes + i * q->stride;
        const int8_t *last = row + (left < 4 ? left - 1 : 3) * q->stride;
        __m512i a = row_vnni(q, row), b = row_vnni(q, left > 1 ? row + q->stride : last);
        __m512i c = row_vnni(q, left > 2 ? row + 2 * q->stride : last), d = row_vnni(q, last);
        a = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        c = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        a = _mm512_add_epi32(_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c));
        __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
        __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
        sums = _mm_sub_epi32(sums, lifted);
        memcpy(out + i, &sums, left < 4 ? left * sizeof *out : sizeof sums);
    }
}

static int has_vnni(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#endif

static int has_plain(void) { return 1; }

static const struct kernel {
    const char *name;
    int (*has)(void);
    void (*rows)(const struct cosine_query *, const int8_t *, size_t, int32_t *);
    double (*exact)(const float *, const float *, size_t);
    struct rounded (*integers)(const float *, size_t, double, int16_t *, int8_t *);
} kernels[] = {
#ifdef __x86_64__
    { "avx512-vnni", has_vnni, rows_vnni, exact_avx512, integers_avx512 },
    { "avx2", has_avx2, rows_avx2, exact_avx2, integers_avx2 },
#endif
    { "plain", has_plain, rows_plain, exact_plain, integers_plain },
};

static const struct kernel *used;

static const struct kernel *nth(unsigned i)
{
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++)
        if (kernels[k].has() && i-- == 0) return &kernels[k];
    return NULL;
}

const char *cosine_kernel(unsigned i)
{
    const struct kernel *k = nth(i);
    return k ? k->name : NULL;
}

void cosine_use(unsigned i)
{
    const struct kernel *k = nth(i);
    if (k) used = k;
}

static const struct kernel *best(void)
{
    if (!used) used = nth(0);
    return used;
}

double cosine_exact(const float *a, const float *b, size_t dimension)
{
    return best()->exact(a, b, dimension);
}

double cosine_clamp(double cosine)
{
    return 1 - fabs(cosine) > COSINE_ROUNDING ? cosine : cosine > 0 ? 1 : -1;
}

void cosine_rows(const struct cosine_query *q, const int8_t *codes, size_t n, int32_t *out)
{
    best()->rows(q, codes, n, out);
}

int cosine_normalise(float *out, const float *in, size_t dimension)
{
    double square = cosine_exact(in, in, dimension);
    if (!(square > 0 && isfinite(square))) return -1;
    double length = sqrt(square);
    for (size_t j = 0; j < dimension; j++) out[j] = (float)(in[j] / length);
    return 0;
}

/* Above any rounding of the sums that it is made for. */
static double up(double x) { return x * (1 + 1e-6) + 1e-12; }

double cosine_encode(const float *x, size_t dimension, int8_t *codes, float *scale, float *error)
{
    memset(codes, 0, COSINE_STRIDE(dimension));
    struct rounded r = best()->integers(x, dimension, 127, NULL, codes);
    *scale = (float)r.step;
    *error = (float)up(sqrt(r.left));
    return up(sqrt(r.all));
}

size_t cosine_query_bytes(size_t dimension) { return 4 * COSINE_STRIDE(dimension) + 64; }

void cosine_query(struct cosine_query *q, void *buffer, const float *y, size_t dimension,
                  int negate)
{
    size_t stride = COSINE_STRIDE(dimension);
    uintptr_t at = ((uintptr_t)buffer + 63) / 64 * 64;
    int16_t *whole = memset((void *)at, 0, 2 * stride);
    int8_t *high = (int8_t *)(at + 2 * stride), *low = high + stride;
    /* No sum of products of codes may leave 32 bits, nor p two signed bytes. */
    double most = fmin(16256, floor(INT32_MAX / (127.0 * (double)dimension)));
    struct rounded r = best()->integers(y, dimension, negate ? -most : most, whole, NULL);
    for (size_t j = 0; j < stride; j += 8) {
        typedef int16_t shorts __attribute__((vector_size(16)));
        typedef int8_t  bytes __attribute__((vector_size(8)));
        shorts p, l;
        memcpy(&p, whole + j, sizeof p);
        l = ((p + 64) & 127) - 64;
        bytes lows = __builtin_convertvector(l, bytes);
        bytes highs = __builtin_convertvector((p - l) >> 7, bytes);
        memcpy(low + j, &lows, sizeof lows);
        memcpy(high + j, &highs, sizeof highs);
    }
    *q = (struct cosine_query){ .stride = stride, .scale = fabs(r.step),
                                .length = up(sqrt(r.square)), .error = up(sqrt(r.left)),
                                .sum = r.sum, .whole = whole,
                                .high = high, .low = low };
}
