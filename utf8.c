/* UTF-8. Two passes with one meaning: a vector pass runs ahead over what is
 * right, and a scalar pass walks what it left: short pieces, the characters
 * cut by a border, and the neighbourhood of an error, to name the exact byte.
 *
 * The vector pass is the lookup algorithm of John Keiser and Daniel Lemire,
 * "Validating UTF-8 In Less Than One Instruction Per Byte" (2021): three tables
 * of 16, indexed by nibbles of two neighbouring bytes, give bit sets of the
 * faults that each nibble allows; a fault is a bit that all three have. */
#include "utf8.h"

#include <string.h>

/* What may follow lead byte b (table 3-7); 0 when b leads nothing. */
static int lead(struct utf8 *u, uint8_t b)
{
    u->lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    u->hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    u->need = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
    return b >= 0xc2 && b <= 0xf4;
}

static size_t scalar(struct utf8 *u, const uint8_t *p, size_t i, size_t n)
{
    struct utf8 s = *u;
    while (i < n) {
        if (s.need) {
            if (p[i] < s.lo || p[i] > s.hi) return i;
            s = (struct utf8){(uint8_t)(s.need - 1), 0x80, 0xbf};
            i++;
        } else if (p[i] >= 0x80) {
            if (!lead(&s, p[i])) return i;
            i++;
        } else {
            uint64_t word = 0;
            while (n - i >= 8 && (memcpy(&word, p + i, 8), !(word & 0x8080808080808080u))) i += 8;
            while (i < n && p[i] < 0x80) i++;
        }
    }
    *u = s;
    return n;
}

#if !defined UTF8_PORTABLE && (defined __x86_64__ || defined __i386__)
#include <cpuid.h>
#include <immintrin.h>
#define VECTOR __attribute__((target("avx2"))) static inline
typedef uint8_t vec __attribute__((vector_size(32)));

/* 1 when processor and system have AVX2. Asking is slow in a virtual machine, so it is
 * done once; threads that ask together write the same answer. */
static int has_vectors(void)
{
    static _Atomic signed char known = -1;
    if (known >= 0) return known;
    unsigned a, b, c = 0, d, saves = 0, yes = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) yes = (b & bit_AVX2) != 0;
    yes &= (unsigned)__get_cpuid(1, &a, &b, &c, &d);
    yes &= (c & bit_OSXSAVE) / bit_OSXSAVE;
    if (yes) __asm__("xgetbv" : "=a"(saves), "=d"(d) : "c"(0));
    yes &= (saves & 6) == 6;
    known = (signed char)yes;
    return (int)yes;
}

VECTOR vec less(vec v, vec c) { return (vec)_mm256_subs_epu8((__m256i)v, (__m256i)c); }
VECTOR int any(vec v) { return !_mm256_testz_si256((__m256i)v, (__m256i)v); }
VECTOR vec look(const uint8_t *table, vec i)
{
    __m128i t = _mm_loadu_si128((const __m128i *)(const void *)table);
    return (vec)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t), (__m256i)i);
}

#elif !defined UTF8_PORTABLE && defined __aarch64__ && defined __ARM_NEON
#include <arm_neon.h>
#define VECTOR static inline
typedef uint8_t vec __attribute__((vector_size(16)));

static int has_vectors(void) { return 1; }

VECTOR vec less(vec v, vec c) { return (vec)vqsubq_u8((uint8x16_t)v, (uint8x16_t)c); }
VECTOR int any(vec v) { return vmaxvq_u8((uint8x16_t)v) != 0; }
VECTOR vec look(const uint8_t *table, vec i)
{
    return (vec)vqtbl1q_u8(vld1q_u8(table), (uint8x16_t)i);
}
#endif

