/* Base64 by RFC 4648 section 4: three bytes are four characters. */
#include "base64.h"

static const char letters[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Value + 1 of each character, 0 for what is none. */
static const uint8_t values[256] = {
    ['A'] = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
            25, 26,
    ['a'] = 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48,
            49, 50, 51, 52,
    ['0'] = 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, ['+'] = 63, ['/'] = 64
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

/* 24 bits of four characters; above 24 bits when one is no letter. */
static uint32_t decode4(const char *p)
{
    uint32_t v = 0, bad = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t c = (uint32_t)values[(uint8_t)p[i]] - 1;
        bad |= c;
        v = v << 6 | (c & 63);
    }
    return v | (bad & 0x80000000u);
}

size_t base64_decode(uint8_t *out, const char *p, size_t n)
{
    uint8_t *o = out;
    if (n % 4) return SIZE_MAX;
    if (!n) return 0;
    size_t pad = p[n - 1] != '=' ? 0 : p[n - 2] != '=' ? 1 : 2;
    const char *end = p + n - (pad ? 4 : 0);
    uint32_t bad = 0, v;
    for (; p < end; p += 4, o += 3) {
        v = decode4(p);
        bad |= v;
        o[0] = (uint8_t)(v >> 16);
        o[1] = (uint8_t)(v >> 8);
        o[2] = (uint8_t)v;
    }
    if (pad) {
        char last[4] = {p[0], p[1], pad == 2 ? 'A' : p[2], 'A'};
        v = decode4(last);
        bad |= v;
        if (v & (pad == 2 ? 0xffffu : 0xffu)) return SIZE_MAX; /* unused bits, section 3.5 */
        *o++ = (uint8_t)(v >> 16);
        if (pad == 1) *o++ = (uint8_t)(v >> 8);
    }
    return bad >> 31 ? SIZE_MAX : (size_t)(o - out);
}
