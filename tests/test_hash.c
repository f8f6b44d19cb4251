// uses: servers/memory/hash.c
#include "servers/memory/hash.h"

#include "test.h"

/* SipHash-1-3 of 00 01 02 … under key 00 01 … 0f: an independent transcription of
 * the paper's description, checked against its SipHash-2-4 vector. */
static uint64_t plain_sip(int c, int d, const uint8_t *p, size_t n)
{
    uint64_t k0 = 0x0706050403020100, k1 = 0x0f0e0d0c0b0a0908;
    uint64_t v[4] = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
                      k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573 };
    for (size_t i = 0; i <= n / 8; i++) {
        uint64_t m = i == n / 8 ? (uint64_t)n << 56 : 0;
        for (size_t b = 0; b < 8 && i * 8 + b < n; b++) m |= (uint64_t)p[i * 8 + b] << 8 * b;
        v[3] ^= m;
        int rounds = c;
    again:
        for (; rounds; rounds--) {
#define ROL(x, b) (x = (x) << (b) | (x) >> (64 - (b)))
            v[0] += v[1]; ROL(v[1], 13); v[1] ^= v[0]; ROL(v[0], 32);
            v[2] += v[3]; ROL(v[3], 16); v[3] ^= v[2];
            v[0] += v[3]; ROL(v[3], 21); v[3] ^= v[0];
            v[2] += v[1]; ROL(v[1], 17); v[1] ^= v[2]; ROL(v[2], 32);
        }
        if (i < n / 8) v[0] ^= m;
        else if (d) { v[0] ^= m; v[2] ^= 0xff; rounds = d; d = 0; goto again; }
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

Test(hash, the_check_itself_gives_the_published_vector)
{
    uint8_t p[15];
    for (uint8_t i = 0; i < 15; i++) p[i] = i;
    cr_assert_eq(plain_sip(2, 4, p, 15), 0xa129ca6149be45e5u);
}

Test(hash, every_length_equals_the_plain_transcription)
{
    static const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
    uint8_t p[64];
    for (uint8_t i = 0; i < 64; i++) p[i] = i;
    for (size_t n = 0; n <= 64; n++) {
        cr_assert_eq(hash_bytes(key, p, n), plain_sip(1, 3, p, n), "%zu bytes", n);
    }
}

Test(hash, another_key_gives_another_hash)
{
    static const uint64_t a[2] = { 1, 2 }, b[2] = { 1, 3 }, c[2] = { 2, 2 };
    cr_assert_neq(hash_bytes(a, "text", 4), hash_bytes(b, "text", 4));
    cr_assert_neq(hash_bytes(a, "text", 4), hash_bytes(c, "text", 4));
}
