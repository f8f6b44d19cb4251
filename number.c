/* Decimal to binary is the algorithm of Daniel Lemire, "Number Parsing at a
 * Gigabyte per Second" (2021; no fallback for up to 19 digits: Mushtak and
 * Lemire, 2022), and exact integers where more digits decide. Binary to decimal
 * is Schubfach: Raffaello Giulietti, "The Schubfach way to render doubles"
 * (2020). Both need powers of ten to 128 bits; here these come out of 53 table
 * entries instead of 700. */
#include "number.h"

#include <assert.h>
#include <string.h>

/* Layout of a binary format, and the exponents of ten that matter to it. */
struct format {
    int bits;               /* of the fraction */
    int bias;
    int infinite;           /* exponent field of infinity */
    int least, most;        /* below least all is zero, above most infinite */
    int tie_from, tie_to;   /* where w * 10^q can lie half way between two values */
};
static const struct format f64 = {52, 1023, 2047, -342, 308, -4, 23};
static const struct format f32 = {23, 127, 255, -65, 38, -17, 10};

/* 5^(27 i) for i = -13..12, the first 192 bits: three words each, the high one first. */
static const uint64_t giant[26 * 3] = {
    0x8049a4ac0c5811aeu, 0x205b896d777d6278u, 0xac261e9f5141430bu, 0xcf42894a5dce35eau,
    0x52064cac828675b9u, 0x475f2b7d7df1ad7au, 0xa76c582338ed2621u, 0xaf2af2b80af6f24eu,
    0x657c8f4d43323a36u, 0x873e4f75e2224e68u, 0x5a7744a6e804a291u, 0xcc35eddfcf0996d7u,
    0xda7f5bf590966848u, 0xaf39a475506a899eu, 0xa30294cc2934e662u, 0xb080392cc4349decu,
    0xbd8d794d96aacfb3u, 0xfe13a5c86af64418u, 0x8e938662882af53eu, 0x547eb47b7282ee9cu,
    0x41b0230e1421487du, 0xe65829b3046b0afau, 0x0cb4a5a3112a5112u, 0xa3b561b1cb208396u,
    0xba121a4650e4ddebu, 0x92f34d62616ce413u, 0x21a0183e10583cd3u, 0x964e858c91ba2655u,
    0x3a6a07f8d510f86fu, 0xe9082f25e9c5e9ecu, 0xf2d56790ab41c2a2u, 0xfae27299423fb9c3u,
    0x3695dad7e8858901u, 0xc428d05aa4751e4cu, 0xaa97e14c3c26b886u, 0x96842dc95323f5a8u,
    0x9e74d1b791e07e48u, 0x775ea264cf55347du, 0xca49f1c05120c9c7u, 0x8000000000000000u,
    0x0000000000000000u, 0x0000000000000000u, 0xcecb8f27f4200f3au, 0x0000000000000000u,
    0x0000000000000000u, 0xa70c3c40a64e6c51u, 0x999090b65f67d924u, 0x0000000000000000u,
    0x86f0ac99b4e8dafdu, 0x69a028bb3ded71a3u, 0xdf9f915627c04e28u, 0xda01ee641a708de9u,
    0xe80e6f4820cc9495u, 0xd74baad03bc1d8d3u, 0xb01ae745b101e9e4u, 0x5ec05dcff72e7f8fu,
    0xc04c79ffe324301fu, 0x8e41ade9fbebc27du, 0x14588f13be847307u, 0x23bd6a2059c002f5u,
    0xe5d3ef282a242e81u, 0x8f1668c8a86da5fau, 0xf0b5ccf5176ecc7cu, 0xb9a74a0637ce2ee1u,
    0x6d953e2bd7173692u, 0x88efb0037ac08bdeu, 0x95f83d0a1fb69cd9u, 0x4abdaf101564f98eu,
    0x0d5a4af7b3a98e47u, 0xf24a01a73cf2dccfu, 0xbc633b39673c8cecu, 0x3d9c44cd2f36917cu,
    0xc3b8358109e84f07u, 0x0a862f80ec4700c8u, 0x02606ea01029dc37u, 0x9e19db92b4e31ba9u,
    0x6c07a2c26a8346d1u, 0x4944d9f52cd0dec2u
};
/* 5^r for r = 0..26, shifted up to the top of the word. */
static const uint64_t step[27] = {
    0x8000000000000000u, 0xa000000000000000u, 0xc800000000000000u, 0xfa00000000000000u,
    0x9c40000000000000u, 0xc350000000000000u, 0xf424000000000000u, 0x9896800000000000u,
    0xbebc200000000000u, 0xee6b280000000000u, 0x9502f90000000000u, 0xba43b74000000000u,
    0xe8d4a51000000000u, 0x9184e72a00000000u, 0xb5e620f480000000u, 0xe35fa931a0000000u,
    0x8e1bc9bf04000000u, 0xb1a2bc2ec5000000u, 0xde0b6b3a76400000u, 0x8ac7230489e80000u,
    0xad78ebc5ac620000u, 0xd8d726b7177a8000u, 0x878678326eac9000u, 0xa968163f0a57b400u,
    0xd3c21bcecceda100u, 0x84595161401484a0u, 0xa56fa5b99019a5c8u
};

