// uses: sha1.c
/* SHA-1 against the vectors of RFC 3174 section 7.3 and FIPS 180. */
#include "sha1.h"

#include <stdio.h>
#include <string.h>

#include "test.h"

static const char *hex(const void *p, size_t n)
{
    static char text[41];
    uint8_t out[21];
    out[20] = '#';
    sha1(out, p, n);
    cr_assert_eq(out[20], '#', "wrote behind the digest");
    for (int i = 0; i < 20; i++) snprintf(text + 2 * i, 3, "%02x", out[i]);
    return text;
}

Test(sha1, published_vectors_agree)
{
    static const struct { const char *text, *digest; } rows[] = {
        { "abc", "a9993e364706816aba3e25717850c26c9cd0d89d" },                       /* RFC 3174 TEST1 */
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "84983e441c3bd26ebaae4aa1f95129e5e54670f1" },                              /* TEST2a */
        { "", "da39a3ee5e6b4b0d3255bfef95601890afd80709" },
        { "The quick brown fox jumps over the lazy dog", "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12" },
        /* RFC 6455 section 1.3: the key of the example with the GUID behind it. */
        { "dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
          "b37a4f2cc0624f1690f64606cf385945b2bec4ea" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_str_eq(hex(rows[i].text, strlen(rows[i].text)), rows[i].digest, "row %zu", i);
}

Test(sha1, a_million_a_agree)
{
    static char a[1000000];                                                          /* TEST3 */
    memset(a, 'a', sizeof a);
    cr_assert_str_eq(hex(a, sizeof a), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

Test(sha1, repeated_digits_agree)
{
    char text[640];                                                                  /* TEST4 */
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char)('0' + i % 8);
    cr_assert_str_eq(hex(text, sizeof text), "dea356a2cddd90c7a7ecedc5ebb563934f460452");
}

/* Every length around the borders of the padding, chained into one digest; the
 * expected one was made with python's hashlib over the same chain. */
Test(sha1, every_length_up_to_three_blocks_pads_right)
{
    uint8_t text[20 + 200], chain[20] = {0};
    for (size_t n = 0; n <= 200; n++) {
        memcpy(text, chain, 20);
        memset(text + 20, (int)n, n);
        sha1(chain, text, 20 + n);
    }
    char got[41];
    for (int i = 0; i < 20; i++) snprintf(got + 2 * i, 3, "%02x", chain[i]);
    cr_assert_str_eq(got, "d1668133cd95c33f5d38af0f6adf38c2fafdb42d");
}

Test(sha1, unaligned_input_gives_the_same)
{
    uint8_t room[200], first[20], out[20];
    for (size_t at = 0; at < 9; at++) {
        for (size_t i = 0; i < 130; i++) room[at + i] = (uint8_t)(i * 7);
        sha1(out, room + at, 130);
        if (!at) memcpy(first, out, 20);
        cr_assert_arr_eq(out, first, 20, "at %zu", at);
    }
}
