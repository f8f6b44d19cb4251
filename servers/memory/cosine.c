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
    for (size_t width = LANES * PARTS / 2; width; width /= 2) {
        for (size_t k = 0; k < width; k++) s[k] += s[k + width];
    }
    return s[0];
}

static double exact_plain(const float *a, const float *b, size_t n) { return exact(a, b, n); }

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

__attribute__((target("avx2,fma")))
static double exact_avx2(const float *a, const float *b, size_t n) { return exact(a, b, n); }

__attribute__((target("avx512f,avx512vl,avx512dq")))
static double exact_avx512(const float *a, const float *b, size_t n) { return exact(a, b, n); }

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

/* VNNI multiplies unsigned by signed bytes: codes are lifted by 128, which is
 * taken off again by the sums over the query. Wraps like the sum it equals. */
/* Sum of sixteen lanes, modulo 2^32. */
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
static uint32_t lanes_sum(__m512i v)
{
    __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(q);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
static void rows_vnni(const struct cosine_query *q, const int8_t *codes, size_t n, int32_t *out)
{
    const __m512i lift = _mm512_set1_epi8(-128);
    for (size_t i = 0; i < n; i++, codes += q->stride) {
        __m512i high = _mm512_setzero_si512(), low = high;
        for (size_t j = 0; j < q->stride; j += 64) {
            __m512i x = _mm512_xor_si512(_mm512_load_si512(codes + j), lift);
            high = _mm512_dpbusd_epi32(high, x, _mm512_load_si512(q->high + j));
            low = _mm512_dpbusd_epi32(low, x, _mm512_load_si512(q->low + j));
        }
        __m512i both = _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
        uint32_t sum = lanes_sum(both);
        out[i] = (int32_t)(sum - 128u * (128u * (uint32_t)q->sum_high + (uint32_t)q->sum_low));
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
} kernels[] = {
#ifdef __x86_64__
    { "avx512-vnni", has_vnni, rows_vnni, exact_avx512 },
    { "avx2", has_avx2, rows_avx2, exact_avx2 },
#endif
    { "plain", has_plain, rows_plain, exact_plain },
};

static const struct kernel *used;

static const struct kernel *nth(unsigned i)
{
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        if (kernels[k].has() && i-- == 0) return &kernels[k];
    }
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

double cosine_exact(const float *a, const float *b, size_t dimension)
{
    if (!used) used = nth(0);
    return used->exact(a, b, dimension);
}

void cosine_rows(const struct cosine_query *q, const int8_t *codes, size_t n, int32_t *out)
{
    if (!used) used = nth(0);
    used->rows(q, codes, n, out);
}

int cosine_normalise(float *out, const float *in, size_t dimension)
{
    double square = cosine_exact(in, in, dimension);
    if (!(square > 0 && isfinite(square))) return -1;
    double length = sqrt(square);
    for (size_t j = 0; j < dimension; j++) out[j] = (float)(in[j] / length);
    return 0;
}

static float greatest(const float *x, size_t n)
{
    float most = 0;
    for (size_t j = 0; j < n; j++) most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
    return most;
}

/* Above any rounding of the sums that it is made for. */
static double up(double x) { return x * (1 + 1e-6) + 1e-12; }

double cosine_encode(const float *x, size_t dimension, int8_t *codes, float *scale, float *error)
{
    float step = greatest(x, dimension) / 127;
    double inverse = step > 0 ? 1 / (double)step : 0, left = 0, square = 0;
    memset(codes, 0, COSINE_STRIDE(dimension));
    for (size_t j = 0; j < dimension; j++) {
        long code = lrint(x[j] * inverse);
        codes[j] = (int8_t)(code > 127 ? 127 : code < -127 ? -127 : code);
        double rest = (double)x[j] - (double)step * codes[j];
        left += rest * rest;
        square += (double)x[j] * (double)x[j];
    }
    *scale = step;
    *error = (float)up(sqrt(left));
    return up(sqrt(square));
}

size_t cosine_query_bytes(size_t dimension) { return 4 * COSINE_STRIDE(dimension) + 64; }

void cosine_query(struct cosine_query *q, void *buffer, const float *y, size_t dimension,
                  int negate)
{
    size_t stride = COSINE_STRIDE(dimension);
    uintptr_t at = ((uintptr_t)buffer + 63) / 64 * 64;
    memset(q, 0, sizeof *q);
    q->stride = stride;
    q->whole = memset((void *)at, 0, 4 * stride);
    q->high = (int8_t *)(at + 2 * stride);
    q->low = q->high + stride;
    /* No sum of products of codes may leave 32 bits, nor p two signed bytes. */
    double most = fmin(16256, floor(INT32_MAX / (127.0 * (double)dimension)));
    double step = (negate ? -1 : 1) * (double)greatest(y, dimension) / most, left = 0, square = 0;
    for (size_t j = 0; j < dimension && step != 0; j++) {
        int32_t p = (int32_t)lrint(y[j] / step);
        q->whole[j] = (int16_t)p;
        q->low[j] = (int8_t)(((p + 64) & 127) - 64);
        q->high[j] = (int8_t)((p - q->low[j]) / 128);
        q->sum_high += q->high[j];
        q->sum_low += q->low[j];
        double rest = (double)y[j] - step * p;
        left += rest * rest;
        square += step * p * step * p;
    }
    q->scale = fabs(step);
    q->length = up(sqrt(square));
    q->error = up(sqrt(left));
}
