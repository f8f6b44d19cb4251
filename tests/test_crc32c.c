// uses: servers/crc32c.c
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "servers/crc32c.h"

/* RFC 3720 appendix B.4, and the check value of the catalogue of CRC algorithms. */
Test(crc32c, published_values_come_out)
{
    static const struct { const char *name; int first, step; size_t n; uint32_t crc; } rows[] = {
        { "32 bytes of zeros", 0, 0, 32, 0x8a9136aa },
        { "32 bytes of ones", 255, 0, 32, 0x62a8ab43 },
        { "32 incrementing 00..1f", 0, 1, 32, 0x46dd794e },
        { "32 decrementing 1f..00", 31, -1, 32, 0x113fdb5c },
        { "the digits 1 to 9", '1', 1, 9, 0xe3069283 },
        { "nothing", 0, 0, 0, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t b[32];
        for (size_t k = 0; k < rows[i].n; k++) b[k] = (uint8_t)(rows[i].first + (int)k * rows[i].step);
        cr_assert_eq(crc32c(0, b, rows[i].n), rows[i].crc, "%s", rows[i].name);
        cr_assert_eq(crc32c_tables(0, b, rows[i].n), rows[i].crc, "%s", rows[i].name);
    }
    static const uint8_t iscsi_read[48] = { 0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14,
        [31] = 0x18, [32] = 0x28, [40] = 0x02 };
    cr_assert_eq(crc32c(0, iscsi_read, 48), 0xd9963a56, "an iSCSI SCSI Read command");
}

/* Bit by bit, as the definition says. */
static uint32_t slowly(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
    }
    return ~c;
}

Test(crc32c, every_way_agrees_at_any_length_and_alignment)
{
    static uint8_t b[8192];
    srand(1);
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)rand();
    for (size_t n = 0; n < 4700; n += n < 80 || (n > 1500 && n < 1600) ? 1 : 37) {
        size_t at = n % 9;
        uint32_t want = slowly(b + at, n);
        cr_assert_eq(crc32c(0, b + at, n), want, "%zu bytes", n);
        cr_assert_eq(crc32c_tables(0, b + at, n), want, "%zu bytes by tables", n);
    }
}

Test(crc32c, a_text_in_two_pieces_has_the_checksum_of_the_whole)
{
    static uint8_t b[4000];
    for (size_t i = 0; i < sizeof b; i++) b[i] = (uint8_t)(i * 7 + i / 11);
    uint32_t whole = crc32c(0, b, sizeof b);
    for (size_t cut = 0; cut <= sizeof b; cut += 13)
        cr_assert_eq(crc32c(crc32c(0, b, cut), b + cut, sizeof b - cut), whole, "cut at %zu", cut);
}

Test(crc32c, any_flipped_bit_changes_it)
{
    uint8_t b[128] = { 1, 2, 3 };
    uint32_t whole = crc32c(0, b, sizeof b);
    for (size_t bit = 0; bit < 8 * sizeof b; bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_neq(crc32c(0, b, sizeof b), whole, "bit %zu", bit);
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
