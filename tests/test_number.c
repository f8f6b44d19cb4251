// uses: number.c
/* Numbers: every power of ten against exact integers, reading against the C
 * library's strtod and strtof (correctly rounded in glibc and musl), printing
 * against "reads back the same, and one digit fewer does not". */
#include "number.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

size_t portable_put_int(char *out, int64_t v);

/* The same file once more with its portable multiplication, and to see inside. */
#define NUMBER_PORTABLE
#define number_read       portable_read
#define number_double     portable_double
#define number_float      portable_float
#define number_finite     portable_finite
#define number_int        portable_int
#define number_put_double portable_put_double
#define number_put_float  portable_put_float
#define number_put_int    portable_put_int
#include "../number.c"
#undef number_read
#undef number_double
#undef number_float
#undef number_finite
#undef number_int
#undef number_put_double
#undef number_put_float
#undef number_put_int

static uint64_t seed;

static uint64_t random_bits(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 2685821657736338717u;
}

static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

static uint32_t bits_of_float(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}

static double double_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

static float float_of(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

/* b -= a * 2^bits for b >= a * 2^bits; by long subtraction. */
static void subtract_shifted(struct big *b, const struct big *a, int bits)
{
    struct big t = *a;
    int64_t borrow = 0;
    big_scale(&t, 0, bits);
    for (unsigned i = 0; i < b->n; i++) {
        int64_t d = (int64_t)b->limb[i] - (i < t.n ? t.limb[i] : 0) + borrow;
        b->limb[i] = (uint32_t)d;
        borrow = d < 0 ? -1 : 0;
    }
    while (b->n && !b->limb[b->n - 1]) b->n--;
}

static struct big power_of(int64_t five, int64_t two)
{
    struct big b = {0};
    big_multiply(&b, 0, 1);
    big_scale(&b, five, two);
    return b;
}

static int length(const struct big *b)
{
    return (int)b->n * 32 - __builtin_clz(b->limb[b->n - 1]);
}

/* The first 128 bits of top / bottom, by long division, one bit at a time. */
static struct wide divide(struct big top, const struct big *bottom)
{
    struct wide q = {0};
    for (int i = 127; i >= 0; i--) {
        struct big t = *bottom;
        big_scale(&t, 0, i);
        q.high = q.high << 1 | q.low >> 63;
        q.low <<= 1;
        if (big_compare(&top, &t) < 0) continue;
        subtract_shifted(&top, bottom, i);
        q.low |= 1;
    }
    return q;
}

Test(number, every_power_of_ten_is_the_true_one_to_128_bits)
{
    for (int q = -342; q <= 324; q++) {
        struct big five = power_of(q < 0 ? -q : q, 0), one = power_of(0, 0), two;
        int len = length(&five);
        struct wide want, got = power(q);
        if (q < 0) {
            two = power_of(0, 127 + len);
            want = divide(two, &five);
        } else if (len <= 128) {
            big_scale(&five, 0, 128 - len);
            want = divide(five, &one);
        } else {
            two = power_of(0, len - 128);
            want = divide(five, &two);
        }
        cr_assert(want.high >> 63, "q %d", q);
        cr_assert(got.high == want.high && got.low == want.low, "q %d: %016llx %016llx", q,
                  (unsigned long long)got.high, (unsigned long long)got.low);
        cr_assert(got.low != UINT64_MAX, "adding one never carries");
    }
}

Test(number, portable_multiplication_is_exact)
{
    static const uint64_t edges[] = { 0, 1, 2, 0xffffffff, 0x100000000, 0x100000001, UINT64_MAX, UINT64_MAX - 1, 1ull << 63 };
    for (size_t i = 0; i < 9; i++)
        for (size_t k = 0; k < 9; k++) {
            struct wide p = multiply(edges[i], edges[k]), r = multiply(edges[k], edges[i]);
            cr_assert(p.high == r.high && p.low == r.low && p.low == edges[i] * edges[k]);
        }
    struct wide top = multiply(UINT64_MAX, UINT64_MAX);
    cr_assert(top.high == UINT64_MAX - 1 && top.low == 1);
    top = multiply(0xffffffff00000001, 0x1ffffffff);
    cr_assert(top.high == 0x1fffffffd && top.low == 0x2ffffffff, "%llx %llx",
              (unsigned long long)top.high, (unsigned long long)top.low);
}

/* Both builds read text, to its end, as strtod and strtof do. */
static void reads(const char *text)
{
    struct number n, m;
    size_t len = strlen(text);
    double d = 7, want = strtod(text, NULL), e = 7;
    float f = 7, wantf = strtof(text, NULL), g = 7;
    cr_assert_eq(number_read(&n, text, len), len, "%s", text);
    cr_assert_eq(portable_read(&m, text, len), len, "%s", text);
    bool finite = number_double(&n, &d), finitef = number_float(&n, &f);
    cr_assert_eq(bits_of(d), bits_of(want), "%s: %a, not %a", text, d, want);
    cr_assert_eq(bits_of_float(f), bits_of_float(wantf), "%s: %a, not %a", text, (double)f, (double)wantf);
    cr_assert_eq(finite, isfinite(want) != 0, "%s", text);
    cr_assert_eq(finitef, isfinite(wantf) != 0, "%s", text);
    cr_assert_eq(number_finite(&n), finite, "%s", text);
    portable_double(&m, &e);
    portable_float(&m, &g);
    cr_assert(bits_of(e) == bits_of(d) && bits_of_float(g) == bits_of_float(f), "%s", text);
}

Test(number_read, hard_texts_are_rounded_right)
{
    static const char *const rows[] = {
        "0", "-0", "0.0", "-0.0e0", "0e999999999999999999999999", "1", "-1", "10", "123456789", "1e1", "1E+1", "1e-1", "1e0",
        "0.1", "0.2", "0.3", "0.5", "1.5", "2.5", "3.5", "123.456", "1e22", "1e23", "1e-22", "1e-23", "9e22",
        /* ends of the range */
        "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "1.797693134862315807e308",
        "1.7976931348623158079372897140530341507993413271003782693617377898044496829276475094664901797758720709633028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447573027006985557136695962284291481986083493647529271907416844436551070434271155969950809304288017790417449779e308",
        "1.797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070963302864166928879109465555478519404026306574886715058206819089020007083836762738548458177115317644757302700698555713669596228429148198608349364752927190741684443655107043427115596995080930428801779041744977925e308",
        "1e308", "1e309", "2e308", "9.99e307", "17976931348623157e292", "17976931348623159e292", "1e310", "1e400", "1e-400", "1e999999999999",
        "1e-999999999999", "0.0000001e400", "123456789012345678901234567890e300", "123456789012345678901234567890e-400",
        /* least values and half of them */
        "5e-324", "4.9406564584124654e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.5e-324", "2e-324",
        "2.4703282292062327208299493568755364e-324", "2.47032822920623272088284396434110686182e-324", "7.4e-324", "7.5e-324",
        "2.2250738585072014e-308", "2.2250738585072011e-308", "2.2250738585072012e-308", "2.225073858507201e-308",
        "2.2250738585072009e-308", "2.2250738585072013830902327173324040642192159804623318306e-308", "1e-323", "1e-320", "1.5e-323",
        /* ties */
        "9007199254740992", "9007199254740993", "9007199254740994", "9007199254740995", "9007199254740993.0",
        "9007199254740993.00000000000000000000000000000000000001", "9007199254740992.99999999999999999999999999999999999999",
        "9007199254740995.00000000000000000000000000000000000001", "900719925474099300000000000000000000000000000000e-32",
        "18014398509481986", "18014398509481990", "36028797018963972", "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124", "1.00000000000000011102230246251565404236316680908203126",
        "1.00000000000000033306690738754696212708950042724609375", "0.500000000000000166533453693773481063544750213623046875",
        "5708990770823839524233143877797980545530986496", "5708990770823839207320493820740630171355185152",
        "5708990770823839207320493820740630171355185151.5", "8.5899345930000000e9", "4503599627370497.5", "4503599627370496.5",
        "4503599627370497.50000000000000000000000000000000000001", "1448997445238699", "6929495644600919.5", "3.2378839133029012895883521537e-50",
        /* known troubles of other readers */
        "6.8294e-315", "2.2250738585072012e-308", "1.7e-322", "3e-324", "8.98846567431158e307", "0.000000000000000000000000000000000000000000000000000000000000000000000001",
        "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
        "7.2057594037927933e16", "7.2057594037927945e16", "1.0000000000000000000000000000000000000000000000000000000000000000000000000000000000001",
        "1090544144181609348835077142190", "2.503e22", "8.5e22", "1.2345678901234567890123456789e-5", "0.000123456789012345678901", "99999999999999999999",
        "9999999999999999999", "18446744073709551615", "18446744073709551616", "18446744073709551617", "10000000000000000000", "100000000000000000000",
        "0.00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001e130",
        "1234567890123456789", "12345678901234567890", "12345678901234567891234", "1.2345678901234567890", "0.12345678901234567890", "12345678.9", "1234567.89",
        /* single precision: ends, ties, no double rounding */
        "3.4028234663852886e38", "3.4028235e38", "3.4028235677973366e38", "3.4028235677973367e38", "3.40282356779733661637539395458142568447e38",
        "3.40282356779733661637539395458142568448e38", "3.4028236e38", "3.5e38", "1e38", "1e39", "1.4012984643248171e-45", "1.4e-45", "7.006492321624085e-46", "7.0064923216240853546186479164495e-46",
        "7.0064923216240853546186479164496e-46", "7.0064923216240854e-46", "7.1e-46", "1e-46", "1e-64", "9999999999999999999e-65", "1e-66", "1.1754943508222875e-38", "1.1754942807573643e-38", "1.17549431e-38",
        "16777216", "16777217", "16777218", "16777219", "16777217.0000001", "16777216.9999999", "16777219.0000000000000000000000000001", "8388608.5", "8388609.5", "8388609.4999999999999999999999",
        "1.00000017881393432617187499", "1.00000017881393432617187500", "1.00000017881393432617187501", "1.000000059604644775390625", "1.0000000596046447753906250000000000000000001",
        "0.000000000000000000000000000000000000011754943508222875", "7.038531e-26", "7.038531e-26", "2.3509887e-38", "8.1e-46", "1.17549435e-38", "9.355484344639e-39", "0.09375", "1e-5",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char minus[1024];
        reads(rows[i]);
        if (rows[i][0] == '-') continue;
        snprintf(minus, sizeof minus, "-%s", rows[i]);
        reads(minus);
    }
}

Test(number_read, digits_far_behind_still_decide)
{
    /* Half way between 1 and the next double, then up to 4,000 zeros and a 1. */
    static const char half[] = "1.00000000000000011102230246251565404236316680908203125";
    char text[5000];
    for (size_t zeros = 0; zeros < 4000; zeros += 1 + zeros / 7) {
        memcpy(text, half, sizeof half);
        memset(text + sizeof half - 1, '0', zeros);
        text[sizeof half - 1 + zeros] = 0;
        reads(text);
        struct number n;
        double v;
        number_read(&n, text, strlen(text));
        number_double(&n, &v);
        cr_assert_eq(bits_of(v), bits_of(1.0));
        strcpy(text + sizeof half - 1 + zeros, "1");
        reads(text);
        number_read(&n, text, strlen(text));
        number_double(&n, &v);
        cr_assert_eq(bits_of(v), bits_of(1.0) + 1);
    }
}

/* Exact decimal of the point half way above a value, as printf gives it. */
static void reads_around_half(double low, double high)
{
    char text[1600], other[1700];
    long double half = ((long double)low + (long double)high) / 2;
    snprintf(text, sizeof text, "%.1100Lf", half);
    char *end = text + strlen(text);
    while (end[-1] == '0') *--end = 0;
    if (end[-1] == '.') strcpy(end, "0");
    reads(text);
    snprintf(other, sizeof other, "%s0000000000000000000000000001", text);
    reads(other);
    size_t len = strlen(text);
    if (text[len - 1] != '0' && text[len - 1] != '.') {
        text[len - 1]--;
        snprintf(other, sizeof other, "%s9999999999", text);
        reads(other);
    }
}

Test(number_read, points_half_way_are_rounded_to_even)
{
    if (LDBL_MANT_DIG < 60) cr_skip_test("long double holds no half way points here");
    seed = 3;
    for (int i = 0; i < 1500; i++) {
        double low = double_of((random_bits() >> 1) % 0x7fe0000000000000);
        if (i % 3 == 0) low = double_of(random_bits() % 0x0020000000000000);
        if (i % 3 == 1) low = ldexp((double)(random_bits() >> 11), (int)(random_bits() % 100) - 60);
        reads_around_half(low, double_of(bits_of(low) + 1));
        float f = float_of((uint32_t)(random_bits() % 0x7f7fffff));
        if (i % 3 == 0) f = float_of((uint32_t)(random_bits() % 0x01000000));
        reads_around_half((double)f, (double)float_of(bits_of_float(f) + 1));
    }
    reads_around_half(0, double_of(1));
    reads_around_half(0, (double)float_of(1));
}

Test(number_read, random_texts_are_rounded_right)
{
    seed = 4;
    for (int i = 0; i < 120000; i++) {
        char text[100];
        int exp = (int)(random_bits() % 700) - 350, digits = 1 + (int)(random_bits() % 40);
        if (i % 2) exp %= 60;
        size_t n = 0;
        if (random_bits() & 1) text[n++] = '-';
        text[n++] = (char)('1' + random_bits() % 9);
        for (int d = 1; d < digits; d++) {
            if (d == 1 + i % 5) text[n++] = '.';
            text[n++] = random_bits() % 4 ? (char)('0' + random_bits() % 10) : "09"[i % 2];
        }
        if (i % 3) snprintf(text + n, sizeof text - n, "e%d", exp);
        else text[n] = 0;
        reads(text);
    }
}

Test(number_read, every_short_decimal_is_rounded_right)
{
    char text[40];
    for (int whole = 0; whole < 1200; whole++)
        for (int exp = -50; exp <= 50; exp += 1 + whole % 3) {
            snprintf(text, sizeof text, "%de%d", whole, exp);
            reads(text);
        }
    for (int exp = -345; exp <= 310; exp++) {
        snprintf(text, sizeof text, "1e%d", exp);
        reads(text);
        snprintf(text, sizeof text, "9999999999999999999e%d", exp);
        reads(text);
        snprintf(text, sizeof text, "99999999999999999999e%d", exp);
        reads(text);
        snprintf(text, sizeof text, "1.8446744073709551615e%d", exp);
        reads(text);
    }
}

Test(number_read, takes_exactly_the_grammar)
{
    /* at: length that is read, or minus one and the offset of the wrong byte */
    static const struct { const char *text; int len, wrong; } rows[] = {
        { "", 0, 0 }, { "-", 0, 1 }, { "+1", 0, 0 }, { ".5", 0, 0 }, { "-.5", 0, 1 }, { "1.", 0, 2 }, { "1.e5", 0, 2 }, { "1.x", 0, 2 },
        { "1e", 0, 2 }, { "1e+", 0, 3 }, { "1e-", 0, 3 }, { "1e+-1", 0, 3 }, { "1ex", 0, 2 }, { "1E", 0, 2 }, { "1.5e", 0, 4 }, { "0.", 0, 2 }, { "-0.", 0, 3 },
        { "01", 1, 0 }, { "-01", 2, 0 }, { "00", 1, 0 }, { "0x1", 1, 0 }, { "1f", 1, 0 }, { "1.5.5", 3, 0 }, { "1e5.5", 3, 0 }, { "1e5e5", 3, 0 },
        { "0e0", 3, 0 }, { "0E-0", 4, 0 }, { "1e05", 4, 0 }, { "1 ", 1, 0 }, { "12345678901", 11, 0 }, { "123456789,", 9, 0 }, { "12345678,1", 8, 0 }, { "0.12345678]", 10, 0 },
        { "x", 0, 0 }, { "-x", 0, 1 }, { "inf", 0, 0 }, { "-inf", 0, 1 }, { "nan", 0, 0 }, { "1,5", 1, 0 }, { "1\xff", 1, 0 }, { "1.\xff", 0, 2 }, { "1234567\xff", 7, 0 },
        { "1234567/1234567", 7, 0 }, { "1234567:1234567", 7, 0 }, { "12\xb0" "45678", 2, 0 }, { "12\xba" "45678", 2, 0 }, { "12\xc9" "45678", 2, 0 }, { "/2345678", 0, 0 }, { ":2345678", 0, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct number n;
        cr_assert_eq(number_read(&n, rows[i].text, strlen(rows[i].text)), (size_t)rows[i].len, "%s", rows[i].text);
        if (!rows[i].len) cr_assert_eq(n.len, (size_t)rows[i].wrong, "%s: %zu", rows[i].text, n.len);
        char more[80];
        snprintf(more, sizeof more, "%s            ", rows[i].text);
        cr_assert_eq(number_read(&n, more, strlen(more)), (size_t)rows[i].len, "%s with more behind", rows[i].text);
    }
}

Test(number_read, integers_are_told_from_the_rest_in_every_form)
{
    static const struct { const char *text; bool is; int64_t v; } rows[] = {
        { "0", true, 0 }, { "-0", true, 0 }, { "0.000", true, 0 }, { "0e99999999", true, 0 }, { "1", true, 1 }, { "1.0", true, 1 }, { "1e2", true, 100 },
        { "10e-1", true, 1 }, { "-12.5e1", true, -125 }, { "1.5", false, 0 }, { "0.1", false, 0 }, { "1e-1", false, 0 }, { "1e-99999999999", false, 0 },
        { "9007199254740992", true, 9007199254740992 }, { "-9007199254740992", true, -9007199254740992 }, { "9007199254740993", false, 0 },
        { "9007199254740992.5", false, 0 }, { "9007199254740992.0000000000000000000000000", true, 9007199254740992 }, { "9007199254740992.0000000000000000000000001", false, 0 },
        { "90071992547409920e-1", true, 9007199254740992 }, { "1e15", true, 1000000000000000 }, { "1e16", false, 0 }, { "1e400", false, 0 }, { "0.00000000000000000000001e23", true, 1 },
        { "1000000000000000000000000e-24", true, 1 }, { "1000000000000000000000001e-24", false, 0 }, { "1234567890123456e0", true, 1234567890123456 }, { "123456789012345678", false, 0 }, { "18446744073709551616", false, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct number n;
        int64_t v = 77;
        cr_assert(number_read(&n, rows[i].text, strlen(rows[i].text)));
        cr_assert_eq(number_int(&n, &v), rows[i].is, "%s", rows[i].text);
        cr_assert_eq(v, rows[i].is ? rows[i].v : 77, "%s: %lld", rows[i].text, (long long)v);
    }
}

static const char *text_of(double v)
{
    static char out[NUMBER_ROOM + 1];
    out[number_put_double(out, v)] = 0;
    return out;
}

static const char *text_of_float(float v)
{
    static char out[NUMBER_ROOM + 1];
    out[number_put_float(out, v)] = 0;
    return out;
}

/* As ECMA-262 6.1.6.1.20 prints them, but for -0 and the + of exponents. */
Test(number_put, doubles_look_as_in_javascript)
{
    static const struct { double v; const char *text; } rows[] = {
        { 0.0, "0" }, { -0.0, "-0" }, { 1, "1" }, { -1, "-1" }, { 10, "10" }, { 0.1, "0.1" }, { 1.5, "1.5" }, { 100, "100" }, { 123456789012, "123456789012" },
        { 1e20, "100000000000000000000" }, { 123456789012345680000.0, "123456789012345680000" }, { 1e21, "1e21" }, { 1.5e21, "1.5e21" }, { 1e22, "1e22" }, { 1e23, "1e23" }, { 1.2345e300, "1.2345e300" },
        { 1e-5, "0.00001" }, { 1e-6, "0.000001" }, { 1.5e-6, "0.0000015" }, { 1e-7, "1e-7" }, { 1.5e-7, "1.5e-7" }, { 123e-20, "1.23e-18" }, { 5e-324, "5e-324" }, { 1.7976931348623157e308, "1.7976931348623157e308" },
        { 2.2250738585072014e-308, "2.2250738585072014e-308" }, { 9007199254740991, "9007199254740991" }, { 9007199254740993.0, "9007199254740992" }, { 0.3, "0.3" }, { 0.30000000000000004, "0.30000000000000004" }, { 1.0 / 3, "0.3333333333333333" },
        { 4.35, "4.35" }, { 9.5367431640625e-7, "9.5367431640625e-7" }, { 2e-323, "2e-323" }, { 1.5e300, "1.5e300" }, { 9.999999999999999e22, "1e23" }, { 2251799813685248.5, "2251799813685248.5" }, { -123.456, "-123.456" },
        { 72057594037927936.0, "72057594037927940" }, { 9223372036854775808.0, "9223372036854776000" }, { 18014398509481984.0, "18014398509481984" }, { 1e15, "1000000000000000" }, { 1e16, "10000000000000000" },
        { -0.0000012345678901234567, "-0.0000012345678901234567" }, { 2.98023223876953125e-8, "2.9802322387695312e-8" }, { 8.41e21, "8.41e21" }, { 2.0e-44, "2e-44" }, { 9.007199254740994e15, "9007199254740994" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) cr_assert_str_eq(text_of(rows[i].v), rows[i].text);
}

Test(number_put, floats_are_the_shortest_of_their_own_kind)
{
    static const struct { float v; const char *text; } rows[] = {
        { 0.1f, "0.1" }, { -0.0f, "-0" }, { 0.3f, "0.3" }, { 16777216.0f, "16777216" }, { 1e10f, "10000000000" }, { 3.4028235e38f, "3.4028235e38" }, { 1.4e-45f, "1e-45" }, { 1.17549435e-38f, "1.1754944e-38" },
        { 1.0f / 3, "0.33333334" }, { 33554432.0f, "33554432" }, { 8.5899346e9f, "8589935000" }, { 1e21f, "1e21" }, { 5e-7f, "5e-7" }, { 0.036542892f, "0.036542892" }, { 1.1754942e-38f, "1.1754942e-38" }, { 9.8e-45f, "1e-44" },
        { 4.7223665e21f, "4.7223665e21" }, { 2.0f, "2" }, { 67108864.0f, "67108864" }, { 134217728.0f, "134217730" }, { 0.001f, "0.001" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) cr_assert_str_eq(text_of_float(rows[i].v), rows[i].text);
}

/* How many significant digits a text has. */
static int significant(const char *s)
{
    int n = 0, zeros = 0;
    for (; *s && *s != 'e'; s++) {
        if (*s < '0' || *s > '9' || (!n && *s == '0')) continue;
        n++;
        zeros = *s == '0' ? zeros + 1 : 0;
    }
    return n - zeros;
}

/* v comes back from its text, no shorter text does, and none as short is nearer. */
static void prints(double v)
{
    char less[64];
    const char *text = text_of(v);
    cr_assert_eq(bits_of(strtod(text, NULL)), bits_of(v), "%a: %s", v, text);
    struct number n;
    double back;
    cr_assert_eq(number_read(&n, text, strlen(text)), strlen(text));
    cr_assert(number_double(&n, &back) && bits_of(back) == bits_of(v), "%s", text);
    int digits = significant(text);
    if (digits > 1) {
        snprintf(less, sizeof less, "%.*e", digits - 2, v);
        cr_assert_neq(bits_of(strtod(less, NULL)), bits_of(v), "%s is longer than %s", text, less);
    }
    snprintf(less, sizeof less, "%.*e", digits ? digits - 1 : 0, v);
    if (strtod(less, NULL) == v)
        cr_assert_eq(strtold(less, NULL), strtold(text, NULL), "%s is nearer than %s", less, text);
    char other[NUMBER_ROOM + 1];
    other[portable_put_double(other, v)] = 0;
    cr_assert_str_eq(other, text_of(v));
}

static void prints_float(float v)
{
    char less[64];
    const char *text = text_of_float(v);
    cr_assert_eq(bits_of_float(strtof(text, NULL)), bits_of_float(v), "%a: %s", (double)v, text);
    struct number n;
    float back;
    number_read(&n, text, strlen(text));
    cr_assert(number_float(&n, &back) && bits_of_float(back) == bits_of_float(v), "%s", text);
    int digits = significant(text);
    if (digits > 1) {
        snprintf(less, sizeof less, "%.*e", digits - 2, (double)v);
        cr_assert_neq(bits_of_float(strtof(less, NULL)), bits_of_float(v), "%s is longer than %s", text, less);
    }
    snprintf(less, sizeof less, "%.*e", digits ? digits - 1 : 0, (double)v);
    if (bits_of_float(strtof(less, NULL)) == bits_of_float(v))
        cr_assert_eq(strtod(less, NULL), strtod(text, NULL), "%s is nearer than %s", less, text);
    char other[NUMBER_ROOM + 1];
    other[portable_put_float(other, v)] = 0;
    cr_assert_str_eq(other, text_of_float(v));
}

Test(number_put, doubles_come_back_and_are_shortest)
{
    seed = 5;
    for (int i = 0; i < 150000; i++) {
        double v = double_of(random_bits());
        if (i % 4 == 1) v = (double)(int64_t)(random_bits() >> (i % 60));
        if (i % 4 == 2) v = (double)(int64_t)(random_bits() >> 40) / 1000;
        if (i % 4 == 3) v = double_of(random_bits() & 0xfff000000000000f);
        if (isfinite(v)) prints(v);
    }
    for (int e = 0; e < 2047; e++)
        for (int d = -2; d <= 2; d++) {  /* powers of two, where the gap below is half the one above */
            uint64_t bits = ((uint64_t)e << 52) + (uint64_t)(int64_t)d;
            if (bits < 0x7ff0000000000000) prints(double_of(bits));
        }
    for (int e = -323; e <= 308; e++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", e);
        for (int d = -2; d <= 2; d++) prints(double_of(bits_of(strtod(text, NULL)) + (uint64_t)(int64_t)d));
    }
}

Test(number_put, floats_come_back_and_are_shortest)
{
    seed = 6;
    for (uint32_t e = 0; e < 255; e++)
        for (uint32_t i = 0; i < 1000; i++) {
            uint32_t m = i < 8 ? i : i < 16 ? 0x7fffff - (i - 8) : (uint32_t)random_bits() & 0x7fffff;
            prints_float(float_of(e << 23 | m));
            if (i % 16 == 0) prints_float(float_of(0x80000000 | e << 23 | m));
        }
}

Test(number_put, integers_are_written_whole)
{
    static const struct { int64_t v; const char *text; } rows[] = {
        { 0, "0" }, { 7, "7" }, { -7, "-7" }, { 1234567890, "1234567890" }, { INT64_MAX, "9223372036854775807" }, { INT64_MIN, "-9223372036854775808" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[NUMBER_ROOM + 1];
        out[number_put_int(out, rows[i].v)] = 0;
        cr_assert_str_eq(out, rows[i].text);
    }
}

Test(number_put, nothing_is_written_beyond_its_room)
{
    seed = 8;
    size_t longest = 0;
    for (int i = 0; i < 200000; i++) {
        char out[NUMBER_ROOM + 8];
        memset(out, '#', sizeof out);
        double v = i % 2 ? double_of(random_bits()) : -ldexp((double)(random_bits() >> 11), -53 - (int)(random_bits() % 24));
        if (!isfinite(v)) continue;
        size_t n = number_put_double(out, v);
        if (n > longest) longest = n;
        cr_assert_eq(out[NUMBER_ROOM], '#');
    }
    cr_assert_eq(longest, 25u, "%zu", longest);
}
