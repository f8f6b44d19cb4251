/* Frames written as words, for tables of tests: what a peer sends, and what
 * must come of it. One word is one frame, words are separated by one blank.
 *
 *   T: text  B: binary  C: continuation  P: ping  O: pong  X: close
 *            small letter: the same without FIN;  #b: opcode in hexadecimal
 *   T:payload      %00 is a byte in hexadecimal, a*5 is aaaaa, (ab)*2 is abab
 *   X:1000:bye     code and reason;  X: none;  X=%03 raw payload
 *   uT:x           masked where it must not be, or the other way round
 *   4T:x           reserved bits, 1..7
 *   T~2:x          length in 2 (or 8) bytes;  T+9:x  announces 9 bytes more than come
 *   T@300:x        announces 300
 *   =8100          bytes in hexadecimal;  $  the peer ends TCP (only last)
 *
 * What must come of it, in order: T:payload or B:payload is reported, O:payload
 * is a pong that we send, X:1000:bye the peer's close, answered with its code,
 * x:1000:bye the peer's answer to ours, !1002 our close and the end; nothing: more is awaited. */
#ifndef WIRE_H
#define WIRE_H

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes { uint8_t *p; size_t n, cap; };

static inline void bytes_add(struct bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2 + 64;
        b->p = (uint8_t *)realloc(b->p, b->cap);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void bytes_put(struct bytes *b, unsigned c)
{
    uint8_t byte = (uint8_t)c;
    bytes_add(b, &byte, 1);
}

static inline void bytes_free(struct bytes *b)
{
    free(b->p);
    memset(b, 0, sizeof *b);
}

/* The same bytes. */
static inline bool bytes_same(const struct bytes *a, const struct bytes *b)
{
    return a->n == b->n && (!a->n || !memcmp(a->p, b->p, a->n));
}

/* A copy of exactly its size on the heap, so that a sanitizer sees the first byte behind. */
static inline uint8_t *bytes_copy(const uint8_t *p, size_t n)
{
    uint8_t *copy = (uint8_t *)malloc(n ? n : 1);
    if (!copy) abort();
    if (n) memcpy(copy, p, n);
    return copy;
}

static inline unsigned wire_hex(const char *s)
{
    char two[3] = { s[0], s[1], 0 };
    return (unsigned)strtoul(two, NULL, 16);
}

/* Expand one payload, up to a blank or the end; returns where it ends. */
static inline const char *wire_payload(struct bytes *b, const char *s)
{
    size_t unit = b->n;              /* where what a '*' repeats begins */
    for (; *s && *s != ' '; s++) {
        if (*s == '*') {
            unsigned long times = strtoul(s + 1, (char **)&s, 10);
            size_t n = b->n - unit;
            uint8_t *copy = bytes_copy(b->p + unit, n);
            if (!times) b->n = unit;
            while (times-- > 1) bytes_add(b, copy, n);
            free(copy);
            s--;
        } else if (*s == '(') {
            unit = b->n;
            for (s++; *s != ')'; s++) {
                if (*s == '%') { bytes_put(b, wire_hex(s + 1)); s += 2; }
                else bytes_put(b, (uint8_t)*s);
            }
        } else {
            unit = b->n;
            if (*s == '%') { bytes_put(b, wire_hex(s + 1)); s += 2; }
            else bytes_put(b, (uint8_t)*s);
        }
    }
    return s;
}

/* A frame as bytes: first byte as given, length form 0 (shortest), 2 or 8. */
static inline void wire_frame(struct bytes *b, unsigned first, bool masked, unsigned form,
                              uint64_t len, const uint8_t *p, size_t n)
{
    static const uint8_t key[4] = { 0x37, 0xfa, 0x21, 0x3d };
    if (!form && len > 125) form = len > 65535 ? 8 : 2;
    bytes_put(b, first);
    bytes_put(b, (masked ? 0x80u : 0u) | (form == 8 ? 127u : form == 2 ? 126u : (unsigned)len));
    for (unsigned i = form; i-- > 0;) bytes_put(b, (unsigned)(len >> 8 * i) & 255);
    if (masked) bytes_add(b, key, 4);
    for (size_t i = 0; i < n; i++) bytes_put(b, p[i] ^ (masked ? key[i & 3] : 0u));
}

/* The payload of a close frame, "code:reason" or nothing. */
static inline const char *wire_close(struct bytes *b, const char *s)
{
    if (!*s || *s == ' ') return s;
    unsigned long code = strtoul(s, (char **)&s, 10);
    bytes_put(b, (unsigned)(code >> 8) & 255);
    bytes_put(b, (unsigned)code & 255);
    return *s == ':' ? wire_payload(b, s + 1) : s;
}

static inline const char *wire_word(struct bytes *b, const char *s, bool masked)
{
    unsigned first = 0, form = 0;
    uint64_t more = 0, all = 0;
    bool absolute = false;
    if (*s == '=') {
        for (s++; isxdigit((unsigned char)*s); s += 2) bytes_put(b, wire_hex(s));
        return s;
    }
    if (*s == 'u') { masked = !masked; s++; }
    if (*s >= '1' && *s <= '7') first = (unsigned)(*s++ - '0') << 4;
    char op = *s;
    if (op == '#') {
        char digit[2] = { *++s, 0 };
        first |= 0x80u | (unsigned)strtoul(digit, NULL, 16);
    } else {
        const char *ops = "CTB.....XPO";
        first |= (unsigned)(strchr(ops, toupper((unsigned char)op)) - ops) | (isupper((unsigned char)op) ? 0x80u : 0u);
    }
    for (s++; *s != ':' && *s != '=';) {
        if (*s == '~')      { form = (unsigned)(s[1] - '0'); s += 2; }
        else if (*s == '+') more = strtoull(s + 1, (char **)&s, 10);
        else                { all = strtoull(s + 1, (char **)&s, 10); absolute = true; }
    }
    struct bytes payload = { 0 };
    bool code = toupper((unsigned char)op) == 'X' && *s == ':';
    s = code ? wire_close(&payload, s + 1) : wire_payload(&payload, s + 1);
    wire_frame(b, first, masked, form, absolute ? all : payload.n + more, payload.p, payload.n);
    bytes_free(&payload);
    return s;
}

/* All words of a wire. true: the peer ends TCP behind them. */
static inline bool wire_build(struct bytes *b, const char *s, bool masked)
{
    while (*s && *s != '$') {
        s = wire_word(b, s, masked);
        if (*s == ' ') s++;
    }
    return *s == '$';
}

/* One thing that came of it: a letter and its bytes. */
static inline void trace_add(struct bytes *b, char what, const void *p, size_t n)
{
    uint32_t size = (uint32_t)n;
    bytes_put(b, (uint8_t)what);
    bytes_add(b, &size, 4);
    bytes_add(b, p, n);
}

/* What is expected, as a trace. */
static inline void trace_build(struct bytes *b, const char *s)
{
    while (*s) {
        struct bytes payload = { 0 };
        char what = *s;
        if (what == '!')                    s = wire_close(&payload, s + 1);
        else if (what == 'X' || what == 'x') s = wire_close(&payload, s + 2);
        else                                s = wire_payload(&payload, s + 2);
        trace_add(b, what, payload.p, payload.n);
        bytes_free(&payload);
        if (*s == ' ') s++;
    }
}

/* A trace as text, for the message of a failed test; the caller's room. */
static inline const char *trace_text(const struct bytes *b, char *out, size_t room)
{
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i + 5 <= b->n && at + 100 < room;) {
        uint32_t n;
        memcpy(&n, b->p + i + 1, 4);
        const uint8_t *p = b->p + i + 5;
        at += (size_t)sprintf(out + at, "%c%u:", b->p[i], (unsigned)n);
        for (uint32_t k = 0; k < n && k < 12; k++) {
            at += (size_t)sprintf(out + at, p[k] > 32 && p[k] < 127 ? "%c" : "%%%02x", p[k]);
        }
        out[at++] = ' ';
        out[at] = 0;
        i += 5 + n;
    }
    return out;
}

#endif
