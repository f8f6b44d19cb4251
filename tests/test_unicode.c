// uses: servers/inference/unicode.c
#include "servers/inference/unicode.h"

#include <stdbool.h>

#include "test.h"

#define COUNT(a) (sizeof (a) / sizeof *(a))

static const struct { uint32_t c; enum unicode_kind kind;
} kinds[] = {
    {0, UNICODE_DROP},
    {9, UNICODE_SPACE},
    {10, UNICODE_SPACE},
    {11, UNICODE_DROP},
    {12, UNICODE_DROP},
    {13, UNICODE_SPACE},
    {0x1f, UNICODE_DROP},
    {' ', UNICODE_SPACE},
    {'!', UNICODE_PUNCT},
    {'/', UNICODE_PUNCT},
    {'0', UNICODE_OTHER},
    {'9', UNICODE_OTHER},
    {':', UNICODE_PUNCT},
    {'@', UNICODE_PUNCT},
    {'A', UNICODE_OTHER},
    {'[', UNICODE_PUNCT},
    {'`', UNICODE_PUNCT},
    {'a', UNICODE_OTHER},
    {'{', UNICODE_PUNCT},
    {'~', UNICODE_PUNCT},
    {0x7f, UNICODE_DROP},
    {0x85, UNICODE_DROP},
    {0xa0, UNICODE_SPACE},
    {0xa1, UNICODE_PUNCT},
    {0xad, UNICODE_DROP},
    {0xc9, UNICODE_OTHER},
    {0x300, UNICODE_MARK},
    {0x378, UNICODE_OTHER},
    {0x5c0, UNICODE_PUNCT},
    {0x93f, UNICODE_OTHER},
    {0x947, UNICODE_MARK_STARTER},
    {0x1680, UNICODE_SPACE},
    {0x1b44, UNICODE_ORDERED},
    {0x200b, UNICODE_DROP},
    {0x2028, UNICODE_SPACE},
    {0x2029, UNICODE_SPACE},
    {0x202e, UNICODE_DROP},
    {0x2014, UNICODE_PUNCT},
    {0x3000, UNICODE_SPACE},
    {0x3001, UNICODE_PUNCT},
    {0x33ff, UNICODE_OTHER},
    {0x3400, UNICODE_IDEOGRAPH},
    {0x4dbf, UNICODE_IDEOGRAPH},
    {0x4dc0, UNICODE_OTHER},
    {0x4e00, UNICODE_IDEOGRAPH},
    {0x9fff, UNICODE_IDEOGRAPH},
    {0xa000, UNICODE_OTHER},
    {0xac00, UNICODE_OTHER},
    {0xd7a3, UNICODE_OTHER},
    {0xd7a4, UNICODE_OTHER},
    {0xe000, UNICODE_DROP},
    {0xf8ff, UNICODE_DROP},
    {0xf900, UNICODE_IDEOGRAPH},
    {0xfeff, UNICODE_DROP},
    {0xfffd, UNICODE_DROP},
    {0x1d165, UNICODE_ORDERED},
    {0x1f600, UNICODE_OTHER},
    {0x1ffff, UNICODE_OTHER},
    {0x20000, UNICODE_IDEOGRAPH},
    {0x2a6df, UNICODE_IDEOGRAPH},
    {0x2a6e0, UNICODE_OTHER},
    {0x2b81f, UNICODE_IDEOGRAPH},
    {0x2b820, UNICODE_OTHER},
    {0x2b91f, UNICODE_OTHER},
    {0x2b920, UNICODE_IDEOGRAPH},
    {0x2f800, UNICODE_IDEOGRAPH},
    {0x2fa1f, UNICODE_IDEOGRAPH},
    {0x30000, UNICODE_OTHER},
    {0xe0001, UNICODE_DROP},
    {0xe0100, UNICODE_MARK_STARTER},
    {0xf0000, UNICODE_DROP},
    {0x10fffd, UNICODE_DROP},
    {0x10ffff, UNICODE_OTHER},
    {0x110000, UNICODE_OTHER},
    {0xffffffff, UNICODE_OTHER},
};

Test(unicode_kind, both_sides_of_every_border_are_told_apart)
{
    for (size_t i = 0; i < COUNT(kinds); i++)
        cr_assert_eq(unicode_kind(kinds[i].c), kinds[i].kind, "U+%04X is %u", kinds[i].c,
                     unicode_kind(kinds[i].c));
}

