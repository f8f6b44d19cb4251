// uses: utf8.c
/* UTF-8: the vector pass, the portable one and a byte at a time agree on the
 * offset, at any split and any alignment. The first byte of the input says
 * where to split, the second how to align. */
#include "utf8.h"

#define UTF8_PORTABLE
#define utf8_check portable_check
#define utf8_valid portable_valid
#define utf8_put   portable_put
#define utf8_get   portable_get
#include "../../utf8.c"
#undef utf8_check
#undef utf8_valid
#undef utf8_put
#undef utf8_get

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    size_t n = size - 2, cut = n * data[0] / 255, align = data[1] & 63, bytes = 0;
    uint8_t *room = malloc(n + align + 1), *p = room + align;
    CHECK(room);
    memcpy(p, data + 2, n);
    struct utf8 a = {0}, b = {0}, c = {0}, d = {0};
    size_t whole = utf8_check(&a, p, n), plain = portable_check(&b, p, n);
    size_t split = utf8_check(&c, p, cut);
    if (split == cut) split += utf8_check(&c, p + cut, n - cut);
    while (bytes < n && utf8_check(&d, p + bytes, 1)) bytes++;
    CHECK(whole == plain && whole == split && whole == bytes);
    if (whole == n) {
        CHECK(a.need == b.need && a.need == c.need && a.need == d.need);
        if (a.need) CHECK(a.lo == b.lo && a.hi == b.hi && a.lo == d.lo && a.hi == d.hi);
        const uint8_t *s = p;
        uint8_t again[4];
        while (!a.need && s < p + n) {
            const uint8_t *from = s;
            size_t len = utf8_put(again, utf8_get(&s));
            CHECK(len == (size_t)(s - from) && !memcmp(again, from, len));
        }
    }
    free(room);
    return 0;
}
