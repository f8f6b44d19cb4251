/* Base64 by RFC 4648 section 4: three bytes are four characters. */
#include "base64.h"

static const char letters[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Each character's value + 64; 0 for what is none. */
static const uint8_t values[256] = {
    ['A'] = 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85,
            86, 87, 88, 89,
    ['a'] = 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108,
            109, 110, 111, 112, 113, 114, 115,
    ['0'] = 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, ['+'] = 126, ['/'] = 127
};

static void encode3(char *out, uint32_t v)
{
    out[0] = letters[v >> 18];
    out[1] = letters[v >> 12 & 63];
    out[2] = letters[v >> 6 & 63];
    out[3] = letters[v & 63];
}

size_t base64_encode(char *out, const uint8_t *p, size_t n)
{
    char *o = out;
    for (; n >= 3; n -= 3, p += 3, o += 4)
        encode3(o, (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2]);
    if (n) {
        encode3(o, (uint32_t)p[0] << 16 | (n == 2 ? (uint32_t)p[1] << 8 : 0));
        o[3] = '=';
        if (n == 1) o[2] = '=';
        o += 4;
    }
    return (size_t)(o - out);
}

/* 24 bits of four characters; bit 6 of *good goes when one is no letter. */
static uint32_t decode4(const char *s, uint32_t *good)
{
    const uint8_t *p = (const uint8_t *)s;
    uint32_t a = values[p[0]], b = values[p[1]], c = values[p[2]], d = values[p[3]];
    *good &= a & b & c & d;
    return (a << 18) + (b << 12) + (c << 6) + d - (64u << 18) - (64u << 12) - (64u << 6) - 64u;
}

size_t base64_decode(uint8_t *out, const char *p, size_t n)
{
    uint8_t *o = out;
    if (n % 4) return SIZE_MAX;
    if (!n) return 0;
    size_t pad = p[n - 1] != '=' ? 0 : p[n - 2] != '=' ? 1 : 2;
    const char *end = p + n - (pad ? 4 : 0);
    uint32_t good = 64, v;
    for (; p < end; p += 4, o += 3) {
        v = decode4(p, &good);
        o[0] = (uint8_t)(v >> 16);
        o[1] = (uint8_t)(v >> 8);
        o[2] = (uint8_t)v;
    }
    if (pad) {
        char last[4] = {p[0], p[1], pad == 2 ? 'A' : p[2], 'A'};
        v = decode4(last, &good);
        if (v & (pad == 2 ? 0xffffu : 0xffu)) return SIZE_MAX; /* unused bits, section 3.5 */
        *o++ = (uint8_t)(v >> 16);
        if (pad == 1) *o++ = (uint8_t)(v >> 8);
    }
    return good ? (size_t)(o - out) : SIZE_MAX;
}
