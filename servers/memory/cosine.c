#include "cosine.h"

#include <math.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "memory.h"

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

/* What codes of at most `most` leave of x. */
struct rounded {
    double  step;            /* times p is about x; negative when `most` is */
    double  all, square, left;  /* of x, step p and x - step p: lengths, squared */
    double  coarse;          /* left if the last four bits of p were not known, squared */
    int32_t sum;             /* of p */
};

/* x in codes p, LANES at a time. */
INLINE struct rounded encode(const float *x, size_t n, double most, int8_t *codes)
{
    typedef int64_t longs __attribute__((vector_size(LANES * sizeof(int64_t))));
    typedef int32_t ints __attribute__((vector_size(LANES * sizeof(int32_t))));
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
    lanes all = { 0 }, square = { 0 }, left = { 0 }, coarse = { 0 };
    for (size_t j = 0; j < n; j += LANES) {
        memcpy(&part, n - j < LANES ? last : x + j, sizeof part);
        lanes v = __builtin_convertvector(part, lanes), p = v * inverse;
        p += (lanes)((longs)half | ((longs)p & INT64_MIN));  /* away from zero, then cut */
        ints i = __builtin_convertvector(p, ints);
        lanes near = __builtin_convertvector(i, lanes) * r.step, rest = v - near;
        lanes around = v - __builtin_convertvector((i & -16) + 8, lanes) * r.step;
        all += v * v;
        square += near * near;
        left += rest * rest;
        coarse += around * around;
        total += i;
        bytes b = __builtin_convertvector(i, bytes);
        memcpy(codes + j, &b, sizeof b);
    }
    r.all = sum_of(&all);
    r.square = sum_of(&square);
    r.left = sum_of(&left);
    r.coarse = sum_of(&coarse);
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
    target static struct rounded encode_##name(const float *x, size_t n, double most,   \
                                               int8_t *codes)                           \
    {                                                                                   \
        return encode(x, n, most, codes);                                               \
    }
COMPILED(plain, )
#ifdef __x86_64__
COMPILED(avx2, __attribute__((target("avx2,fma"))))
COMPILED(avx512, __attribute__((target("avx512f,avx512vl,avx512dq"))))
#endif

/* Products of n rows of half codes, as numbers of 0 to 15, with the codes of the query. */

typedef uint16_t words __attribute__((vector_size(16)));
typedef int16_t  shorts __attribute__((vector_size(16)));

/* The first element that has bits in byte j of half a row; the other is 64 behind. */
static inline size_t element_of(size_t j) { return 2 * j - j % 64; }

/* Words of the baseline hold two bytes, that is four elements. Which byte comes first does not
 * matter, since the query is taken apart alike: for each vector of words, four of shorts. */
static void take_apart(int16_t *wide, const int8_t *y, size_t stride)
{
    for (size_t j = 0; j < stride; j += 16, wide += 32) {
        const int8_t *at = y + element_of(j);
        words a, b;
        memcpy(&a, at, sizeof a);
        memcpy(&b, at + 64, sizeof b);
        shorts part[] = { (shorts)(a << 8) >> 8, (shorts)(b << 8) >> 8,
                          (shorts)a >> 8, (shorts)b >> 8 };
        memcpy(wide, part, sizeof part);
    }
}

static void rows_plain(const struct cosine_query *q, const uint8_t *row, size_t n, int32_t *out)
{
    typedef int32_t ints __attribute__((vector_size(16)));
    for (size_t i = 0; i < n; i++, row += q->stride) {
        const shorts *y = (const shorts *)q->wide;
        ints sum = { 0 };
        for (size_t j = 0; j < q->stride; j += 64) {
            shorts part = { 0 };   /* of sixteen products, which stay within 16 bits */
            for (size_t k = j; k < j + 64; k += 16, y += 4) {
                words x;
                memcpy(&x, row + k, sizeof x);
                part += (shorts)(x & 15) * y[0] + (shorts)(x >> 4 & 15) * y[1];
                part += (shorts)(x >> 8 & 15) * y[2] + (shorts)(x >> 12) * y[3];
            }
            sum += ((ints)part >> 16) + (((ints)part << 16) >> 16);
        }
        out[i] = sum[0] + sum[1] + sum[2] + sum[3];
    }
}

#ifdef __x86_64__

enum { AHEAD = 4096 };  /* bytes that are asked for before their turn, past the end too */

__attribute__((target("avx2")))
static void rows_avx2(const struct cosine_query *q, const uint8_t *row, size_t n, int32_t *out)
{
    size_t stride = q->stride;
    const __m256i bits = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    for (size_t i = 0; i < n; i++, row += stride) {
        __m256i sum = _mm256_setzero_si256();
        for (size_t j = 0; j < stride; j += 32) {
            const __m256i *at = (const __m256i *)(q->codes + element_of(j));
            if (n > 1) _mm_prefetch((const char *)row + j + AHEAD, _MM_HINT_T1);
            __m256i x = _mm256_load_si256((const __m256i *)(row + j));
            __m256i a = _mm256_and_si256(x, bits);
            __m256i b = _mm256_and_si256(_mm256_srli_epi16(x, 4), bits);
            a = _mm256_maddubs_epi16(a, _mm256_load_si256(at));
            b = _mm256_maddubs_epi16(b, _mm256_load_si256(at + 2));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(a, b), ones));
        }
        __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
        s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
        out[i] = _mm_cvtsi128_si32(s);
    }
}

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

