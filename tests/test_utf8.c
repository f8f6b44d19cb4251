// uses: utf8.c
/* UTF-8: every path against a reference written from Unicode's table 3-7. */
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

#include "test.h"

/* The same file once more without its vector pass, under other names. */
#define UTF8_PORTABLE
#define utf8_check portable_check
#define utf8_valid portable_valid
#define utf8_put   portable_put
#define utf8_get   portable_get
#include "../utf8.c"
#undef utf8_check
#undef utf8_valid
#undef utf8_put
#undef utf8_get

static uint64_t seed;

static uint32_t chance(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

/* Table 3-7, row by row: lead bytes, range of the second, how many follow. */
static const struct { uint8_t from, to, lo, hi, more; } table[] = {
    { 0x00, 0x7f, 0, 0, 0 },          { 0xc2, 0xdf, 0x80, 0xbf, 1 }, { 0xe0, 0xe0, 0xa0, 0xbf, 2 },
    { 0xe1, 0xec, 0x80, 0xbf, 2 },    { 0xed, 0xed, 0x80, 0x9f, 2 }, { 0xee, 0xef, 0x80, 0xbf, 2 },
    { 0xf0, 0xf0, 0x90, 0xbf, 3 },    { 0xf1, 0xf3, 0x80, 0xbf, 3 }, { 0xf4, 0xf4, 0x80, 0x8f, 3 },
};

/* Offset of the first wrong byte or n; *whole when no character is cut at the end. */
static size_t reference(const uint8_t *p, size_t n, int *whole)
{
    *whole = 1;
    for (size_t i = 0; i < n;) {
        size_t row = 0;
        while (row < 9 && (p[i] < table[row].from || p[i] > table[row].to)) row++;
        if (row == 9) return i;
        i++;
        for (int k = 0; k < table[row].more; k++, i++) {
            if (i == n) {
                *whole = 0;
                return n;
            }
            if (p[i] < (k ? 0x80 : table[row].lo) || p[i] > (k ? 0xbf : table[row].hi)) return i;
        }
    }
    return n;
}

/* Both paths, whole and cut at `cut`, must say what the reference says; of a copy without a byte
 * of slack, so that a sanitizer sees a step too far. */
static void agree(const uint8_t *text, size_t n, size_t cut)
{
    int whole;
    uint8_t *p = malloc(n + !n);
    cr_assert_not_null(p);
    memcpy(p, text, n);
    size_t want = reference(p, n, &whole);
    size_t (*const ways[])(struct utf8 *, const uint8_t *, size_t) = { utf8_check, portable_check };
    for (int w = 0; w < 2; w++) {
        struct utf8 u = {0};
        size_t got = ways[w](&u, p, n);
        cr_assert_eq(got, want, "way %d: %zu, not %zu of %zu", w, got, want, n);
        if (want == n) cr_assert_eq(u.need == 0, whole, "way %d: need %d of %zu", w, u.need, n);
        u = (struct utf8){0};
        got = ways[w](&u, p, cut);
        if (got == cut) got += ways[w](&u, p + cut, n - cut);
        cr_assert_eq(got, want, "way %d cut at %zu: %zu, not %zu of %zu", w, cut, got, want, n);
        if (want == n) cr_assert_eq(u.need == 0, whole, "way %d cut at %zu", w, cut);
    }
    cr_assert_eq(utf8_valid(p, n), want == n && whole);
    free(p);
}

Test(utf8, fails_at_the_byte_that_proves_it)
{
    static const struct { const char *name, *bytes; size_t n, at; } rows[] = {
        { "continuation alone", "\x80", 1, 0 },         { "last continuation alone", "\xbf", 1, 0 },
        { "C0 leads nothing", "\xc0\x80", 2, 0 },       { "C1 leads nothing", "\xc1\xbf", 2, 0 },
        { "overlong of three", "\xe0\x80\x80", 3, 1 },  { "the last overlong of three", "\xe0\x9f\xbf", 3, 1 },
        { "the first of three", "\xe0\xa0\x80", 3, 3 }, { "before surrogates", "\xed\x9f\xbf", 3, 3 },
        { "first surrogate", "\xed\xa0\x80", 3, 1 },    { "last surrogate", "\xed\xbf\xbf", 3, 1 },
        { "behind surrogates", "\xee\x80\x80", 3, 3 },  { "overlong of four", "\xf0\x80\x80\x80", 4, 1 },
        { "the last overlong", "\xf0\x8f\xbf\xbf", 4, 1 }, { "U+10000", "\xf0\x90\x80\x80", 4, 4 },
        { "U+10FFFF", "\xf4\x8f\xbf\xbf", 4, 4 },       { "U+110000", "\xf4\x90\x80\x80", 4, 1 },
        { "F5 leads nothing", "\xf5\x80\x80\x80", 4, 0 }, { "FE", "\xfe", 1, 0 }, { "FF", "\xff", 1, 0 },
        { "two of three then a letter", "\xe2\x82" "A", 3, 2 }, { "lead then lead", "\xc3\xc3\xa9", 3, 1 },
        { "three of four then a lead", "\xf0\x9f\x98\xc3", 4, 3 }, { "one too many", "\xc3\xa9\xa9", 3, 2 },
        { "kosme", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", 11, 11 }, { "NUL", "\0", 1, 1 }, { "empty", "", 0, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct utf8 u = {0};
        cr_assert_eq(utf8_check(&u, (const uint8_t *)rows[i].bytes, rows[i].n), rows[i].at, "%s", rows[i].name);
        for (size_t before = 0; before < 140; before++) {
            uint8_t text[300];
            memset(text, 'a', sizeof text);
            memcpy(text + before, rows[i].bytes, rows[i].n);
            for (size_t cut = before; cut <= before + rows[i].n; cut++) {
                agree(text, before + rows[i].n, cut);
                agree(text, before + rows[i].n + 70, cut);
            }
        }
    }
}

/* All sequences of one to three bytes, and of four with every lead byte, at places where
 * they lie inside a block, over the border of two and in the last, short one. */
static void every_sequence_at(size_t at, size_t n, const uint8_t *follow, size_t kinds)
{
    uint8_t text[192];
    int whole;
    memset(text, 'x', sizeof text);
    for (unsigned a = 0x78; a < 256; a++)
        for (size_t b = 0; b < kinds; b++)
            for (size_t c = 0; c < kinds; c++)
                for (size_t d = 0; d < kinds; d++) {
                    uint8_t four[4] = { (uint8_t)a, follow[b], follow[c], follow[d] };
                    memcpy(text + at, four, 4);
                    struct utf8 u = {0}, v = {0};
                    size_t want = reference(text, n, &whole);
                    size_t got = utf8_check(&u, text, n), other = portable_check(&v, text, n);
                    if (got == want && other == want && (want < n || u.need == v.need)) continue;
                    cr_assert(0, "%02x %02x %02x %02x at %zu of %zu: %zu %zu, not %zu", four[0], four[1],
                              four[2], four[3], at, n, got, other, want);
                }
}

Test(utf8, every_sequence_is_judged_alike_at_every_place)
{
    /* Every byte at which a range of table 3-7 begins or ends, and its neighbours. */
    static const uint8_t edges[] = { 0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xf0, 0xff };
    for (size_t at = 0; at < 72; at++) every_sequence_at(at, 76, edges, sizeof edges);
    for (size_t at = 120; at < 132; at++) every_sequence_at(at, 192, edges, sizeof edges);
}

Test(utf8, every_pair_and_triple_is_judged_alike)
{
    uint8_t text[64], *p = text + 30;
    int whole;
    memset(text, ' ', sizeof text);
    for (unsigned v = 0; v < 1u << 24; v++) {
        p[0] = (uint8_t)(v >> 16);
        p[1] = (uint8_t)(v >> 8);
        p[2] = (uint8_t)v;
        if (p[0] < 0xc2 && p[1] < 0x80) v |= 0xff;  /* nothing new in the third */
        struct utf8 u = {0};
        size_t want = reference(text, 64, &whole), got = utf8_check(&u, text, 64);
        if (got != want) cr_assert_eq(got, want, "%06x", v);
    }
}

/* A text of n bytes: words of several scripts; sometimes with one byte changed. */
static size_t random_text(uint8_t *p, size_t n, uint32_t ascii)
{
    size_t len = 0;
    while (len + 4 <= n) {
        uint32_t c = chance(100) < ascii ? chance(0x80) : chance(4) ? chance(0x800) : chance(3) ? chance(0x10000) : chance(0x110000);
        if (c < 0xd800 || c > 0xdfff) len += utf8_put(p + len, c);
    }
    return len;
}

Test(utf8, random_texts_are_judged_alike_at_every_split)
{
    seed = 1;
    for (int round = 0; round < 3000; round++) {
        uint8_t text[700];
        size_t n = random_text(text, 4 + chance(round % 10 ? 300 : 690), (uint32_t[]){ 0, 50, 95, 100 }[round % 4]);
        if (round % 3 == 1) text[chance((uint32_t)n)] = (uint8_t)chance(256);
        if (round % 3 == 2) n -= chance(4) % n;
        agree(text, n, chance((uint32_t)n + 1));
        if (round % 50 == 0)
            for (size_t cut = 0; cut <= n; cut++) agree(text, n, cut);
    }
}

Test(utf8, byte_by_byte_gives_the_same_as_at_once)
{
    seed = 2;
    for (int round = 0; round < 300; round++) {
        uint8_t text[200];
        size_t n = random_text(text, sizeof text, 40), i = 0;
        int whole;
        text[chance((uint32_t)n)] ^= (uint8_t)(1 << chance(8));
        struct utf8 u = {0};
        while (i < n && utf8_check(&u, text + i, 1) == 1) i++;
        cr_assert_eq(i, reference(text, n, &whole));
    }
}

Test(utf8, one_wrong_byte_is_found_wherever_it_stands)
{
    static uint8_t text[1024];
    for (int kind = 0; kind < 3; kind++)
        for (size_t at = 0; at < sizeof text; at++) {
            for (size_t i = 0; i < sizeof text; i++)
                text[i] = (uint8_t)(kind == 0 ? 'a' : kind == 1 ? (i % 2 ? 0xa9 : 0xc3) : "\xf0\x9f\x98\x80"[i % 4]);
            text[at] = 0xff;
            agree(text, sizeof text, at / 2);
        }
}

Test(utf8, a_character_cut_off_before_a_long_plain_stretch_is_found)
{
    static const struct { size_t n; uint8_t p[3]; } rows[] = {
        { 1, { 0xc3 } }, { 1, { 0xe2 } }, { 2, { 0xe2, 0x82 } }, { 1, { 0xf0 } }, { 2, { 0xf0, 0x9f } },
        { 3, { 0xf0, 0x9f, 0x98 } },
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t at = 0; at < 400; at++) {
            uint8_t text[900];
            struct utf8 u = {0};
            memset(text, 'a', sizeof text);
            memcpy(text + at, rows[r].p, rows[r].n);
            size_t got = utf8_check(&u, text, sizeof text);
            cr_assert_eq(got, at + rows[r].n, "row %zu at %zu: %zu", r, at, got);
        }
}

Test(utf8, the_state_says_how_much_of_a_character_is_missing)
{
    struct utf8 u = {0};
    static const uint8_t smile[] = { 0xf0, 0x9f, 0x98, 0x80 };
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(utf8_check(&u, smile + i, 1), 1u);
        cr_assert_eq(u.need, 3 - i);
        cr_assert_eq(utf8_check(&u, smile, 0), 0u);
        cr_assert_eq(u.need, 3 - i, "an empty piece changes nothing");
    }
    cr_assert_not(utf8_valid(smile, 3));
    cr_assert(utf8_valid(smile, 4));
    cr_assert(utf8_valid(smile, 0));
}

Test(utf8, every_code_point_is_written_and_read_back)
{
    size_t sizes[5] = {0};
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xd800 && c < 0xe000) continue;
        uint8_t out[4];
        const uint8_t *p = out;
        size_t n = utf8_put(out, c);
        if (!utf8_valid(out, n) || utf8_get(&p) != c || p != out + n) cr_assert(0, "U+%04X", c);
        sizes[n]++;
    }
    cr_assert_eq(sizes[1], 0x80u);
    cr_assert_eq(sizes[2], 0x780u);
    cr_assert_eq(sizes[3], 0xf800u - 0x800u);
    cr_assert_eq(sizes[4], 0x100000u);
}