#ifdef VECTOR
enum {
    W = sizeof(vec),
    SHORT = 1, LONG = 2, OVER3 = 4, LARGE = 8, SURR = 16, OVER2 = 32, LARGE2 = 64, OVER4 = 64,
    CONTS = 128, CARRY = SHORT | LONG | CONTS
};
static const uint8_t first_high[16] = {
    LONG, LONG, LONG, LONG, LONG, LONG, LONG, LONG, CONTS, CONTS, CONTS, CONTS,
    SHORT | OVER2, SHORT, SHORT | OVER3 | SURR, SHORT | LARGE | LARGE2 | OVER4
};
#define BIG (CARRY | LARGE | LARGE2)
static const uint8_t first_low[16] = {
    CARRY | OVER2 | OVER3 | OVER4, CARRY | OVER2, CARRY, CARRY, CARRY | LARGE,
    BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG, BIG | SURR, BIG, BIG
};
#define CONT (LONG | OVER2 | CONTS)
static const uint8_t second_high[16] = {
    SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT, SHORT,
    CONT | OVER3 | LARGE2 | OVER4, CONT | OVER3 | LARGE, CONT | SURR | LARGE, CONT | SURR | LARGE,
    SHORT, SHORT, SHORT, SHORT
};

VECTOR vec load(const uint8_t *p)
{
    vec v;
    memcpy(&v, p, W);
    return v;
}

/* Nonzero where one of the W bytes at p cannot follow the three before it. */
VECTOR vec faults(const uint8_t *p)
{
    vec now = load(p), last = load(p - 1);
    vec pair = look(first_high, last >> 4) & look(first_low, last & 15) &
               look(second_high, now >> 4);
    /* 0x80 where a lead byte two or three places before asks for a continuation. */
    const vec zero = {0};
    vec third = less(load(p - 2), zero + (0xe0 - 0x80)) | less(load(p - 3), zero + (0xf0 - 0x80));
    return (third & 0x80) ^ pair;
}

/* From a border of characters at i on: how far n bytes are right, up to a border. What comes
 * before i is right, and i >= 3, n >= W + 3: no load leaves the text. The last block overlaps. */
VECTOR size_t ahead(const uint8_t *p, size_t i, size_t n)
{
    for (size_t step; i < n; i += step) {
        step = n - i < 4 * W ? W : 4 * W;
        const uint8_t *b = p + (n - i < W ? n - W : i);
        vec bad;
        if (step == W) {
            bad = faults(b);
        } else if (any((load(b) | load(b + W) | load(b + 2 * W) | load(b + 3 * W)) & 0x80)) {
            bad = faults(b) | faults(b + W) | faults(b + 2 * W) | faults(b + 3 * W);
        } else {
            if (b[-1] >= 0xc0 || b[-2] >= 0xe0 || b[-3] >= 0xf0) break;
            continue;
        }
        if (any(bad)) break;
    }
    if (i > n) i = n;
    for (size_t back = 1; back <= 3; back++)
        if (p[i - back] >= 0xc0) return i - back;
    return i;
}
#endif

size_t utf8_check(struct utf8 *u, const uint8_t *p, size_t n)
{
    size_t i = 0;
#ifdef VECTOR
    if (n >= W + 3 && has_vectors()) {
        while (i < 3 || u->need) {
            if (scalar(u, p, i, i + 1) == i) return i;
            i++;
        }
        i = ahead(p, i, n);
    }
#endif
    return scalar(u, p, i, n);
}

int utf8_valid(const uint8_t *p, size_t n)
{
    struct utf8 u = {0};
    return utf8_check(&u, p, n) == n && !u.need;
}

size_t utf8_put(uint8_t *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    for (size_t i = more; i > 0; i--, c >>= 6) out[i] = (uint8_t)(0x80 | (c & 0x3f));
    out[0] = (uint8_t)((0xf0u << (3 - more)) | c);
    return more + 1;
}

uint32_t utf8_get(const uint8_t **p)
{
    uint32_t c = *(*p)++;
    if (c < 0x80) return c;
    unsigned more = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    c &= 0x3fu >> more;
    while (more--) c = c << 6 | (*(*p)++ & 0x3f);
    return c;
}