static const struct { uint32_t c; size_t n; uint32_t base[4]; } bases[] = {
    { 'a', 1, { 'a' } }, { 0xe9, 1, { 'e' } }, { 0x1eaf, 1, { 'a' } }, { 0x212a, 1, { 'K' } },
    { 0x1fef, 1, { '`' } }, { 0x958, 1, { 0x915 } }, { 0xac00, 2, { 0x1100, 0x1161 } },
    { 0xac01, 3, { 0x1100, 0x1161, 0x11a8 } }, { 0xd7a3, 3, { 0x1112, 0x1175, 0x11c2 } },
    { 0xf900, 1, { 0x8c48 } }, { 0xfacf, 1, { 0x2284a } }, { 0x9cb, 2, { 0x9c7, 0x9be } },
    { 0x1d15e, 2, { 0x1d157, 0x1d165 } }, { 0x1d160, 3, { 0x1d158, 0x1d165, 0x1d16e } },
    { 0x2f800, 1, { 0x4e3d } }, { 0x2fa1d, 1, { 0x2a600 } }, { 0x10ffff, 1, { 0x10ffff } },
    { 0x30000, 1, { 0x30000 } }, { 0x110000, 1, { 0x110000 } },
};

Test(unicode_base, is_the_decomposition_without_its_accents)
{
    for (size_t i = 0; i < COUNT(bases); i++) {
        uint32_t out[4] = {0};
        size_t n = unicode_base(bases[i].c, out);
        cr_assert_eq(n, bases[i].n, "U+%04X gives %zu", bases[i].c, n);
        for (size_t k = 0; k < n; k++)
            cr_assert_eq(out[k], bases[i].base[k], "U+%04X gives U+%04X", bases[i].c, out[k]);
    }
}

static const uint32_t lowers[][2] = {
    { 'A', 'a' }, { 'Z', 'z' }, { '@', '@' }, { '[', '[' }, { 0xc0, 0xe0 }, { 0xd7, 0xd7 },
    { 0x100, 0x101 }, { 0x101, 0x101 }, { 0x130, 'i' }, { 0x178, 0xff }, { 0x1c4, 0x1c6 },
    { 0x1c5, 0x1c6 }, { 0x3a3, 0x3c3 }, { 0x410, 0x430 }, { 0x42f, 0x44f }, { 0x10a0, 0x2d00 },
    { 0x13a0, 0xab70 }, { 0x1e9e, 0xdf }, { 0x2126, 0x3c9 }, { 0xa7c6, 0x1d8e }, { 0xff21, 0xff41 },
    { 0x10400, 0x10428 }, { 0x1e921, 0x1e943 }, { 0x1e922, 0x1e922 }, { 0x10ffff, 0x10ffff },
};

Test(unicode_lower, is_simple_lower_case_over_all_of_unicode)
{
    for (size_t i = 0; i < COUNT(lowers); i++)
        cr_assert_eq(unicode_lower(lowers[i][0]), lowers[i][1], "U+%04X gives U+%04X", lowers[i][0],
                     unicode_lower(lowers[i][0]));
    for (uint32_t c = 0; c < 0x110000; c++)
        cr_assert_eq(unicode_lower(unicode_lower(c)), unicode_lower(c), "U+%04X", c);
}

Test(unicode_order, only_what_moves_has_a_class)
{
    for (uint32_t c = 0; c < 0x110000; c++) {
        bool ordered = unicode_kind(c) == UNICODE_ORDERED;
        cr_assert_eq(ordered, unicode_order_of(c) != 0, "U+%04X", c);
    }
}

static const struct { const char *bytes; size_t len, taken; uint32_t c;
} decoded[] = {
    {"a", 1, 1, 'a'},
    {"\0", 1, 1, 0},
    {"\xc3\xa9", 2, 2, 0xe9},
    {"\xe2\x82\xac", 3, 3, 0x20ac},
    {"\xf0\x9f\x98\x80", 4, 4, 0x1f600},
    {"\xf4\x8f\xbf\xbf", 4, 4, 0x10ffff},
    {"\xc3", 1, 1, 0xfffd},
    {"\xe2\x82", 2, 1, 0xfffd},
    {"\x80", 1, 1, 0xfffd},
    {"\xc0\x80", 2, 1, 0xfffd},
    {"\xc1\xbf", 2, 1, 0xfffd},
    {"\xe0\x9f\xbf", 3, 1, 0xfffd},
    {"\xed\xa0\x80", 3, 1, 0xfffd},
    {"\xf0\x8f\xbf\xbf", 4, 1, 0xfffd},
    {"\xf4\x90\x80\x80", 4, 1, 0xfffd},
    {"\xf5\x80\x80\x80", 4, 1, 0xfffd},
    {"\xff", 1, 1, 0xfffd},
    {"\xc3(", 2, 1, 0xfffd},
    {"\xe2(\xa1", 3, 1, 0xfffd},
};

Test(unicode_next, broken_bytes_come_one_at_a_time_as_fffd)
{
    for (size_t i = 0; i < COUNT(decoded); i++) {
        const unsigned char *p = (const unsigned char *)decoded[i].bytes, *begin = p;
        uint32_t c = unicode_next(&p, p + decoded[i].len);
        cr_assert_eq(c, decoded[i].c, "row %zu gives U+%04X", i, c);
        cr_assert_eq((size_t)(p - begin), decoded[i].taken, "row %zu takes %td", i, p - begin);
    }
}
