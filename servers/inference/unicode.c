#include "unicode.h"

#include "unicode_tables.h"

enum { HANGUL = 0xac00, HANGUL_LAST = 0xd7a3 };
#define COUNT(a) (sizeof (a) / sizeof *(a))

/* The run that c lies in: the last that does not begin behind it. */
enum unicode_kind unicode_kind(uint32_t c)
{
    size_t lo = 0, n = COUNT(unicode_kinds);
    while (n > 1) {
        size_t half = n / 2;
        if (unicode_kinds[lo + half] >> 3 <= c) lo += half;
        n -= half;
    }
    return (enum unicode_kind)(unicode_kinds[lo] & 7);
}

/* Unicode 3.12: a syllable is arithmetic of its jamo. */
static size_t hangul_base(uint32_t c, uint32_t out[4])
{
    uint32_t s = c - HANGUL, t = s % 28;
    out[0] = 0x1100 + s / 588;
    out[1] = 0x1161 + s % 588 / 28;
    out[2] = 0x11a7 + t;
    return t ? 3 : 2;
}

size_t unicode_base(uint32_t c, uint32_t out[4])
{
    if (c >= HANGUL && c <= HANGUL_LAST) return hangul_base(c, out);
    out[0] = c;
    if (c >> 16 >= COUNT(unicode_planes)) return 1;
    size_t lo = c < 0x10000 ? 0 : unicode_planes[(c >> 16) - 1], hi = unicode_planes[c >> 16];
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (unicode_from[mid] < (c & 0xffff)) lo = mid + 1;
        else hi = mid;
    }
    if (lo == unicode_planes[c >> 16] || unicode_from[lo] != (c & 0xffff)) return 1;
    uint32_t to = unicode_to[lo];
    if (to - 0xd800u >= COUNT(unicode_more)) {
        out[0] = to;
        return 1;
    }
    size_t n = 0;
    for (const uint32_t *more = unicode_more + (to - 0xd800);; more++) {
        out[n++] = *more & 0x1fffff;
        if (*more >> 31) return n;
    }
}

uint32_t unicode_lower(uint32_t c)
{
    size_t lo = 0, hi = COUNT(unicode_lower_runs);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (unicode_lower_runs[mid].last < c) lo = mid + 1;
        else hi = mid;
    }
    if (lo == COUNT(unicode_lower_runs) || c < unicode_lower_runs[lo].first) return c;
    if ((c - unicode_lower_runs[lo].first) % (uint32_t)unicode_lower_runs[lo].step) return c;
    return c + (uint32_t)unicode_lower_runs[lo].delta;
}

unsigned unicode_order_of(uint32_t c)
{
    for (size_t i = 0; i < COUNT(unicode_order); i++)
        if (c >= unicode_order[i].first && c <= unicode_order[i].last) return unicode_order[i].ccc;
    return 0;
}

uint32_t unicode_next(const unsigned char **p, const unsigned char *end)
{
    const unsigned char *s = *p;
    uint32_t c = *s;
    size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    *p = s + 1;
    if (n == 1) return c;
    if (!n || (size_t)(end - s) < n) return 0xfffd;
    c &= 0x7fu >> n;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0xfffd;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < (n == 3 ? 0x800u : n == 4 ? 0x10000u : 0)) return 0xfffd;
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0xfffd;
    *p = s + n;
    return c;
}