struct wide { uint64_t high, low; };

static struct wide multiply(uint64_t a, uint64_t b)
{
#if defined __SIZEOF_INT128__ && !defined NUMBER_PORTABLE
    __extension__ typedef unsigned __int128 uint128;
    uint128 p = (uint128)a * b;
    return (struct wide){(uint64_t)(p >> 64), (uint64_t)p};
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t mid = a1 * b0 + (a0 * b0 >> 32);
    uint64_t mid2 = a0 * b1 + (uint32_t)mid;
    return (struct wide){a1 * b1 + (mid >> 32) + (mid2 >> 32), mid2 << 32 | (uint32_t)(a0 * b0)};
#endif
}

/* Bits 64 and up of w * g. */
static struct wide scale(uint64_t w, struct wide g)
{
    struct wide p = multiply(w, g.high);
    uint64_t carry = multiply(w, g.low).high;
    p.low += carry;
    p.high += p.low < carry;
    return p;
}

/* 10^q over that power of two which leaves 128 bits, rounded down: exact for q
 * of 0..55. q in -342..324; every one of them is compared with the truth in the tests. */
static struct wide power(int q)
{
    int i = (q + 13 * 27) / 27;
    uint64_t s = step[q + 13 * 27 - i * 27];
    const uint64_t *big = giant + i * 3;
    struct wide high = scale(s, (struct wide){big[0], big[1]});
    uint64_t rest = big[1] * s, carry = multiply(big[2], s).high;
    rest += carry;
    high.low += rest < carry;  /* carries no further: all powers were tried */
    unsigned up = !(high.high >> 63);  /* one place at most */
    return (struct wide){high.high << up | (high.low >> 63 & up),
                         high.low << up | (rest >> 63 & up)};
}

/* v / 2^bits rounded down, for |v| < 2^40 and bits < 32: portably. */
static int floor_shift(int64_t v, int bits)
{
    return (int)(((v + (1ll << 40)) >> bits) - (1ll << (40 - bits)));
}

/* Bits of the value nearest to w * 10^q, without a sign. */
static uint64_t nearest(const struct format *f, uint64_t w, int64_t q)
{
    if (!w || q < f->least) return 0;
    if (q > f->most) return (uint64_t)f->infinite << f->bits;
    int lead = __builtin_clzll(w);
    struct wide g = power((int)q);
    if (q < 0 && q >= -27) g.low++;
    struct wide p = scale(w << lead, g);
    int top = (int)(p.high >> 63), shift = top + 61 - f->bits;
    uint64_t m = p.high >> shift;
    int e = floor_shift(217706 * q, 16) + 63 + top - lead + f->bias;
    if (e <= 0) {
        if (e <= -62) return 0;
        m >>= 1 - e;
        return (m >> 1) + (m & 1);  /* may carry into the exponent field, as it should */
    }
    bool tie = p.low <= 1 && q >= f->tie_from && q <= f->tie_to && m << shift == p.high;
    if (tie && (m & 3) == 1) m--;
    m = (m >> 1) + (m & 1);
    uint64_t bits = ((uint64_t)(e - 1) << f->bits) + m;
    uint64_t infinite = (uint64_t)f->infinite << f->bits;
    return bits < infinite ? bits : infinite;
}