VNNI INLINE __m512i add_vnni(__m512i sum, const uint8_t *at, __m512i a, __m512i b)
{
    const __m512i bits = _mm512_set1_epi8(15);
    __m512i x = _mm512_load_si512(at);
    sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(x, bits), a);
    return _mm512_dpbusd_epi32(sum, _mm512_and_si512(_mm512_srli_epi16(x, 4), bits), b);
}

/* Four rows at once, and their sums of lanes with them. */
VNNI static void rows_vnni(const struct cosine_query *q, const uint8_t *row, size_t n,
                           int32_t *out)
{
    const int8_t *y = q->codes;
    size_t stride = q->stride;
    for (; n >= 4; n -= 4, row += 4 * stride, out += 4) {
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
        for (size_t j = 0; j < stride; j += 64) {
            const uint8_t *at = row + j;
            __m512i low = _mm512_load_si512(y + 2 * j), high = _mm512_load_si512(y + 2 * j + 64);
            for (size_t k = 0; k < 4; k++)
                _mm_prefetch((const char *)at + k * stride + AHEAD, _MM_HINT_T1);
            a = add_vnni(a, at, low, high);
            b = add_vnni(b, at + stride, low, high);
            c = add_vnni(c, at + 2 * stride, low, high);
            d = add_vnni(d, at + 3 * stride, low, high);
        }
        a = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        c = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        a = _mm512_add_epi32(_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c));
        __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
        __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
        memcpy(out, &sums, sizeof sums);
    }
    for (; n; n--, row += stride) {
        __m512i a = _mm512_setzero_si512();
        for (size_t j = 0; j < stride; j += 64)
            a = add_vnni(a, row + j, _mm512_load_si512(y + 2 * j),
                         _mm512_load_si512(y + 2 * j + 64));
        *out++ = _mm512_reduce_add_epi32(a);
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
    void (*rows)(const struct cosine_query *, const uint8_t *, size_t, int32_t *);
    double (*exact)(const float *, const float *, size_t);
    struct rounded (*encode)(const float *, size_t, double, int8_t *);
} kernels[] = {
#ifdef __x86_64__
    { "avx512-vnni", has_vnni, rows_vnni, exact_avx512, encode_avx512 },
    { "avx2", has_avx2, rows_avx2, exact_avx2, encode_avx2 },
#endif
    { "plain", has_plain, rows_plain, exact_plain, encode_plain },
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

void cosine_coarse(const struct cosine_query *q, const uint8_t *upper, size_t n,
                   int32_t *product)
{
    best()->rows(q, upper, n, product);
    for (size_t i = 0; i < n; i++) product[i] = 16 * product[i] - 120 * q->sum;
}

int32_t cosine_rest(const struct cosine_query *q, const uint8_t *lower)
{
    int32_t product;
    best()->rows(q, lower, 1, &product);
    return product - 8 * q->sum;
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

double cosine_encode(const float *x, size_t dimension, uint8_t *upper, uint8_t *lower,
                     struct cosine_row *row)
{
    size_t stride = COSINE_STRIDE(dimension);
    int8_t q[MEMORY_DIMENSION];
    memset(q, 0, 2 * stride);
    struct rounded r = best()->encode(x, dimension, 127, q);
    for (size_t j = 0; j < stride; j++) {
        const int8_t *at = q + element_of(j);
        int a = at[0] + 128, b = at[64] + 128;
        upper[j] = (uint8_t)(a >> 4 | (b & 240));
        lower[j] = (uint8_t)((a & 15) | (b & 15) << 4);
    }
    *row = (struct cosine_row){ .scale = (float)r.step, .coarse = (float)up(sqrt(r.coarse)) };
    return up(sqrt(r.all));
}

size_t cosine_query_bytes(size_t dimension) { return 6 * COSINE_STRIDE(dimension) + 64; }

void cosine_query(struct cosine_query *q, void *buffer, const float *y, size_t dimension,
                  int negate)
{
    size_t stride = COSINE_STRIDE(dimension);
    int8_t *codes = memset((void *)(((uintptr_t)buffer + 63) / 64 * 64), 0, 2 * stride);
    int16_t *wide = (int16_t *)(void *)(codes + 2 * stride);
    struct rounded r = best()->encode(y, dimension, negate ? -127 : 127, codes);
    take_apart(wide, codes, stride);
    *q = (struct cosine_query){ .stride = stride, .scale = fabs(r.step),
                                .length = up(sqrt(r.square)), .error = up(sqrt(r.left)),
                                .steps = up(sqrt((double)dimension) / 2), .sum = r.sum,
                                .codes = codes, .wide = wide };
}
