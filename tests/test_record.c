// uses: servers/memory/record.c servers/crc32c.c
#include "test.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "servers/crc32c.h"
#include "servers/memory/record.h"

static const uint8_t file_id[16] = "0123456789abcde";
static const float vector[4] = { 1.0f, -0.5f, 0.0f, FLT_MIN };

static struct memory sample(void)
{
    struct memory m = { .f = { .time_ms = -1, .stored_ms = 1700000000123, .last_access_ms = INT64_MIN,
                               .significance = 0.1, .surprise = 0.25f, .diversity = 1, .information = 1e-7f,
                               .floor = 0.75f, .access_count = 0xfffffffeu, .pinned = 1 },
                        .vector = vector, .text = { "tea\0time", 8 }, .metadata = { "{\"a\":1}", 7 },
                        .tags = { "[\"x\"]", 5 } };
    for (int i = 0; i < MEMORY_ID; i++) m.id[i] = (uint8_t)(i * 17);
    return m;
}

/* Every byte of a put, by FORMATS 4 and docs/storage.md: what other programs parse. */
Test(record, a_put_has_the_documented_bytes)
{
    static _Alignas(64) uint8_t b[512];
    struct memory m = sample();
    struct record_seal s = { .seq = 0x0102030405060707, .chain = 0xaabbccdd, .watermark = 6 };
    memcpy(s.file_id, file_id, 16);
    memset(b, 0xee, sizeof b);
    cr_assert_eq(record_put(b, RECORD_PUT, 4, &m), 192, "64 header, 64 fixed, 16 + 20 and zeros to 64");
    cr_assert_eq(record_seal(b, &s), 192, "sealing tells the length too");
    static const struct { int at, n; uint8_t bytes[16]; } want[] = {
        { 4, 4, "REC1" }, { 8, 4, { 128, 0, 0, 0 } }, { 12, 4, { 1, 0, 0, 0 } },
        { 16, 8, { 8, 7, 7 - 1, 5, 4, 3, 2, 1 } }, { 28, 4, { 0xdd, 0xcc, 0xbb, 0xaa } },
        { 32, 8, { 6 } }, { 40, 4, { 0, 17, 34, 51 } }, { 56, 4, { 8, 0, 0, 0 } },
        { 60, 4, { 7, 0, 5, 0 } },
        { 64, 8, { 255, 255, 255, 255, 255, 255, 255, 255 } },
        { 72, 8, { 0x7b, 0x68, 0xe5, 0xcf, 0x8b, 1, 0, 0 } }, { 80, 8, { 0, 0, 0, 0, 0, 0, 0, 0x80 } },
        { 88, 8, { 0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0x3f } }, { 96, 4, { 0, 0, 0x80, 0x3e } },
        { 112, 4, { 0xfe, 0xff, 0xff, 0xff } }, { 116, 12, { 1 } },
        { 128, 8, { 0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf } }, { 144, 8, "tea\0time" },
        { 152, 7, "{\"a\":1}" }, { 159, 5, "[\"x\"]" }, { 164, 16, { 0 } }, { 180, 12, { 0 } },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        cr_assert(!memcmp(b + want[i].at, want[i].bytes, (size_t)want[i].n), "bytes at %d", want[i].at);
    uint32_t crc = crc32c(crc32c(0, file_id, 16), b + 4, 60), payload = crc32c(0, b + 64, 128);
    uint8_t le[8] = { (uint8_t)crc, (uint8_t)(crc >> 8), (uint8_t)(crc >> 16), (uint8_t)(crc >> 24),
                      (uint8_t)payload, (uint8_t)(payload >> 8), (uint8_t)(payload >> 16),
                      (uint8_t)(payload >> 24) };
    cr_assert(!memcmp(b, le, 4), "the header's checksum is over the file id and bytes 4..63");
    cr_assert(!memcmp(b + 24, le + 4, 4), "the payload's checksum, padding included");
    cr_assert_eq(s.seq, 0x0102030405060708, "the seal has moved on");
    cr_assert_eq(s.chain, crc, "and the next record hangs on this one");
    cr_assert_eq(b[192], 0xee, "nothing is written behind it");
}

Test(record, what_is_put_is_got)
{
    static const struct { enum record_type type; size_t bytes; } rows[] = {
        { RECORD_PUT, 192 }, { RECORD_DELETE, 64 }, { RECORD_CLOSE, 64 }, { RECORD_CHANGE, 128 },
        { RECORD_MARK, 64 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static _Alignas(64) uint8_t b[512];
        struct memory m = sample(), got;
        struct record_seal s = { .seq = 9 };
        struct record_head r;
        memcpy(s.file_id, file_id, 16);
        bool bare = rows[i].type == RECORD_CLOSE || rows[i].type == RECORD_MARK;
        cr_assert_eq(record_put(b, rows[i].type, 4, bare ? NULL : &m), rows[i].bytes, "row %zu", i);
        record_seal(b, &s);
        cr_assert(record_get(b, file_id, 4, &r), "row %zu", i);
        cr_assert(record_whole(&r, b + 64), "row %zu", i);
        cr_assert_eq(r.seq, 10, "row %zu", i);
        cr_assert_eq(r.type, (unsigned)rows[i].type, "row %zu", i);
        cr_assert_eq(r.flags, rows[i].type == RECORD_MARK ? RECORD_FLAG_SKIP : 0, "row %zu", i);
        record_memory(&r, b + 64, 4, &got);
        if (bare) continue;
        cr_assert(!memcmp(got.id, m.id, MEMORY_ID), "row %zu", i);
        if (rows[i].type == RECORD_DELETE) continue;
        cr_assert(got.f.time_ms == -1 && got.f.last_access_ms == INT64_MIN && got.f.significance == m.f.significance &&
                  got.f.information == m.f.information && got.f.floor == m.f.floor && got.f.pinned == 1 &&
                  got.f.access_count == 0xfffffffeu, "fields of row %zu", i);
        if (rows[i].type != RECORD_PUT) continue;
        cr_assert(!memcmp(got.vector, vector, sizeof vector), "the vector is bit for bit");
        cr_assert(got.text.len == 8 && !memcmp(got.text.p, "tea\0time", 8), "the text");
        cr_assert(got.metadata.len == 7 && got.tags.len == 5 && got.tags.p[2] == 'x', "the rest");
    }
}

Test(record, sizes_are_rounded_up_to_64_at_every_length)
{
    static _Alignas(64) uint8_t b[1024], again[1024];
    static char text[300];
    memset(text, 'x', sizeof text);
    for (size_t n = 0; n < 260; n++) {
        struct memory m = sample();
        m.text = (struct slice){ text, n };
        size_t want = 64 + (64 + 16 + n + 12 + 63) / 64 * 64;
        cr_assert_eq(record_bytes(RECORD_PUT, 4, &m), want, "%zu bytes of text", n);
        memset(b, 0xff, sizeof b);
        cr_assert_eq(record_put(b, RECORD_PUT, 4, &m), want, "%zu bytes of text", n);
        memset(again, 0, sizeof again);
        record_put(again, RECORD_PUT, 4, &m);
        cr_assert(!memcmp(b, again, want), "every byte of %zu is written", n);
    }
}

Test(record, any_wrong_bit_is_seen)
{
    static _Alignas(64) uint8_t b[512];
    struct memory m = sample();
    struct record_seal s = { .seq = 1 };
    memcpy(s.file_id, file_id, 16);
    size_t n = record_put(b, RECORD_PUT, 4, &m);
    record_seal(b, &s);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        struct record_head r;
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert(!record_get(b, file_id, 4, &r) || !record_whole(&r, b + 64), "bit %zu", bit);
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* Headers with right checksums whose fields cannot be. */
Test(record, lengths_that_cannot_be_are_refused)
{
    static const struct { const char *name; int at, n; uint32_t value; uint32_t dimension; bool good; } rows[] = {
        { "as it was", 8, 4, 128, 4, true },
        { "a unit less", 8, 4, 64, 4, false },
        { "a unit more", 8, 4, 192, 4, false },
        { "not a multiple of 64", 8, 4, 129, 4, false },
        { "a gigabyte", 8, 4, 1u << 30, 4, false },
        { "type 0", 12, 2, 0, 4, false },
        { "a delete with a payload", 12, 2, RECORD_DELETE, 4, false },
        { "a change that is too long", 12, 2, RECORD_CHANGE, 4, false },
        { "a type from the future", 12, 2, 77, 4, true },
        { "more text than payload", 56, 4, 8 + 29, 4, false },
        { "as much text as fits", 56, 4, 8 + 28, 4, true },
        { "a text of 4 GiB", 56, 4, 0xffffffff, 4, false },
        { "another dimension", 8, 4, 128, 384, false },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        static _Alignas(64) uint8_t b[512];
        struct memory m = sample();
        struct record_seal s = { .seq = 1 };
        struct record_head r;
        memcpy(s.file_id, file_id, 16);
        record_put(b, RECORD_PUT, 4, &m);
        for (int k = 0; k < rows[i].n; k++) b[rows[i].at + k] = (uint8_t)(rows[i].value >> 8 * k);
        record_seal(b, &s);
        cr_assert_eq(record_get(b, file_id, rows[i].dimension, &r), rows[i].good, "%s", rows[i].name);
    }
}

Test(record, a_header_of_another_file_is_none_of_ours)
{
    static _Alignas(64) uint8_t b[64];
    struct record_seal s = { .seq = 1 };
    struct record_head r;
    memcpy(s.file_id, file_id, 16);
    record_put(b, RECORD_CLOSE, 4, NULL);
    record_seal(b, &s);
    for (int i = 0; i < 16; i++) {
        uint8_t other[16];
        memcpy(other, file_id, 16);
        other[i] ^= 1;
        cr_assert(!record_get(b, other, 4, &r), "byte %d of the file id", i);
    }
}

Test(record, file_header_has_the_documented_bytes_twice)
{
    static uint8_t b[JOURNAL_HEAD_BYTES];
    struct journal_head h = { .major = 1, .minor = 2, .dimension = 384, .base = 0x1122334455667788 }, got;
    memcpy(h.file_id, file_id, 16);
    memset(h.fingerprint, 0x5a, 32);
    head_put(b, &h);
    static const uint8_t start[24] = { 0x89, 'R', 'C', 'L', 13, 10, 26, 10, 1, 0, 2, 0, 0, 16, 0, 0,
                                       0x80, 1, 0, 0, 1, 0, 0, 0 };
    cr_assert(!memcmp(b, start, 24), "magic, version, 4096, 384, float32");
    cr_assert(!memcmp(b + 24, file_id, 16) && b[40] == 0x5a && b[71] == 0x5a, "id and fingerprint");
    cr_assert(b[72] == 0x88 && b[79] == 0x11, "base");
    uint32_t crc = crc32c(0, b, 80);
    cr_assert(b[80] == (uint8_t)crc && b[83] == (uint8_t)(crc >> 24), "checksum of bytes 0..79");
    cr_assert(!memcmp(b, b + 2048, 84), "once more at 2048");
    for (size_t i = 84; i < sizeof b; i++)
        cr_assert(b[i] == 0 || (i >= 2048 && i < 2048 + 84), "zero at %zu", i);
    cr_assert_eq(head_get(b, &got), 0, "it is read");
    cr_assert(got.dimension == 384 && got.base == h.base && got.minor == 2 && got.element == 1, "as written");
    for (int bit = 0; bit < 84 * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(head_get(b, &got), 1, "the second copy stands in for bit %d", bit);
        b[2048 + 5] ^= 1;
        cr_assert_eq(head_get(b, &got), -1, "and nothing for both");
        b[2048 + 5] ^= 1;
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
