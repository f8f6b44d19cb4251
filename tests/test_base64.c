// uses: base64.c
/* Base64 against RFC 4648 section 10, and by properties. */
#include "base64.h"

#include <string.h>

#include "test.h"

static uint64_t seed;

static uint8_t random_byte(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint8_t)(seed >> 56);
}

static const struct { const char *plain, *coded; } vectors[] = {
    { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" },
    { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" },              /* RFC 4648 section 10 */
    { "\x14\xfb\x9c\x03\xd9\x7e", "FPucA9l+" }, { "\x14\xfb\x9c\x03\xd9", "FPucA9k=" },
    { "\x14\xfb\x9c\x03", "FPucAw==" },                             /* RFC 1521's old examples */
    { "\xff\xff\xff", "////" }, { "\xfb\xef\xbe", "++++" },
    { "the sample nonce", "dGhlIHNhbXBsZSBub25jZQ==" },             /* RFC 6455 section 1.3 */
};

Test(base64, published_vectors_agree_both_ways)
{
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const char *plain = vectors[i].plain, *coded = vectors[i].coded;
        char out[64] = {0};
        uint8_t back[64] = {0};
        cr_assert_eq(base64_encode(out, (const uint8_t *)plain, strlen(plain)), strlen(coded));
        cr_assert_str_eq(out, coded);
        cr_assert_eq(base64_size(strlen(plain)), strlen(coded));
        cr_assert_eq(base64_decode(back, coded, strlen(coded)), strlen(plain), "%s", coded);
        cr_assert_str_eq((char *)back, plain);
    }
}

Test(base64, what_is_not_strict_is_refused)
{
    static const char *const rows[] = {
        "Z", "Zg", "Zg=", "Zm8", "Zm9vYg", "Zm9vYg=", "Zm9vY",      /* length */
        "=", "==", "===", "====", "Z===", "A=AA", "=AAA", "AA=A", "Zg==Zg==", "Zm8=Zm8=", "AAA=AAAA",
        "Zh==", "Zi==", "Zn==", "Zo==", "Zv==", "Zx==", "Z/==", "Zm9=", "Zm+=", "Zm/=", /* bits left over */
        "Zm9v\n", "Zm9v\nZm9v", " Zm9v", "Zm 9", "Zm9v    ", "Zm9-", "Zm9_", "Zm\xc3\xa9", "Zm9*", "Zm9.", "@m9v",
        "[m9v", "`m9v", "{m9v", ":m9v", "Zm9v!m9v", "Zm9vZ!9v", "Zm9vZm!v", "Zm9vZm9!", "!g==", "Z!==", "Zm!=",
    };
    uint8_t out[64];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_eq(base64_decode(out, rows[i], strlen(rows[i])), SIZE_MAX, "%s", rows[i]);
    cr_assert_eq(base64_decode(out, "Zm9\0", 4), SIZE_MAX);
}

/* Every group of four of a small alphabet with the hard characters in it:
 * decoding succeeds exactly when encoding gives the same characters back. */
Test(base64, decodes_only_what_it_would_encode)
{
    static const char chars[] = "AQgwZ/+9=B-\n";
    char in[4], again[8];
    uint8_t out[8];
    size_t good = 0;
    for (int k = 0; k < 12 * 12 * 12 * 12; k++) {
        for (int i = 0, left = k; i < 4; i++, left /= 12) in[i] = chars[left % 12];
        size_t n = base64_decode(out, in, 4);
        if (n == SIZE_MAX) continue;
        good++;
        cr_assert_eq(base64_encode(again, out, n), 4u);
        cr_assert_arr_eq(again, in, 4, "%.4s", in);
    }
    /* 9 letters; of the third place A Q g w have the low two bits clear; of the
     * second place before "==" A Q g w have the low four clear. */
    cr_assert_eq(good, 9u * 9 * 9 * 9 + 9u * 9 * 4 + 9u * 4, "%zu", good);
}

Test(base64, random_bytes_of_every_length_come_back)
{
    seed = 7;
    for (size_t n = 0; n < 300; n++) {
        uint8_t in[300], out[304];
        char text[404];
        for (size_t i = 0; i < n; i++) in[i] = random_byte();
        memset(text, '#', sizeof text);
        size_t len = base64_encode(text, in, n);
        cr_assert_eq(len, base64_size(n));
        cr_assert_eq(text[len], '#', "wrote behind its end");
        memset(out, 0xee, sizeof out);
        cr_assert_eq(base64_decode(out, text, len), n);
        cr_assert_arr_eq(out, in, n);
        cr_assert_eq(out[len / 4 * 3], 0xee, "wrote behind its room");
        if (!len) continue;
        size_t at = random_byte() % len;
        text[at] = "\x80 \t.-_\xff~"[random_byte() % 8];
        cr_assert_eq(base64_decode(out, text, len), SIZE_MAX, "length %zu, bad character at %zu", n, at);
    }
}