/* Integers of up to 3,072 bits: 2,700 are the most that half_or_more() can need. */
struct big {
    unsigned n;      /* limbs in use, least significant first */
    uint32_t limb[96];
};

static void big_multiply(struct big *b, uint32_t by, uint32_t add)
{
    uint64_t carry = add;
    for (unsigned i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * by;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (!carry) return;
    assert(b->n < sizeof b->limb / sizeof b->limb[0]);
    b->limb[b->n++] = (uint32_t)carry;
}

/* b *= 5^five * 2^two */
static void big_scale(struct big *b, int64_t five, int64_t two)
{
    for (; five >= 13; five -= 13) big_multiply(b, 1220703125, 0);
    for (; five > 0; five--) big_multiply(b, 5, 0);
    for (; two >= 31; two -= 31) big_multiply(b, 1u << 31, 0);
    if (two > 0) big_multiply(b, 1u << two, 0);
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (unsigned i = a->n; i-- > 0;)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

/* All digits of n as an integer; returns its exponent of ten. No value nor half way between two
 * has more than 768 digits: of those that follow it only matters that they are there. */
static int64_t big_digits(struct big *b, const struct number *n)
{
    int taken = 0;
    bool more = false;
    *b = (struct big){0};
    for (size_t i = 0; i < n->len; i++) {
        uint32_t digit = (uint32_t)n->p[i] - '0';
        if (digit > 9 || (!taken && !digit)) continue;
        if (taken < 768) {
            big_multiply(b, 10, digit);
            taken++;
        } else {
            more |= digit != 0;
        }
    }
    big_multiply(b, 10, more);
    return n->q + 19 - (taken + 1);
}

/* Is n to be rounded up from the value with these bits (and not down to it)? */
static bool half_or_more(const struct number *n, const struct format *f, uint64_t bits)
{
    struct big text, half = {0};
    int64_t ten = big_digits(&text, n), field = (int64_t)(bits >> f->bits);
    uint64_t m = (bits & ((1ull << f->bits) - 1)) | (uint64_t)(field > 0) << f->bits;
    int64_t two = (field ? field : 1) - f->bias - f->bits - 1;
    m = 2 * m + 1;
    big_multiply(&half, 0, (uint32_t)(m >> 32));
    big_multiply(&half, 1u << 31, 0);
    big_multiply(&half, 2, (uint32_t)m);
    big_scale(&text, ten, ten - two);
    big_scale(&half, -ten, two - ten);
    int side = big_compare(&text, &half);
    return side > 0 || (side == 0 && bits & 1);
}

static uint64_t rounded(const struct number *n, const struct format *f)
{
    uint64_t bits = nearest(f, n->w, n->q);
    if (n->cut && bits != nearest(f, n->w + 1, n->q) && half_or_more(n, f, bits)) bits++;
    return bits;
}

bool number_double(const struct number *n, double *out)
{
    uint64_t bits = rounded(n, &f64);
    uint64_t word = bits | (uint64_t)n->neg << 63;
    memcpy(out, &word, sizeof *out);
    return bits >> 52 != 2047;
}

bool number_float(const struct number *n, float *out)
{
    uint32_t bits = (uint32_t)rounded(n, &f32), word = bits | (uint32_t)n->neg << 31;
    memcpy(out, &word, sizeof *out);
    return bits >> 23 != 255;
}

bool number_finite(const struct number *n)
{
    double out;
    return n->q < 289 || number_double(n, &out);
}

bool number_int(const struct number *n, int64_t *out)
{
    uint64_t w = n->w;
    int64_t q = n->q;
    if (n->cut) return false;
    for (; w && q < 0 && w % 10 == 0; q++) w /= 10;
    for (; w && q > 0 && w <= 1ull << 53; q--) w *= 10;
    if (w && (q || w > 1ull << 53)) return false;
    *out = n->neg ? -(int64_t)w : (int64_t)w;
    return true;
}

/* Digits at s into *w (which wraps when they are too many), eight at a time; behind them. */
static const char *eat(const char *s, const char *end, uint64_t *w)
{
    static const uint32_t tens[9] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    while (end - s >= 8) {
        uint64_t v;
        memcpy(&v, s, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
#endif
        const uint64_t ones = 0x0101010101010101u;
        uint64_t other = ((v + ones * 0x46) | (v - ones * '0')) & ones * 0x80;
        int n = other ? __builtin_ctzll(other) / 8 : 8, half = 4 * (8 - n);
        v = (v - ones * '0') << half << half;
        v = v * 10 + (v >> 8);  /* pairs, then all four of them */
        v = (v & 0xff000000ffu) * (100 + (1000000ull << 32)) +
            (v >> 16 & 0xff000000ffu) * (1 + (10000ull << 32));
        *w = *w * tens[n] + (v >> 32);
        s += n;
        if (n < 8) return s;
    }
    for (; s < end && *s >= '0' && *s <= '9'; s++) *w = *w * 10 + (uint64_t)(*s - '0');
    return s;
}

/* The first 19 significant digits, and whether more than zeros follow, for a
 * number so long that w may have wrapped. */
static void take_19(struct number *n)
{
    size_t i = 0;
    int taken = 0;
    while (i < n->len && (n->p[i] == '0' || n->p[i] == '.')) i++;
    if (i + 19 >= n->len) return;
    for (n->w = 0; i < n->len; i++) {
        uint64_t digit = (uint64_t)(n->p[i] - '0');
        if (n->p[i] == '.') continue;
        if (taken++ < 19) {
            n->w = n->w * 10 + digit;
        } else {
            n->q++;
            n->cut |= digit != 0;
        }
    }
}

/* Exponent behind the e: added to n->q. Returns what follows it, or sets *wrong. */
static const char *exponent(struct number *n, const char *s, const char *end, bool *wrong)
{
    bool minus = s < end && *s == '-';
    if (s < end && (*s == '-' || *s == '+')) s++;
    const char *from = s;
    int64_t e = 0;
    for (; s < end && *s >= '0' && *s <= '9'; s++)
        if (e < INT64_MAX / 100) e = e * 10 + (*s - '0');
    n->q += minus ? -e : e;
    *wrong = s == from;
    return s;
}

/* Behind the digits and the point, or *wrong set and the place where a digit lacks. */
static const char *decimal(struct number *n, const char *s, const char *end, bool *wrong)
{
    const char *whole = n->p = s;
    s = s < end && *s == '0' ? s + 1 : eat(s, end, &n->w);
    *wrong = s == whole;
    if (*wrong || s == end || *s != '.') return s;
    const char *point = ++s;
    s = eat(s, end, &n->w);
    n->q = point - s;
    *wrong = s == point;
    return s;
}

size_t number_read(struct number *n, const char *p, size_t len)
{
    const char *end = p + len;
    bool wrong;
    *n = (struct number){0};
    n->neg = len && *p == '-';
    const char *s = decimal(n, p + n->neg, end, &wrong);
    n->len = (size_t)(s - n->p);
    if (!wrong && n->len > 19) take_19(n);
    if (!wrong && s < end && (*s == 'e' || *s == 'E')) s = exponent(n, s + 1, end, &wrong);
    if (!wrong) return (size_t)(s - p);
    n->len = (size_t)(s - p);
    return 0;
}

/* w * 10^*k, the shortest decimal that rounds to c * 2^q. closer: the value below is half as far
 * as the one above (c is the least of its exponent). Names are those of the paper. */
static uint64_t shortest(uint64_t c, int q, bool closer, int *k)
{
    int ten = floor_shift(q * 1262611ll - (closer ? 524031 : 0), 22);
    int h = q + floor_shift(-ten * 1741647ll, 19) + 1;
    struct wide g = power(-ten);
    if (-ten < 0 || -ten > 55) g.low++;
    const uint64_t bound[3] = {4 * c - 2 + closer, 4 * c, 4 * c + 2};
    uint64_t v[3];
    for (int i = 0; i < 3; i++) {
        struct wide p = scale(bound[i] << h, g);
        v[i] = p.high | (p.low > 1);  /* rounded to odd */
    }
    uint64_t low = v[0] + (c & 1), high = v[2] - (c & 1), s = v[1] / 4;
    *k = ten + 1;
    if (s >= 10) {
        uint64_t t = s / 10;
        bool down = low <= 40 * t, up = 40 * t + 40 <= high;
        if (down != up) return t + up;
    }
    *k = ten;
    bool down = low <= 4 * s, up = 4 * s + 4 <= high;
    if (down != up) return s + up;
    return s + (v[1] > 4 * s + 2 || (v[1] == 4 * s + 2 && s & 1));
}

static int digits_in(uint64_t v)
{
    int n = 1;
    for (; v >= 10000; v /= 10000) n += 4;
    return n + (v >= 10) + (v >= 100) + (v >= 1000);
}

/* The n digits of v at out, two at a time, the last ones first. */
static void put_digits(char *out, uint64_t v, int n)
{
    for (; n >= 2; n -= 2, v /= 100) {
        unsigned pair = (unsigned)(v % 100);
        out[n - 1] = (char)('0' + pair % 10);
        out[n - 2] = (char)('0' + pair / 10);
    }
    if (n) *out = (char)('0' + v);
}

/* w * 10^k at out, in the form that JavaScript gives it. */
static char *put_decimal(char *out, uint64_t w, int k)
{
    for (; w && w % 10 == 0; k++) w /= 10;
    int n = digits_in(w), point = n + (w ? k : 0);
    if (point > 21 || point < -5) {
        put_digits(out + 1, w, n);
        out[0] = out[1];
        out[1] = '.';
        out += n > 1 ? n + 1 : 1;
        *out++ = 'e';
        return out + number_put_int(out, point - 1);
    }
    if (point <= 0) {
        memcpy(out, "0.00000", 7);
        put_digits(out + 2 - point, w, n);
        return out + 2 - point + n;
    }
    if (point >= n) {
        put_digits(out, w, n);
        memset(out + n, '0', (size_t)(point - n));
        return out + point;
    }
    put_digits(out + 1, w, n);
    memmove(out, out + 1, (size_t)point);
    out[point] = '.';
    return out + n + 1;
}

static size_t put_bits(char *out, const struct format *f, uint64_t bits, bool neg)
{
    uint64_t fraction = bits & ((1ull << f->bits) - 1), w = 0;
    int field = (int)(bits >> f->bits), k = 0, normal = field > 0;
    int q = (normal ? field : 1) - f->bias - f->bits;
    if (bits) w = shortest(fraction | (uint64_t)normal << f->bits, q, !fraction && field > 1, &k);
    char *s = out;
    if (neg) *s++ = '-';
    return (size_t)(put_decimal(s, w, k) - out);
}

size_t number_put_double(char *out, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_bits(out, &f64, bits & ~(1ull << 63), bits >> 63);
}

size_t number_put_float(char *out, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_bits(out, &f32, bits & 0x7fffffff, bits >> 31);
}

size_t number_put_int(char *out, int64_t v)
{
    uint64_t size = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    int n = digits_in(size), minus = v < 0;
    *out = '-';
    put_digits(out + minus, size, n);
    return (size_t)(n + minus);
}
